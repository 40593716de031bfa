"""Compute PASCAL VOC's AP by the rules of the development kit (VOCevaldet.m of 2007, VOCap.m since 2010)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.detections import check_detections
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.geometry.detections import Detections

_MISS, _HIT, _IGNORED = 0, 1, 2


@dataclass(frozen=True)
class VOCMetric:
    """Average precision of each class, in [0, 1]; nan for a class without counted objects.

    Attributes
    ----------
    objects : ndarray of int64, shape (C,)
        Objects that count: those not difficult.
    eleven_point : ndarray of float64, shape (C,)
        VOC2007: mean of the best precision at a recall of at least 0, 0.1, ..., 1; see `eleven_point_ap`.
    area : ndarray of float64, shape (C,)
        VOC2010 and later: area under the precision made monotone.
    best_f1_score : float
        Score from which on the detections of all classes together have the highest F1, the harmonic mean of their
        precision and recall: where to cut off detections that are shown. nan where nothing was found.
    """

    objects: np.ndarray
    eleven_point: np.ndarray
    area: np.ndarray
    best_f1_score: float

    @property
    def mean_eleven_point(self) -> float:
        """Mean over the classes with objects; nan where there is none."""
        return self._mean(self.eleven_point)

    @property
    def mean_area(self) -> float:
        """Mean over the classes with objects; nan where there is none."""
        return self._mean(self.area)

    def _mean(self, average_precisions: np.ndarray) -> float:
        counted = self.objects > 0
        return float(np.nanmean(average_precisions)) if counted.any() else float("nan")


def voc_average_precision(
    samples: Sequence[Sample], detections: Mapping[str, Detections], classes: Sequence[str], iou_threshold: float = 0.5
) -> VOCMetric:
    """Evaluate detections as the PASCAL VOC development kit does.

    The detections of a class are taken from the highest score down, those of equal score in the order of `samples`
    and within an image in their own. Each goes to the object of its class and image that it overlaps most, difficult
    or not, taken or not. Below the threshold it is a false positive; at or above it is left out where the object is
    difficult, a true positive where the object is not taken yet, and otherwise a false positive (a duplicate).

    The kit adds 1 to all widths and heights because its pixels are 1-based and inclusive. Our corners
    [x1, y1, x2, y2] are written there as [x1 + 1, y1 + 1, x2, y2], real-valued or not: a width xmax - xmin + 1 is
    x2 - x1, for boxes and intersections alike. The kit's overlap is thus the plain IoU of our corners.

    Parameters
    ----------
    samples : sequence of Sample
        The ground truth.
    detections : mapping of str to Detections
        By image id; an image that is left out has no detections.
    classes : sequence of str
        Names of the C classes, in the order of the labels.
    iou_threshold : float
        Overlap, in (0, 1], from which a detection finds an object.

    Returns
    -------
    VOCMetric

    Raises
    ------
    ValueError
        If the threshold is outside (0, 1], or as in `check_detections`.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
    check_detections(samples, detections, classes)

    scores, labels, hits = judge(samples, detections, iou_threshold)
    objects = np.bincount(
        np.concatenate([np.zeros(0, np.int64), *(s.labels[~s.difficult] for s in samples)]), minlength=len(classes)
    )
    eleven_point, area = np.full((2, len(classes)), np.nan)
    for label in np.flatnonzero(objects):
        eleven_point[label] = eleven_point_ap(hits[labels == label], objects[label])
        area[label] = area_ap(hits[labels == label], objects[label])
    return VOCMetric(objects, eleven_point, area, best_f1_score(scores, hits, objects.sum()))


class Judged(NamedTuple):
    """The detections of a data set that count, from the highest score down.

    Attributes
    ----------
    scores : ndarray of float64, shape (D,)
    labels : ndarray of int64, shape (D,)
    hits : ndarray of bool, shape (D,)
        Which are true positives; the others are false positives.
    """

    scores: np.ndarray
    labels: np.ndarray
    hits: np.ndarray


def judge(samples: Sequence[Sample], detections: Mapping[str, Detections], iou_threshold: float = 0.5) -> Judged:
    """Return which detections of the samples' images are right, by the rules of `voc_average_precision`.

    Those of difficult objects are left out: the kit's precision would be 0/0 where only such lead, and without them
    the curve is the same.
    """
    found = [detections.get(sample.image_id, Detections()) for sample in samples]
    scores = np.concatenate([np.zeros(0), *(image.scores for image in found)])
    labels = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in found)])
    outcomes = np.concatenate(
        [np.zeros(0, np.int64), *(_outcomes(image, sample, iou_threshold) for image, sample in zip(found, samples))]
    )
    order = np.argsort(-scores, kind="stable")
    order = order[outcomes[order] != _IGNORED]
    return Judged(scores[order], labels[order], outcomes[order] == _HIT)


def eleven_point_ap(hits: np.ndarray, objects: int) -> float:
    """Average precision of VOC2007: mean over t = 0, 0.1, ..., 1 of the best precision at a recall >= t, 0 if none.

    As in the kit's ports (py-faster-rcnn, GluonCV's VOC07MApMetric, detectron2), from which published figures come, the
    points are ``np.arange(0, 1.1, 0.1)``, of which 0.3, 0.6 and 0.7 lie a bit above these fractions: 3 of 10 objects do
    not reach the recall 0.3. A perfect ranking gives 1 + 2e-16, as with them.

    Parameters
    ----------
    hits : ndarray of bool, shape (D,)
        Which detections, from the highest score down, are true positives; the others are false positives.
    objects : int
        Number of objects to find, at least 1.
    """
    recall, precision = np.cumsum(hits) / objects, _precision(hits)
    best = [precision[recall >= point].max(initial=0.0) for point in np.arange(0, 1.1, 0.1)]
    return float(np.cumsum(np.divide(best, 11))[-1])  # added one by one as the ports do, for the same last digit


def area_ap(hits: np.ndarray, objects: int) -> float:
    """Average precision since VOC2010: area under the precision, made to fall monotonically, over recall.

    Recall grows by 1 / objects at each true positive and nowhere else. Parameters as in `eleven_point_ap`.
    """
    envelope = np.maximum.accumulate(_precision(hits)[::-1])[::-1]
    return float(envelope[hits].sum() / objects)


def best_f1_score(scores: np.ndarray, hits: np.ndarray, objects: int) -> float:
    """Return the score at which to cut off detections for the highest F1; nan where none is a true positive.

    Parameters
    ----------
    scores : ndarray of float, shape (D,)
        In descending order.
    hits, objects
        As in `eleven_point_ap`.
    """
    if not hits.any():
        return float("nan")
    f1 = 2 * np.cumsum(hits) / (np.arange(1, len(hits) + 1) + objects)
    last_of_its_score = np.append(scores[1:] < scores[:-1], True)
    return float(scores[np.where(last_of_its_score, f1, 0).argmax()])


def _precision(hits: np.ndarray) -> np.ndarray:
    return np.cumsum(hits) / np.arange(1, len(hits) + 1)


def _outcomes(found: Detections, sample: Sample, iou_threshold: float) -> np.ndarray:
    """_HIT, _MISS or _IGNORED for each of the D detections of one image, in their order."""
    outcomes = np.full(len(found), _MISS)
    if len(sample.boxes) == 0:
        return outcomes
    same_class = found.labels[:, None] == sample.labels  # (D, M)
    overlap = same_class * pairwise_iou(found.boxes.astype(np.float64), sample.boxes.astype(np.float64))
    best = overlap.argmax(axis=1)
    matched = overlap.max(axis=1) >= iou_threshold
    outcomes[matched & sample.difficult[best]] = _IGNORED

    order = np.argsort(-found.scores, kind="stable")
    claims = order[(matched & ~sample.difficult[best])[order]]
    _, first = np.unique(best[claims], return_index=True)
    outcomes[claims[first]] = _HIT
    return outcomes
