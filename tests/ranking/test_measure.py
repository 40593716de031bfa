"""The AP-loss as a measure: plain average precision, by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.ranking.measure import measure_ap_loss, score_spread
from aploss_mx.ranking.random_scores import random_batch


def counted(logits: np.ndarray, class_targets: np.ndarray) -> float:
    """1 - the mean over positives of the share of positives among all scores from theirs on."""
    ranked, positive = [], []
    for anchor, target in zip(logits.reshape(-1, logits.shape[-1]), class_targets.ravel()):
        if target >= 0:
            ranked += list(anchor)
            positive += [label + 1 == target for label in range(len(anchor))]
    scores, positive = np.array(ranked), np.array(positive, bool)
    precisions = [positive[scores >= score].mean() for score in scores[positive]]
    return 1 - np.mean(precisions) if precisions else 0.0


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 4))
def test_equals_counting(seed, classes):
    rng = np.random.default_rng(seed)
    logits = rng.permutation(24 * classes).astype(np.float32).reshape(2, 12, classes) / 8  # without ties
    class_targets = rng.integers(-1, classes + 1, (2, 12))
    assert measure_ap_loss(logits, class_targets) == pytest.approx(counted(logits, class_targets), abs=1e-6)


def test_of_groups_of_images_it_is_the_mean():
    logits, class_targets = random_batch((6, 40, 3), 30, "mid", seed=0)
    groups = [measure_ap_loss(logits[start : start + 2], class_targets[start : start + 2]) for start in (0, 2, 4)]
    assert measure_ap_loss(logits, class_targets, ranking_batch=2) == pytest.approx(np.mean(groups), abs=1e-9)
    assert measure_ap_loss(logits, class_targets) != pytest.approx(np.mean(groups), abs=1e-3)


def test_unlike_the_loss_it_has_no_margin():
    logits = np.array([[[0.01], [0.0], [-3.0]]], np.float32)
    assert measure_ap_loss(logits, np.array([[1, 0, 0]])) == 0
    assert measure_ap_loss(logits, np.array([[0, 1, 0]])) == pytest.approx(0.5)
    assert measure_ap_loss(logits, np.array([[0, 0, 0]])) == 0


def test_the_spread_is_of_the_positives_scores_alone():
    logits = np.array([[[1.0, 90.0], [-3.0, 50.0]], [[7.0, 2.0], [80.0, 60.0]]], np.float32)
    class_targets = np.array([[1, -1], [2, 0]])
    assert score_spread(logits, class_targets) == pytest.approx(0.5)  # of 1 and 2
    assert score_spread(4 * logits - 100, class_targets) == pytest.approx(2)
    assert score_spread(logits, np.array([[2, 0], [-1, 0]])) == 0
    assert score_spread(logits, np.array([[0, 0], [-1, 0]])) == 0
