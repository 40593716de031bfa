"""Confidences: Platt's scaling found again where it made the data, and never a change of order."""

from __future__ import annotations

import numpy as np
import pytest
from detection_scenes import make_detections, make_sample
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from aploss_mx.evaluation.calibration import LEAST, Calibration, calibrate, fit_calibration, reliability
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.geometry.detections import Detections

BOX, FAR = (10, 10, 30, 30), (60, 60, 80, 80)


def drawn(slope, offset, count, seed=0):
    """Scores, and detections that are right as often as the confidence says."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3, 1.5, count)
    return expit(logits), rng.random(count) < expit(slope * logits + offset)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.5, 6.0), (0.4, -1.0)])
def test_the_scaling_that_made_the_data_is_found(slope, offset):
    scores, right = drawn(slope, offset, 200_000)
    found = fit_calibration(scores, right)
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.1)
    assert reliability(found.confidence(scores), right).error < 0.01


def test_nothing_near_the_fit_is_likelier():
    scores, right = drawn(2.0, 4.0, 500)
    found = fit_calibration(scores, right)
    positives = right.sum()
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (len(right) - positives + 2))

    def loss(slope, offset):
        likely = expit(slope * logit(scores) + offset)
        return -np.sum(targets * np.log(likely) + (1 - targets) * np.log1p(-likely))

    for step in (-0.05, 0.05):
        assert loss(found.slope + step, found.offset) > loss(found.slope, found.offset)
        assert loss(found.slope, found.offset + step) > loss(found.slope, found.offset)


@given(st.floats(1e-3, 50), st.floats(-50, 50), st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30))
def test_no_order_changes(slope, offset, scores):
    scores = np.sort(np.array(scores, np.float32))
    confidences = Calibration(slope, offset).confidence(scores)
    assert confidences.dtype == np.float32
    assert (np.diff(confidences) >= 0).all()
    assert ((confidences >= 0) & (confidences <= 1)).all()


@given(st.floats(0.5, 5), st.floats(-5, 5), st.floats(0.01, 0.99))
def test_the_score_of_a_confidence_has_it(slope, offset, confidence):
    fitted = Calibration(slope, offset)
    assert fitted.confidence(np.array(fitted.score(confidence))) == pytest.approx(confidence, rel=1e-4)


def test_the_identity():
    scores = np.linspace(0, 1, 101, dtype=np.float32)
    np.testing.assert_allclose(Calibration(1.0, 0.0).confidence(scores), scores, atol=1e-7)


@pytest.mark.parametrize(
    "right",
    [np.zeros(200, bool), np.ones(200, bool), np.arange(200) < LEAST - 1, np.arange(200) > LEAST - 2],
    ids=["all wrong", "all right", "few right", "few wrong"],
)
def test_few_or_one_sided_detections_are_not_fitted(right):
    assert fit_calibration(np.linspace(0.1, 0.9, 200), right) is None


def test_higher_scores_that_are_less_often_right_are_not_fitted():
    scores, right = drawn(2.0, 4.0, 2000)
    assert fit_calibration(1 - scores, right) is None


def test_scores_of_0_and_1_are_fitted():
    scores = np.repeat([0.0, 1.0, 0.5], 100)
    right = np.concatenate([np.zeros(100, bool), np.ones(100, bool), np.arange(100) % 2 == 0])
    assert fit_calibration(scores, right).confidence(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 0.5, 1], abs=0.01)


def test_reliability_by_hand():
    curve = reliability(np.array([0.05, 0.15, 0.15, 1.0]), np.array([False, True, False, True]))
    assert curve.counts.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert curve.precision[[0, 1, 9]].tolist() == [0, 0.5, 1]
    assert np.isnan(curve.precision[5])
    assert curve.error == pytest.approx((0.05 + 2 * 0.35 + 0) / 4)
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)


def test_a_data_set_is_fitted_and_judged_on_pictures_that_the_fit_has_not_seen():
    scores, right = drawn(2.0, 4.0, 2000, seed=1)
    samples = [make_sample(f"{number:04d}", [BOX]) for number in range(2000)]
    detections = {
        sample.image_id: make_detections([BOX if hit else FAR], [score])
        for sample, score, hit in zip(samples, scores, right)
    }
    figures = calibrate(samples, detections)
    expected = fit_calibration(np.float32(scores), right)
    assert (figures["slope"], figures["offset"]) == pytest.approx((expected.slope, expected.offset), rel=1e-3)
    trial = fit_calibration(np.float32(scores[::2]), right[::2])
    unseen = np.float32(scores[1::2])
    assert figures["ECE_score"] == pytest.approx(reliability(unseen, right[1::2]).error, abs=1e-6)
    error = reliability(trial.confidence(unseen), right[1::2]).error
    assert figures["ECE_confidence"] == pytest.approx(error, abs=1e-3)
    assert figures["ECE_confidence"] < figures["ECE_score"] / 3


@pytest.mark.parametrize("change", [lambda s: 100 * s, lambda s: s * 1.0000001, lambda s: s - 0.5, lambda s: s * 1e300])
def test_scores_beyond_0_and_1_are_not_fitted_and_cost_no_other_metric(change, recwarn):
    right = np.arange(200) % 3 > 0
    samples = [make_sample(f"{number:03d}", [BOX]) for number in range(200)]

    def metrics_of(scores):
        found = {
            one.image_id: Detections(np.array([BOX if hit else FAR], float), np.array([score]), np.zeros(1, int))
            for one, hit, score in zip(samples, right, scores)
        }
        return evaluate(samples, found, ("cat",))

    scores = np.append(np.linspace(0.1, 0.9, 199), 1.0)
    plain, changed = metrics_of(scores), metrics_of(change(scores))
    assert plain["calibration"]["slope"] and set(changed["calibration"].values()) == {None}
    assert (changed["AP"], changed["VOC10_AP50"]) == (plain["AP"], plain["VOC10_AP50"])
    assert changed["best_F1_score"] == pytest.approx(change(np.array(plain["best_F1_score"])))
    assert not recwarn.list


def test_a_data_set_without_detections():
    assert set(calibrate([make_sample("a", [(0, 0, 9, 9)])], {}).values()) == {None}
