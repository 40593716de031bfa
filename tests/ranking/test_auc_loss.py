"""The AUC-loss: closed forms, and the error-driven gradient pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from ap_loss_cases import assert_close, score_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aploss_mx.ranking.exact import auc_loss_and_grad


def pairwise_auc_loss(scores, labels, delta=1.0):
    """Eqs. 7, 13 and 14 on the whole matrix of pairs."""
    scores = scores.astype(np.float64)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    grad = np.zeros(scores.shape)
    if not len(positive) or not len(negative):
        return 0.0, grad
    x = scores[negative][None, :] - scores[positive][:, None]
    terms = np.where(x < -delta, 0, np.where(x > delta, 1, x / (2 * delta) + 0.5)) / len(negative)
    grad[positive] = -terms.sum(axis=1) / len(positive)
    grad[negative] = terms.sum(axis=0) / len(positive)
    return terms.sum() / len(positive), grad


def assert_is_pairwise(scores, labels, delta):
    result = auc_loss_and_grad(scores, labels, delta)
    assert result[1].dtype == np.float32
    assert_close(result, pairwise_auc_loss(scores, labels, delta), score_rounding(scores, labels, delta))


@pytest.mark.parametrize("delta", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("gap", [-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0])
def test_one_positive_and_one_negative(gap, delta):
    loss, grad = auc_loss_and_grad(np.array([0.0, gap * delta]), np.array([1, 0]), delta)
    assert loss == pytest.approx(min(max(gap / 2 + 0.5, 0), 1), rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(grad, [-loss, loss], rtol=1e-6)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (4, 1), (7, 200)])
def test_best_tied_and_worst_ranking(positives, negatives):
    labels = np.repeat([1, 0], [positives, negatives])
    best = auc_loss_and_grad(2.0 * labels, labels)
    assert best[0] == 0
    assert not best[1].any()
    for scores, expected in [(np.full(labels.shape, 3.0), 0.5), (-2.0 * labels, 1)]:
        loss, grad = auc_loss_and_grad(scores, labels)
        assert loss == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(grad, np.where(labels == 1, -expected / positives, expected / negatives), rtol=1e-6)


def test_easy_negatives_count_in_the_number_of_negatives():
    # Two of them stand deltas below every positive: they add nothing to the sum, but |N| is 3.
    scores, labels = np.array([0.0, 5.0, -50.0, -60.0, 7.0]), np.array([1, 0, 0, 0, -1])
    loss, grad = auc_loss_and_grad(scores, labels)
    assert loss == pytest.approx(1 / 3, rel=1e-12)
    np.testing.assert_allclose(grad, [-1 / 3, 1 / 3, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_narrow_step_counts_the_inverted_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.permutation(120).astype(np.float32), rng.choice([-1, 0, 0, 1], 120)
    inverted = [n > p for n in scores[labels == 0] for p in scores[labels == 1]]
    assert auc_loss_and_grad(scores, labels, 1e-5)[0] == pytest.approx(np.mean(inverted), rel=1e-9)


@st.composite
def problems(draw):
    """Up to 60 scores: free, or of a grid of half deltas, which ties them and puts pairs on the step's ends."""
    size, delta = draw(st.integers(0, 60)), draw(st.sampled_from([0.25, 1.0, 2.0]) | st.floats(0.05, 4))
    elements = draw(st.sampled_from([st.floats(-1e4, 1e4), st.integers(-6, 6).map(lambda n: n * delta / 2)]))
    scores = draw(hnp.arrays(np.float64, size, elements=elements))
    labels = draw(hnp.arrays(np.int8, size, elements=st.sampled_from([-1, 0, 0, 1])))
    return scores.astype(draw(st.sampled_from([np.float16, np.float32, np.float64]))), labels, delta


@settings(deadline=None, max_examples=100)
@given(problems())
def test_it_is_the_sum_over_pairs(problem):
    assert_is_pairwise(*problem)


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0, 30.0])
@pytest.mark.parametrize(("positives", "negatives"), [(3, 100_000), (200, 10_000), (2_000, 500)])
def test_it_is_the_sum_over_pairs_of_many(positives, negatives, shift):
    rng = np.random.default_rng(positives)
    labels = rng.permutation(np.repeat([1, 0, -1], [positives, negatives, 50]))
    scores = (rng.normal(size=labels.size) + shift * (labels == 1)).astype(np.float32)
    for delta in (0.1, 1.0):
        assert_is_pairwise(scores, labels, delta)
