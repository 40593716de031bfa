"""Calibrate scores: how likely a detection is right, which a score that only ranks does not say.

AP-loss brings scores into order and leaves open what they are: a detector may be right 98 times in 100 at a score of
0.3. Platt's scaling (Platt, 1999) puts that right after training: confidence = σ(a · logit + b), with a > 0, so that
no order and no AP changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.voc import judge
from aploss_mx.geometry.detections import Detections

LEAST = 20  # of right and of wrong detections each, or there is nothing to fit
LEAST_SLOPE = 1e-3
LIMIT = 30.0  # of logits: a float32 score of 1 has none
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """How a detector's scores become confidences.

    Attributes
    ----------
    slope, offset : float
        a > 0 and b of confidence = σ(a · logit + b), where score = σ(logit).
    """

    slope: float
    offset: float

    def confidence(self, scores: np.ndarray) -> np.ndarray:
        """Return the confidences, float32 in [0, 1], of scores of any shape; in the order of the scores."""
        return expit(self.slope * _logits(scores) + self.offset).astype(np.float32)

    def score(self, confidence: float) -> float:
        """Return the score that has a confidence."""
        return float(expit((logit(confidence) - self.offset) / self.slope))


class Reliability(NamedTuple):
    """What is right among detections of like confidence: a reliability curve.

    Attributes
    ----------
    confidence : ndarray of float64, shape (bins,)
        Mean confidence of the detections of each bin; nan where there are none.
    precision : ndarray of float64, shape (bins,)
        Share of them that is right.
    counts : ndarray of int64, shape (bins,)
    """

    confidence: np.ndarray
    precision: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the bins' mean |precision - confidence|, weighted by their counts; nan of none.

        As Guo et al. (ICML 2017) define it, with bins of equal width.
        """
        filled = self.counts > 0
        distances = np.abs(self.precision - self.confidence)[filled]
        return float(np.average(distances, weights=self.counts[filled])) if filled.any() else float("nan")


def reliability(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Return the reliability curve of confidences (D,) in [0, 1] whose detections were right (D,) or not."""
    places = np.minimum((np.asarray(confidences, np.float64) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(places, values, minlength=bins) / counts for values in (confidences, right)]
    return Reliability(*means, counts)


def fit_calibration(scores: np.ndarray, right: np.ndarray) -> Calibration | None:
    """Fit Platt's scaling to detections.

    Parameters
    ----------
    scores : ndarray of float, shape (D,)
    right : ndarray of bool, shape (D,)
        Which of them are true positives.

    Returns
    -------
    Calibration or None
        None where fewer than `LEAST` detections are right or fewer are wrong, where higher scores are not more often
        right, or where a score is outside [0, 1] and has no logit.
    """
    positives = int(np.sum(right))
    negatives = len(right) - positives
    if min(positives, negatives) < LEAST or not are_fractions(scores):
        return None
    # Platt's targets, which keep the fit finite where scores separate right from wrong.
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    logits = _logits(scores)

    def cross_entropy(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * logits + parameters[1]
        errors = expit(z) - targets
        return float(np.mean(np.logaddexp(0, z) - targets * z)), np.array([np.mean(errors * logits), np.mean(errors)])

    start = np.array([1.0, np.log((positives + 1) / (negatives + 1)) - logits.mean()])
    found = minimize(cross_entropy, start, jac=True, method="L-BFGS-B", bounds=[(LEAST_SLOPE, None), (None, None)])
    slope, offset = (float(value) for value in found.x)
    return Calibration(slope, offset) if slope > LEAST_SLOPE else None


def calibrate(samples: Sequence[Sample], detections: Mapping[str, Detections]) -> dict[str, float | None]:
    """Fit a calibration to all detections of a data set, and measure how far one is to be trusted.

    "Right" is a true positive at IoU 0.5, by the rules of `voc_average_precision`.

    Returns
    -------
    dict
        Ready for JSON: ``slope`` and ``offset``, of all images; ``ECE_score`` and ``ECE_confidence``, the expected
        calibration error of scores and of confidences on every second image, fitted on the others. Each is None where
        there is nothing to fit, see `fit_calibration`.
    """
    figures: dict[str, float | None] = dict.fromkeys(("slope", "offset", "ECE_score", "ECE_confidence"))
    everything = judge(samples, detections)
    calibration = fit_calibration(everything.scores, everything.hits)
    if calibration:
        figures.update(slope=calibration.slope, offset=calibration.offset)
    figures.update({f"ECE_{name}": curve.error for name, curve in try_calibration(samples, detections).items()})
    return figures


def try_calibration(samples: Sequence[Sample], detections: Mapping[str, Detections]) -> dict[str, Reliability]:
    """Return the reliability of ``score`` and ``confidence`` on every second image, fitted on the others.

    There are none where there is nothing to fit, or to try the fit on.
    """
    seen, unseen = (judge(part, detections) for part in (samples[::2], samples[1::2]))
    calibration = fit_calibration(seen.scores, seen.hits)
    if calibration is None or not len(unseen.scores) or not are_fractions(unseen.scores):
        return {}
    values = {"score": unseen.scores, "confidence": calibration.confidence(unseen.scores)}
    return {name: reliability(of_name, unseen.hits) for name, of_name in values.items()}


def are_fractions(scores: np.ndarray) -> bool:
    """Return whether all scores are in [0, 1], as this package's are; those of other programs need not be."""
    return bool(np.all((scores >= 0) & (scores <= 1)))


def _logits(scores: np.ndarray) -> np.ndarray:
    return np.clip(logit(np.asarray(scores, np.float64)), -LIMIT, LIMIT)
