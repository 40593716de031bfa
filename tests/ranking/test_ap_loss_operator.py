"""The operator `aploss`: Algorithm 1 on the replicated anchors, however MXNet calls it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from contexts import device
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mxnet import autograd

import aploss_mx.losses.ap_loss  # noqa: F401  (registers the operator)
from aploss_mx.ranking import reference

ROOT = Path(__file__).resolve().parents[2]


def replicate(class_targets, classes):
    """Labels of the anchors' K copies, one by one: 1 positive, 0 negative, -1 ignored."""
    labels = np.zeros((*class_targets.shape, classes), np.int64)
    for image, anchor, copy in np.ndindex(labels.shape):
        target = int(class_targets[image, anchor])
        if target == -1:
            labels[image, anchor, copy] = -1
        elif target == copy + 1:
            labels[image, anchor, copy] = 1
    return labels


def expected(logits, class_targets, delta=1.0, interpolated=True):
    return reference.ap_loss_and_grad(logits, replicate(class_targets, logits.shape[-1]), delta, interpolated)


def aploss(logits, class_targets, **attributes):
    return mx.nd.Custom(logits, class_targets, op_type="aploss", **attributes)[0]


def loss_and_grad(logits, class_targets, ctx=None, **attributes):
    """What MXNet computes for NumPy arrays, in their own dtypes: a loss of shape (1,) and a gradient."""
    logits = mx.nd.array(logits, ctx, logits.dtype)
    logits.attach_grad()
    with autograd.record():
        loss = aploss(logits, mx.nd.array(class_targets, ctx, class_targets.dtype), **attributes)
    loss.backward()
    return loss.asnumpy(), logits.grad.asnumpy()


def assert_close(result, oracle, rtol=1e-5, atol=1e-6):
    (loss, grad), (oracle_loss, oracle_grad) = result, oracle
    assert loss.shape == (1,)
    np.testing.assert_allclose(loss, [oracle_loss], rtol, atol)
    np.testing.assert_allclose(grad, oracle_grad, rtol, atol)


def random_problem(seed, shape=(2, 30, 3), dtype=np.float32):
    """Logits (B, N, K) and class targets (B, N) with all of -1 … K in them, positives a little above the rest."""
    rng = np.random.default_rng(seed)
    batch, anchors, classes = shape
    class_targets = rng.integers(-1, classes + 1, (batch, anchors)).astype(np.float32)
    class_targets.flat[: classes + 2] = np.arange(-1, classes + 1)
    logits = rng.normal(size=shape) + 0.5 * (replicate(class_targets, classes) == 1)
    return logits.astype(dtype), class_targets


@st.composite
def problems(draw):
    """Small batches; scores of a coarse grid tie with one another and stand at the very ends of the ramps."""
    batch, anchors, classes = draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 4)))
    scores = draw(st.sampled_from([st.integers(-12, 12).map(lambda n: n / 4), st.floats(-30, 30, width=32)]))
    logits = draw(hnp.arrays(np.float32, (batch, anchors, classes), elements=scores))
    class_targets = draw(hnp.arrays(np.float32, (batch, anchors), elements=st.integers(-1, classes)))
    return logits, class_targets


# --- the numbers ---


@settings(deadline=None, max_examples=150)
@given(problems(), st.sampled_from([0.25, 0.5, 1.0, 2.0]) | st.floats(0.05, 5), st.booleans())
@example(random_problem(4), 1.0, True)
@example(random_problem(4), 1.0, False)
def test_it_is_the_reference_on_the_replicated_anchors(problem, delta, interpolated):
    result = loss_and_grad(*problem, delta=delta, interpolated=interpolated)
    assert_close(result, expected(*problem, delta, interpolated))


def test_the_attributes_default_to_the_paper():
    problem = random_problem(4)
    assert_close(loss_and_grad(*problem), expected(*problem, 1.0, True))
    for delta, interpolated in [(0.5, True), (1.0, False)]:  # or the defaults could not be told from anything else
        assert abs(expected(*problem)[0] - expected(*problem, delta, interpolated)[0]) > 1e-3


@pytest.mark.parametrize("text, value", [("True", True), ("1", True), (1, True), ("False", False), ("0", False)])
def test_interpolated_may_be_written_as_text_or_number(text, value):
    problem = random_problem(4)
    assert_close(loss_and_grad(*problem, interpolated=text), expected(*problem, interpolated=value))


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "int8", "uint8"])
def test_class_targets_may_have_any_dtype(dtype):
    logits, class_targets = random_problem(2)
    if dtype == "uint8":
        class_targets = np.maximum(class_targets, 0)
    assert_close(loss_and_grad(logits, class_targets.astype(dtype)), expected(logits, class_targets))


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-6), ("float16", 1e-3)])
def test_the_gradient_takes_the_dtype_of_the_logits(dtype, tolerance):
    logits, class_targets = random_problem(3, dtype=dtype)
    loss, grad = loss_and_grad(logits, class_targets)
    assert grad.dtype == dtype
    assert loss.dtype == ("float64" if dtype == "float64" else "float32")
    assert_close((loss, grad), expected(logits, class_targets), rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize("fill", [0, -1])
def test_without_a_positive_loss_and_gradient_are_0(fill):
    logits, _ = random_problem(4)
    loss, grad = loss_and_grad(logits, np.full(logits.shape[:2], fill, np.float32))
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_shows_in_the_loss(bad):
    logits, class_targets = random_problem(5)
    logits[0, 1, 0] = bad  # of a background anchor
    loss, grad = loss_and_grad(logits, class_targets)
    assert np.isnan(loss)
    np.testing.assert_array_equal(np.isnan(grad), np.repeat(class_targets[..., None] >= 0, 3, axis=2))


def test_an_ignored_logit_that_is_not_finite_is_ignored():
    logits, class_targets = random_problem(5)
    clean = expected(logits, class_targets)
    logits[class_targets == -1] = np.nan
    assert_close(loss_and_grad(logits, class_targets), clean)


def test_outside_of_training_the_loss_is_the_same():
    logits, class_targets = random_problem(6)
    loss = aploss(mx.nd.array(logits), mx.nd.array(class_targets)).asnumpy()
    np.testing.assert_array_equal(loss, loss_and_grad(logits, class_targets)[0])


# --- the backward pass ---


def test_the_incoming_gradient_scales_the_gradient():
    problem = random_problem(7)
    logits = mx.nd.array(problem[0])
    logits.attach_grad()
    with autograd.record():
        total = 3 * aploss(logits, mx.nd.array(problem[1]))
    total.backward()
    np.testing.assert_allclose(logits.grad.asnumpy(), 3 * expected(*problem)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grad_req", ["write", "add", "null"])
def test_class_targets_get_no_gradient(grad_req):
    """Theirs is written, whatever is asked of the logits'."""
    logits, class_targets = (mx.nd.array(array) for array in random_problem(7))
    logits.attach_grad(grad_req)
    class_targets.attach_grad()
    class_targets.grad[:] = 7
    with autograd.record():
        loss = aploss(logits, class_targets)
    loss.backward()
    assert not class_targets.grad.asnumpy().any()


@pytest.mark.parametrize("grad_req, kept, times", [("write", 0, 1), ("add", 7, 3)])
def test_the_gradient_is_written_or_added_as_requested(grad_req, kept, times):
    problem = random_problem(8)
    logits = mx.nd.array(problem[0])
    logits.attach_grad(grad_req=grad_req)
    logits.grad[:] = 7
    for _ in range(3):
        with autograd.record():
            loss = aploss(logits, mx.nd.array(problem[1]))
        loss.backward()
    np.testing.assert_allclose(logits.grad.asnumpy(), kept + times * expected(*problem)[1], rtol=1e-6, atol=1e-6)


def test_the_gradient_adds_to_that_of_other_uses_of_the_logits():
    problem = random_problem(8)
    logits = mx.nd.array(problem[0])
    logits.attach_grad()
    with autograd.record():
        total = aploss(logits, mx.nd.array(problem[1])) + 2 * logits.sum()
    total.backward()
    np.testing.assert_allclose(logits.grad.asnumpy(), 2 + expected(*problem)[1], rtol=1e-6)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_forward_passes_before_a_backward_do_not_mix(order):
    problems = [random_problem(9), random_problem(10)]
    logits = [mx.nd.array(problem[0]) for problem in problems]
    losses = []
    for array, problem in zip(logits, problems):
        array.attach_grad()
        with autograd.record():
            losses.append(aploss(array, mx.nd.array(problem[1])))
    for number in order:
        losses[number].backward()
    for array, loss, problem in zip(logits, losses, problems):
        assert_close((loss.asnumpy(), array.grad.asnumpy()), expected(*problem))


# --- the Symbol and Module APIs ---


def symbol(**attributes):
    return mx.sym.Custom(mx.sym.var("logits"), mx.sym.var("class_targets"), op_type="aploss", **attributes)


def test_shapes_are_inferred_from_the_logits():
    assert symbol().infer_shape(logits=(2, 30, 3)) == ([(2, 30, 3), (2, 30)], [(1,), (2, 30, 3)], [])
    assert symbol().list_outputs()[0].endswith("_loss")


def test_shapes_that_do_not_fit_are_refused():
    for shape in [(2, 29), (3, 30), (2, 30, 1)]:
        with pytest.raises(mx.MXNetError, match="Shape inconsistent"):
            aploss(mx.nd.zeros((2, 30, 3)), mx.nd.zeros(shape))


def test_types_are_inferred_from_the_logits():
    inputs, outputs, _ = symbol().infer_type(logits="float16", class_targets="int32")
    assert inputs == [np.float16, np.int32]
    assert outputs == [np.float32, np.float32]
    assert symbol().infer_type(logits="float64", class_targets="float32")[1] == [np.float64, np.float32]


def test_shapes_may_be_unknown_yet():
    assert symbol().infer_shape_partial() == ([(), ()], [(1,), ()], [])
    assert symbol().infer_shape_partial(class_targets=(2, 30)) == ([(), (2, 30)], [(1,), ()], [])
    partial = symbol(ranking_batch=2).infer_shape_partial(logits=(0, 5, 3))
    assert partial == ([(0, 5, 3), (0, 5)], [(1,), (0, 5, 3)], [])


def test_attributes_of_a_scope_are_not_the_operators():
    with mx.AttrScope(ctx_group="head", force_mirroring="True"):
        scoped = symbol(delta=0.5)
    logits, class_targets = random_problem(15)
    executor = scoped.simple_bind(device(), logits=logits.shape)
    executor.forward(logits=logits, class_targets=class_targets)
    expected_loss = aploss(mx.nd.array(logits), mx.nd.array(class_targets), delta=0.5)
    assert executor.outputs[0].asscalar() == expected_loss.asscalar()


def test_groups_that_do_not_fill_the_batch_are_refused_at_once():
    with pytest.raises(mx.MXNetError):  # not at the next read, when weights may be spoilt
        aploss(mx.nd.zeros((4, 5, 2)), mx.nd.zeros((4, 5)), ranking_batch=3)


@pytest.mark.parametrize("delta, interpolated", [(1.0, True), (0.3, False)])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_bound_symbol_computes_the_same(delta, interpolated, dtype):
    problem = random_problem(11)
    executor = symbol(delta=delta, interpolated=interpolated)[0].simple_bind(
        device(), logits=problem[0].shape, type_dict={"logits": "float32", "class_targets": dtype}
    )
    for _ in range(2):
        executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
        executor.backward(mx.nd.full((1,), 3))
    loss, grad = expected(*problem, delta, interpolated)
    assert_close((executor.outputs[0].asnumpy(), executor.grad_dict["logits"].asnumpy()), (loss, 3 * grad))


@pytest.mark.parametrize("grad_req, times", [("write", 1), ("add", 3)])
def test_a_bound_symbol_honours_the_gradient_request(grad_req, times):
    problem = random_problem(12)
    executor = symbol()[0].simple_bind(
        device(), logits=problem[0].shape, grad_req={"logits": grad_req, "class_targets": "null"}
    )
    executor.grad_dict["logits"][:] = 0
    for _ in range(3):
        executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
        executor.backward(mx.nd.ones((1,)))
    np.testing.assert_allclose(
        executor.grad_dict["logits"].asnumpy(), times * expected(*problem)[1], rtol=1e-5, atol=1e-6
    )
    assert executor.grad_dict["class_targets"] is None


def test_a_bound_symbol_may_want_no_gradient_at_all():
    problem = random_problem(12)
    executor = symbol()[0].simple_bind(device(), logits=problem[0].shape, grad_req="null")
    executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
    executor.backward(mx.nd.ones((1,)))
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), [expected(*problem)[0]], rtol=1e-5)
    assert executor.grad_dict["logits"] is None


def test_a_module_on_two_devices_ranks_each_part_of_the_batch_for_itself():
    images, anchors, classes, features = 4, 6, 3, 5
    rng = np.random.default_rng(13)
    data = rng.normal(size=(images, features)).astype(np.float32)
    weight = rng.normal(size=(anchors * classes, features)).astype(np.float32)
    class_targets = rng.integers(-1, classes + 1, (images, anchors)).astype(np.float32)

    scores = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=anchors * classes, no_bias=True, name="scores")
    loss = mx.sym.Custom(
        scores.reshape((-1, anchors, classes)), mx.sym.var("class_targets"), op_type="aploss", name="aploss"
    )[0]
    module = mx.mod.Module(mx.sym.MakeLoss(loss), ["data"], ["class_targets"], context=[device(0), device(1)])
    module.bind([("data", data.shape)], [("class_targets", class_targets.shape)])
    module.init_params(arg_params={"scores_weight": mx.nd.array(weight)})
    module.init_optimizer(kvstore="local", optimizer_params={"learning_rate": 1.0, "rescale_grad": 0.5})
    module.forward_backward(mx.io.DataBatch([mx.nd.array(data)], [mx.nd.array(class_targets)]))
    module.update()

    losses, step = [], np.zeros_like(weight)
    for part in (slice(0, 2), slice(2, 4)):
        part_loss, grad = expected((data[part] @ weight.T).reshape(2, anchors, classes), class_targets[part])
        losses.append(part_loss)
        step += grad.reshape(2, -1).T @ data[part] / 2
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), losses, rtol=1e-5)
    np.testing.assert_allclose(module.get_params()[0]["scores_weight"].asnumpy(), weight - step, rtol=1e-5, atol=1e-6)


# --- many at once ---


def test_two_devices_at_once_compute_what_one_does():
    problems = [random_problem(seed, (2, 200, 4)) for seed in range(60)]
    running = []
    for number, problem in enumerate(problems):
        ctx = device(number % 2)
        logits = mx.nd.array(problem[0], ctx)
        logits.attach_grad()
        with autograd.record():
            loss = aploss(logits, mx.nd.array(problem[1], ctx))
        loss.backward()
        running.append((loss, logits.grad))  # nothing waits: the engine runs both devices' calls side by side
    for (loss, grad), problem in zip(running, problems):
        assert loss.context == grad.context
        alone_loss, alone_grad = loss_and_grad(*problem)
        np.testing.assert_array_equal(loss.asnumpy(), alone_loss)
        np.testing.assert_array_equal(grad.asnumpy(), alone_grad)


def test_python_threads_do_not_disturb_one_another():
    problems = [random_problem(seed, (2, 100, 3)) for seed in range(100)]
    alone = [loss_and_grad(*problem) for problem in problems]
    devices = [device(number % 2) for number in range(len(problems))]
    with ThreadPoolExecutor(max_workers=4) as threads:
        together = threads.map(lambda problem, ctx: loss_and_grad(*problem, ctx), problems, devices, timeout=60)
        for (loss, grad), (alone_loss, alone_grad) in zip(together, alone):
            np.testing.assert_array_equal(loss, alone_loss)
            np.testing.assert_array_equal(grad, alone_grad)


# --- errors ---


@pytest.mark.parametrize("bad, message", [(4, "-1 … 3"), (-2, "-1 … 3"), (1.5, "whole numbers")])
@pytest.mark.parametrize("devices", [1, 2])
def test_an_error_inside_reaches_the_caller_and_leaves_the_process_working(bad, message, devices, capsys):
    logits, class_targets = random_problem(14)
    wrong = class_targets.copy()
    wrong[1, 5] = bad
    losses = [
        aploss(mx.nd.array(logits, device(number)), mx.nd.array(wrong, device(number))) for number in range(devices)
    ]
    errors = 0
    for wait in (*(loss.asnumpy for loss in losses), mx.nd.waitall):
        try:
            wait()
        except mx.MXNetError:
            errors += 1
    assert errors == 1 or (errors and devices > 1)  # MXNet may lose or repeat one of two that come at once
    assert message in capsys.readouterr().out  # MXNetError itself does not carry the Python message
    for number in range(devices):
        assert_close(loss_and_grad(logits, class_targets, device(number)), expected(logits, class_targets))
    mx.nd.waitall()


def test_an_error_inside_reaches_the_caller_of_backward():
    logits, class_targets = random_problem(14)
    class_targets[0, 0] = 4
    with pytest.raises(mx.MXNetError):
        loss_and_grad(logits, class_targets)
    mx.nd.waitall()


def test_attributes_that_cannot_be_used_raise():
    # In a process of its own: MXNet 1.9.1 crashes where a CustomOpProp's constructor raises.
    program = """
import aploss_mx
import mxnet as mx
import aploss_mx.losses.ap_loss

nd = [mx.nd.zeros((1, 2, 3)), mx.nd.zeros((1, 2))]
sym = [mx.sym.var("logits"), mx.sym.var("class_targets")]
for attributes in ({"delta": 0}, {"delta": -1.0}, {"delta": "nan"}, {"delta": "inf"}, {"delta": "wide"},
                   {"interpolated": "maybe"}, {"detla": 1}):
    for custom, inputs in ((mx.nd.Custom, nd), (mx.sym.Custom, sym)):
        try:
            custom(*inputs, op_type="aploss", **attributes)
        except (mx.MXNetError, ValueError):
            continue
        raise SystemExit(f"{attributes} raised nothing")
mx.nd.waitall()
print("all raised")
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.endswith("all raised\n")
