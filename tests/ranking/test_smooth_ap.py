"""The smoothed AP-loss -log(AP + epsilon): closed forms, finite differences and the sums over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit

from aploss_mx.ranking import smooth_ap
from aploss_mx.ranking.checks import LEAST_TEMPERATURE
from aploss_mx.ranking.smooth_ap import smooth_ap_loss_and_grad

RELATIVE = 1e-6


def sum_over_pairs(scores, labels, temperature=0.5, epsilon=1e-6):
    """Loss and true gradient in float64, from the whole matrices of pairs."""
    scores = scores.astype(np.float64)
    positive, negative = labels == 1, labels == 0
    grad = np.zeros(scores.shape)
    if not positive.any():
        return 0.0, grad
    among = (scores[positive] - scores[positive][:, None]) / temperature
    above = (scores[negative] - scores[positive][:, None]) / temperature
    rank = 0.5 + expit(among).sum(axis=1)  # a positive's own term is 1/2 where 1 stands for it
    ahead = expit(above).sum(axis=1)
    precision = rank / (rank + ahead)
    outer = -1 / (precision.mean() + epsilon) / positive.sum() / temperature
    by_rank = outer * (ahead / (rank + ahead) ** 2)[:, None] * expit(among) * expit(-among)
    by_ahead = -outer * (rank / (rank + ahead) ** 2)[:, None] * expit(above) * expit(-above)
    grad[positive] = by_rank.sum(axis=0) - by_rank.sum(axis=1) - by_ahead.sum(axis=1)
    grad[negative] = by_ahead.sum(axis=0)
    return -np.log(precision.mean() + epsilon), grad


def assert_close(result, expected):
    """Relative distances within 1e-6, beyond what rounding leaves of a loss or gradient that is all but 0."""
    (loss, grad), (expected_loss, expected_grad) = result, expected
    assert type(loss) is float
    assert grad.dtype == np.float32
    assert abs(loss - expected_loss) <= RELATIVE * abs(expected_loss) + 1e-12
    assert np.abs(grad - expected_grad).sum() <= RELATIVE * np.abs(expected_grad).sum() + 1e-12


def random_labels(rng, positives, negatives, ignored=0):
    return rng.permutation(np.repeat([1, 0, -1], [positives, negatives, ignored]))


# --- closed forms ---


@pytest.mark.parametrize("size", [1.0, 4e17, -1e20, 1e37])
def test_a_tie_is_half_a_step_however_large_the_scores(size):
    loss, grad = smooth_ap_loss_and_grad(np.array([size, size], np.float32), np.array([1, 0]))
    assert loss == pytest.approx(np.log(1.5), rel=1e-5)
    np.testing.assert_allclose(grad, [-1 / 3, 1 / 3], rtol=1e-5)


def test_the_coldest_sigmoid_has_a_finite_gradient():
    labels = np.repeat([1, 0], [1, 100_000])
    assert np.isfinite(smooth_ap_loss_and_grad(np.zeros(labels.size), labels, LEAST_TEMPERATURE)[1]).all()


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("gap", [-4.0, -1.0, 0.0, 0.5, 6.0])
def test_one_positive_and_one_negative(gap, temperature):
    step = 1 / (1 + np.exp(-gap))
    loss, grad = smooth_ap_loss_and_grad(np.array([0.0, gap * temperature]), np.array([1, 0]), temperature)
    precision = 1 / (1 + step)
    assert loss == pytest.approx(-np.log(precision + 1e-6), rel=1e-12)
    slope = precision**2 * step * (1 - step) / temperature / (precision + 1e-6)
    np.testing.assert_allclose(grad, [-slope, slope], rtol=1e-6)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (4, 1), (7, 200), (3, 20_000)])
def test_equal_scores_everywhere(positives, negatives):
    # R = 1 + (P - 1)/2 and A = N/2 for every positive, and so there are slopes for all.
    labels = np.repeat([1, 0], [positives, negatives])
    loss, grad = smooth_ap_loss_and_grad(np.full(labels.shape, -3.3), labels, 0.7)
    assert loss == pytest.approx(-np.log((positives + 1) / (positives + 1 + negatives) + 1e-6), rel=1e-9)
    np.testing.assert_allclose(grad[labels == 0] * negatives, -grad[labels == 1].sum(), rtol=1e-5)


def test_without_a_negative_the_precision_is_1():
    loss, grad = smooth_ap_loss_and_grad(np.array([3.0, -1.0, 7.0]), np.array([1, 1, -1]), epsilon=0.5)
    assert loss == pytest.approx(-np.log(1.5), rel=1e-12)
    assert not grad.any()


@pytest.mark.parametrize("size", [120, 20_000])
def test_a_cold_sigmoid_gives_average_precision(size):
    rng = np.random.default_rng(size)
    scores, labels = rng.permutation(size).astype(np.float32), random_labels(rng, 20, size - 30, 10)
    ranked = labels[np.argsort(-scores)]
    hits = np.flatnonzero(ranked[ranked != -1] == 1)
    precision = np.mean(np.arange(1, 21) / (hits + 1))
    loss, grad = smooth_ap_loss_and_grad(scores, labels, 0.01)
    assert loss == pytest.approx(-np.log(precision + 1e-6), rel=1e-9)
    assert np.abs(grad).max() < 1e-30  # flat: exp(-100) away from every step


@pytest.mark.parametrize("negatives", [10, 20_000])
def test_epsilon_bounds_the_loss(negatives):
    labels = np.repeat([1, 0], [1, negatives])
    losses = [smooth_ap_loss_and_grad(-10.0 * labels, labels, epsilon=e)[0] for e in (1e-9, 1e-3, 0.1)]
    assert losses == pytest.approx([-np.log(1 / (1 + negatives) + e) for e in (1e-9, 1e-3, 0.1)], rel=1e-6)


# --- the true gradient ---


def central_differences(scores, labels, temperature, epsilon, step):
    slopes = np.zeros(scores.shape)
    for index in range(scores.size):
        moved = np.zeros(scores.shape)
        moved[index] = step
        high = sum_over_pairs(scores + moved, labels, temperature, epsilon)[0]
        slopes[index] = (high - sum_over_pairs(scores - moved, labels, temperature, epsilon)[0]) / (2 * step)
    return slopes


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([-1, 0, 0, 1])), min_size=1, max_size=12),
    st.sampled_from([0.1, 0.5, 1.0, 10.0]),
    st.sampled_from([1e-6, 1e-2]),
)
def test_the_gradient_is_what_finite_differences_say(entries, temperature, epsilon):
    scores, labels = np.array([s for s, _ in entries]), np.array([label for _, label in entries])
    _, grad = smooth_ap_loss_and_grad(scores, labels, temperature, epsilon)
    slopes = central_differences(scores, labels, temperature, epsilon, 1e-4 * temperature)
    np.testing.assert_allclose(grad, slopes, rtol=1e-5, atol=1e-7 / temperature)


@pytest.mark.parametrize("spread", [0.01, 1.0, 1e3])
def test_its_own_loss_changes_as_its_gradient_says_along_any_line(spread):
    # Many negatives: whatever stands in for them must be the same in loss and gradient.
    rng = np.random.default_rng(1)
    labels = random_labels(rng, 6, 5_000)
    scores, direction = rng.normal(0, spread, labels.size), rng.normal(size=labels.size)
    _, grad = smooth_ap_loss_and_grad(scores, labels)
    high, low = (smooth_ap_loss_and_grad(scores + t * direction, labels)[0] for t in (1e-3, -1e-3))
    assert (high - low) / 2e-3 == pytest.approx(grad.astype(np.float64) @ direction, rel=1e-4, abs=1e-7)


# --- all pairs ---


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_it_is_the_sum_over_pairs(data):
    size = data.draw(st.integers(0, 50))
    elements = data.draw(st.sampled_from([st.floats(-1e3, 1e3), st.floats(-3, 3), st.integers(-4, 4).map(float)]))
    scores = data.draw(hnp.arrays(np.float64, size, elements=elements))
    scores = scores.astype(data.draw(st.sampled_from([np.float16, np.float32, np.float64])))
    labels = data.draw(hnp.arrays(np.int8, size, elements=st.sampled_from([-1, 0, 0, 1])))
    attributes = data.draw(st.sampled_from([1e-3, 0.1, 0.5, 1e3])), data.draw(st.sampled_from([1e-6, 0.1]))
    assert_close(smooth_ap_loss_and_grad(scores, labels, *attributes), sum_over_pairs(scores, labels, *attributes))


def outliers(rng, size, places=(-1e6, -1e4, -1e3, 1e3, 1e4, 1e6)):
    scores = rng.normal(size=size)
    scores[rng.integers(size, size=len(places))] = places
    return scores


SCORES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "narrow": lambda rng, size: 1e3 + rng.normal(0, 1e-3, size),
    "wide": lambda rng, size: rng.uniform(-1e3, 1e3, size),
    "clusters": lambda rng, size: rng.choice([-40.0, -1.0, -0.9, 3.0], size) + rng.normal(0, 1e-4, size),
    "two far clusters": lambda rng, size: rng.choice([-1e3, 1e3], size) + rng.normal(size=size),
    "outliers": outliers,
    "one far below": lambda rng, size: outliers(rng, size, [-1e18]),
    "far on both sides": lambda rng, size: outliers(rng, size, [-1e30, 1e25]),
    "a cluster in the void": lambda rng, size: (
        rng.normal(size=size) + rng.integers(2, size=size) * rng.normal(0, 1e6, size)
    ),
    "ties": lambda rng, size: rng.integers(-8, 9, size) / 4,
    "one-sided": lambda rng, size: -rng.exponential(50, size),
}


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 0.5, 5.0, 1e3])
@pytest.mark.parametrize("form", SCORES)
def test_it_is_the_sum_over_pairs_of_many(form, temperature):
    rng = np.random.default_rng(sorted(SCORES).index(form))
    for positives, negatives in [(1, 6_000), (5, 2_000), (40, 4_000), (300, 400)]:
        labels = random_labels(rng, positives, negatives, 30)
        scores = SCORES[form](rng, labels.size)
        for dtype in (np.float32, np.float64):
            typed = scores.astype(dtype)
            expected = sum_over_pairs(typed, labels, temperature)
            assert_close(smooth_ap_loss_and_grad(typed, labels, temperature), expected)


@pytest.mark.parametrize("form", SCORES)
def test_a_positive_meets_few_of_many_negatives(form, monkeypatch):
    """At most NODES points in each of the cells that its sigmoid reaches, however the scores are spread."""
    met = 0

    def counting(x, sigmoid=smooth_ap._sigmoid):
        nonlocal met
        met += x.size
        return sigmoid(x)

    monkeypatch.setattr(smooth_ap, "_sigmoid", counting)
    rng = np.random.default_rng(5)
    positives, negatives = 10, 100_000
    smooth_ap_loss_and_grad(SCORES[form](rng, positives + negatives), random_labels(rng, positives, negatives))
    cells = 3 * smooth_ap.REACH / smooth_ap.CELL + 1
    assert 0 < met <= 2 * positives * (positives + smooth_ap.NODES * (cells + 1))


@pytest.mark.parametrize("place", [-30.0, -3.0, 0.0, 3.0, 30.0])
def test_positives_away_from_the_negatives(place):
    # Below all of them, above all of them, and where only the tails of the sigmoids reach.
    rng = np.random.default_rng(7)
    labels = random_labels(rng, 8, 5_000)
    scores = rng.normal(size=labels.size) + place * (labels == 1)
    assert_close(smooth_ap_loss_and_grad(scores, labels), sum_over_pairs(scores, labels))


@pytest.mark.parametrize("negatives", [1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000])
def test_any_number_of_negatives(negatives):
    rng = np.random.default_rng(negatives)
    labels = random_labels(rng, 10, negatives)
    scores = (rng.normal(-4.6, 1.5, labels.size) + 2 * (labels == 1)).astype(np.float32)
    assert_close(smooth_ap_loss_and_grad(scores, labels), sum_over_pairs(scores, labels))
