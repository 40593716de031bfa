"""The exact AP-loss: closed forms, agreement with the reference, and what must not change it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.ranking import exact, reference
from aploss_mx.ranking.problem import solve_anchors

RELATIVE = 1e-6
EPSILON = np.finfo(np.float64).eps


@pytest.fixture(params=[exact, reference], ids=["exact", "reference"])
def ap_loss(request):
    """The loss under test: what the specification says holds for both implementations."""
    return request.param.ap_loss_and_grad


def assert_close(result, expected, rounding=0.0):
    """Relative L1 distance of loss and gradient within 1e-6, beyond `rounding` of either."""
    (loss, grad), (expected_loss, expected_grad) = result, expected
    expected_grad = np.asarray(expected_grad, np.float64)
    assert grad.shape == expected_grad.shape
    assert abs(loss - expected_loss) <= RELATIVE * expected_loss + rounding
    distance = np.abs(grad - expected_grad).sum(dtype=np.float64)
    assert distance <= RELATIVE * np.abs(expected_grad).sum() + rounding


def score_rounding(scores, labels, delta):
    """What float64 rounding of the scores can do to a loss: the step's slope is 1/(2 delta)."""
    valid = np.abs(scores[labels != -1].astype(np.float64))
    return 4 * EPSILON * valid.size * (1 + valid.max(initial=0) / delta)


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


def average_precision(scores, labels, interpolated):
    """AP over distinct scores; interpolated: the best precision at the same or a greater recall."""
    ranked = labels[np.argsort(-scores)]
    ranked = ranked[ranked != -1]
    hits = np.flatnonzero(ranked == 1)
    precision = np.arange(1, len(hits) + 1) / (hits + 1)
    if interpolated:
        precision = np.array([precision[k:].max() for k in range(len(hits))])
    return precision.mean()


def random_problem(seed, size=200, dtype=np.float64):
    """Scores and labels of all three kinds, with positives a little above the rest."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([-1, 0, 0, 0, 1], np.int8), size)
    return (rng.normal(size=size) + 0.5 * (labels == 1)).astype(dtype), labels


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


def test_one_positive_and_one_negative_at_the_same_score_is_a_third(ap_loss):
    loss, grad = ap_loss(np.array([7.5, 7.5], np.float32), np.array([0, 1]))
    assert loss == pytest.approx(1 / 3, rel=1e-12)
    np.testing.assert_allclose(grad, [1 / 3, -1 / 3], rtol=1e-6)


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


LAYOUTS = {
    "1-D": lambda a: a,
    "2-D": lambda a: a.reshape(6, -1),
    "3-D": lambda a: a.reshape(2, 3, -1),
    "every second": lambda a: np.repeat(a, 2)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "Fortran order": lambda a: np.asfortranarray(a.reshape(2, 3, -1)),
    "swapped axes": lambda a: np.ascontiguousarray(a.reshape(2, 3, -1).transpose(1, 2, 0)).transpose(2, 0, 1),
}


@pytest.mark.parametrize("labels_layout", ["3-D", "Fortran order"])
@pytest.mark.parametrize("scores_layout", ["3-D", "Fortran order", "swapped axes"])
def test_memory_order_does_not_matter(ap_loss, scores_layout, labels_layout):
    scores, labels = random_problem(3, size=240)
    loss, grad = ap_loss(scores, labels)
    result = ap_loss(LAYOUTS[scores_layout](scores), LAYOUTS[labels_layout](labels))
    assert_close(result, (loss, grad.reshape(2, 3, -1)))


# ------------------------------------------------------------------------- exact against reference, wide input


DELTAS = st.sampled_from([0.05, 0.25, 0.5, 1.0, 2.0, 4.0]) | st.floats(0.05, 4.0)
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


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
@pytest.mark.parametrize(("size", "positives"), [(300_000, 200), (20_000, 2_000)])
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


# -------------------------------------------------------------------------------------- metamorphic properties


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


def replicated(class_targets, classes):
    """Labels (B, N, K) that class targets (B, N) stand for."""
    labels = (class_targets[..., None] == np.arange(1, classes + 1)).astype(np.int8)
    labels[class_targets == -1] = -1
    return labels


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
    expected = exact.ap_loss_and_grad(logits, replicated(class_targets, shape[2]), 0.5, interpolated)
    assert_close(result, expected)


def test_anchors_one_right_and_one_confused():
    # Positives 3 and 1; above the latter only its own anchor's other class: ranks 1 and 3, of them 1 and 2 positive.
    logits = np.array([[[-3.0, 3.0], [2.0, 1.0], [-3.0, -3.0], [9.0, 9.0]]], np.float32)
    loss, grad = solve_anchors(exact.ap_loss(0.25), logits, np.array([[2, 2, 0, -1]]))
    assert loss == pytest.approx(1 / 6, rel=1e-12)
    np.testing.assert_allclose(grad, [[[0, 0], [1 / 6, -1 / 6], [0, 0], [0, 0]]], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_anchors_ignored_and_not_finite(bad):
    logits = np.zeros((1, 3, 2), np.float32)
    logits[0, 2] = bad
    expected = solve_anchors(exact.ap_loss(), logits[:, :2], np.array([[1, 0]]))
    loss, grad = solve_anchors(exact.ap_loss(), logits, np.array([[1, 0, -1]]))
    assert not grad[0, 2].any()
    assert_close((loss, grad[:, :2]), expected)
    for target in (0, 1, 2):
        assert not np.isfinite(solve_anchors(exact.ap_loss(), logits, np.array([[1, 0, target]]))[0])


@pytest.mark.parametrize(
    "logits_shape, targets",
    [
        ((1, 3, 2), [[0, 0]]),
        ((3, 2), [[0, 0, 0]]),
        ((1, 3, 2), [0, 0, 0]),
        ((1, 3, 2), [[0, 0, 3]]),
        ((1, 3, 2), [[0, 0, -2]]),
        ((1, 3, 2), [[0, 0, 0.5]]),
        ((1, 3, 2), [[0, -0.5, 1]]),
        ((1, 3, 2), [[0, 0, np.nan]]),
        ((1, 3, 2), [[0, 0, 257]]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anchors_with_other_targets_are_refused(logits_shape, targets):
    with pytest.raises(ValueError):
        solve_anchors(exact.ap_loss(), np.zeros(logits_shape, np.float32), np.array(targets))
