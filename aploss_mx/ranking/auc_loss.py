"""AUC-loss as an MXNet operator: ``mx.nd.Custom(logits, class_targets, op_type="aucloss")``.

The paper's other ranking loss (Eq. 7): a negative that outscores a positive costs the same 1 / |N| wherever that
happens, while average precision minds it most at the top of the ranking.
"""

from __future__ import annotations

import mxnet as mx

from aploss_mx.ranking.exact import auc_loss
from aploss_mx.ranking.operator import RankingProp
from aploss_mx.ranking.problem import Method


@mx.operator.register("aucloss")
class AUCLossProp(RankingProp):
    """Operator ``aucloss``, with the attribute `delta` (default 1.0)."""

    def method_of(self, delta: str = "1.0") -> Method:
        return auc_loss(float(delta))
