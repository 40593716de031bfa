"""Encode an object's box as deltas from an anchor, and decode them (Fast R-CNN's parametrisation)."""

from __future__ import annotations

import numpy as np

STDS = np.asarray([0.1, 0.1, 0.2, 0.2], np.float32)
MAX_LOG_SCALE = float(np.log(1000 / 16))  # keeps exp finite on untrained networks, as Detectron does


def _centers_and_sizes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sizes / 2, sizes


def encode(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the deltas (M, 4) that lead from anchors (M, 4) to boxes (M, 4) of positive width and height.

    (dx, dy) / anchor size / 0.1 and (log dw, log dh) / 0.2.
    """
    box_centers, box_sizes = _centers_and_sizes(boxes)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    shifts = (box_centers - anchor_centers) / anchor_sizes
    return np.concatenate([shifts, np.log(box_sizes / anchor_sizes)], axis=-1) / STDS


def decode(deltas: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the boxes (M, 4) that deltas (M, 4) lead to from anchors (M, 4): the inverse of `encode`."""
    deltas = deltas * STDS
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    centers = anchor_centers + deltas[..., :2] * anchor_sizes
    halves = np.exp(np.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * anchor_sizes / 2
    return np.concatenate([centers - halves, centers + halves], axis=-1)
