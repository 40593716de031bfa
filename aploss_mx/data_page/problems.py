"""Show what the preflight finds, kind by kind, with the pictures in which it can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence

import cv2
import numpy as np
from markupsafe import Markup

from aploss_mx.data.pixels import read_image
from aploss_mx.data.problems import ERROR, Problem
from aploss_mx.data.sample import Sample
from aploss_mx.data_page.pictures import Marked, mark, show
from aploss_mx.page.gallery import TRUTH, Group
from aploss_mx.palette import VERMILION, YELLOW
from aploss_mx.text import cut

LISTED, PICTURED = 100, 12  # problems of a kind that are told, and shown
TRIED = 32  # pictures of a kind that may be looked for, many of which may be missing
LONGEST = 500  # characters of a problem
BEYOND = 1.0  # sides of the picture that are shown beyond its edges
MARGIN, THINNEST = 0.04, 0.02  # round a box beyond the edges; a box without an area is drawn so wide; in longer sides
GREY = (128, 128, 128)
GROUPS = (Group("box in question", VERMILION, TRUTH), Group("annotated box", YELLOW, TRUTH))


class Kind(NamedTuple):
    """Problems of one kind.

    Attributes
    ----------
    name : str
    error : bool
    count : int
    texts : list of str
        The first of them.
    pictures : Markup or None
        A gallery.
    """

    name: str
    error: bool
    count: int
    texts: list[str]
    pictures: Markup | None

    @property
    def anchor(self) -> str:
        """Name of its place in the page."""
        return "-".join(["error" if self.error else "warning", *self.name.split()])


def kinds_of(problems: Sequence[Problem], samples: Sequence[Sample], classes: Sequence[str]) -> list[Kind]:
    """Return the problems by kind, errors first, in the order in which they were found."""
    by_kind: dict[tuple[bool, str], list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: problem.severity != ERROR):
        by_kind.setdefault((problem.severity == ERROR, problem.kind), []).append(problem)
    by_path = {str(sample.image_path): sample for sample in samples}
    return [
        Kind(
            kind,
            error,
            len(found),
            [cut(f"{problem.file}: {problem.message}", LONGEST) for problem in found[:LISTED]],
            _pictures(kind, found, by_path, classes),
        )
        for (error, kind), found in by_kind.items()
    ]


def _pictures(
    kind: str, problems: Sequence[Problem], samples: dict[str, Sample], classes: Sequence[str]
) -> Markup | None:
    marked: list[Marked] = []
    for problem in [problem for problem in problems if problem.image is not None][:TRIED]:
        if len(marked) == PICTURED:
            break
        try:
            image = read_image(problem.image)
        except OSError:  # which may be the problem
            continue
        marked.append(_mark(image, problem, samples.get(str(problem.image)), len(classes)))
    if not marked:
        return None
    return show(f"Pictures: {kind}", marked, [*classes, kind], GROUPS, controls=False)


def _mark(image: np.ndarray, problem: Problem, sample: Sample | None, of_kind: int) -> Marked:
    name, note = Path(str(problem.image)).name, cut(problem.message, LONGEST)
    if problem.box is not None:
        image, box = with_room(image, np.asarray(problem.box, np.float64))
        return mark(image, box, [of_kind], [0], name, note)
    if sample is None:
        return mark(image, np.zeros((0, 4)), [], [], name, note)
    return mark(image, sample.boxes, sample.labels.tolist(), [1] * len(sample.labels), name, note)


def with_room(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (H, W, 3) with a border of grey where a box (4,) is beyond it, and the box as it can be drawn.

    A box far outside is drawn at the border's edge, and one without an area as a thin one.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
    reach = np.concatenate([-box[:2], box[2:] - (width, height)])
    left, top, right, bottom = np.where(reach > 0, np.ceil(np.clip(reach + MARGIN * longer, 0, BEYOND * longer)), 0)
    image = cv2.copyMakeBorder(image, int(top), int(bottom), int(left), int(right), cv2.BORDER_CONSTANT, value=GREY)
    box = np.clip(box + (left, top, left, top), 0, np.tile((image.shape[1], image.shape[0]), 2))
    lacking = np.maximum(0, THINNEST * max(image.shape[:2]) - (box[2:] - box[:2])) / 2
    return image, box + np.concatenate([-lacking, lacking])
