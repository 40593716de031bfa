"""Regression of the boxes."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock


class BoxLoss(HybridBlock):
    """Smooth L1 (beta = 1) of the positives' deltas: the sum over the batch divided by 4 · positives (at least 1).

    Parameters
    ----------
    weight : float
        Factor on the loss.
    ranking_batch : int
        Images that are ranked together, a divisor of B: the loss is the mean of such groups' losses, each divided by
        its own positives, as several devices' losses are; 0 for all of them.

    Inputs
    ------
    deltas : NDArray or Symbol of float32, shape (B, N, 4)
    box_targets : NDArray or Symbol of float32, shape (B, N, 4)
    class_targets : NDArray or Symbol of float32, shape (B, N)
        Positive where above 0.

    Outputs
    -------
    loss : NDArray or Symbol, shape (1,)
    """

    def __init__(self, weight: float = 1.0, ranking_batch: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.weight = weight
        self.ranking_batch = ranking_batch

    def hybrid_forward(self, F, deltas, box_targets, class_targets):
        positive = class_targets > 0
        errors = F.broadcast_mul(F.smooth_l1(deltas - box_targets, scalar=1.0), F.expand_dims(positive, axis=2))
        groups = (-1, self.ranking_batch) if self.ranking_batch else (1, -1)
        # (B, N, 4) → (groups, images, N, 4) → (groups,)
        errors, positive = (x.reshape((-4, *groups, -2)).sum(axis=0, exclude=True) for x in (errors, positive))
        positives = F.broadcast_maximum(positive, F.ones((1,)))
        return self.weight * F.broadcast_div(errors, 4 * positives).mean().reshape((1,))
