"""Show pictures with boxes that a slider and filters show and hide; a click enlarges one.

Boxes are not in the page's text: the script draws those of the pictures that are in sight, from arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.page.render import embed, pack, render

LEVELS = 1000  # steps of the slider: a box of level L is shown while the slider stands at L or below
NEVER = 65535  # level of an object that nothing finds at any step
FRACTIONS = 10000  # parts of a picture's side that corners are told in
RIGHT, WRONG, IGNORED, TRUTH = "right", "wrong", "ignored", "truth"


class Group(NamedTuple):
    """Boxes that look alike, and that pictures can be filtered by.

    Attributes
    ----------
    name : str
        As filter and legend have it.
    color : str
        ``#rrggbb``.
    role : str
        What the slider's figures count its boxes as: `RIGHT`, `WRONG` or `IGNORED`. A `TRUTH` is drawn whatever the
        slider says; while its level is below the slider, as one that is missed, which is a filter of its own.
    fine : bool
        There are many: they are drawn thin, and not named one by one.
    labelled : bool
        They are labels and no detections, as a `TRUTH` is: they have no level to tell.
    """

    name: str
    color: str
    role: str = IGNORED
    fine: bool = False
    labelled: bool = False


class Boxes(NamedTuple):
    """Boxes of all pictures.

    Attributes
    ----------
    picture : ndarray of int, shape (B,)
        Index of the picture, in ascending order.
    xyxy : ndarray of float, shape (B, 4)
        Corners as fractions of the picture's width and height.
    label : ndarray of int, shape (B,)
        Index of the class.
    group : ndarray of int, shape (B,)
    level : ndarray of int, shape (B,)
        0 … `LEVELS`, or `NEVER`.
    """

    picture: np.ndarray
    xyxy: np.ndarray
    label: np.ndarray
    group: np.ndarray
    level: np.ndarray


class Picture(NamedTuple):
    """A picture of a gallery.

    Attributes
    ----------
    source : str
        data: URI of its thumbnail.
    width, height : int
        Of the original; the thumbnail is shown in their ratio.
    name : str
    note : str
        A line below the name.
    """

    source: str
    width: int
    height: int
    name: str
    note: str = ""


@dataclass(frozen=True)
class Tally:
    """How many boxes of the whole data set there are of each class, group and level: what the figures are taken from.

    Attributes
    ----------
    label, group, level, count : ndarray of int, shape (T,)
    objects : ndarray of int, shape (C,)
        Objects to find, by class.
    """

    label: np.ndarray
    group: np.ndarray
    level: np.ndarray
    count: np.ndarray
    objects: np.ndarray


def tally(label: np.ndarray, group: np.ndarray, level: np.ndarray, objects: np.ndarray) -> Tally:
    """Count the boxes of a data set, all of shape (B,), of classes with so many `objects` (C,)."""
    rows, counts = np.unique(np.stack([label, group, level]), axis=1, return_counts=True)
    return Tally(*rows, counts, np.asarray(objects))


@dataclass(frozen=True)
class Slider:
    """A slider above the gallery.

    Attributes
    ----------
    name : str
        What the levels are thousandths of, such as confidence.
    start : int
        Level at which it stands first.
    tally : Tally
    """

    name: str
    start: int
    tally: Tally = field(repr=False)


def gallery(
    name: str,
    pictures: Sequence[Picture],
    boxes: Boxes,
    classes: Sequence[str],
    groups: Sequence[Group],
    *,
    slider: Slider | None = None,
    counts: Tally | None = None,
    controls: bool = True,
    note: str = "",
) -> Markup:
    """Return a gallery.

    Parameters
    ----------
    name : str
        What it shows, for readers who listen to it; unique on its page.
    pictures : sequence of Picture
        In the order in which they are shown.
    boxes : Boxes
    classes : sequence of str
        Names of the labels.
    groups : sequence of Group
        The group of index 0 first; a later one lies on top.
    slider : Slider, optional
        Without one, all boxes are shown, and pictures are filtered by class and group alone.
    counts : Tally, optional
        Without a slider: of the whole data set, where these pictures are a part of it.
    controls : bool
        Whether slider and filters are there; a few pictures do without.
    note : str
        A sentence above.
    """
    data = {
        "pictures": [picture._asdict() for picture in pictures],
        "classes": list(classes),
        "groups": [group._asdict() for group in groups],
        "boxes": _packed(boxes),
        "counts": counts and _packed_tally(counts),
        "slider": slider and {"name": slider.name, "tally": _packed_tally(slider.tally)},
        "never": NEVER,
        "levels": LEVELS,
        "fractions": FRACTIONS,
    }
    present = np.unique(boxes.label) if slider is None else np.flatnonzero(_counted(slider.tally, len(classes)))
    return render(
        "gallery.html", name=name, data=embed(data), classes=sorted((classes[one], int(one)) for one in present),
        groups=groups, slider=slider, controls=controls, levels=LEVELS, count=len(pictures), note=note,
    )  # fmt: skip


def _counted(counts: Tally, classes: int) -> np.ndarray:
    return np.bincount(counts.label, counts.count, minlength=classes) + counts.objects


def _packed(boxes: Boxes) -> Mapping[str, Mapping[str, str]]:
    corners = np.clip(np.rint(np.asarray(boxes.xyxy).reshape(-1, 4) * FRACTIONS), 0, FRACTIONS)
    return {
        "picture": pack(np.asarray(boxes.picture, np.uint16)),
        "xyxy": pack(corners.astype(np.uint16)),
        "label": pack(np.asarray(boxes.label, np.uint16)),
        "group": pack(np.asarray(boxes.group, np.uint8)),
        "level": pack(np.asarray(boxes.level, np.uint16)),
    }


def _packed_tally(counts: Tally) -> Mapping[str, object]:
    return {
        "label": pack(counts.label.astype(np.uint16)),
        "group": pack(counts.group.astype(np.uint8)),
        "level": pack(counts.level.astype(np.uint16)),
        "count": pack(counts.count.astype(np.uint32)),
        "objects": counts.objects.tolist(),
    }
