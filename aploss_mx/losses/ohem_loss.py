"""Cross entropy with online hard example mining, as SSD trains (Liu et al., ECCV 2016)."""

from __future__ import annotations

from typing import Any

from aploss_mx.losses.class_loss import PointwiseLoss


class OHEMCrossEntropyLoss(PointwiseLoss):
    """Softmax cross entropy over K classes and background, of all positives and the hardest negatives of each image.

    An image with p positives trains p · `negative_ratio` negatives, those of the highest loss; one without positives
    trains none. The sum is divided by the positives of the batch.

    Parameters
    ----------
    negative_ratio : float
        Negatives a positive; 3 in SSD.

    Inputs
    ------
    logits : NDArray or Symbol of float, shape (B, N, K + 1)
        The first is the background's.
    class_targets : NDArray or Symbol, shape (B, N)
        -1 ignored, 0 background, 1 … K class of the object; not checked, which would keep a GPU waiting.

    Outputs
    -------
    loss : NDArray or Symbol, shape (1,)
        float64 of float64 logits, else float32, and of symbols, as in a hybridized block around it.
        Exactly 0, with gradient 0, where the batch has no positive.

    Raises
    ------
    ValueError
        If `negative_ratio` is not a positive number; by a call, if the logits are no floating point numbers
        or a shape is another (which symbols do not tell).
    """

    def __init__(self, negative_ratio: float = 3.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 < negative_ratio < float("inf"):
            raise ValueError(f"negative_ratio must be a positive number, not {negative_ratio}")
        self._negative_ratio = negative_ratio

    def hybrid_forward(self, F, logits, targets):
        valid = F.broadcast_like(F.expand_dims(targets >= 0, axis=2), logits, lhs_axes=(2,), rhs_axes=(2,))
        logits = F.where(valid, logits, F.zeros_like(logits))
        losses = -F.pick(F.log_softmax(logits, axis=2), F.relu(targets), axis=2)

        positive, negative = targets > 0, targets == 0
        hardness = F.where(negative, F.BlockGrad(losses), -F.ones_like(losses))
        rank = hardness.argsort(axis=1, is_ascend=False, dtype="int32").argsort(axis=1, dtype="float32")
        wanted = self._negative_ratio * positive.sum(axis=1, keepdims=True).astype("float32")
        trained = positive + F.where(F.broadcast_lesser(rank, wanted), negative, F.zeros_like(negative))
        # A product, not a selection: a loss that is not finite shows, be it trained or not.
        total = (trained * losses).sum().reshape((1,))
        return F.broadcast_div(total, F.maximum(positive.sum(), 1))
