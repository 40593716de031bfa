"""Gradient descent on smoothed average precision: `SmoothAPLoss`, and the operator ``smoothaploss``."""

from __future__ import annotations

from typing import Any

from aploss_mx.losses.operator import register
from aploss_mx.losses.ranking_loss import RankingLoss
from aploss_mx.ranking.problem import Method
from aploss_mx.ranking.smooth_ap import smooth_ap_loss


@register("smoothaploss")
def method_of(temperature: str = "0.5", epsilon: str = "1e-6") -> Method:
    """Return the method for the operator's attributes; raises ValueError where they cannot be used."""
    return smooth_ap_loss(float(temperature), float(epsilon))


class SmoothAPLoss(RankingLoss):
    """-log(AP + epsilon) of one ranking, its steps replaced by sigmoids: the paper's "approximate gradient" (§4.2.3).

    See `aploss_mx.ranking.smooth_ap` for the formulas, `RankingLoss` for inputs and output.

    Parameters
    ----------
    temperature : float
        Of the sigmoid, in units of the logits; 0.5 makes it as steep as the paper's step function with delta = 1.
    epsilon : float
        Bounds the gradient where AP is near 0.
    ranking_batch, ranking_scope
        As in `RankingLoss`.

    Raises
    ------
    ValueError
        If `temperature` is not in 1e-28 … 1e100 or `epsilon` not in 1e-100 … 1e100, and as `RankingLoss`.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        epsilon: float = 1e-6,
        ranking_batch: int = 0,
        ranking_scope: str = "all",
        **kwargs: Any,
    ):
        attributes = {"temperature": float(temperature), "epsilon": float(epsilon)}
        super().__init__("smoothaploss", ranking_batch, ranking_scope, attributes, **kwargs)
