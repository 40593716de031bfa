"""Types and shapes of the logits that the classification losses take, and what they do with others."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from aploss_mx.losses import (
    APLoss,
    AUCLoss,
    FocalLoss,
    OHEMCrossEntropyLoss,
    SmoothAPLoss,
    StructuredHingeAPLoss,
)

BLOCKS = [APLoss, AUCLoss, SmoothAPLoss, StructuredHingeAPLoss, FocalLoss, OHEMCrossEntropyLoss]
TOLERANCE = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-6}  # of float32, with which they are compared


def problem(anchors=60):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, anchors, 4)), rng.integers(-1, 4, (2, anchors))


def loss_and_grad(block, logits, class_targets):
    logits.attach_grad()
    with autograd.record():
        loss = block(logits, class_targets)
    loss.backward()
    return loss, logits.grad


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_all_floating_points_give_the_same_loss_and_gradient(block, hybrid):
    logits, targets = problem()
    loss_of = block()
    loss_of.hybridize(hybrid)
    expected = [array.asnumpy() for array in loss_and_grad(block(), mx.nd.array(logits), mx.nd.array(targets))]
    for kind, tolerance in TOLERANCE.items():
        for targets_kind in ("float32", "int32", kind):
            arrays = mx.nd.array(logits, dtype=kind), mx.nd.array(targets, dtype=targets_kind)
            loss, grad = loss_and_grad(loss_of, *arrays)
            assert grad.dtype == np.dtype(kind)
            np.testing.assert_allclose(loss.asnumpy(), expected[0], rtol=tolerance)
            np.testing.assert_allclose(grad.asnumpy(), expected[1], rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("block", [FocalLoss, OHEMCrossEntropyLoss])
def test_float64_is_float64_all_the_way(block):
    logits, targets = problem()
    loss, grad = loss_and_grad(block(), mx.nd.array(logits, dtype="float64"), mx.nd.array(targets))
    assert loss.dtype == np.float64
    step = 1e-6 * np.random.default_rng(1).normal(size=logits.shape)
    sides = (block()(mx.nd.array(logits + side * step, dtype="float64"), mx.nd.array(targets)) for side in (1, -1))
    above, below = (side.asscalar() for side in sides)
    assert (above - below) / 2 == pytest.approx((grad.asnumpy() * step).sum(), rel=1e-7)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_loss_of_float16_may_be_scaled(block):
    """By 65536, where automatic mixed precision begins; float16 ends at 65504."""
    logits, targets = problem()
    loss, _ = loss_and_grad(block(), mx.nd.array(logits, dtype="float16"), mx.nd.array(targets))
    assert loss.dtype == np.float32
    scaled, _ = loss_and_grad(lambda *inputs: block()(*inputs) * 65536, mx.nd.array(logits, dtype="float16"),
                              mx.nd.array(targets))  # fmt: skip
    assert scaled.asscalar() == 65536 * loss.asscalar()


@pytest.mark.parametrize("block", [FocalLoss, OHEMCrossEntropyLoss])
def test_logits_of_the_right_type_are_not_copied(block, monkeypatch):
    given, seen = (mx.nd.array(array) for array in problem()), []
    monkeypatch.setattr(block, "hybrid_forward", lambda self, F, *inputs: seen.extend(inputs) or inputs[0])
    given = list(given)
    block()(*given)
    assert all(one is other for one, other in zip(seen, given))


@pytest.mark.parametrize("block", [FocalLoss, OHEMCrossEntropyLoss])
def test_the_sums_of_float16_do_not_overflow(block):
    logits = np.full((1, 20_000, 4), 9.0)
    logits[..., 0] = -9
    arrays = mx.nd.array(logits, dtype="float16"), mx.nd.ones((1, 20_000))
    loss, _ = loss_and_grad(block(), *arrays)
    assert np.isfinite(loss.asscalar()) and loss.asscalar() > 1


@pytest.mark.parametrize("block", [APLoss, AUCLoss])
def test_the_gradient_of_float16_is_scaled_before_it_is_rounded(block):
    """The share of one of many negatives is near the smallest float16, which a scaled loss is to save it from."""
    rng = np.random.default_rng(0)
    logits, targets = rng.uniform(-1, 1, (1, 50_000, 2)).astype("float16"), np.zeros((1, 50_000))
    logits[0, 0, 0], targets[0, 0] = 0, 1
    grads = []
    for kind in ("float16", "float32"):
        scores = mx.nd.array(logits, dtype=kind)
        scores.attach_grad()
        with autograd.record():
            loss = block()(scores, mx.nd.array(targets)).astype("float32") * 4096
        loss.backward()
        grads.append(scores.grad.asnumpy())
    assert grads[0].dtype == np.float16
    np.testing.assert_allclose(*grads, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["int32", "int64", "int8", "uint8"])
@pytest.mark.parametrize("block", BLOCKS)
def test_whole_numbers_are_refused(block, kind):
    """Their loss and gradient were rounded to 0, without a word."""
    logits, targets = problem()
    with pytest.raises(ValueError, match=f"logits must be floating point numbers, not {kind}"):
        block()(mx.nd.array(logits, dtype=kind), mx.nd.array(targets))


@pytest.mark.parametrize("shapes", [((4, 2), (4,)), ((2, 4, 20), (2, 20)), ((2, 20, 4), (1, 20)), ((2, 20, 4), (40,))])
@pytest.mark.parametrize("block", BLOCKS)
def test_shapes_that_do_not_fit_are_refused(block, shapes):
    """Some of them would be broadcast."""
    with pytest.raises(ValueError, match="do not fit") as error:
        block()(*map(mx.nd.ones, shapes))
    assert all(str(shape) in str(error.value) for shape in shapes)


@pytest.mark.parametrize("block", BLOCKS)
def test_bfloat16_is_refused(block):
    """On the CPU and on a GPU: numpy has no such numbers."""
    logits = mx.nd.empty((2, 60, 4), dtype=np.dtype([("bfloat16", np.uint16)]))
    with pytest.raises(ValueError, match="logits of bfloat16 must be cast to float32 first"):
        block()(logits, mx.nd.zeros((2, 60)))


@pytest.mark.parametrize("op_type", ["aploss", "aucloss", "smoothaploss", "structuredhingeaploss"])
def test_operators_refuse_whole_numbers(op_type, capfd):
    logits, targets = problem()
    with pytest.raises(mx.MXNetError):
        mx.nd.Custom(mx.nd.array(logits, dtype="int32"), mx.nd.array(targets), op_type=op_type)[0].asnumpy()
    assert "logits must be floating point numbers, not int32" in capfd.readouterr().out
