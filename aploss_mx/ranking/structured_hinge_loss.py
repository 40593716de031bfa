"""The structured hinge loss of average precision as an MXNet operator: ``op_type="structuredhingeaploss"``."""

from __future__ import annotations

import mxnet as mx

from aploss_mx.ranking.operator import RankingProp
from aploss_mx.ranking.problem import Method
from aploss_mx.ranking.structured_hinge import structured_hinge_loss


@mx.operator.register("structuredhingeaploss")
class StructuredHingeAPLossProp(RankingProp):
    """Operator ``structuredhingeaploss``, without attributes of its own."""

    def method_of(self) -> Method:
        return structured_hinge_loss
