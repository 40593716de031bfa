"""Turn images and boxes into what a gallery shows."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.page.gallery import LEVELS, Boxes, Group, Picture, gallery
from aploss_mx.page.thumbnails import BUDGET, thumbnail

SIDE = 400  # px, of the longer side of a thumbnail
MOST = 250  # pictures that the budget is for


class Marked(NamedTuple):
    """A picture with the boxes to draw on it.

    Attributes
    ----------
    picture : Picture
    xyxy : ndarray of float, shape (B, 4)
        As fractions of the picture's width and height.
    label, group : sequence of int, B long
    """

    picture: Picture
    xyxy: np.ndarray
    label: Sequence[int]
    group: Sequence[int]


def mark(
    image: np.ndarray,
    boxes: np.ndarray,
    label: Sequence[int],
    group: Sequence[int],
    name: str,
    note: str = "",
    size: tuple[int, int] | None = None,
) -> Marked:
    """Return an image, uint8 (H, W, 3) in RGB, with boxes (B, 4) in pixels of `size`, width and height, or of its own.

    Boxes may be those of another size: an image may not have the one that its annotation says.
    """
    height, width = image.shape[:2]
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) / np.tile(size or (width, height), 2)
    picture = Picture(thumbnail(image, SIDE, BUDGET // MOST), width, height, name, note)
    return Marked(picture, np.clip(corners, 0, 1), label, group)


def show(
    name: str,
    marked: Sequence[Marked],
    classes: Sequence[str],
    groups: Sequence[Group],
    *,
    controls: bool = True,
    note: str = "",
) -> Markup:
    """Return a gallery of pictures whose boxes have labels among `classes`; groups that have no box are not named."""
    group = np.array([one for item in marked for one in item.group], np.int64)
    used, group = np.unique(group, return_inverse=True)
    boxes = Boxes(
        picture=np.repeat(np.arange(len(marked)), [len(item.group) for item in marked]),
        xyxy=np.concatenate([np.zeros((0, 4)), *(item.xyxy for item in marked)]),
        label=np.array([one for item in marked for one in item.label], np.int64),
        group=group.reshape(-1),
        level=np.full(len(group), LEVELS),
    )
    kept = [groups[one] for one in used]
    pictures = [item.picture for item in marked]
    return gallery(name, pictures, boxes, classes, kept, controls=controls, note=note)
