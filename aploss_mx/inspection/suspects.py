"""Rank labels to look at: where a detector contradicts them, objects that nothing finds, and boxes of two classes."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.data.pixels import read_image
from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.errors import BACKGROUND, MATCH, Kind
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.inspection.findings import Findings
from aploss_mx.page.gallery import IGNORED, LEVELS, NEVER, Boxes, Group, Picture, gallery
from aploss_mx.page.thumbnails import thumbnail
from aploss_mx.palette import ORANGE, SKY_BLUE, VERMILION

MOST = 20  # of a list that is shown
AROUND, LEAST_SIDE = 0.8, 120  # of a box's sides that its picture shows on each side of it, and at least so many pixels
SIDE = 320  # px of a picture's longer side
GROUPS = (
    Group("other labels", SKY_BLUE, IGNORED),
    Group("label", ORANGE, IGNORED),
    Group("detection", VERMILION, IGNORED),
)
OTHER, LABEL, DETECTION = range(3)
OFF_LABELS = (Kind.BACKGROUND, Kind.LOCALISATION, Kind.BOTH)


class Suspect(NamedTuple):
    """A place to look at.

    Attributes
    ----------
    image : int
        Index of the sample.
    doubt : float
        Of its list, the highest first.
    why : str
    objects : tuple of int
        Labels that are in doubt, among all objects.
    detection : int
        What speaks against them, among all detections; -1 if nothing.
    """

    image: int
    doubt: float
    why: str
    objects: tuple[int, ...]
    detection: int = -1


def contradictions(findings: Findings) -> list[Suspect]:
    """Return what the detector is sure of and no label says: an object without a label, or with another class.

    Doubt is the detection's confidence; on a label of another class times what the confidence of that label's own
    detection lacks of 1. Left out are detections that overlap a label they may mean, off its place: one that no other
    detection surely finds, or a difficult one of their class. A place is told once.
    """
    found, objects = findings.found, findings.objects
    renamed = found.kinds == Kind.CLASSIFICATION
    doubt = np.where(renamed | np.isin(found.kinds, OFF_LABELS), found.confidence, 0.0)
    doubt[renamed] *= 1 - objects.confidence[found.objects[renamed]]
    suspects: list[Suspect] = []
    for one in np.argsort(-doubt, kind="stable"):
        if doubt[one] <= 0 or len(suspects) == MOST:
            break
        box, image = found.boxes[one], int(found.image[one])
        told = [found.boxes[suspect.detection] for suspect in suspects if suspect.image == image]
        if told and pairwise_iou(box[None], np.stack(told)).max() > MATCH:
            continue
        said = f"{findings.measure} {findings.said(found.confidence[one])}"
        what = f"found as {findings.classes[found.labels[one]]} ({said})"
        if renamed[one]:
            labelled = int(found.objects[one])
            why = f"labelled {findings.classes[objects.labels[labelled]]}, {what}"
            suspects.append(Suspect(image, float(doubt[one]), why, (labelled,), int(one)))
        elif not _off_place(findings, int(one)):
            suspects.append(Suspect(image, float(doubt[one]), f"{what}, and no label fits", (), int(one)))
    return suspects


def _off_place(findings: Findings, one: int) -> bool:
    """Whether a detection overlaps a label that it may mean."""
    found, objects = findings.found, findings.objects
    near = np.flatnonzero(objects.image == found.image[one])
    near = near[pairwise_iou(found.boxes[one][None], objects.boxes[near])[0] > BACKGROUND]
    not_found = objects.counted[near] & ~objects.found_at(findings.start)[near]
    difficult = ~objects.counted[near] & (objects.labels[near] == found.labels[one])
    return bool((not_found | difficult).any())


def unfound(findings: Findings, told: Sequence[Suspect] = ()) -> list[Suspect]:
    """Return objects that nothing finds, the large ones of classes that are mostly found first."""
    objects = findings.objects
    caught = np.bincount(objects.labels, objects.counted & (objects.levels != NEVER), len(findings.classes))
    recall = caught / np.maximum(1, findings.counts)
    areas = np.array([sample.width * sample.height for sample in findings.samples], np.float64)
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    doubt = recall[objects.labels] * np.sqrt(sides.prod(1) / np.maximum(1, areas[objects.image])) * objects.missed
    doubt[[one for suspect in told for one in suspect.objects]] = 0
    order = np.argsort(-doubt, kind="stable")[:MOST]
    return [
        Suspect(
            int(objects.image[one]),
            float(doubt[one]),
            f"labelled {findings.classes[objects.labels[one]]}, of which {recall[objects.labels[one]]:.0%} are found "
            f"at any {findings.measure}",
            (int(one),),
        )
        for one in order
        if doubt[one] > 0
    ]


def double_labels(samples: Sequence[Sample], classes: Sequence[str]) -> list[Suspect]:
    """Return pairs of labels of different classes that overlap by an IoU of 0.5 or more, the closest first."""
    suspects, start = [], 0
    for image, sample in enumerate(samples):
        overlap = pairwise_iou(sample.boxes, sample.boxes)
        pairs = np.argwhere(np.triu(overlap, 1) * (sample.labels[:, None] != sample.labels) >= MATCH)
        for one, other in pairs.tolist():
            names = " and ".join(classes[sample.labels[which]] for which in (one, other))
            why = f"labelled {names}, IoU {overlap[one, other]:.2f}"
            suspects.append(Suspect(image, float(overlap[one, other]), why, (start + one, start + other)))
        start += len(sample.boxes)
    return sorted(suspects, key=lambda suspect: -suspect.doubt)[:MOST]


def suspects_gallery(name: str, findings: Findings, suspects: Sequence[Suspect]) -> Markup:
    """Return the places with what is round them."""
    objects, found = findings.objects, findings.found
    pictures = []
    rows: list[tuple[int, int, int]] = []  # picture, label and group of each box, whose corners are in `corners`
    corners = [np.zeros((0, 4))]
    for number, suspect in enumerate(suspects):
        sample = findings.samples[suspect.image]
        here = np.flatnonzero(objects.image == suspect.image)
        group = np.where(np.isin(here, suspect.objects), LABEL, OTHER)
        boxes, labels = objects.boxes[here], objects.labels[here]
        if suspect.detection >= 0:
            boxes = np.vstack([boxes, found.boxes[suspect.detection]])
            labels, group = np.append(labels, found.labels[suspect.detection]), np.append(group, DETECTION)
        window = _window(boxes[group != OTHER], sample)
        size = window[2:] - window[:2]
        seen = ((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > window[:2])).all(1)
        corners.append((boxes[seen] - np.tile(window[:2], 2)) / np.tile(size, 2))
        rows += [(number, *pair) for pair in zip(labels[seen].tolist(), group[seen].tolist())]
        pictures.append(
            Picture(_cut_out(sample, window), *map(int, size), name=sample.image_path.name, note=suspect.why)
        )
    table = np.array(rows, np.int64).reshape(-1, 3)
    boxes = Boxes(table[:, 0], np.concatenate(corners), table[:, 1], table[:, 2], np.full(len(table), LEVELS))
    return gallery(name, pictures, boxes, findings.classes, GROUPS, controls=False)


def _cut_out(sample: Sample, window: np.ndarray) -> str:
    """Thumbnail of a part of a picture; grey where it cannot be read."""
    x1, y1, x2, y2 = window
    try:
        image = read_image(sample.image_path)[y1:y2, x1:x2]
    except OSError:
        image = np.zeros((0, 0, 3), np.uint8)
    return thumbnail(image if image.size else np.full((30, 40, 3), 128, np.uint8), SIDE)


def _window(corners: np.ndarray, sample: Sample) -> np.ndarray:
    """Whole pixels [x1, y1, x2, y2] of the picture round boxes."""
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    gap = np.maximum(AROUND * (high - low), (LEAST_SIDE - (high - low)) / 2)
    size = np.array([sample.width, sample.height])
    low = np.clip(np.floor(low - gap), 0, size - 1)
    return np.concatenate([low, np.clip(np.ceil(high + gap), low + 1, size)]).astype(int)
