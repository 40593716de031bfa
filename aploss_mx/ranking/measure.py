"""Measure a batch's ranking, whatever the loss: its AP-loss, and how far its positives' scores spread."""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.problem import solve_anchors

HEAVISIDE = 1e-6  # a delta so small that the piecewise step is the Heaviside step on scores worth telling apart


def measure_ap_loss(logits: np.ndarray, class_targets: np.ndarray, ranking_batch: int = 0) -> float:
    """Return 1 - average precision of a batch, not interpolated, with the Heaviside step (Eqs. 3 and 4).

    Parameters
    ----------
    logits : ndarray of float, shape (B, N, K)
        Without the background.
    class_targets : ndarray, shape (B, N)
        -1 ignored, 0 background, label + 1 at positives.
    ranking_batch : int
        Images that are ranked together, a divisor of B; 0 for all B.

    Returns
    -------
    float
        In [0, 1], the mean over groups of images; 0 without a positive. Scores that tie count half.

    Raises
    ------
    ValueError
        As `solve_anchors`.
    """
    return solve_anchors(ap_loss(HEAVISIDE, interpolated=False), logits, class_targets, ranking_batch)[0]


def score_spread(logits: np.ndarray, class_targets: np.ndarray) -> float:
    """Return the standard deviation of the positives' scores, in logits, to be held against the ramp's delta.

    Arguments are as of `measure_ap_loss`; 0 without a positive.
    """
    positive = class_targets > 0
    labels = class_targets[positive].astype(np.int64) - 1
    scores = logits[positive][np.arange(len(labels)), labels]
    return float(scores.std(dtype=np.float64)) if len(scores) else 0.0
