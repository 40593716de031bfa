"""Hold all that a page tells of a detector's detections, in flat arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.calibration import Calibration, are_fractions
from aploss_mx.evaluation.coco import coco_average_precision, coco_precision
from aploss_mx.evaluation.errors import ErrorReport, Kind, find_errors
from aploss_mx.evaluation.evaluate import with_coco
from aploss_mx.geometry.detections import Detections
from aploss_mx.page.gallery import LEVELS, NEVER


@dataclass(frozen=True)
class Found:
    """All D detections of a data set, image by image.

    Attributes
    ----------
    image : ndarray of int64, shape (D,)
        Index of the sample.
    boxes : ndarray of float64, shape (D, 4)
        Corners in pixels.
    labels, kinds, objects : ndarray of int64, shape (D,)
        Class, `Kind`, and the index among all objects of the one that it is right about or would be if it were
        mended, -1 of none.
    confidence : ndarray of float64, shape (D,)
        Calibrated; where there is no calibration, the score, as a share of the way between `Findings.ends`.
    levels : ndarray of int64, shape (D,)
        The confidence in steps of a page's slider.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    objects: np.ndarray
    confidence: np.ndarray
    levels: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return self.kinds == Kind.RIGHT

    @property
    def wrong(self) -> np.ndarray:
        return (self.kinds != Kind.RIGHT) & (self.kinds != Kind.IGNORED)


@dataclass(frozen=True)
class Objects:
    """All M objects of a data set, image by image.

    Attributes
    ----------
    image, boxes, labels
        As in `Found`.
    counted : ndarray of bool, shape (M,)
        Those that are not difficult.
    confidence : ndarray of float64, shape (M,)
        Of the detection that finds it; 0 where none does.
    levels : ndarray of int64, shape (M,)
        Its steps; `NEVER` where none does.
    missed : ndarray of bool, shape (M,)
        Those that nothing finds and no single mending would, as `ImageErrors` has it.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    counted: np.ndarray
    confidence: np.ndarray
    levels: np.ndarray
    missed: np.ndarray

    def found_at(self, level: int) -> np.ndarray:
        """Return which have a detection that a slider at this level shows, bool (M,)."""
        return (self.levels >= level) & (self.levels != NEVER)


@dataclass(frozen=True)
class Findings:
    """Detections on a data set, and what they are worth.

    Attributes
    ----------
    samples : sequence of Sample
    classes : sequence of str
    detections : mapping of str to Detections
    metrics : mapping
        As `evaluate` returns them.
    precision : ndarray of float64, shape (C, 10, 101)
        As `COCOMetric` has it.
    errors : ErrorReport
    found : Found
    objects : Objects
    calibration : Calibration or None
    ends : (float, float)
        Scores that the slider's ends stand for, where it is of scores: 0 and 1, or the lowest and the highest where one
        is beyond.
    start : int
        Level that the slider first stands at: that of the best F1.
    """

    samples: Sequence[Sample]
    classes: Sequence[str]
    detections: Mapping[str, Detections] = field(repr=False)
    metrics: Mapping[str, Any] = field(repr=False)
    precision: np.ndarray = field(repr=False)
    errors: ErrorReport = field(repr=False)
    found: Found = field(repr=False)
    objects: Objects = field(repr=False)
    calibration: Calibration | None
    ends: tuple[float, float]
    start: int

    @property
    def measure(self) -> str:
        """What the slider's levels are thousandths of."""
        return "confidence" if self.calibration else "score"

    def said(self, confidence: float) -> str:
        """Return the score of a detection, or its confidence, as text, given `Found.confidence`."""
        low, high = self.ends
        return f"{confidence:.3f}" if self.ends == (0, 1) else f"{low + confidence * (high - low):.4g}"

    @property
    def threshold(self) -> str:
        """The score, or the confidence, that the slider first stands at."""
        return self.said(self.start / LEVELS)

    @cached_property
    def counts(self) -> np.ndarray:
        """Objects that count, by class, int64 (C,)."""
        return np.bincount(self.objects.labels[self.objects.counted], minlength=len(self.classes))


def find(
    samples: Sequence[Sample],
    detections: Mapping[str, Detections],
    classes: Sequence[str],
    metrics: Mapping[str, Any] | None = None,
) -> Findings:
    """Measure detections.

    Parameters
    ----------
    samples, detections, classes
        As `evaluate` takes them.
    metrics : mapping, optional
        What `evaluate` returned of them, lest it is measured twice.

    Raises
    ------
    ValueError
        As in `check_detections`.
    """
    if metrics is None:
        coco = coco_average_precision(samples, detections, classes)
        metrics, precision = with_coco(coco, samples, detections, classes), coco.precision
    else:
        precision = coco_precision(samples, detections, classes)
    fitted = metrics.get("calibration") or {}
    calibration = Calibration(fitted["slope"], fitted["offset"]) if fitted.get("slope") else None
    errors = find_errors(samples, detections)
    scores = _joined([detections[sample.image_id].scores for sample in samples if sample.image_id in detections], float)
    ends = (0.0, 1.0) if are_fractions(scores) else (float(scores.min()), float(scores.max()))
    found, objects = _flat(samples, detections, errors, partial(_confidence, calibration=calibration, ends=ends))
    best = metrics.get("best_F1_score")
    start = LEVELS // 2 if best is None else int(_levels(_confidence(np.array([best]), calibration, ends))[0])
    return Findings(samples, classes, detections, metrics, precision, errors, found, objects, calibration, ends, start)


def _flat(
    samples: Sequence[Sample],
    detections: Mapping[str, Detections],
    errors: ErrorReport,
    confidence_of: Callable[[np.ndarray], np.ndarray],
) -> tuple[Found, Objects]:
    per_image = [detections.get(sample.image_id, Detections()) for sample in samples]
    of_image = [errors.images[sample.image_id] for sample in samples]
    sizes = [len(sample.boxes) for sample in samples]
    starts = np.cumsum([0, *sizes])
    confidence = confidence_of(_joined([one.scores for one in per_image], np.float64))
    found = Found(
        image=np.repeat(np.arange(len(samples)), [len(one) for one in per_image]),
        boxes=_joined([one.boxes for one in per_image], np.float64).reshape(-1, 4),
        labels=_joined([one.labels for one in per_image], np.int64),
        kinds=_joined([one.kinds for one in of_image], np.int64),
        objects=_joined(
            [np.where(one.objects < 0, -1, one.objects + start) for one, start in zip(of_image, starts)], np.int64
        ),
        confidence=confidence,
        levels=_levels(confidence),
    )
    surest, levels = np.zeros(starts[-1]), np.full(starts[-1], NEVER)
    right = np.flatnonzero(found.right)  # of each object one
    surest[found.objects[right]], levels[found.objects[right]] = found.confidence[right], found.levels[right]
    objects = Objects(
        image=np.repeat(np.arange(len(samples)), sizes),
        boxes=_joined([sample.boxes for sample in samples], np.float64).reshape(-1, 4),
        labels=_joined([sample.labels for sample in samples], np.int64),
        counted=~_joined([sample.difficult for sample in samples], bool),
        confidence=surest,
        levels=levels,
        missed=_joined([one.missed for one in of_image], bool),
    )
    return found, objects


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)


def _confidence(scores: np.ndarray, calibration: Calibration | None, ends: tuple[float, float]) -> np.ndarray:
    if calibration:
        return calibration.confidence(scores).astype(np.float64)
    low, high = ends
    return (scores / 2 - low / 2) / (high / 2 - low / 2) if high > low else np.ones(scores.shape)  # none overflows


def _levels(confidence: np.ndarray) -> np.ndarray:
    return np.floor(confidence * LEVELS).astype(np.int64)
