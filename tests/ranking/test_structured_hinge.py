"""The structured hinge AP-loss: all rankings tried, Yue's choice negative by negative, and what convexity asks."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.ranking import reference
from aploss_mx.ranking.structured_hinge import structured_hinge_loss_and_grad


def objective(order, scores, labels):
    """What one ranking is worth: its own AP-loss less the margin between the scores it turns round."""
    ranked = labels[order]
    hits = np.flatnonzero(ranked == 1)
    place = np.argsort(order)
    turned = sum(
        2 * (scores[i] - scores[j])
        for i in np.flatnonzero(labels == 1)
        for j in np.flatnonzero(labels == 0)
        if place[j] < place[i]
    )
    loss = 1 - np.mean(np.arange(1, len(hits) + 1) / (hits + 1))
    return loss - turned / (len(hits) * (len(ranked) - len(hits)))


def best_of_all_rankings(scores, labels):
    return max(objective(np.array(order), scores, labels) for order in permutations(range(len(scores))))


def best_of_interleavings(scores, labels):
    """Positives among themselves and negatives among themselves stand by score."""
    positive, negative = (np.flatnonzero(labels == kind) for kind in (1, 0))
    positive, negative = positive[np.argsort(-scores[positive])], negative[np.argsort(-scores[negative])]
    best = -np.inf
    for places in combinations(range(len(scores)), len(positive)):
        order = np.empty(len(scores), int)
        order[list(places)] = positive
        order[np.setdiff1d(np.arange(len(scores)), places)] = negative
        best = max(best, objective(order, scores, labels))
    return best


def place_by_place(scores, labels):
    """Yue et al. 2007: the j-th best negative takes the place before positive i that is worth most to it."""
    scores = scores.astype(np.float64)
    positive, negative = (np.flatnonzero(labels == kind) for kind in (1, 0))
    positive, negative = positive[np.argsort(-scores[positive])], negative[np.argsort(-scores[negative])]
    pairs, k = len(positive) * len(negative), np.arange(1, len(positive) + 1)
    loss, grad = 0.0, np.zeros(scores.shape)
    for j, index in enumerate(negative, 1):
        worth = (k / (k + j - 1) - k / (k + j)) / len(positive) - 2 / pairs * (scores[positive] - scores[index])
        worth = np.append(np.cumsum(worth[::-1])[::-1], 0)
        first = np.argmax(worth)
        loss += worth[first]
        grad[positive[first:]] -= 2 / pairs
        grad[index] += 2 / pairs * (len(positive) - first)
    return loss, grad


def heaviside_ap_loss(scores, labels):
    """Eq. 5 with H(0) = 1."""
    valid = labels != -1
    losses = []
    for score in scores[labels == 1]:
        rank = np.sum(scores[valid] >= score)
        losses.append(1 - np.sum(scores[labels == 1] >= score) / rank)
    return np.mean(losses)


@st.composite
def problems(draw, least=(1, 1), most=(4, 4), ignored=0):
    """Scores around the margins that matter, free or with ties, in any order of labels."""
    counts = [draw(st.integers(low, high)) for low, high in zip(least, most)]
    labels = draw(st.permutations([1] * counts[0] + [0] * counts[1] + [-1] * draw(st.integers(0, ignored))))
    step = draw(st.sampled_from([st.floats(-1, 1), st.integers(-4, 4).map(lambda n: n / 4), st.floats(-30, 30)]))
    return np.array([draw(step) for _ in labels]), np.array(labels)


# --- closed forms ---


@pytest.mark.parametrize("gap", [-3.0, -0.5, 0.0, 0.1, 0.2, 0.26, 4.0])
def test_one_positive_and_one_negative(gap):
    loss, grad = structured_hinge_loss_and_grad(np.array([gap, 0.0]), np.array([1, 0]))
    assert loss == pytest.approx(max(0, 0.5 - 2 * gap), rel=1e-12, abs=1e-15)
    np.testing.assert_array_equal(grad, [-2, 2] if gap < 0.25 else [0, 0])


@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (4, 1), (7, 200), (50, 5_000)])
def test_equal_scores_cost_what_the_worst_ranking_does(positives, negatives):
    labels = np.repeat([0, 1], [negatives, positives])
    loss, grad = structured_hinge_loss_and_grad(np.full(labels.shape, 2.5), labels)
    assert loss == pytest.approx(np.mean(negatives / (np.arange(1, positives + 1) + negatives)), rel=1e-9)
    np.testing.assert_allclose(grad, np.where(labels == 1, -2 / positives, 2 / negatives), rtol=1e-6)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (4, 1), (7, 200)])
def test_a_wide_margin_is_exactly_zero(positives, negatives):
    labels = np.repeat([0, 1], [negatives, positives])
    loss, grad = structured_hinge_loss_and_grad(1e4 * labels, labels)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("size", [1, 5])
def test_without_a_negative_it_is_zero(size):
    loss, grad = structured_hinge_loss_and_grad(np.arange(size + 1.0), np.array([-1] + [1] * size))
    assert loss == 0
    assert not grad.any()


# --- the maximum ---


@settings(deadline=None, max_examples=30)
@given(problems(most=(3, 3)))
def test_it_is_the_best_of_all_rankings(problem):
    loss, _ = structured_hinge_loss_and_grad(*problem)
    assert loss == pytest.approx(best_of_all_rankings(*problem), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(problems(most=(4, 5)))
def test_it_is_the_best_of_all_interleavings(problem):
    loss, _ = structured_hinge_loss_and_grad(*problem)
    assert loss == pytest.approx(best_of_interleavings(*problem), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("spread", [1e-4, 0.1, 1.0, 30.0, 1e3])
@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (1, 60), (60, 1), (13, 200), (200, 13), (150, 2_000)])
def test_it_is_the_best_place_of_every_negative(positives, negatives, spread):
    rng = np.random.default_rng(positives)
    labels = rng.permutation(np.repeat([1, 0, -1], [positives, negatives, 20]))
    for shift in (-1, 0, 1, 4):
        scores = rng.normal(0, spread, labels.size) + shift * spread * (labels == 1)
        loss, grad = structured_hinge_loss_and_grad(scores, labels)
        expected_loss, expected_grad = place_by_place(scores, labels)
        assert loss == pytest.approx(expected_loss, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_tied_scores_of_few_bits(dtype):
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([1, 0], [40, 900]))
    scores = (rng.integers(-6, 7, labels.size) / 8).astype(dtype)
    loss, _ = structured_hinge_loss_and_grad(scores, labels)
    assert loss == pytest.approx(place_by_place(scores, labels)[0], rel=1e-9)


# --- an upper bound, convex ---


@settings(deadline=None, max_examples=150)
@given(problems(most=(8, 20), ignored=3))
def test_it_bounds_the_ap_loss_from_above(problem):
    loss, _ = structured_hinge_loss_and_grad(*problem)
    assert loss >= heaviside_ap_loss(*problem) - 1e-9
    assert loss >= reference.ap_loss_and_grad(*problem, delta=1e-9, interpolated=False)[0] - 1e-9


@settings(deadline=None, max_examples=150)
@given(problems(most=(8, 20), ignored=3), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.1, 1.0, 30.0]))
def test_it_is_convex_and_above_its_tangents(problem, seed, spread):
    scores, labels = problem
    move = np.random.default_rng(seed).normal(0, spread, scores.shape)
    loss, grad = structured_hinge_loss_and_grad(scores, labels)
    there, _ = structured_hinge_loss_and_grad(scores + move, labels)
    midway, _ = structured_hinge_loss_and_grad(scores + move / 2, labels)
    rounding = 1e-6 * (1 + np.abs(grad) @ np.abs(move))  # the gradient is a float32
    assert there >= loss + grad.astype(np.float64) @ move - rounding
    assert midway <= (loss + there) / 2 + 1e-9 * (1 + loss + there)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_what_finite_differences_say(seed):
    # Piecewise linear: away from the kinks, which random scores keep to, the differences are exact.
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([1, 0, -1], [5, 30, 3]))
    scores = rng.normal(0, 0.3, labels.size)
    _, grad = structured_hinge_loss_and_grad(scores, labels)
    assert np.unique(grad).size > 5  # some negatives are turned round and some are not
    for index in range(labels.size):
        move = 1e-7 * (np.arange(labels.size) == index)
        high, low = (structured_hinge_loss_and_grad(scores + sign * move, labels)[0] for sign in (1, -1))
        assert (high - low) / 2e-7 == pytest.approx(grad[index], abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(problems(most=(8, 20), ignored=3), st.floats(-100, 100))
def test_only_differences_of_scores_matter(problem, shift):
    scores, labels = problem
    loss, grad = structured_hinge_loss_and_grad(scores, labels)
    assert abs(grad.sum(dtype=np.float64)) <= 1e-5
    assert (grad[labels == 1] <= 0).all()
    assert (grad[labels == 0] >= 0).all()
    assert structured_hinge_loss_and_grad(scores + shift, labels)[0] == pytest.approx(loss, rel=1e-9, abs=1e-11)
