"""Focal loss (Lin et al., ICCV 2017), the loss of RetinaNet."""

from __future__ import annotations

from typing import Any

from aploss_mx.losses.class_loss import PointwiseLoss


class FocalLoss(PointwiseLoss):
    """Sigmoid focal loss, -alpha_t (1 - p_t)^gamma log(p_t): its sum over the batch divided by the positives.

    p_t is the probability that the logit's sigmoid gives to the truth; alpha_t is alpha for a positive, 1 - alpha
    for a negative. With alpha = 0.5 and gamma = 0 it is half the binary cross entropy.

    Parameters
    ----------
    alpha : float
        Weight of the positives in [0, 1].
    gamma : float
        How fast well-classified scores lose their weight; at least 0.

    Inputs
    ------
    logits : NDArray or Symbol of float, shape (B, N, K)
    class_targets : NDArray or Symbol, shape (B, N)
        -1 ignored, 0 background, 1 … K class of the object; not checked, which would keep a GPU waiting.

    Outputs
    -------
    loss : NDArray or Symbol, shape (1,)
        float64 of float64 logits, else float32, and of symbols, as in a hybridized block around it.
        Divided by the number of positive anchors, at least 1.

    Raises
    ------
    ValueError
        If `alpha` or `gamma` is none of these; by a call, if the logits are no floating point numbers
        or a shape is another (which symbols do not tell).
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in 0 … 1, not {alpha}")
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma must be a number, 0 or more, not {gamma}")
        self._alpha = alpha
        self._gamma = gamma

    def hybrid_forward(self, F, logits, class_targets):
        targets = F.expand_dims(class_targets, axis=2)
        valid = F.broadcast_like(targets >= 0, logits, lhs_axes=(2,), rhs_axes=(2,))
        # Left out before any arithmetic: what an ignored logit holds must not matter, not even NaN.
        logits = F.where(valid, logits, F.zeros_like(logits))
        classes = F.contrib.arange_like(logits, start=1, axis=2).reshape((1, 1, -1))
        positive = F.broadcast_equal(targets, classes)
        towards_truth = logits * (2 * positive - 1)
        # 1 - p_t = exp(-softplus(z)) and -log(p_t) = softplus(-z): no digits are lost, however sure the network is.
        focal = F.exp(-self._gamma * _softplus(F, towards_truth)) * _softplus(F, -towards_truth)
        alpha = (2 * self._alpha - 1) * positive + (1 - self._alpha)
        total = (valid * alpha * focal).sum().reshape((1,))
        return F.broadcast_div(total, F.maximum(positive.sum(), 1))


def _softplus(F, x):
    """log(1 + exp(x)); MXNet's softrelu loses the digits of what is far below 0."""
    return F.where(x > 20, x, F.log1p(F.exp(F.clip(x, a_min=-1e4, a_max=20))))
