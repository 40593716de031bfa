"""What all classification losses have in common as Gluon blocks: the types and shapes of their inputs."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from aploss_mx.ranking.checks import check_floating_point, check_shapes


def check_arrays(logits: mx.nd.NDArray, class_targets: mx.nd.NDArray) -> None:
    """Raise ValueError unless logits are floating point numbers (B, N, K), and class targets (B, N).

    The gradient of others would be rounded to 0.
    """
    check_floating_point(logits.dtype)
    check_shapes(logits.shape, class_targets.shape)


class PointwiseLoss(HybridBlock):
    """Base of the losses that MXNet's own operators compute, which want both inputs in one type.

    That is the logits', or float32 for float16, in which the sums over a batch would overflow, and for symbols.
    """

    def forward(self, logits, class_targets):
        if not isinstance(logits, mx.nd.NDArray):
            return super().forward(logits.astype("float32"), class_targets.astype("float32"))
        check_arrays(logits, class_targets)
        kind = "float64" if np.dtype(logits.dtype) == np.float64 else "float32"
        return super().forward(logits.astype(kind, copy=False), class_targets.astype(kind, copy=False))
