"""The exact AP-loss against the paper's algorithm as printed and a vectorised oracle, on wide input."""

from __future__ import annotations

import numpy as np
import pytest
from ap_loss_cases import DELTAS, DTYPES, EPSILON, LAYOUTS, assert_close, random_problem, score_rounding
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.ranking import exact, reference


def vectorised_ap_loss(scores, labels, delta=1.0, interpolated=True, chunk=16):
    """Oracle for large inputs: whole rows of the pairwise matrix in float64, a few positives at a time."""
    scores = scores.astype(np.float64)
    negative, positive = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    positive = positive[np.argsort(scores[positive], kind="stable")]

    def steps(i, j):
        return np.clip((scores[j][None, :] - scores[i][:, None]) / (2 * delta) + 0.5, 0, 1)

    grad, best, total = np.zeros(scores.shape), 0.0, 0.0
    for start in range(0, len(positive), chunk):
        rows = positive[start : start + chunk]
        above = steps(rows, negative)
        positive_rank = steps(rows, positive).sum(axis=1) + 0.5
        precision = positive_rank / (positive_rank + above.sum(axis=1))
        if interpolated:
            precision = np.maximum.accumulate(np.maximum(precision, best))
            best = precision[-1]
        above *= ((1 - precision) / np.maximum(above.sum(axis=1), EPSILON))[:, None]
        grad[rows] -= above.sum(axis=1)
        grad[negative] += above.sum(axis=0)
        total += (1 - precision).sum()
    return total / len(positive), grad / len(positive)


@st.composite
def rankings(draw):
    """Scores, labels and delta: up to 300 entries, from all-equal scores to +-1e4, with ties and breakpoints."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, delta = draw(st.integers(0, 50)) * 6, draw(DELTAS)
    spread = draw(st.sampled_from([0, 1e-9, 1e-4, 0.1, 1, 10, 1e4]))
    form = draw(st.sampled_from(["normal", "ties", "breakpoints"]))
    if form == "breakpoints":
        scores = rng.integers(-6, 7, size) * delta / 2
    else:
        scores = rng.normal(0, spread, size)
    if form == "ties":
        scores = rng.choice(scores[:8], size) if size else scores
    scores = np.clip(scores + draw(st.sampled_from([0, 0, -4.6, 100, 9e3])), -1e4, 1e4).astype(draw(DTYPES))

    ignored, positive = draw(st.sampled_from([0, 0.3, 1])), draw(st.sampled_from([0, 0.01, 0.1, 0.5, 0.9, 1]))
    labels = (rng.random(size) < positive).astype(np.int8)
    if size and draw(st.booleans()):
        labels[:] = 0
        labels[rng.integers(size)] = 1
    labels[rng.random(size) < ignored] = -1
    scores += ((labels == 1) * draw(st.sampled_from([0, 0, 1, 4]))).astype(scores.dtype)
    return scores, labels, delta


def assert_exact_equals_reference(scores, labels, delta, interpolated):
    result = exact.ap_loss_and_grad(scores, labels, delta, interpolated)
    expected = reference.ap_loss_and_grad(scores, labels, delta, interpolated)
    assert_close(result, expected, score_rounding(scores, labels, delta))


@settings(deadline=None, max_examples=300)
@given(rankings(), st.booleans(), st.sampled_from(sorted(LAYOUTS)))
def test_equals_the_reference(problem, interpolated, layout):
    scores, labels, delta = problem
    if scores.size or layout in ("1-D", "every second", "backwards"):
        scores, labels = LAYOUTS[layout](scores), LAYOUTS[layout](labels)
    assert_exact_equals_reference(scores, labels, delta, interpolated)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.floats(-1e4, 1e4) | st.integers(-8, 8).map(float), st.sampled_from([-1, 0, 0, 1, 1])), max_size=12
    ),
    DELTAS,
    st.booleans(),
)
def test_equals_the_reference_on_few_scores(entries, delta, interpolated):
    scores, labels = np.array([s for s, _ in entries]), np.array([label for _, label in entries], np.int8)
    assert_exact_equals_reference(scores, labels, delta, interpolated)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_negatives_around_the_foot_of_the_step(dtype):
    # The foot, score - delta, is seldom a number of the scores' own type.
    for score in np.random.default_rng(5).normal(0, 5, 300).astype(dtype):
        foot = dtype(float(score) - 0.05)
        scores = np.array([score, np.nextafter(foot, dtype(-99)), foot, np.nextafter(foot, dtype(99))], dtype)
        assert_exact_equals_reference(scores, np.array([1, 0, 0, 0]), 0.05, True)


@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("outlier", [-3e38, -1e30, -1e12, 1e12, 1e30, 3e38])
@pytest.mark.parametrize("label", [0, 1])
def test_an_outlier_costs_no_precision(label, outlier, interpolated):
    # Sums over all scores would lose the small ones beside it.
    scores, labels = random_problem(4, dtype=np.float32)
    scores[0], labels[0] = outlier, label
    result = exact.ap_loss_and_grad(scores, labels, 0.5, interpolated)
    assert_close(result, reference.ap_loss_and_grad(scores, labels, 0.5, interpolated))


@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("gap", [-4, 0, 6], ids=["early", "mid", "late"])
@pytest.mark.parametrize(("size", "positives"), [(100_000, 200), (20_000, 1_000)])
def test_equals_the_vectorised_oracle_on_a_large_batch(size, positives, gap, interpolated):
    rng = np.random.default_rng(size)
    labels = np.zeros(size, np.int8)
    labels[rng.choice(size, size // 10, replace=False)] = -1
    labels[rng.choice(size, positives, replace=False)] = 1
    scores = (rng.normal(size=size) + gap * (labels == 1)).astype(np.float32)
    result = exact.ap_loss_and_grad(scores, labels, 1.0, interpolated)
    assert_close(result, vectorised_ap_loss(scores, labels, 1.0, interpolated))


def test_more_entries_than_float32_can_count():
    # f = 1/2 for each negative: rank 1 + N/2. A float32 count or sum would stop at 2**24.
    size = 2**24 + 6
    labels = np.zeros(size, np.int8)
    labels[size // 2] = 1
    loss, grad = exact.ap_loss_and_grad(np.zeros(size, np.float32), labels)
    rank = 1 + (size - 1) / 2
    assert loss == pytest.approx(1 - 1 / rank, rel=1e-14)
    assert grad[size // 2] == pytest.approx(-loss, rel=1e-6)
    negative = grad[labels == 0]
    np.testing.assert_allclose([negative.min(), negative.max()], 0.5 / rank, rtol=1e-6)
