"""Clip annotated boxes to the image that they are drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from aploss_mx.data.problems import BOX_BELOW_PIXEL, BOX_CLIPPED, BOX_LEFT_OUT, ERROR, WARNING, Problem

Corners = tuple  # of float: x1, y1, x2, y2
MIXED_UP = "are [x1, y1, x2, y2] and [x, y, w, h] mixed up?"


def check_scale(boxes: Sequence[Sequence[float]], file: str | Path, problems: list[Problem], where: str = "") -> None:
    """Say in `problems` that an image's boxes, as written, seem to be in fractions of the image instead of pixels.

    That is where at least half of them lie within one pixel, the first, and not all their numbers are whole.
    """
    small = [
        box for box in boxes if min(box) >= 0 and max(box) <= 1 and not all(float(side).is_integer() for side in box)
    ]
    if small and 2 * len(small) >= len(boxes):
        message = (
            f"{where}{len(small)} of {len(boxes)} boxes, such as [{', '.join(f'{side:g}' for side in small[0])}], lie "
            "within one pixel: they seem to be fractions of the image; multiply x by its width and y by its height"
        )
        problems.append(Problem(ERROR, BOX_BELOW_PIXEL, str(file), message, box=small[0]))


def fit_box(
    corners: Corners, width: int, height: int, described: str, file: str | Path, problems: list[Problem]
) -> Corners | None:
    """Return a box's corners clipped to its image, or None where it has no area there; says so in `problems`."""
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        message = f"{described} has no area"
        if x2 < x1 or y2 < y1:
            message += f": it ends before it begins; are its corners swapped, or {MIXED_UP}"
        problems.append(Problem(WARNING, BOX_LEFT_OUT, str(file), message, box=corners))
        return None
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        message = f"{described} is outside the {width}x{height} image"
        problems.append(Problem(WARNING, BOX_LEFT_OUT, str(file), message, box=corners))
        return None
    if clipped != tuple(corners):
        message = f"{described} reaches over the edge of the {width}x{height} image"
        inside = (clipped[2] - clipped[0]) / (x2 - x1) * ((clipped[3] - clipped[1]) / (y2 - y1))
        if inside < 0.5:
            message += f", less than half of it is inside: is it of a picture of another size, or {MIXED_UP}"
        problems.append(Problem(WARNING, BOX_CLIPPED, str(file), message, box=corners))
    return clipped
