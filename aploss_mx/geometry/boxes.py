"""Measure and clip boxes: corners [x1, y1, x2, y2] in continuous pixel coordinates, no +1 anywhere."""

from __future__ import annotations

import numpy as np


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (M,) in square pixels of boxes (M, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


PAIRS = 1 << 20  # at a time: what is worked on takes some 60 MB


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union (M, L) of boxes (M, 4) with boxes (L, 4); 0 where both are empty."""
    rows = rows_at_once(len(others))
    if len(boxes) > rows:
        return np.concatenate([pairwise_iou(boxes[at : at + rows], others) for at in range(0, len(boxes), rows)])
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = box_areas(boxes)[:, None] + box_areas(others)[None] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def rows_at_once(others: int) -> int:
    """Return how many boxes to pair with this many others at a time."""
    return max(1, PAIRS // max(1, others))


def clip_boxes(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return boxes (M, 4) cut off at the borders of a picture."""
    return np.clip(boxes, 0, np.asarray([width, height, width, height], boxes.dtype))
