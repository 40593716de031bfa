"""AP-loss as a Gluon block: the same numbers, hybridized or not, on one device or more."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from contexts import device
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mxnet import autograd

from aploss_mx.losses import APLoss
from aploss_mx.ranking import reference

MODES = {"imperative": None, "hybridized": {}, "static_alloc": {"static_alloc": True}}
MODES["static_shape"] = {"static_alloc": True, "static_shape": True}


@pytest.fixture(params=MODES)
def make_block(request):
    """APLoss in each of Gluon's ways to run it."""

    def make(**attributes):
        block = APLoss(**attributes)
        if MODES[request.param] is not None:
            block.hybridize(**MODES[request.param])
        return block

    return make


def expected(logits, class_targets, delta=1.0, interpolated=True):
    copies = class_targets[..., None] == np.arange(1, logits.shape[-1] + 1)
    labels = np.where(class_targets[..., None] < 0, -1, copies)
    return reference.ap_loss_and_grad(logits, labels, delta, interpolated)


def random_problem(seed, shape=(2, 30, 3)):
    rng = np.random.default_rng(seed)
    class_targets = rng.integers(-1, shape[-1] + 1, shape[:2]).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), class_targets


def start(block, logits, class_targets, ctx=None):
    """Record a forward pass; returns the logits, which the gradient belongs to, and the loss."""
    logits = mx.nd.array(logits, ctx)
    logits.attach_grad()
    with autograd.record():
        loss = block(logits, mx.nd.array(class_targets, ctx, class_targets.dtype))
    return logits, loss


def assert_close(logits, loss, oracle, scale=1):
    oracle_loss, oracle_grad = oracle
    assert loss.shape == (1,)
    np.testing.assert_allclose(loss.asnumpy(), [scale * oracle_loss], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits.grad.asnumpy(), scale * oracle_grad, rtol=1e-5, atol=1e-6)


@st.composite
def problems(draw):
    batch, anchors, classes = draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 4)))
    elements = st.integers(-12, 12).map(lambda number: number / 4)
    logits = draw(hnp.arrays(np.float32, (batch, anchors, classes), elements=elements))
    class_targets = draw(hnp.arrays(np.float32, (batch, anchors), elements=st.integers(-1, classes)))
    return logits, class_targets


@settings(deadline=None, max_examples=40)
@given(problems(), st.sampled_from(list(MODES)), st.floats(0.05, 5), st.booleans())
def test_it_is_the_reference_for_any_shape(problem, mode, delta, interpolated):
    block = APLoss(delta, interpolated)
    if MODES[mode] is not None:
        block.hybridize(**MODES[mode])
    logits, loss = start(block, *problem)
    loss.backward()
    assert_close(logits, loss, expected(*problem, delta, interpolated))


def test_one_block_follows_changing_shapes_and_values(make_block):
    block = make_block(delta=0.5, interpolated=False)
    for seed, shape in enumerate([(2, 30, 3), (2, 30, 3), (1, 7, 2), (3, 11, 1), (2, 30, 3)]):
        problem = random_problem(seed, shape)
        logits, loss = start(block, *problem)
        loss.backward()
        assert_close(logits, loss, expected(*problem, 0.5, False))


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "int8"])
def test_class_targets_may_have_any_dtype(make_block, dtype):
    problem = random_problem(1)
    logits, loss = start(make_block(), problem[0], problem[1].astype(dtype))
    loss.backward()
    assert_close(logits, loss, expected(*problem))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_forward_passes_before_a_backward_do_not_mix(make_block, order):
    block = make_block()
    problems = [random_problem(seed) for seed in range(3)]
    started = [start(block, *problem) for problem in problems]
    for number in order:
        started[number][1].backward()
    for (logits, loss), problem in zip(started, problems):
        assert_close(logits, loss, expected(*problem))


def test_inference_between_forward_and_backward_does_not_disturb_them(make_block):
    block = make_block()
    problem, other = random_problem(0), random_problem(1)
    logits, loss = start(block, *problem)
    block(*map(mx.nd.array, other)).wait_to_read()
    loss.backward()
    assert_close(logits, loss, expected(*problem))


def test_the_incoming_gradient_scales_the_gradient(make_block):
    problem = random_problem(2)
    logits = mx.nd.array(problem[0])
    logits.attach_grad()
    block = make_block()
    with autograd.record():
        total = 3 * block(logits, mx.nd.array(problem[1]))
    total.backward()
    assert_close(logits, total, expected(*problem), scale=3)


def test_gradients_add_up_where_asked_to(make_block):
    block = make_block()
    problems = [random_problem(seed) for seed in range(2)]
    logits = mx.nd.zeros(problems[0][0].shape)
    logits.attach_grad(grad_req="add")
    for values, class_targets in problems:
        logits[:] = mx.nd.array(values)
        with autograd.record():
            loss = block(logits, mx.nd.array(class_targets))
        loss.backward()
    total = sum(expected(*problem)[1] for problem in problems)
    np.testing.assert_allclose(logits.grad.asnumpy(), total, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fill", [0, -1])
def test_without_a_positive_loss_and_gradient_are_0(make_block, fill):
    values, class_targets = random_problem(3)
    logits, loss = start(make_block(), values, np.full_like(class_targets, fill))
    loss.backward()
    assert loss.asscalar() == 0
    assert not logits.grad.asnumpy().any()


def test_a_nan_shows_in_the_loss(make_block):
    values, class_targets = random_problem(3)
    class_targets[0, 0], values[0, 0, 0] = 1, np.nan
    logits, loss = start(make_block(), values, class_targets)
    loss.backward()
    assert np.isnan(loss.asscalar())
    assert np.isnan(logits.grad[0, 0].asnumpy()).all()


def test_two_devices_at_once_compute_what_one_does(make_block):
    block = make_block()
    problems = [random_problem(seed, (2, 100, 3)) for seed in range(40)]
    for pair in zip(problems[::2], problems[1::2]):
        started = [start(block, *problem, ctx=device(number)) for number, problem in enumerate(pair)]
        autograd.backward([loss for _, loss in started])
        for (logits, loss), problem in zip(started, pair):
            assert loss.context == logits.context
            assert_close(logits, loss, expected(*problem))


def test_an_error_inside_reaches_the_caller_and_passes(make_block, capsys):
    block = make_block()
    values, class_targets = random_problem(4)
    wrong = class_targets.copy()
    wrong[0, 0] = 4
    with pytest.raises(mx.MXNetError):
        block(mx.nd.array(values), mx.nd.array(wrong)).asnumpy()
    mx.nd.waitall()
    assert "-1 … 3" in capsys.readouterr().out
    logits, loss = start(block, values, class_targets)
    loss.backward()
    assert_close(logits, loss, expected(values, class_targets))


def test_it_takes_symbols():
    problem = random_problem(5)
    loss = APLoss(delta=0.5)(mx.sym.var("logits"), mx.sym.var("class_targets"))
    assert len(loss.list_outputs()) == 1
    executor = loss.simple_bind(device(), logits=problem[0].shape)
    executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), [expected(*problem, 0.5)[0]], rtol=1e-5)


@pytest.mark.parametrize("delta", [0, -1, float("nan"), float("inf")])
def test_a_delta_that_cannot_be_used_is_refused(delta):
    with pytest.raises(ValueError, match="delta"):
        APLoss(delta=delta)
