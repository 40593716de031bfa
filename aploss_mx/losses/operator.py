"""One operator for all ranking losses: ``mx.nd.Custom(logits, class_targets, op_type=…)``.

Inputs: `logits` (B, N, K) float and `class_targets` (B, N), any dtype, with -1 ignored, 0 background and 1 … K the
object's class. Attributes: a loss's own, and `ranking_batch` and `ranking_scope` of `problem.solve_anchors`. Outputs:
`loss`, shape (1,), in float64 of float64 logits and else in float32, and `gradient` (B, N, K) in float32, which the
incoming gradient of the loss scales in the backward pass.

On a GPU AP-loss and AUC-loss stay there; the other losses, rankings by class and numbers that are not float32 take the
way over the host.
"""

from __future__ import annotations

import atexit
from typing import Callable

import mxnet as mx
import numpy as np

from aploss_mx.ranking.checks import check_floating_point, check_grouping
from aploss_mx.ranking.gpu import rtc
from aploss_mx.ranking.problem import Method, images_of_group, solve_anchors

# At its own exit MXNet would wait for pending operators without letting their Python run.
atexit.register(mx.nd.waitall)

MakeMethod = Callable[..., Method]
"""Takes a loss's own attributes as text, as MXNet hands them over; raises ValueError for those it cannot use."""

METHODS: dict[str, MakeMethod] = {}
"""What each registered operator computes."""


class RankingOp(mx.operator.CustomOp):
    """An operator at work; the gradient is an output, so that each call keeps its own until its backward."""

    def __init__(self, method: Method, ranking_batch: int, ranking_scope: str):
        super().__init__()
        self.method = method
        self.ranking_batch = ranking_batch
        self.ranking_scope = ranking_scope

    def forward(self, is_train, req, in_data, out_data, aux):
        context = mx.current_context()
        if rtc.can_solve(self.method, self.ranking_scope, context, in_data[0]):
            outputs = [
                array if kind == "write" else mx.nd.empty(array.shape, context, array.dtype)
                for array, kind in zip(out_data, req)
            ]
            try:
                rtc.solve_anchors(self.method, context, *in_data, self.ranking_batch, *outputs)
                for array, kind, output in zip(out_data, req, outputs):
                    if output is not array:
                        self.assign(array, kind, output)
            finally:
                # MXNet waits for what writes its own arrays, and frees them under what only reads them.
                for array, output in zip(out_data, outputs):
                    if output is not array:
                        output.wait_to_read()
            return
        logits, class_targets = (array.asnumpy() for array in in_data)
        loss, grad = solve_anchors(self.method, logits, class_targets, self.ranking_batch, self.ranking_scope)
        self.assign(out_data[0], req[0], loss)
        self.assign(out_data[1], req[1], grad)

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        if req[0] != "null":
            scale = out_grad[0].astype("float32", copy=False).reshape((1, 1, 1))
            grad = mx.nd.broadcast_mul(out_data[1], scale).astype(in_grad[0].dtype, copy=False)
            self.assign(in_grad[0], req[0], grad)
        self.assign(in_grad[1], req[1], 0)


class RankingProp(mx.operator.CustomOpProp):
    """Attributes, shapes and types of a ranking loss; `register` gives it the loss's method."""

    make_method: MakeMethod

    def __init__(self, **attributes: str):
        super().__init__(need_top_grad=True)
        self.attributes = attributes

    def list_arguments(self):
        # MXNet 1.9.1 crashes where a constructor raises; this is its first call that may.
        own = {name: value for name, value in self.attributes.items() if not name.startswith("__")}  # mx.AttrScope's
        self.ranking_batch = int(own.pop("ranking_batch", 0))
        self.ranking_scope = own.pop("ranking_scope", "all")
        check_grouping(self.ranking_batch, self.ranking_scope)
        self.method = self.make_method(**own)
        return ["logits", "class_targets"]

    def list_outputs(self):
        return ["loss", "gradient"]

    def infer_shape(self, in_shape):
        logits = in_shape[0]
        if not logits:  # not known yet
            return in_shape, [[1], logits], []
        if len(logits) != 3:
            raise ValueError(f"ranking losses take logits of shape (B, N, K), not {tuple(logits)}")
        if logits[0] > 0:  # -1 is not known yet
            images_of_group(logits[0], self.ranking_batch)
        return [logits, logits[:2]], [[1], logits], []

    def infer_type(self, in_type):
        check_floating_point(in_type[0])
        # float16 has neither room for a scaled loss nor numbers as small as a negative's share of the gradient.
        return in_type, [np.float64 if in_type[0] == np.float64 else np.float32, np.float32], []

    def declare_backward_dependency(self, out_grad, in_data, out_data):
        return [out_grad[0], out_data[1]]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return RankingOp(self.method, self.ranking_batch, self.ranking_scope)


def register(op_type: str) -> Callable[[MakeMethod], MakeMethod]:
    """Return a decorator that makes the MXNet operator `op_type` of a function as `MakeMethod` describes it."""

    def decorate(make_method: MakeMethod) -> MakeMethod:
        METHODS[op_type] = make_method
        prop = type(f"{make_method.__name__}_prop", (RankingProp,), {"make_method": staticmethod(make_method)})
        mx.operator.register(op_type)(prop)
        return make_method

    return decorate
