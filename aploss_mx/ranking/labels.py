"""Checks of the arguments that every ranking loss shares."""

from __future__ import annotations

import numpy as np


def check_arguments(scores: np.ndarray, labels: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return `scores`, in floating point, and `labels` as arrays, or say what is wrong with them.

    Raises
    ------
    ValueError
        If the shapes differ, a label is not in {-1, 0, 1}, or `delta` is not a positive number.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    if scores.shape != labels.shape:
        raise ValueError(f"scores and labels differ in shape: {scores.shape} and {labels.shape}")
    check_delta(delta)
    whole = labels.dtype.kind in "iub" or np.array_equal(labels, np.rint(labels))
    if labels.size and not (whole and labels.min() >= -1 and labels.max() <= 1):
        raise ValueError("labels must be -1 (ignored), 0 (negative) or 1 (positive)")
    return scores, labels


def check_delta(delta: float) -> None:
    """Raise ValueError unless `delta` is a positive, finite number."""
    if not (np.isfinite(delta) and delta > 0):
        raise ValueError(f"delta is half the width of the step's ramp and must be a positive number, not {delta}")
