"""The structured hinge loss of average precision, as a Gluon block."""

from __future__ import annotations

import aploss_mx.ranking.structured_hinge_loss  # noqa: F401  (registers the operator)
from aploss_mx.losses.ranking_loss import RankingLoss


class StructuredHingeAPLoss(RankingLoss):
    """Convex upper bound of 1 - average precision of one ranking, by loss-augmented inference (§4.2.3).

    See `aploss_mx.ranking.structured_hinge` for the formula, `RankingLoss` for inputs, output and errors.

    Parameters
    ----------
    ranking_batch, ranking_scope
        As in `RankingLoss`.
    """

    def __init__(self, ranking_batch: int = 0, ranking_scope: str = "all", **kwargs):
        super().__init__("structuredhingeaploss", ranking_batch, ranking_scope, {}, **kwargs)
