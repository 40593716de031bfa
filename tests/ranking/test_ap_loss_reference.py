"""The reference AP-loss against the definition in exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from ap_loss_cases import DELTAS, EPSILON
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aploss_mx.ranking.reference import ap_loss_and_grad


def rational_ap_loss(scores, labels, delta, interpolated):
    """Loss and gradient as Fractions.

    The interpolated precision is taken by its definition, the best precision at or below the positive's
    score, so that nothing here depends on an order of visits.
    """
    delta = Fraction(delta)

    def step(x):
        return min(max(x / (2 * delta) + Fraction(1, 2), Fraction(0)), Fraction(1))

    score = {k: Fraction(float(s)) for k, (s, label) in enumerate(zip(scores, labels)) if label != -1}
    positives = [k for k in score if labels[k] == 1]
    negatives = [k for k in score if labels[k] == 0]
    above = {i: {j: step(score[j] - score[i]) for j in negatives} for i in positives}
    precision = {}
    for i in positives:
        positive_rank = 1 + sum(step(score[j] - score[i]) for j in positives if j != i)
        precision[i] = positive_rank / (positive_rank + sum(above[i].values()))
    if interpolated:
        precision = {i: max(precision[j] for j in positives if score[j] <= score[i]) for i in positives}

    gradient = [Fraction(0)] * len(scores)
    for i in positives:
        errors, total = (1 - precision[i]) / len(positives), sum(above[i].values())
        gradient[i] -= errors
        for j in negatives:
            gradient[j] += errors * above[i][j] / total if total else 0
    return -sum(gradient[i] for i in positives), gradient


def assert_rational(scores, labels, delta, interpolated):
    scores, labels = np.asarray(scores), np.asarray(labels, np.int8)
    loss, grad = ap_loss_and_grad(scores, labels, delta, interpolated)
    expected_loss, expected_grad = rational_ap_loss(scores, labels, delta, interpolated)
    rounding = 16 * len(scores) * EPSILON
    assert abs(Fraction(loss) - expected_loss) <= rounding
    float32_rounding = np.finfo(np.float32).eps * sum(map(abs, expected_grad))
    assert sum(abs(Fraction(float(g)) - e) for g, e in zip(grad, expected_grad)) <= float32_rounding + rounding


LABELS = st.sampled_from([-1, 0, 0, 1, 1])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4) | st.floats(-3, 3), LABELS), max_size=10), DELTAS, st.booleans())
@example([], 1.0, True)
@example([(0.0, 1), (0.0, 1), (0.0, 0)], 1.0, True)
def test_equals_rational_arithmetic(entries, delta, interpolated):
    assert_rational([s for s, _ in entries], [label for _, label in entries], delta, interpolated)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(-4, 4), LABELS), max_size=10),
    st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.booleans(),
)
def test_equals_rational_arithmetic_on_ties_and_breakpoints(entries, delta, dtype, interpolated):
    scores = np.array([step * delta / 2 for step, _ in entries], dtype)
    assert_rational(scores, [label for _, label in entries], delta, interpolated)


@pytest.mark.parametrize(
    ("interpolated", "loss", "grad"),
    [(False, 5 / 12, [5 / 12, -1 / 4, -1 / 6]), (True, 1 / 3, [1 / 3, -1 / 6, -1 / 6])],
)
def test_worked_example(interpolated, loss, grad):
    # Precisions 1/2 and, below it, 2/3; interpolation lifts the upper positive to 2/3.
    result = ap_loss_and_grad(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 1]), 0.25, interpolated)
    assert result[0] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(result[1], grad, rtol=1e-6)


def test_worked_example_with_a_wide_step():
    # f(1) = 3/4, f(0) = 1/2, f(-1) = 1/4; rank among positives and rank: 5/4 and 7/4 above, 7/4 and 10/4 below.
    loss, grad = ap_loss_and_grad(np.array([1.0, 1.0, 0.0]), np.array([0, 1, 1]), 2.0, False)
    upper, lower = 0.5 / 1.75, 0.75 / 2.5
    assert loss == pytest.approx((upper + lower) / 2, rel=1e-12)
    np.testing.assert_allclose(grad, [(upper + lower) / 2, -upper / 2, -lower / 2], rtol=1e-6)
