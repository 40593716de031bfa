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
from operator_cases import aploss, assert_close, expected, loss_and_grad, random_problem

ROOT = Path(__file__).resolve().parents[2]


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


# --- many at once ---


def test_two_devices_at_once_compute_what_one_does():
    problems = [random_problem(seed, (2, 200, 4)) for seed in range(30)]
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
    problems = [random_problem(seed, (2, 100, 3)) for seed in range(40)]
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
