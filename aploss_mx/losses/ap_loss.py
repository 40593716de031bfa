"""AP-loss as a Gluon block."""

from __future__ import annotations

import aploss_mx.ranking.ap_loss  # noqa: F401  (registers the operator)
from aploss_mx.losses.ranking_loss import RankingLoss
from aploss_mx.ranking.labels import check_delta


class APLoss(RankingLoss):
    """1 - average precision of one ranking over a device's batch, trained by error-driven updates.

    See `aploss_mx.ranking.ap_loss` for the method and the paper's equations, `RankingLoss` for inputs and output; the
    loss lies in [0, 1].

    Parameters
    ----------
    delta : float
        Half the width of the piecewise step function, in units of the logits (Eq. 14; 1 in the paper).
    interpolated : bool
        Whether the precision is interpolated (§3.4; True in the paper).
    ranking_batch, ranking_scope
        As in `RankingLoss`.

    Raises
    ------
    ValueError
        If `delta` is not a positive number, and as `RankingLoss`.
    """

    def __init__(
        self,
        delta: float = 1.0,
        interpolated: bool = True,
        ranking_batch: int = 0,
        ranking_scope: str = "all",
        **kwargs,
    ):
        check_delta(delta)
        attributes = {"delta": float(delta), "interpolated": bool(interpolated)}
        super().__init__("aploss", ranking_batch, ranking_scope, attributes, **kwargs)
