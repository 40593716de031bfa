"""Focal loss: its value and gradient against float64, out to where the sigmoid saturates."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_blocks import MODES, in_mode, loss_and_grad
from mxnet import autograd
from scipy.special import expit, log_expit

from aploss_mx.losses import FocalLoss


@pytest.fixture(params=MODES)
def make_block(request):
    """FocalLoss in each of Gluon's ways to run it."""
    return lambda **attributes: in_mode(request.param, FocalLoss(**attributes))


def focal(logits, class_targets, alpha=0.25, gamma=2.0):
    """Lin et al. 2017: sum of -alpha_t (1 - p_t)^gamma log p_t over the positives, and its derivative."""
    logits = logits.astype(np.float64)
    sign = np.where(class_targets[..., None] == np.arange(1, logits.shape[-1] + 1), 1.0, -1.0)
    weight = np.where(sign > 0, alpha, 1 - alpha) * (class_targets[..., None] != -1)
    right, wrong, log_right = expit(sign * logits), expit(-sign * logits), log_expit(sign * logits)
    positives = max(1, np.sum(class_targets > 0))
    loss = (weight * wrong**gamma * -log_right).sum() / positives
    return loss, sign * weight * wrong**gamma * (gamma * right * log_right - wrong) / positives


def assert_close(result, expected, rtol=2e-5, atol=1e-6):
    np.testing.assert_allclose(result[0], expected[0], rtol, atol)
    np.testing.assert_allclose(result[1], expected[1], rtol, atol)


def random_problem(seed, shape=(2, 30, 3)):
    rng = np.random.default_rng(seed)
    class_targets = rng.integers(-1, shape[-1] + 1, shape[:2]).astype(np.float32)
    return rng.normal(0, 2, shape).astype(np.float32), class_targets


def test_one_logit_of_0():
    # p = 1/2: alpha (1/2)^2 log 2, and its slope alpha (1/4)(2 (1/2) log(1/2) - 1/2)
    loss, grad = loss_and_grad(FocalLoss(), np.zeros((1, 1, 1), np.float32), np.ones((1, 1)))
    assert loss == pytest.approx(np.log(2) / 16, rel=1e-6)
    assert grad.item() == pytest.approx(-(np.log(2) + 0.5) / 16, rel=1e-6)


def test_the_oracles_derivative_is_that_of_its_value():
    logits, class_targets = random_problem(0, (1, 4, 2))
    class_targets[0] = [-1, 0, 1, 2]
    logits = logits.astype(np.float64)
    for gamma in (0.0, 0.5, 2.0):
        _, grad = focal(logits, class_targets, gamma=gamma)
        for index in np.ndindex(logits.shape):
            move = np.zeros(logits.shape)
            move[index] = 1e-5
            high, low = (focal(logits + sign * move, class_targets, gamma=gamma)[0] for sign in (1, -1))
            assert (high - low) / 2e-5 == pytest.approx(grad[index], abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 4)),
    st.sampled_from(sorted(MODES)),
    st.sampled_from([0.25, 0.5]) | st.floats(0.01, 0.99),
    st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0.1, 5),
    st.sampled_from(["float32", "int32"]),
    st.data(),
)
def test_it_is_the_formula_for_any_shape(shape, mode, alpha, gamma, dtype, data):
    elements = st.floats(-8, 8, width=32) | st.sampled_from([-80, -20, 20, 80])
    logits = data.draw(hnp.arrays(np.float32, shape, elements=elements))
    class_targets = data.draw(hnp.arrays(dtype, shape[:2], elements=st.integers(-1, shape[-1])))
    result = loss_and_grad(in_mode(mode, FocalLoss(alpha, gamma)), logits, class_targets)
    assert_close(result, focal(logits, class_targets, alpha, gamma))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("target", [0, 1])
def test_saturated_logits(make_block, target, gamma):
    logits = np.array([-200, -80, -20, 20, 80, 200], np.float32)
    problem = logits.reshape(1, 6, 1), np.full((1, 6), target, np.float32)
    loss, grad = loss_and_grad(make_block(gamma=gamma), *problem)
    assert np.isfinite(loss)
    assert np.isfinite(grad).all()
    assert_close((loss, grad), focal(*problem, gamma=gamma), atol=3e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("target", [0, 1])
def test_easy_logits_never_cost_less_than_nothing(target, gamma):
    for logit in np.arange(12, 24, 0.5) * (1 if target else -1):
        logits = np.full((1, 1, 1), logit, np.float32)
        loss, grad = loss_and_grad(FocalLoss(gamma=gamma), logits, np.full((1, 1), target))
        assert loss >= 0, logit
        assert grad.item() * (-1 if target else 1) >= 0, logit  # descent on it must not make the logit a harder one


def test_half_the_cross_entropy(make_block):
    logits, class_targets = random_problem(1)
    labels = mx.nd.array(class_targets[..., None] == np.arange(1, 4))
    by_gluon = mx.gluon.loss.SigmoidBCELoss()
    scores, valid = mx.nd.array(logits), mx.nd.array(class_targets[..., None] >= 0)
    scores.attach_grad()
    with autograd.record():
        entropy = by_gluon(scores, labels, valid).sum() * logits[0].size / (class_targets > 0).sum()
    entropy.backward()
    expected = entropy.asscalar() / 2, scores.grad.asnumpy() / 2
    assert_close(loss_and_grad(make_block(alpha=0.5, gamma=0.0), logits, class_targets), expected)


@pytest.mark.parametrize("junk", [1e30, np.nan, np.inf, -np.inf])
def test_ignored_logits_never_matter(make_block, junk):
    logits, class_targets = random_problem(2)
    expected = focal(logits, class_targets)
    assert (class_targets == -1).any()
    logits[class_targets == -1] = junk
    loss, grad = loss_and_grad(make_block(), logits, class_targets)
    assert_close((loss, grad), expected)
    assert not grad[class_targets == -1].any()


def test_without_a_positive_the_sum_is_not_divided(make_block):
    logits, class_targets = random_problem(3)
    class_targets = np.minimum(class_targets, 0)
    result = loss_and_grad(make_block(), logits, class_targets)
    assert result[0] > 1
    assert_close(result, focal(logits, class_targets))
    nothing = loss_and_grad(make_block(), logits, np.full_like(class_targets, -1))
    assert nothing[0] == 0
    assert not nothing[1].any()


def test_the_incoming_gradient_scales_the_gradient(make_block):
    problem = random_problem(4)
    loss, grad = focal(*problem)
    assert_close(loss_and_grad(make_block(), *problem, scale=3), (3 * loss, 3 * grad))


def test_one_block_follows_changing_shapes(make_block):
    block = make_block()
    for seed, shape in enumerate([(2, 30, 3), (1, 7, 2), (3, 11, 1), (2, 30, 3)]):
        problem = random_problem(seed, shape)
        assert_close(loss_and_grad(block, *problem), focal(*problem))


def test_descent_lowers_it():
    logits, class_targets = random_problem(5)
    block, losses = FocalLoss(), []
    for _ in range(60):
        loss, grad = loss_and_grad(block, logits, class_targets)
        losses.append(loss)
        logits -= 20 * grad
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    "attributes", [{"alpha": -0.1}, {"alpha": 1.1}, {"alpha": np.nan}, {"gamma": -1}, {"gamma": np.inf}]
)
def test_attributes_that_cannot_be_used_are_refused(attributes):
    with pytest.raises(ValueError, match=next(iter(attributes))):
        FocalLoss(**attributes)
