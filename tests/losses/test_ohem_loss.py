"""Softmax cross-entropy of the positives and of every image's hardest negatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_blocks import MODES, in_mode, loss_and_grad
from scipy.special import log_softmax

from aploss_mx.losses import OHEMCrossEntropyLoss


@pytest.fixture(params=MODES)
def make_block(request):
    """OHEMCrossEntropyLoss in each of Gluon's ways to run it."""
    return lambda: in_mode(request.param, OHEMCrossEntropyLoss())


def ohem(logits, class_targets, ratio=3):
    """Image by image, anchor by anchor."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=-1)
    loss, grad = 0.0, np.zeros(logits.shape)
    for image, targets in enumerate(class_targets.astype(int)):
        positives = np.flatnonzero(targets > 0)
        negatives = np.flatnonzero(targets == 0)
        hardest = negatives[np.argsort(log_probabilities[image, negatives, 0])][: ratio * len(positives)]
        for anchor in [*positives, *hardest]:
            loss -= log_probabilities[image, anchor, targets[anchor]]
            grad[image, anchor] = np.exp(log_probabilities[image, anchor])
            grad[image, anchor, targets[anchor]] -= 1
    positives = max(1, np.sum(class_targets > 0))
    return loss / positives, grad / positives


def assert_close(result, expected):
    # MXNet's log_softmax on the CPU is a few 1e-6 off.
    np.testing.assert_allclose(result[0], expected[0], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(result[1], expected[1], rtol=2e-5, atol=5e-6)


def random_problem(seed, shape=(3, 60, 3), positive=0.08):
    """Logits (B, N, K + 1) and class targets: few positives, so that not all negatives are taken."""
    rng = np.random.default_rng(seed)
    class_targets = np.where(rng.random(shape[:2]) < positive, rng.integers(1, shape[-1] + 1, shape[:2]), 0)
    class_targets[rng.random(shape[:2]) < 0.2] = -1
    return rng.normal(0, 2, (*shape[:2], shape[-1] + 1)).astype(np.float32), class_targets.astype(np.float32)


def test_a_case_by_hand():
    # The one positive brings the three negatives that look least like background; the easiest stays out.
    logits = np.array([[[0, 0], [0, 3], [0, 2], [0, -4], [0, 1], [0, 9]]], np.float32)
    loss, grad = loss_and_grad(OHEMCrossEntropyLoss(), logits, np.array([[1, 0, 0, 0, 0, -1]], np.float32))
    assert loss == pytest.approx(np.log(2) + np.log1p(np.exp([3, 2, 1])).sum(), rel=1e-5)
    foreground = 1 / (1 + np.exp([-3, -2, -1]))
    np.testing.assert_allclose(grad[0, :, 1], [-0.5, *foreground[:2], 0, foreground[2], 0], atol=5e-6)
    np.testing.assert_allclose(grad[0, :, 0], -grad[0, :, 1], atol=5e-6)
    assert not grad[0, [3, 5]].any()


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 4)),
    st.sampled_from(sorted(MODES)),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(["float32", "int32"]),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_it_is_the_selection_for_any_shape(shape, mode, ratio, dtype, seed, data):
    logits = np.random.default_rng(seed).normal(0, 2, (*shape[:2], shape[2] + 1)).astype(np.float32)
    elements = st.sampled_from([-1, 0, 0, *range(1, shape[2] + 1)])
    class_targets = data.draw(hnp.arrays(dtype, shape[:2], elements=elements))
    result = loss_and_grad(in_mode(mode, OHEMCrossEntropyLoss(ratio)), logits, class_targets)
    assert_close(result, ohem(logits, class_targets, ratio))


@pytest.mark.parametrize("positive", [0.02, 0.08, 0.6])
@pytest.mark.parametrize("shape", [(2, 300, 5), (3, 2_000, 20)])
def test_many_anchors(make_block, shape, positive):
    problem = random_problem(1, shape, positive)
    assert_close(loss_and_grad(make_block(), *problem), ohem(*problem))


def test_only_the_selected_get_a_gradient(make_block):
    logits, class_targets = random_problem(2)
    class_targets[:, 0] = 1
    _, grad = loss_and_grad(make_block(), logits, class_targets)
    taken = grad.any(axis=-1)
    for image, targets in enumerate(class_targets):
        positives = np.sum(targets > 0)
        assert taken[image, targets > 0].all()
        assert not taken[image, targets == -1].any()
        assert taken[image, targets == 0].sum() == 3 * positives < np.sum(targets == 0)


def test_an_image_without_a_positive_gives_no_negative(make_block):
    logits, class_targets = random_problem(3)
    class_targets[1] = np.minimum(class_targets[1], 0)
    loss, grad = loss_and_grad(make_block(), logits, class_targets)
    assert not grad[1].any()
    assert_close((loss, grad[[0, 2]]), ohem(logits[[0, 2]], class_targets[[0, 2]]))
    loss, grad = loss_and_grad(make_block(), logits, np.minimum(class_targets, 0))
    assert loss == 0
    assert not grad.any()


def test_the_sum_is_divided_by_the_positives_of_the_batch(make_block):
    # Two images of 1 and 5 positives: not the mean of the images' own means.
    logits, class_targets = random_problem(4, (2, 60, 3), 0)
    class_targets[0, 0], class_targets[1, :5] = 1, 2
    parts = [ohem(logits[i : i + 1], class_targets[i : i + 1])[0] for i in (0, 1)]
    loss, _ = loss_and_grad(make_block(), logits, class_targets)
    assert loss == pytest.approx((parts[0] + 5 * parts[1]) / 6, rel=1e-5)


@pytest.mark.parametrize("logit", [-80.0, 80.0])
def test_extreme_logits(make_block, logit):
    logits, class_targets = random_problem(5)
    logits[..., 1] += logit
    loss, grad = loss_and_grad(make_block(), logits, class_targets)
    assert np.isfinite(grad).all()
    # Which negatives are the hardest may be a matter of rounding here; what they cost and the positives are not.
    expected = ohem(logits, class_targets)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(grad[class_targets > 0], expected[1][class_targets > 0], atol=5e-6)


def test_only_differences_within_an_anchor_matter(make_block):
    logits, class_targets = random_problem(6)
    logits = np.round(logits * 64) / 64  # exact in float32 after the shift too
    shift = np.random.default_rng(6).integers(-8, 9, (*class_targets.shape, 1)).astype(np.float32)
    assert_close(loss_and_grad(make_block(), logits + shift, class_targets), ohem(logits, class_targets))


def test_the_incoming_gradient_scales_the_gradient(make_block):
    problem = random_problem(7)
    loss, grad = ohem(*problem)
    assert_close(loss_and_grad(make_block(), *problem, scale=3), (3 * loss, 3 * grad))


def test_descent_lowers_it():
    logits, class_targets = random_problem(8)
    block, losses = OHEMCrossEntropyLoss(), []
    for _ in range(60):
        loss, grad = loss_and_grad(block, logits, class_targets)
        losses.append(loss)
        logits -= 10 * grad
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("ratio", [0, -1, np.nan, np.inf])
def test_a_ratio_that_cannot_be_used_is_refused(ratio):
    with pytest.raises(ValueError, match="ratio"):
        OHEMCrossEntropyLoss(negative_ratio=ratio)
