"""What must not change the exact AP-loss, or changes it in a known way, and anchors that stand for K entries each."""

from __future__ import annotations

import numpy as np
import pytest
from ap_loss_cases import DELTAS, RELATIVE, assert_close, random_problem, score_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import replicate

from aploss_mx.ranking import exact
from aploss_mx.ranking.problem import solve_anchors

SEEDS = st.integers(0, 2**32 - 1)


def for_random_rankings(test):
    return settings(deadline=None, max_examples=25)(
        given(st.builds(random_problem, SEEDS, st.integers(1, 200)), DELTAS, st.booleans())(test)
    )


@for_random_rankings
def test_gradient_balances_and_sums_to_the_loss(problem, delta, interpolated):
    scores, labels = problem
    loss, grad = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    assert (grad[labels == 1] <= 0).all()
    assert (grad[labels == 0] >= 0).all()
    assert not grad[labels == -1].any()
    assert 0 <= loss < 1
    assert -grad[labels == 1].sum(dtype=np.float64) == pytest.approx(loss, rel=RELATIVE)
    assert grad[labels == 0].sum(dtype=np.float64) == pytest.approx(loss, rel=RELATIVE)


@for_random_rankings
def test_shifting_all_scores_changes_nothing(problem, delta, interpolated):
    scores, labels = problem
    expected = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    for shift in (-17.25, 9000.0):
        result = exact.ap_loss_and_grad(scores + shift, labels, delta, interpolated)
        assert_close(result, expected, score_rounding(scores + shift, labels, delta))


@for_random_rankings
def test_permuting_permutes(problem, delta, interpolated):
    scores, labels = problem
    order = np.random.default_rng(0).permutation(scores.size)
    loss, grad = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    assert_close(exact.ap_loss_and_grad(scores[order], labels[order], delta, interpolated), (loss, grad[order]))


@for_random_rankings
def test_scaling_scores_and_delta_by_a_power_of_two_changes_no_bit(problem, delta, interpolated):
    scores, labels = problem
    loss, grad = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    for factor in (2.0**-20, 0.5, 2.0**30):
        scaled_loss, scaled_grad = exact.ap_loss_and_grad(scores * factor, labels, delta * factor, interpolated)
        assert scaled_loss == loss
        np.testing.assert_array_equal(scaled_grad, grad)


@for_random_rankings
def test_a_better_negative_never_lowers_the_loss(problem, delta, interpolated):
    scores, labels = problem
    loss, _ = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    raised = scores + np.where(labels == 0, np.random.default_rng(0).exponential(0.3, scores.shape), 0)
    assert exact.ap_loss_and_grad(raised, labels, delta, interpolated)[0] >= loss - 1e-12


@for_random_rankings
def test_interpolation_never_raises_the_loss(problem, delta, _):
    scores, labels = problem
    plain, _ = exact.ap_loss_and_grad(scores, labels, delta, interpolated=False)
    assert exact.ap_loss_and_grad(scores, labels, delta, interpolated=True)[0] <= plain + 1e-12


@for_random_rankings
def test_scoring_everything_twice(problem, delta, interpolated):
    # rank+ becomes 2 rank+ - 1/2 and rank 2 rank - 1/2: 1 - Prec grows by rank / (rank - 1/4), at most 4/3.
    scores, labels = problem
    loss, _ = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    twice, grad = exact.ap_loss_and_grad(np.tile(scores, 2), np.tile(labels, 2), delta, interpolated)
    np.testing.assert_allclose(grad[: scores.size], grad[scores.size :], rtol=1e-6)
    assert loss - 1e-12 <= twice <= 4 / 3 * loss + 1e-12


@settings(deadline=None, max_examples=25)
@given(SEEDS, DELTAS)
def test_scoring_everything_twice_with_one_positive(seed, delta):
    # There rank = 1 / (1 - loss), so the growth above is known; each copy carries half.
    scores, labels = random_problem(seed)
    labels[labels == 1] = 0
    labels[0] = 1
    loss, grad = exact.ap_loss_and_grad(scores, labels, delta)
    growth = 4 / (3 + loss)
    result = exact.ap_loss_and_grad(np.tile(scores, 2), np.tile(labels, 2), delta)
    assert_close(result, (growth * loss, np.tile(growth * grad / 2, 2)))


# ------------------------------------------------------------------------------- anchors that stand K times each


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (1, 1, 1), (2, 30, 1), (3, 20, 5), (2, 50_000, 3)])
def test_anchors_equal_their_copies(shape, interpolated, dtype):
    rng = np.random.default_rng(6)
    logits = rng.normal(size=shape).astype(np.float32)
    class_targets = rng.choice([-1, 0], shape[:2])
    objects = rng.random(shape[:2]) < min(0.2, 300 / max(1, class_targets.size))
    class_targets[objects] = rng.integers(1, shape[2] + 1, objects.sum())
    result = solve_anchors(exact.ap_loss(0.5, interpolated), logits, class_targets.astype(dtype))
    expected = exact.ap_loss_and_grad(logits, replicate(class_targets, shape[2]), 0.5, interpolated)
    assert_close(result, expected)


def test_anchors_one_right_and_one_confused():
    # Positives 3 and 1; above the latter only its own anchor's other class: ranks 1 and 3, of them 1 and 2 positive.
    logits = np.array([[[-3.0, 3.0], [2.0, 1.0], [-3.0, -3.0], [9.0, 9.0]]], np.float32)
    loss, grad = solve_anchors(exact.ap_loss(0.25), logits, np.array([[2, 2, 0, -1]]))
    assert loss == pytest.approx(1 / 6, rel=1e-12)
    np.testing.assert_allclose(grad, [[[0, 0], [1 / 6, -1 / 6], [0, 0], [0, 0]]], rtol=1e-6)
