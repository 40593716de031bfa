"""The operator `aploss` and what it must compute, by the reference on the anchors' copies."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet import autograd

import aploss_mx.losses.ap_loss  # noqa: F401  (registers the operator)
from aploss_mx.ranking import reference


def replicate(class_targets, classes):
    """Labels (B, N, K) of the anchors' copies: 1 positive, 0 negative, -1 ignored."""
    labels = (class_targets[..., None] == np.arange(1, classes + 1)).astype(np.int8)
    labels[class_targets == -1] = -1
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
