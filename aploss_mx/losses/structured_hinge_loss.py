"""The structured hinge loss of AP: the block `StructuredHingeAPLoss`, and the operator ``structuredhingeaploss``."""

from __future__ import annotations

from typing import Any

from aploss_mx.losses.operator import register
from aploss_mx.losses.ranking_loss import RankingLoss
from aploss_mx.ranking.problem import Method
from aploss_mx.ranking.structured_hinge import structured_hinge_loss


@register("structuredhingeaploss")
def method_of() -> Method:
    """Return the method; the operator has no attributes of its own."""
    return structured_hinge_loss


class StructuredHingeAPLoss(RankingLoss):
    """Convex upper bound of 1 - average precision of one ranking, by loss-augmented inference (§4.2.3).

    See `aploss_mx.ranking.structured_hinge` for the formula, `RankingLoss` for inputs, output and errors.

    Parameters
    ----------
    ranking_batch, ranking_scope
        As in `RankingLoss`.
    """

    def __init__(self, ranking_batch: int = 0, ranking_scope: str = "all", **kwargs: Any):
        super().__init__("structuredhingeaploss", ranking_batch, ranking_scope, {}, **kwargs)
