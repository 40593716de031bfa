"""AP-loss as an MXNet operator: ``mx.nd.Custom(logits, class_targets, op_type="aploss")``.

A one-stage detector scores N anchors in each of B pictures for K classes. Every anchor counts K times, once a class;
the copy of class k is positive if the anchor was assigned an object of class k, and negative otherwise. All these
B·N·K scores form one ranking, and the loss is 1 - average precision of it (Eq. 5): what a detector is judged by, and
blind to how many easy negatives stand below the last positive.

Average precision only changes when two scores swap, so its gradient is zero or undefined. The paper takes the
perceptron's way instead (§3.2): the terms L_ij, by which a negative j that outscores a positive i spoils i's
precision, are errors with the desired value 0. Each difference s_j - s_i is pushed down by its own L_ij (Eq. 9), and
the chain rule carries that to the scores (Eq. 13): a positive rises by the sum of its terms, a negative sinks by the
sum of the terms it appears in. Two refinements steady the training: the step inside L_ij is a ramp of half width
`delta` (Eq. 14), and precision is interpolated (Algorithm 1). `aploss_mx.ranking.operator` tells inputs and outputs.
"""

from __future__ import annotations

import mxnet as mx

from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.operator import RankingProp
from aploss_mx.ranking.problem import Method


@mx.operator.register("aploss")
class APLossProp(RankingProp):
    """Operator ``aploss``, with the attributes `delta` (default 1.0) and `interpolated` (default True)."""

    def method_of(self, delta: str = "1.0", interpolated: str = "True") -> Method:
        if interpolated not in ("True", "False", "1", "0"):
            raise ValueError(f"interpolated must be True or False, not {interpolated!r}")
        return ap_loss(float(delta), interpolated in ("True", "1"))
