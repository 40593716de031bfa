"""What MXNet frees once an operator has written its outputs: nothing may still read it then."""

from __future__ import annotations

from contextlib import nullcontext

import mxnet as mx
import pytest

from aploss_mx.losses.operator import RankingOp
from aploss_mx.ranking.gpu import rtc


@pytest.mark.parametrize("error", [None, ValueError])
@pytest.mark.parametrize("kind, result", [("write", 2), ("null", 1), ("add", 3)])
def test_kernels_that_read_the_inputs_are_waited_for(kind, result, error, monkeypatch):
    """Those that write the operator's own arrays, MXNet waits for; all others, the operator."""
    written, waited = [], []

    def solve_anchors(method, context, logits, class_targets, ranking_batch, loss, gradient):
        written.append(gradient)
        gradient[:] = 2
        if error:
            raise error

    monkeypatch.setattr(rtc, "can_solve", lambda *_: True)
    monkeypatch.setattr(rtc, "solve_anchors", solve_anchors)
    wait = mx.nd.NDArray.wait_to_read
    monkeypatch.setattr(mx.nd.NDArray, "wait_to_read", lambda array: waited.append(array) or wait(array))
    loss, gradient = mx.nd.zeros((1,)), mx.nd.ones((1, 2, 1))
    with pytest.raises(error) if error else nullcontext():
        operator = RankingOp(None, 0, "all")
        operator.forward(False, ["write", kind], [mx.nd.zeros((1, 2, 1)), mx.nd.zeros((1, 2))], [loss, gradient], [])
    assert (written[0] is gradient) == (kind == "write")
    assert written[0] is gradient or any(array is written[0] for array in waited)
    assert error or (gradient == result).asnumpy().all()


@pytest.mark.parametrize("kind, result", [("write", 6), ("null", 1), ("add", 7)])
def test_a_gradient_that_nobody_asks_for_is_not_computed(kind, result, monkeypatch):
    multiply, products = mx.nd.broadcast_mul, []
    monkeypatch.setattr(mx.nd, "broadcast_mul", lambda *arrays: products.append(arrays) or multiply(*arrays))
    kept, gradients = mx.nd.full((1, 2, 1), 2), [mx.nd.ones((1, 2, 1)), mx.nd.ones((1, 2))]
    RankingOp(None, 0, "all").backward([kind, "write"], [mx.nd.full((1,), 3)], [], [None, kept], gradients, [])
    assert (gradients[0] == result).asnumpy().all()
    assert not gradients[1].asnumpy().any()
    assert len(products) == (kind != "null")
