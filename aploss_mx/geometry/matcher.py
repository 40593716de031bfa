"""Match anchors to the objects that they are responsible for."""

from __future__ import annotations

import numpy as np

from aploss_mx.geometry.boxes import pairwise_iou, rows_at_once

POSITIVE_IOU = 0.5
NEGATIVE_IOU = 0.4
NEGATIVE, IGNORED = -1, -2


def match_anchors(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Match anchors to boxes by RetinaNet's rules.

    An anchor is positive if its best box overlaps it with IoU ≥ 0.5, or if no anchor overlaps some box better
    than it does (all that tie count): such a forced anchor still takes the box that it overlaps best. It is negative
    if its best IoU is below 0.4, and ignored between.

    Parameters
    ----------
    anchors : ndarray of float, shape (N, 4)
    boxes : ndarray of float, shape (M, 4)

    Returns
    -------
    matches : ndarray of int64, shape (N,)
        Index of the matched box, or -1 (NEGATIVE), or -2 (IGNORED).
    """
    if len(boxes) == 0:
        return np.full(len(anchors), NEGATIVE, np.int64)
    best_box, best_iou, forced = np.zeros(len(anchors), np.int64), 0.0, np.zeros(len(anchors), bool)
    rows = rows_at_once(len(anchors))  # of thousands of boxes, all pairs would take gigabytes
    for first in range(0, len(boxes), rows):
        iou = pairwise_iou(boxes[first : first + rows], anchors)
        better = iou.max(axis=0) > best_iou
        best_box[better] = first + iou.argmax(axis=0)[better]
        best_iou = np.maximum(best_iou, iou.max(axis=0))
        best_of_box = iou.max(axis=1, keepdims=True)
        forced |= ((iou == best_of_box) & (best_of_box > 0)).any(axis=0)
    matches = np.where(best_iou < NEGATIVE_IOU, NEGATIVE, IGNORED)
    positive = forced | (best_iou >= POSITIVE_IOU)
    matches[positive] = best_box[positive]
    return matches
