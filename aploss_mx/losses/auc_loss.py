"""AUC-loss as a Gluon block."""

from __future__ import annotations

import aploss_mx.ranking.auc_loss  # noqa: F401  (registers the operator)
from aploss_mx.losses.ranking_loss import RankingLoss
from aploss_mx.ranking.labels import check_delta


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

    def __init__(self, delta: float = 1.0, ranking_batch: int = 0, ranking_scope: str = "all", **kwargs):
        check_delta(delta)
        super().__init__("aucloss", ranking_batch, ranking_scope, {"delta": float(delta)}, **kwargs)
