"""Sort a detector's errors by kind, and measure the AP that each kind costs (TIDE: Bolya et al., ECCV 2020).

Each detection is right or has one error, tried in this order; IoU 0.5 makes a match and 0.1 the background:

* localisation: of the right class, but with an IoU of 0.1 … 0.5 with its object;
* classification: on an object of another class, IoU 0.5 or more;
* duplicate: on an object of its class that a surer detection has found;
* background: on no object at all, IoU 0.1 or less with each;
* both: whatever is left, off its place and of another class.

An object is missed if no detection finds it, and none would if its place or class were mended. What a kind costs, dAP,
is the AP50 that an oracle gains by mending this kind alone: the surest localisation or classification error on an
object that nothing finds becomes right, all others vanish, and a missed object no longer counts.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from aploss_mx.data.sample import Sample
from aploss_mx.geometry.boxes import box_areas, pairwise_iou
from aploss_mx.geometry.detections import Detections

MATCH, BACKGROUND = 0.5, 0.1
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads off the precision: ten lie a bit above the fraction they mean


class Kind(IntEnum):
    """What a detection is."""

    RIGHT = 0
    CLASSIFICATION = 1
    LOCALISATION = 2
    BOTH = 3
    DUPLICATE = 4
    BACKGROUND = 5
    IGNORED = 6


ERRORS = (Kind.CLASSIFICATION, Kind.LOCALISATION, Kind.BOTH, Kind.DUPLICATE, Kind.BACKGROUND)
MENDED = (Kind.CLASSIFICATION, Kind.LOCALISATION)  # by making them right; the others by leaving them out


class ImageErrors(NamedTuple):
    """The errors of one image.

    Attributes
    ----------
    kinds : ndarray of int64, shape (D,)
        A `Kind` for each detection.
    objects : ndarray of int64, shape (D,)
        Index of the object that a detection is right about, or would be if it were mended, or duplicates; -1 of none.
    missed : ndarray of bool, shape (M,)
        Objects that nothing finds and no single mending would.
    """

    kinds: np.ndarray
    objects: np.ndarray
    missed: np.ndarray


class ErrorReport(NamedTuple):
    """All errors of a data set.

    Attributes
    ----------
    images : dict of str to ImageErrors
        By image id.
    ap50 : float
        Mean AP at IoU 0.5 of the classes with objects, as COCO's where no image has more than 100 detections of a
        class: here all count; nan without objects.
    costs : dict of str to float
        dAP in [0, 1] by kind, in lower case, with ``missed``, and ``false_positives`` and ``false_negatives`` for all
        detections that are not right, and all objects that are not found.
    """

    images: dict[str, ImageErrors]
    ap50: float
    costs: dict[str, float]


def find_errors(samples: Sequence[Sample], detections: Mapping[str, Detections]) -> ErrorReport:
    """Return the errors of detections on samples; difficult objects neither count nor make errors."""
    images = {
        sample.image_id: errors_of_image(sample, detections.get(sample.image_id, Detections())) for sample in samples
    }
    table = _Table(samples, detections, images)
    base = table.mean_ap(table.kinds == Kind.RIGHT, table.counts)
    costs = {}
    for kind in ERRORS:
        mended = (table.kinds == kind) & table.best
        right = (table.kinds == Kind.RIGHT) | mended
        labels = np.where(mended, table.mended_labels, table.labels)
        costs[kind.name.lower()] = table.mean_ap(right, table.counts, (table.kinds != kind) | mended, labels) - base
    right = table.kinds == Kind.RIGHT
    costs["missed"] = table.mean_ap(right, table.counts - table.missed) - base
    costs["false_positives"] = table.mean_ap(right, table.counts, right) - base
    found = np.bincount(table.labels[right], minlength=len(table.counts))
    costs["false_negatives"] = table.mean_ap(right, found) - base
    return ErrorReport(images, base, costs)


def errors_of_image(sample: Sample, found: Detections) -> ImageErrors:
    """Return the errors of one image's detections."""
    counted = ~sample.difficult
    kinds = np.full(len(found), Kind.BACKGROUND, np.int64)
    objects = np.full(len(found), -1, np.int64)
    overlap = pairwise_iou(found.boxes.astype(np.float64), sample.boxes.astype(np.float64)) * counted
    same = found.labels[:, None] == sample.labels
    taken = np.zeros(len(sample.boxes), bool)
    order = np.argsort(-found.scores, kind="stable")
    for row in order[((overlap * same).max(1, initial=0) >= MATCH)[order]]:
        free = np.where(same[row] & ~taken & counted, overlap[row], -1.0)
        if free.size and free.max() >= MATCH:
            objects[row] = free.argmax()
            kinds[row] = Kind.RIGHT
            taken[objects[row]] = True
    if counted.any():
        of_class, others, duplicated = (
            np.where(chosen & counted, overlap, 0.0) for chosen in (same, ~same, same & taken)
        )
        tests = (
            (Kind.LOCALISATION, of_class, (of_class.max(1) >= BACKGROUND) & (of_class.max(1) <= MATCH)),
            (Kind.CLASSIFICATION, others, others.max(1) >= MATCH),
            (Kind.DUPLICATE, duplicated, duplicated.max(1) >= MATCH),
            (Kind.BACKGROUND, None, overlap.max(1) <= BACKGROUND),
            (Kind.BOTH, None, np.ones(len(found), bool)),
        )
        left = kinds != Kind.RIGHT
        for kind, overlaps, holds in tests:
            chosen = left & holds
            kinds[chosen] = kind
            if overlaps is not None:
                objects[chosen] = overlaps[chosen].argmax(1)
            left &= ~holds
    kinds[(kinds != Kind.RIGHT) & _on_difficult(sample, found, same)] = Kind.IGNORED
    mendable = np.zeros(len(sample.boxes), bool)
    mendable[objects[np.isin(kinds, MENDED)]] = True
    return ImageErrors(kinds, objects, counted & ~taken & ~mendable)


def _on_difficult(sample: Sample, found: Detections, same: np.ndarray) -> np.ndarray:
    """Return which detections lie, with half of their area, on a difficult object of their class, as COCO's crowds."""
    if not sample.difficult.any():
        return np.zeros(len(found), bool)
    ours, theirs = found.boxes[:, None].astype(np.float64), sample.boxes[None].astype(np.float64)
    sides = np.minimum(ours[..., 2:], theirs[..., 2:]) - np.maximum(ours[..., :2], theirs[..., :2])
    share = np.clip(sides, 0, None).prod(-1) / np.maximum(box_areas(ours[:, 0])[:, None], np.finfo(np.float32).tiny)
    return ((share >= MATCH) & same & sample.difficult).any(1)


class _Table:
    """All detections of a data set that count, surest first, and what their mending would make of them."""

    def __init__(
        self, samples: Sequence[Sample], detections: Mapping[str, Detections], images: Mapping[str, ImageErrors]
    ):
        classes = 1 + max([-1, *(label for sample in samples for label in sample.labels)])
        self.counts = np.zeros(classes, np.int64)
        self.missed = np.zeros(classes, np.int64)
        none = np.zeros(0, np.int64)
        rows = [(np.zeros(0), none, none, none, np.zeros(0, bool))]  # what there is without samples
        for sample in samples:
            found, errors = detections.get(sample.image_id, Detections()), images[sample.image_id]
            self.counts += np.bincount(sample.labels[~sample.difficult], minlength=classes)
            self.missed += np.bincount(sample.labels[errors.missed], minlength=classes)
            mended = sample.labels[errors.objects] if len(sample.labels) else found.labels
            rows.append((found.scores, errors.kinds, found.labels, mended, _best_of_objects(found, errors)))
        scores, *columns = map(np.concatenate, zip(*rows))
        order = np.argsort(-scores, kind="stable")
        self.kinds, self.labels, self.mended_labels, self.best = (column[order] for column in columns)

    def mean_ap(
        self, right: np.ndarray, counts: np.ndarray, kept: np.ndarray | bool = True, labels: np.ndarray | None = None
    ) -> float:
        """Return the mean AP of the classes with objects, of the detections kept, these of them right.

        A class that an oracle leaves without objects counts with an AP of 0 while it has detections.
        """
        labels = self.labels if labels is None else labels
        kept = kept & (self.kinds != Kind.IGNORED)
        of_class = {one: kept & (labels == one) for one in np.flatnonzero(self.counts)}
        aps = [_ap(right[rows], counts[one]) for one, rows in of_class.items() if counts[one] or rows.any()]
        return float(np.mean(aps)) if aps else 0.0 if of_class else np.nan


def _best_of_objects(found: Detections, errors: ImageErrors) -> np.ndarray:
    """Return which errors an oracle makes right: of each object that nothing finds, the surest that can be mended."""
    best = np.zeros(len(found), bool)
    gone = set(errors.objects[errors.kinds == Kind.RIGHT])
    order = np.argsort(-found.scores, kind="stable")
    for row in order[np.isin(errors.kinds, MENDED)[order]]:
        if errors.objects[row] not in gone:
            gone.add(errors.objects[row])
            best[row] = True
    return best


def _ap(right: np.ndarray, count: int) -> float:
    """Return COCO's AP, the mean of the best precision from 101 recalls on, of detections from the surest down."""
    if not count:
        return 0.0
    found = np.cumsum(right)
    precision = np.maximum.accumulate((found / np.arange(1, len(right) + 1))[::-1])[::-1]
    places = np.searchsorted(found / count, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())
