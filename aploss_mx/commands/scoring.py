"""From a data set to detections, and from these to metrics: what training and evaluation share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aploss_mx.atomic import write_text
from aploss_mx.data.check import Dataset, Report
from aploss_mx.data.problems import raise_if_errors
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.calibration import try_calibration
from aploss_mx.evaluation.evaluate import evaluate, format_table, without_smaller
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.reliability import write_reliability


def preflight(*reports: Report) -> None:
    """Print reports on data sets; where they hold errors, raise one DataError of all, which has them to itself."""
    ok = all(report.ok for report in reports)
    for report in reports:
        print(report.format(errors=ok))
    raise_if_errors(problem for report in reports for problem in report.problems)


def detect(detector: Detector, dataset: Dataset, num_workers: int) -> dict[str, Detections]:
    """Return a detector's detections on a data set, by image id.

    Raises
    ------
    ValueError
        If the detector's classes are not the data set's, in the same order.
    """
    if tuple(dataset.classes) != detector.classes:
        raise ValueError(
            f"the detector's classes are {', '.join(detector.classes)}; the data set's are "
            f"{', '.join(dataset.classes)}: give the detector's, in the same order, with --classes"
        )
    return detector.detect(dataset.samples, detector.loader(dataset.samples, num_workers))


def report_metrics(
    dataset: Dataset, detections: dict[str, Detections], output: Path | None, min_area: float = 0
) -> dict[str, Any]:
    """Evaluate detections, print the table, and write the metrics as JSON where `output` names a file."""
    metrics = evaluate(dataset.samples, detections, dataset.classes, min_area)
    print(format_table(metrics))
    if output:
        write_text(output, json.dumps(metrics, indent=1) + "\n")
        print(f"wrote {output}")
    return metrics


def report_reliability(dataset: Dataset, detections: dict[str, Detections], picture: Path, min_area: float = 0) -> None:
    """Draw the reliability of scores and confidences on every second image, confidences fitted on the others.

    Objects below `min_area` square pixels play no part, nor do the detections that find them.

    Raises
    ------
    ValueError
        If there are too few detections to fit confidences to, or scores that are no probabilities.
    """
    curves = try_calibration([without_smaller(sample, min_area) for sample in dataset.samples], detections)
    if not curves:
        raise ValueError(
            f"{picture} is not drawn: every second image has too few right or wrong detections to fit to, or scores "
            "are beyond 0 and 1"
        )
    print("wrote " + ", ".join(map(str, write_reliability(curves, picture))))
