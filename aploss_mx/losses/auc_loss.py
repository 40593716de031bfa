"""AUC-loss: as the Gluon block `AUCLoss`, and as ``mx.nd.Custom(logits, class_targets, op_type="aucloss")``.

The paper's other ranking loss (Eq. 7): a negative that outscores a positive costs the same 1 / |N| wherever that
happens, while average precision minds it most at the top of the ranking.
"""

from __future__ import annotations

from typing import Any

from aploss_mx.losses.operator import register
from aploss_mx.losses.ranking_loss import RankingLoss
from aploss_mx.ranking.exact import auc_loss
from aploss_mx.ranking.problem import Method


@register("aucloss")
def method_of(delta: str = "1.0") -> Method:
    """Return the method for the operator's attribute; raises ValueError where it cannot be used."""
    return auc_loss(float(delta))


class AUCLoss(RankingLoss):
    """AUC-loss of one ranking (Eq. 7), 1 - area under the ROC curve but for `delta`, trained by error-driven updates.

    See `RankingLoss` for inputs and output; the loss lies in [0, 1].

    Parameters
    ----------
    delta : float
        Half the width of the piecewise step function, in units of the logits (Eq. 14).
    ranking_batch, ranking_scope
        As in `RankingLoss`.

    Raises
    ------
    ValueError
        If `delta` is not a positive number, and as `RankingLoss`.
    """

    def __init__(self, delta: float = 1.0, ranking_batch: int = 0, ranking_scope: str = "all", **kwargs: Any):
        super().__init__("aucloss", ranking_batch, ranking_scope, {"delta": float(delta)}, **kwargs)
