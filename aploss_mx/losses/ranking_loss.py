"""What the ranking losses have in common as Gluon blocks."""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock

from aploss_mx.losses.class_loss import check_arrays
from aploss_mx.losses.operator import METHODS
from aploss_mx.ranking.checks import check_grouping
from aploss_mx.ranking.problem import images_of_group


class RankingLoss(HybridBlock):
    """Base of the ranking losses: a registered operator applied to logits and class targets.

    Parameters
    ----------
    op_type : str
        Name of the operator, a key of `operator.METHODS`.
    ranking_batch : int
        Images that are ranked together (Table 1a varies it), a divisor of the device's batch; 0 for all of them. The
        groups' losses are averaged.
    ranking_scope : str
        'all' ranks the classes' scores together, as the paper does; 'class' ranks each class for itself and averages
        over those with a positive, which cannot bring their scores into one order (§3.1.1).
    attributes
        The operator's own.

    Inputs
    ------
    logits : NDArray or Symbol of float, shape (B, N, K)
        Raw class scores, no sigmoid.
    class_targets : NDArray or Symbol, shape (B, N)
        -1 ignored, 0 background, 1 … K class of the object.

    Outputs
    -------
    loss : NDArray or Symbol, shape (1,)
        float64 of float64 logits, else float32. Exactly 0, with gradient 0, where the batch has no positive.

    Raises
    ------
    ValueError
        If `ranking_batch` or `ranking_scope` is none of these, or the operator cannot use its attributes; by a call,
        if the logits are no floating point numbers, a shape is another, or `ranking_batch` does not divide B.
    MXNetError
        Once the loss or a gradient is read, where a class target is none of these.
    """

    def __init__(self, op_type: str, ranking_batch: int, ranking_scope: str, attributes: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        check_grouping(ranking_batch, ranking_scope)
        METHODS[op_type](**{name: str(value) for name, value in attributes.items()})
        shared = {"ranking_batch": int(ranking_batch), "ranking_scope": ranking_scope}
        self._attributes = {"op_type": op_type, **shared, **attributes}

    def forward(self, logits, class_targets):
        if isinstance(logits, mx.nd.NDArray):
            check_arrays(logits, class_targets)
            images_of_group(len(logits), self._attributes["ranking_batch"])
        return super().forward(logits, class_targets)

    def hybrid_forward(self, F, logits, class_targets):
        return F.Custom(logits, class_targets, **self._attributes)[0]
