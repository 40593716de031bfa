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
`delta` (Eq. 14), and precision is interpolated (Algorithm 1).
"""

from __future__ import annotations

import atexit

import mxnet as mx

from aploss_mx.ranking.exact import ap_loss_and_grad_of_anchors
from aploss_mx.ranking.labels import check_delta

# At its own exit MXNet would wait for pending operators without letting their Python run.
atexit.register(mx.nd.waitall)


class APLossOp(mx.operator.CustomOp):
    """The operator at work; the gradient is an output, so that each call keeps its own until its backward."""

    def __init__(self, delta: float, interpolated: bool):
        super().__init__()
        self.delta = delta
        self.interpolated = interpolated

    def forward(self, is_train, req, in_data, out_data, aux):
        logits, class_targets = (array.asnumpy() for array in in_data)
        loss, grad = ap_loss_and_grad_of_anchors(logits, class_targets, self.delta, self.interpolated)
        self.assign(out_data[0], req[0], loss)
        self.assign(out_data[1], req[1], grad)

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], mx.nd.broadcast_mul(out_data[1], out_grad[0].reshape((1, 1, 1))))
        self.assign(in_grad[1], req[1], 0)


@mx.operator.register("aploss")
class APLossProp(mx.operator.CustomOpProp):
    """Operator ``aploss``.

    Inputs: `logits` (B, N, K) float and `class_targets` (B, N), any dtype, with -1 ignored, 0 background and 1 … K
    the object's class. Attributes: `delta` (default 1.0) and `interpolated` (default True). Outputs: `loss`, shape
    (1,), and `gradient` (B, N, K), which the incoming gradient of the loss scales in the backward pass.
    """

    def __init__(self, **attributes: str):
        super().__init__(need_top_grad=True)
        self.attributes = attributes

    def _read(self, delta: str = "1.0", interpolated: str = "True") -> None:
        self.delta = float(delta)
        check_delta(self.delta)
        if interpolated not in ("True", "False", "1", "0"):
            raise ValueError(f"interpolated must be True or False, not {interpolated!r}")
        self.interpolated = interpolated in ("True", "1")

    def list_arguments(self):
        # MXNet 1.9.1 crashes where a constructor raises; this is its first call that may.
        self._read(**self.attributes)
        return ["logits", "class_targets"]

    def list_outputs(self):
        return ["loss", "gradient"]

    def infer_shape(self, in_shape):
        logits = in_shape[0]
        if len(logits) != 3:
            raise ValueError(f"aploss takes logits of shape (B, N, K), not {tuple(logits)}")
        return [logits, logits[:2]], [[1], logits], []

    def infer_type(self, in_type):
        return in_type, [in_type[0], in_type[0]], []

    def declare_backward_dependency(self, out_grad, in_data, out_data):
        return [out_grad[0], out_data[1]]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return APLossOp(self.delta, self.interpolated)
