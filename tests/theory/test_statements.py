"""What the figures of `scripts/theory.py` claim, asserted."""

from __future__ import annotations

from functools import lru_cache, partial

import mxnet as mx
import numpy as np
import pytest
from narrow_network import NAME

from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.theory import counterexample, observation, optimisers, rankings
from aploss_mx.theory.linear import learn, margin, random_problem
from aploss_mx.theory.optimisers import CONTENDERS, Batch, compare
from aploss_mx.theory.ramps import STEPS, ap_losses, learn_with
from symbols.retinanet import get_network


@pytest.mark.parametrize("name", observation.LOSSES)
def test_observation_1(name):
    assert observation.largest_difference(name, np.random.default_rng(0), samples=300) <= 1e-15


def test_the_gradients_that_observation_1_compares_with():
    # Central differences of the losses themselves, away from the hinge's corners.
    losses = {
        "cross entropy": lambda scores: np.log(np.exp(scores).sum()) - scores[1],
        "hinge loss": lambda scores: np.maximum(0, 1 + np.delete(scores, 1) - scores[1]).sum(),
    }
    scores = np.array([0.3, 0.8, -1.4, 2.0])
    for name, loss in losses.items():
        numeric = [(loss(scores + h) - loss(scores - h)) / 2e-6 for h in 1e-6 * np.eye(4)]
        np.testing.assert_allclose(observation.LOSSES[name][1](scores, 1), numeric, atol=1e-8)


descended = lru_cache(partial(counterexample.descend, rate=2.0))


def test_descent_on_smoothed_ap_gets_stuck_on_separable_data():
    assert margin(counterexample.PROBLEM) == pytest.approx(4)
    path, losses = descended(1_500)
    end = path[-1]
    assert losses[-1] == pytest.approx(0.3486, abs=1e-4)
    assert np.abs(counterexample.smoothed(end)[1]).max() < 1e-6
    # A minimum, not a saddle or a slope that runs out: higher all around.
    around = [end + 0.3 * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 2 * np.pi, 24)]
    assert min(counterexample.smoothed(theta)[0] for theta in around) > losses[-1] + 1e-5
    assert rankings.average_precision(counterexample.PROBLEM.features @ end, counterexample.PROBLEM.labels) < 0.7


@pytest.mark.parametrize("steps", [0, 1_500])  # from the start, and from where descent gets stuck
def test_the_error_driven_update_solves_the_counterexample(steps):
    assert learn(counterexample.PROBLEM, 1000, theta=descended(steps)[0][-1]).losses[-1] == 0


def test_only_a_common_ranking_sees_the_shift_between_images():
    for shift in (0.0, 1.0, 8.0):
        images = rankings.shifted_images(shift)
        loss, grad = solve_anchors(ap_loss(), *images, ranking_batch=1)
        assert loss == 0
        assert not grad.any()
    loss, grad = solve_anchors(ap_loss(), *rankings.shifted_images(8.0))
    assert loss > 0.25
    assert grad[0].sum() > 0.1  # the image above sinks
    assert grad[1].sum() < -0.1  # the one below rises
    assert rankings.score_shift_losses(0.0) == (0, 0)
    # Three of six positives stand below nine negatives of the other image, at an interpolated precision of 6 / 15.
    assert rankings.score_shift_losses(12.0, delta=0.1) == (0, pytest.approx(0.3))


def test_easy_negatives_raise_accuracy_and_leave_average_precision():
    few, many = rankings.accuracy_and_ap(1), rankings.accuracy_and_ap(100_000)
    assert few[0] < 0.6 < 0.999 < many[0]
    assert few[1] == pytest.approx(many[1], rel=1e-9)
    assert many[1] == pytest.approx(0.5)  # each positive right below a negative: k / 2k


def test_other_steps_learn_as_well():
    problem = random_problem(np.random.default_rng(0), separable=False)
    losses = [ap_losses(problem, learn_with(problem, step, 600)) for step in STEPS.values()]
    ends = [of_step[-50:].mean() for of_step in losses]
    assert max(ends) < losses[0][0] - 0.2
    assert ends == pytest.approx([ends[0]] * len(STEPS), abs=0.03)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_delta_trades_with_weight_decay(name, factor):
    problem = random_problem(np.random.default_rng(2), separable=False)
    one = learn_with(problem, STEPS[name], 100, delta=1, rate=0.1, wd=0.02)
    other = learn_with(problem, STEPS[name], 100, delta=factor, rate=0.1 * factor, wd=0.02 / factor)
    np.testing.assert_allclose(other.path, factor * one.path, rtol=1e-12)
    np.testing.assert_allclose(other.losses, one.losses, rtol=1e-12)


def test_the_optimisers_start_alike_and_the_error_driven_one_descends(monkeypatch):
    monkeypatch.setattr(optimisers, "get_network", lambda _, *sizes, **kwargs: get_network(NAME, *sizes, **kwargs))
    rng = np.random.default_rng(0)
    class_targets = np.zeros((2, 6 * (16 + 4 + 1 + 1 + 1)), np.float32)
    class_targets[:, 20:25] = 1
    class_targets[:, 60:63] = 2
    images = mx.nd.array(rng.normal(size=(2, 3, 32, 32)))
    curves = compare([Batch(images, mx.nd.array(class_targets))], classes=2, steps=8, channels=16)
    assert list(curves) == list(CONTENDERS)
    starts = [losses[0] for losses in curves.values()]
    np.testing.assert_allclose(starts, starts[0], rtol=1e-6)
    error_driven = curves["error-driven update"]
    assert error_driven[-1] < error_driven[0] - 0.2
