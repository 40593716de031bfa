"""Make RetinaNet's anchors in each cell of P3 … P7: the AP-loss paper's 6 (§4.1), or others."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

STRIDES = (8, 16, 32, 64, 128)


class AnchorShapes(NamedTuple):
    """The shapes of a cell's anchors, one of each scale and ratio; the defaults are the paper's.

    Attributes
    ----------
    size : float
        Side of the square anchor of scale 1, in strides.
    scales : tuple of float
    ratios : tuple of float
        Height / width.
    """

    size: float = 4.0
    scales: tuple[float, ...] = (1.0, 2.0**0.5)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    @property
    def per_cell(self) -> int:
        """Anchors in a cell, A."""
        return len(self.scales) * len(self.ratios)


PAPERS = AnchorShapes()


def cell_anchors(stride: int, shapes: AnchorShapes = PAPERS) -> np.ndarray:
    """Return the anchors (A, 4) of one cell around the origin, scale by scale, ratios inside; float64."""
    sides = shapes.size * stride * np.asarray(shapes.scales)
    ratios = np.asarray(shapes.ratios)
    widths = (sides[:, None] / np.sqrt(ratios)).ravel()
    heights = (sides[:, None] * np.sqrt(ratios)).ravel()
    return np.stack([-widths, -heights, widths, heights], axis=1) / 2


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """Return the feature maps' (height, width), P3 to P7, for a picture of whole multiples of 32 pixels.

    P6 and P7 halve, rounding up, as their stride-2 convolutions do.

    Raises
    ------
    ValueError
        If a side is no positive multiple of 32.
    """
    if height <= 0 or width <= 0 or height % 32 or width % 32:
        raise ValueError(f"image sides must be positive multiples of 32 pixels, not {height}×{width}: pad the image")
    shapes = [(height // stride, width // stride) for stride in STRIDES[:3]]
    for _ in STRIDES[3:]:
        rows, columns = shapes[-1]
        shapes.append(((rows + 1) // 2, (columns + 1) // 2))
    return shapes


@lru_cache(maxsize=32)
def make_anchors(height: int, width: int, shapes: AnchorShapes = PAPERS) -> np.ndarray:
    """Return all anchors of a picture.

    Parameters
    ----------
    height, width : int
        Size of the network's input in pixels, multiples of 32.
    shapes : AnchorShapes

    Returns
    -------
    anchors : ndarray of float32, shape (N, 4), read-only
        Level by level from P3, cells row by row, A anchors a cell: the order of the network's outputs. Centres stand
        at (i + 0.5)·stride.

    Raises
    ------
    ValueError
        As `level_shapes`.
    """
    levels = []
    for stride, (rows, columns) in zip(STRIDES, level_shapes(height, width)):
        x, y = np.meshgrid((np.arange(columns) + 0.5) * stride, (np.arange(rows) + 0.5) * stride)
        centers = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
        levels.append((centers + cell_anchors(stride, shapes)).reshape(-1, 4))
    anchors = np.concatenate(levels).astype(np.float32)
    anchors.flags.writeable = False
    return anchors
