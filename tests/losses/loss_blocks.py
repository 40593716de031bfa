"""Gluon's ways to run a loss, and what it makes of NumPy arrays."""

from __future__ import annotations

import mxnet as mx
from mxnet import autograd

MODES = {
    "imperative": None,
    "hybridized": {},
    "static_alloc": {"static_alloc": True},
    "static_shape": {"static_alloc": True, "static_shape": True},
}


def in_mode(mode, block):
    if MODES[mode] is not None:
        block.hybridize(**MODES[mode])
    return block


def start(block, scores, *targets, ctx=None, scale=1):
    """Record a forward pass of arrays in their own types; returns the scores, which have the gradient, and the loss."""
    scores = mx.nd.array(scores, ctx, scores.dtype)
    scores.attach_grad()
    targets = [mx.nd.array(array, ctx, array.dtype) for array in targets]
    with autograd.record():
        loss = scale * block(scores, *targets)
    return scores, loss


def loss_and_grad(block, scores, *targets, scale=1):
    scores, loss = start(block, scores, *targets, scale=scale)
    loss.backward()
    assert loss.shape == (1,)
    return loss.asscalar(), scores.grad.asnumpy()
