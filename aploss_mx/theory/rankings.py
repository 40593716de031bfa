"""Rankings that show what the AP-loss sees: little of easy negatives (Figure 1), and shifts between images (§3.4)."""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.exact import ap_loss, ap_loss_and_grad
from aploss_mx.ranking.measure import HEAVISIDE
from aploss_mx.ranking.problem import solve_anchors


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return plain average precision, not interpolated, over labels in {-1, 0, 1}; scores that tie count half."""
    return 1 - ap_loss_and_grad(scores, labels, HEAVISIDE, interpolated=False)[0]


def accuracy_and_ap(easy_negatives: int) -> tuple[float, float]:
    """Return classification accuracy at score 0.5, and AP, of a poor detector with ever more easy negatives.

    Each of its six positives scores 0.01 less than one of six hard negatives; of both kinds all but one score below
    0.5, and the easy negatives less than any of them.
    """
    hard = np.array([0.62, 0.44, 0.35, 0.27, 0.18, 0.12])
    scores = np.concatenate([hard - 0.01, hard, np.full(easy_negatives, 0.05)])
    labels = np.repeat([1, 0, 0], [len(hard), len(hard), easy_negatives])
    accuracy = ((scores > 0.5) == (labels == 1)).mean()
    return float(accuracy), average_precision(scores, labels)


def shifted_images(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (2, 12, 1) and class targets (2, 12) of two images, each ranked perfectly, `shift` apart."""
    one = np.concatenate([np.linspace(2.5, 4, 3), np.linspace(-4, -1, 9)]).astype(np.float32)
    logits = np.stack([one + np.float32(shift), one])[..., None]
    return logits, np.tile(np.repeat([1, 0], [3, 9]), (2, 1))


def score_shift_losses(shift: float, delta: float = 1.0) -> tuple[float, float]:
    """Return the AP-loss of `shifted_images`, each ranked for itself, and both ranked together."""
    images = shifted_images(shift)
    alone, together = (solve_anchors(ap_loss(delta), *images, ranking_batch=count)[0] for count in (1, 2))
    return alone, together
