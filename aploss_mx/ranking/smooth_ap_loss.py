"""Gradient descent on smoothed average precision as an MXNet operator: ``op_type="smoothaploss"``."""

from __future__ import annotations

import mxnet as mx

from aploss_mx.ranking.operator import RankingProp
from aploss_mx.ranking.problem import Method
from aploss_mx.ranking.smooth_ap import smooth_ap_loss


@mx.operator.register("smoothaploss")
class SmoothAPLossProp(RankingProp):
    """Operator ``smoothaploss``, with the attributes `temperature` (default 0.5) and `epsilon` (default 1e-6)."""

    def method_of(self, temperature: str = "0.5", epsilon: str = "1e-6") -> Method:
        return smooth_ap_loss(float(temperature), float(epsilon))
