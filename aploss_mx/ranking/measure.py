"""The AP-loss as a measure, by which detectors are compared whatever they minimise."""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.problem import solve_anchors

HEAVISIDE = 1e-6  # a delta so small that the piecewise step is the Heaviside step on scores worth telling apart


def measure_ap_loss(logits: np.ndarray, class_targets: np.ndarray) -> float:
    """Return 1 - average precision of a batch as one ranking, not interpolated, with the Heaviside step (Eqs. 3 and 4).

    Parameters
    ----------
    logits : ndarray of float, shape (B, N, K)
        Without the background.
    class_targets : ndarray, shape (B, N)
        -1 ignored, 0 background, label + 1 at positives.

    Returns
    -------
    float
        In [0, 1]; 0 without a positive. Scores that tie count half.

    Raises
    ------
    ValueError
        As `solve_anchors`.
    """
    return solve_anchors(ap_loss(HEAVISIDE, interpolated=False), logits, class_targets)[0]
