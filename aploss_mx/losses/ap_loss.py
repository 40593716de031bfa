"""AP-loss, the paper's: as the Gluon block `APLoss`, and as ``mx.nd.Custom(logits, class_targets, op_type="aploss")``.

A one-stage detector scores N anchors in each of B pictures for K classes. Every anchor counts K times, once a class;
the copy of class k is positive if the anchor was assigned an object of class k, and negative otherwise. All these
B·N·K scores form one ranking, and the loss is 1 - average precision of it (Eq. 5): what a detector is judged by, and
blind to how many easy negatives stand below the last positive.

Average precision only changes when two scores swap, so its gradient is zero or undefined. The paper takes the
perceptron's way instead (§3.2): the terms L_ij, by which a negative j that outscores a positive i spoils i's
precision, are errors with the desired value 0. Each difference s_j - s_i is pushed down by its own L_ij (Eq. 9), and
the chain rule carries that to the scores (Eq. 13): a positive rises by the sum of its terms, a negative sinks by the
sum of the terms it appears in. Two refinements steady the training: the step inside L_ij is a ramp of half width
`delta` (Eq. 14), and precision is interpolated (Algorithm 1). `aploss_mx.ranking.exact` computes it, without loops;
`aploss_mx.losses.operator` tells inputs and outputs.
"""

from __future__ import annotations

from typing import Any

from aploss_mx.losses.operator import register
from aploss_mx.losses.ranking_loss import RankingLoss
from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.problem import Method


@register("aploss")
def method_of(delta: str = "1.0", interpolated: str = "True") -> Method:
    """Return the method for the operator's attributes; raises ValueError where they cannot be used."""
    if interpolated not in ("True", "False", "1", "0"):
        raise ValueError(f"interpolated must be True or False, not {interpolated!r}")
    return ap_loss(float(delta), interpolated in ("True", "1"))


class APLoss(RankingLoss):
    """1 - average precision of one ranking over a device's batch, trained by error-driven updates.

    See `RankingLoss` for inputs and output; the loss lies in [0, 1].

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
        If `delta` is not a positive number, `interpolated` neither True nor False, and as `RankingLoss`.
    """

    def __init__(
        self,
        delta: float = 1.0,
        interpolated: bool = True,
        ranking_batch: int = 0,
        ranking_scope: str = "all",
        **kwargs: Any,
    ):
        attributes = {"delta": float(delta), "interpolated": interpolated}
        super().__init__("aploss", ranking_batch, ranking_scope, attributes, **kwargs)
