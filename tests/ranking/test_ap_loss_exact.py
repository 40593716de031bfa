"""The exact AP-loss and the reference: closed forms, and the contract of both."""

from __future__ import annotations

import warnings

import mxnet as mx
import numpy as np
import pytest
from ap_loss_cases import LAYOUTS, assert_close, random_problem

from aploss_mx.ranking import exact, reference


@pytest.fixture(params=[exact, reference], ids=["exact", "reference"])
def ap_loss(request):
    """The loss under test: what the specification says holds for both implementations."""
    return request.param.ap_loss_and_grad


def average_precision(scores, labels, interpolated):
    """AP over distinct scores; interpolated: the best precision at the same or a greater recall."""
    ranked = labels[np.argsort(-scores)]
    ranked = ranked[ranked != -1]
    hits = np.flatnonzero(ranked == 1)
    precision = np.arange(1, len(hits) + 1) / (hits + 1)
    if interpolated:
        precision = np.array([precision[k:].max() for k in range(len(hits))])
    return precision.mean()


# ---------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("interpolated", [False, True])
def test_perfect_ranking_is_exactly_zero(ap_loss, interpolated):
    # 2 - 1 is exactly delta: the step is 0 there already.
    loss, grad = ap_loss(np.array([2.0, -5.0, 9.0, 1.0, 0.5]), np.array([1, 0, 1, 0, 0]), 1.0, interpolated)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("delta", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("gap", [-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0])
def test_one_positive_and_one_negative(ap_loss, gap, delta):
    # The negative is `gap` deltas above: f / (1 + f), and 1/3 at the same score.
    step = min(max(gap / 2 + 0.5, 0), 1)
    loss, grad = ap_loss(np.array([0.0, gap * delta]), np.array([1, 0]), delta)
    assert loss == pytest.approx(step / (1 + step), rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(grad, [-loss, loss], rtol=1e-6)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (4, 1), (7, 200), (50, 50)])
@pytest.mark.parametrize("interpolated", [False, True])
def test_equal_scores_everywhere(ap_loss, positives, negatives, interpolated):
    # rank+ = 1 + (P - 1)/2 and rank = rank+ + N/2 for every positive.
    labels = np.repeat([1, 0], [positives, negatives])
    loss, grad = ap_loss(np.full(labels.shape, -3.3), labels, 0.7, interpolated)
    assert loss == pytest.approx(negatives / (positives + 1 + negatives), rel=1e-12)
    np.testing.assert_allclose(grad, np.where(labels == 1, -loss / positives, loss / negatives), rtol=1e-6)


def assert_worst_ranking(ap_loss, positives, negatives):
    # k-th best positive: precision k/(k + N), which the lowest one's P/(P + N) replaces when interpolated.
    labels = np.repeat([1, 0], [positives, negatives])
    scores = np.arange(float(labels.size))
    rank = np.arange(positives, 0, -1)

    loss, grad = ap_loss(scores, labels, 0.25, interpolated=False)
    assert loss == pytest.approx((negatives / (rank + negatives)).mean(), rel=1e-12)
    np.testing.assert_allclose(grad[labels == 1], -negatives / (rank + negatives) / positives, rtol=1e-6)
    np.testing.assert_allclose(grad[labels == 0], (1 / (rank + negatives)).mean(), rtol=1e-6)

    loss, grad = ap_loss(scores, labels, 0.25)
    assert loss == pytest.approx(negatives / (positives + negatives), rel=1e-12)
    np.testing.assert_allclose(grad[labels == 1], -loss / positives, rtol=1e-6)
    np.testing.assert_allclose(grad[labels == 0], loss / negatives, rtol=1e-6)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (3, 5), (20, 100)])
def test_worst_ranking(ap_loss, positives, negatives):
    assert_worst_ranking(ap_loss, positives, negatives)


def test_worst_ranking_of_more_positives_than_16_bits_can_count():
    assert_worst_ranking(exact.ap_loss_and_grad, 70_000, 100_000)


@pytest.mark.parametrize("label", [-1, 0, 1])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (5,), (2, 3, 4)])
def test_without_both_kinds_loss_and_gradient_are_zero(ap_loss, shape, label):
    loss, grad = ap_loss(np.ones(shape, np.float32), np.full(shape, label))
    assert type(loss) is float
    assert loss == 0
    assert grad.shape == shape
    assert grad.dtype == np.float32
    assert not grad.any()


@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("delta", [0.25, 1e-5])
@pytest.mark.parametrize("seed", range(3))
def test_a_narrow_step_gives_average_precision(ap_loss, seed, delta, interpolated):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(120).astype(np.float32)
    labels = rng.choice([-1, 0, 0, 1], 120)
    loss, _ = ap_loss(scores, labels, delta, interpolated)
    assert loss == pytest.approx(1 - average_precision(scores, labels, interpolated), rel=1e-9)


# ---------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("junk", [0.0, 1e4, -1e4, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("interpolated", [False, True])
def test_ignored_scores_never_matter(ap_loss, junk, interpolated):
    scores, labels = random_problem(0)
    valid = labels != -1
    scores[~valid] = junk
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss, grad = ap_loss(scores, labels, 0.5, interpolated)
    assert not grad[~valid].any()
    assert_close((loss, grad[valid]), ap_loss(scores[valid], labels[valid], 0.5, interpolated))


def test_ignored_nan_beside_nothing_valid(ap_loss):
    loss, grad = ap_loss(np.array([np.nan, np.inf]), np.array([-1, -1]))
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param([1, 0, 1, 0, -1], id="both kinds"),
        pytest.param([1, 1, -1, 1, 1], id="no negative"),
        pytest.param([0, 0, 0, 0, -1], id="no positive"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_non_finite_valid_score_gives_a_non_finite_loss(ap_loss, labels, dtype, bad):
    labels = np.array(labels)
    for position in np.flatnonzero(labels != -1):
        scores = np.array([3.0, 0.2, 0.0, -2.0, 0.0], dtype)
        scores[position] = bad
        assert not np.isfinite(ap_loss(scores, labels)[0])


@pytest.mark.parametrize("scores_shape, labels_shape", [((3,), (2,)), ((3,), (3, 1)), ((2, 3), (3, 2)), ((1,), ())])
def test_shapes_that_differ_are_refused(ap_loss, scores_shape, labels_shape):
    with pytest.raises(ValueError, match="shape"):
        ap_loss(np.zeros(scores_shape), np.zeros(labels_shape, int))


def test_arrays_of_mxnet_are_taken_as_numpys(ap_loss):
    scores, labels = random_problem(1, dtype=np.float32)
    loss, grad = ap_loss(mx.nd.array(scores), mx.nd.array(labels))
    expected = ap_loss(scores, labels)
    assert loss == expected[0]
    np.testing.assert_array_equal(grad, expected[1])


@pytest.mark.parametrize("bad", [["1", "0"], [None, 1], [1j, 0], [[1], [0, 1]]])
def test_what_is_no_number_is_refused(ap_loss, bad):
    for scores, labels, name in ((bad, [1, 0], "scores"), ([0.5, 0], bad, "labels")):
        with pytest.raises(ValueError, match=f"{name} must be real numbers|inhomogeneous"):
            ap_loss(scores, labels)


@pytest.mark.parametrize("bad", ["False", None, 2])
def test_interpolation_is_on_or_off(bad):
    with pytest.raises(ValueError, match="interpolated must be True or False"):
        exact.ap_loss_and_grad(np.zeros(2), np.array([1, 0]), interpolated=bad)


@pytest.mark.parametrize("delta", [0, 0.0, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("labels", [[1, 0], [0, 0]])
def test_a_bad_delta_is_refused(ap_loss, labels, delta):
    with pytest.raises(ValueError, match="delta"):
        ap_loss(np.zeros(2), np.array(labels), delta)


# 256, 257 and 255 are 0, 1 and -1 to whoever casts to int8 before looking.
@pytest.mark.parametrize("label", [2, -2, 255, 256, 257, 0.5, -0.5, np.nan, np.inf])
@pytest.mark.parametrize("others", [[1, 0], [0, 0], [-1, -1]])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_other_labels_are_refused(ap_loss, others, label):
    with pytest.raises(ValueError, match="label"):
        ap_loss(np.zeros(3), np.array([*others, label]))


@pytest.mark.parametrize("scores_dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("labels_dtype", [np.int8, np.int32, np.int64, np.float32])
def test_types_of_the_result(ap_loss, scores_dtype, labels_dtype):
    scores, labels = random_problem(1, dtype=np.float16)
    loss, grad = ap_loss(scores.astype(scores_dtype), labels.astype(labels_dtype))
    assert type(loss) is float
    assert grad.dtype == np.float32
    assert_close((loss, grad), ap_loss(scores.astype(np.float64), labels))


def test_float64_scores_keep_their_precision(ap_loss):
    # In float32 both scores would be 1.
    loss, _ = ap_loss(np.array([1.0, 1.0 + 1e-9]), np.array([1, 0]), 1e-10)
    assert loss == pytest.approx(1 / 2, rel=1e-12)


def test_float16_scores_are_not_ranked_in_float16(ap_loss):
    # 2048 + 0.5 has no float16: a sum or a bound taken in that type would move the step.
    scores = np.array([2048.0, 2046.0, 2050.0], np.float16)
    loss, _ = ap_loss(scores, np.array([1, 0, 0]), 2.5)
    assert loss == pytest.approx(1 - 1 / (1 + 0.1 + 0.9), rel=1e-12)


def test_inputs_are_left_alone(ap_loss):
    scores, labels = random_problem(2)
    before = scores.copy(), labels.copy()
    scores.flags.writeable = labels.flags.writeable = False
    _, grad = ap_loss(scores, labels)
    assert not np.shares_memory(grad, scores)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("labels_layout", ["3-D", "Fortran order"])
@pytest.mark.parametrize("scores_layout", ["3-D", "Fortran order", "swapped axes"])
def test_memory_order_does_not_matter(ap_loss, scores_layout, labels_layout):
    scores, labels = random_problem(3, size=240)
    loss, grad = ap_loss(scores, labels)
    result = ap_loss(LAYOUTS[scores_layout](scores), LAYOUTS[labels_layout](labels))
    assert_close(result, (loss, grad.reshape(2, 3, -1)))
