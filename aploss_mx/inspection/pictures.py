"""Gather the pictures of a gallery: thumbnails, their objects and what was found in them, the hardest first."""

from __future__ import annotations

from typing import Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.data.pixels import read_image
from aploss_mx.data.sample import Sample
from aploss_mx.inspection.findings import Findings
from aploss_mx.page.gallery import (
    IGNORED,
    LEVELS,
    RIGHT,
    TRUTH,
    WRONG,
    Boxes,
    Group,
    Picture,
    Slider,
    gallery,
    tally,
)
from aploss_mx.page.thumbnails import BUDGET, side_for, thumbnail
from aploss_mx.palette import BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION, YELLOW
from aploss_mx.progress import track

MOST_PICTURES = 500  # of a page; of a data set with more, the hardest FEWER
FEWER = 200
ROOM = 1.4  # a picture may take this much of its share of the page
GREY = "#bbbbbb"
OBJECT, DIFFICULT = 0, 1
GROUPS = (
    Group("found object", YELLOW, TRUTH),
    Group("difficult object", GREY, IGNORED, labelled=True),
    Group("right", GREEN, RIGHT),
    Group("classification", PURPLE, WRONG),
    Group("localisation", SKY_BLUE, WRONG),
    Group("both", BLUE, WRONG),
    Group("duplicate", ORANGE, WRONG),
    Group("background", VERMILION, WRONG),
    Group("on a difficult object", "#888888", IGNORED),
)
"""Those of objects, and then one for each `Kind`, in its order."""


def hardness(findings: Findings) -> np.ndarray:
    """Return how hard each picture is, float64 (N,): what its detector is wrong about, and how sure it is.

    The sum of the confidences of wrong detections that the slider shows first, and of what the confidences of the
    objects' detections lack of 1.
    """
    found, objects = findings.found, findings.objects
    wrong = found.wrong & (found.levels >= findings.start)
    count = len(findings.samples)
    lacking = np.where(objects.counted, 1 - objects.confidence, 0)
    return np.bincount(found.image, wrong * found.confidence, count) + np.bincount(objects.image, lacking, count)


def detections_gallery(findings: Findings) -> Markup:
    """Return the gallery of detections beside the truth, with its slider."""
    found, objects = findings.found, findings.objects
    order = np.argsort(-hardness(findings), kind="stable")
    chosen = order[: FEWER if len(order) > MOST_PICTURES else MOST_PICTURES]
    samples = [findings.samples[index] for index in chosen]
    group = found.kinds + 2
    of_object = np.where(objects.counted, OBJECT, DIFFICULT)
    level = np.where(objects.counted, objects.levels, LEVELS)
    boxes = boxes_of(
        samples,
        chosen,
        np.concatenate([objects.image, found.image]),
        np.concatenate([objects.boxes, found.boxes]),
        np.concatenate([objects.labels, found.labels]),
        np.concatenate([of_object, group]),
        np.concatenate([level, found.levels]),
    )
    difficult = ~objects.counted
    counts = tally(
        np.concatenate([found.labels, objects.labels[difficult]]),
        np.concatenate([group, of_object[difficult]]),
        np.concatenate([found.levels, level[difficult]]),
        findings.counts,
    )
    note = "The hardest first; a click, or the Enter key, enlarges. " + (
        f"These are the {len(chosen)} hardest of {len(order)} pictures; the figures are of all."
        * (len(chosen) < len(order))
    )
    return gallery(
        "Detections beside the truth", thumbnails(samples), boxes, findings.classes, GROUPS,
        slider=Slider(findings.measure, findings.start, counts), note=note,
    )  # fmt: skip


def thumbnails(samples: Sequence[Sample]) -> list[Picture]:
    """Return the samples' pictures; a file that cannot be read is a grey one that says so."""
    side = side_for(len(samples))
    limit = int(ROOM * BUDGET / max(1, len(samples)))
    pictures = []
    for sample in track(samples, "thumbnails", unit="images", hidden=len(samples) < 100):
        note = ""
        try:
            image = read_image(sample.image_path)
        except OSError:
            image, note = np.full((30, 40, 3), 128, np.uint8), "The picture cannot be read."
        pictures.append(
            Picture(thumbnail(image, side, limit), sample.width, sample.height, sample.image_path.name, note)
        )
    return pictures


def boxes_of(
    samples: Sequence[Sample],
    chosen: np.ndarray,
    image: np.ndarray,
    boxes: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    level: np.ndarray,
) -> Boxes:
    """Return those boxes of all images, all of shape (B, …), that lie in the chosen ones, whose samples these are."""
    place = np.full(max([*chosen, *image, -1]) + 1, -1)
    place[chosen] = np.arange(len(chosen))
    kept = np.flatnonzero(place[image] >= 0)
    kept = kept[np.argsort(place[image[kept]], kind="stable")]
    picture = place[image[kept]]
    sides = np.array([[sample.width, sample.height] * 2 for sample in samples], np.float64).reshape(-1, 4)
    return Boxes(picture, boxes[kept] / np.maximum(1, sides[picture]), label[kept], group[kept], level[kept])
