"""Assign class and box targets to anchors."""

from __future__ import annotations

import numpy as np

from aploss_mx.geometry.coder import encode
from aploss_mx.geometry.matcher import IGNORED, match_anchors


def assign_targets(anchors: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class and box targets of a picture's anchors.

    Parameters
    ----------
    anchors : ndarray of float32, shape (N, 4)
    boxes : ndarray of float32, shape (M, 4)
        Objects, in pixels of the network's input.
    labels : ndarray of int, shape (M,)
        Their classes, from 0.

    Returns
    -------
    class_targets : ndarray of float32, shape (N,)
        -1 ignored, 0 background, label + 1 at positives.
    box_targets : ndarray of float32, shape (N, 4)
        Deltas at positives, 0 elsewhere.
    """
    matches = match_anchors(anchors, boxes)
    positive = matches >= 0
    class_targets = np.where(matches == IGNORED, -1, 0).astype(np.float32)
    class_targets[positive] = labels[matches[positive]] + 1
    box_targets = np.zeros((len(anchors), 4), np.float32)
    box_targets[positive] = encode(boxes[matches[positive]], anchors[positive])
    return class_targets, box_targets
