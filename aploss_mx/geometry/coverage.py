"""Find how well anchors can cover objects: what no anchor overlaps by half is learnt from a single poor one."""

from __future__ import annotations

import numpy as np

from aploss_mx.geometry.anchors import PAPERS, STRIDES, AnchorShapes, cell_anchors, level_shapes

CHUNK = 4096  # boxes at a time: each takes a kilobyte, and COCO has 860,001


def best_anchor_overlaps(boxes: np.ndarray, height: int, width: int, shapes: AnchorShapes = PAPERS) -> np.ndarray:
    """Return the highest IoU that any anchor of a picture has with each box, without going through all anchors.

    Of all anchors of one shape the one whose centre is nearest overlaps a box most, since the overlap along each axis
    only shrinks with the distance; so a box is compared with one anchor of each shape and level.

    Parameters
    ----------
    boxes : ndarray of float, shape (M, 4)
        Corners in the pixels of the network's input.
    height, width : int
        Size of the network's input in pixels, multiples of 32.
    shapes : AnchorShapes

    Returns
    -------
    ndarray of float64, shape (M,)

    Raises
    ------
    ValueError
        As `level_shapes`.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    if len(boxes) > CHUNK:
        parts = (boxes[start : start + CHUNK] for start in range(0, len(boxes), CHUNK))
        return np.concatenate([best_anchor_overlaps(part, height, width, shapes) for part in parts])
    sizes = boxes[..., 2:] - boxes[..., :2]
    centers = boxes[..., :2] + sizes / 2
    best = np.zeros(len(boxes))
    for stride, (rows, columns) in zip(STRIDES, level_shapes(height, width)):
        cells = np.clip(np.floor(centers / stride), 0, [columns - 1, rows - 1])
        anchors = cell_anchors(stride, shapes) + np.tile((cells + 0.5) * stride, 2)
        shared = np.minimum(boxes[..., 2:], anchors[..., 2:]) - np.maximum(boxes[..., :2], anchors[..., :2])
        shared = np.clip(shared, 0, None).prod(axis=-1)
        union = sizes.prod(axis=-1) + (anchors[..., 2:] - anchors[..., :2]).prod(axis=-1) - shared
        best = np.maximum(best, (shared / union).max(axis=1))
    return best
