"""What all classification losses have in common as Gluon blocks: the types of their inputs."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from aploss_mx.ranking.checks import check_floating_point


class ClassLoss(HybridBlock):
    """Base of the classification losses: refuses logits that are no floating point numbers.

    Raises
    ------
    ValueError
        By a call with such logits: their gradient would be rounded to 0.
    """

    def forward(self, logits, class_targets):
        if isinstance(logits, mx.nd.NDArray):
            check_floating_point(logits.dtype)
        return super().forward(logits, class_targets)


class PointwiseLoss(ClassLoss):
    """Base of the losses that MXNet's own operators compute, which want both inputs in one type.

    That is the logits', or float32 for float16, in which the sums over a batch would overflow, and for symbols.
    """

    def forward(self, logits, class_targets):
        kind = "float32"
        if isinstance(logits, mx.nd.NDArray):
            check_floating_point(logits.dtype)
            kind = "float64" if np.dtype(logits.dtype) == np.float64 else kind
        return super().forward(logits.astype(kind), class_targets.astype(kind))
