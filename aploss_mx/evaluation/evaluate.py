"""Evaluate a data set: all metrics as one plain dict, and that dict as a table."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Mapping, Sequence

from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.calibration import calibrate
from aploss_mx.evaluation.coco import METRICS, COCOMetric, coco_average_precision
from aploss_mx.evaluation.voc import voc_average_precision
from aploss_mx.geometry.boxes import box_areas
from aploss_mx.geometry.detections import Detections
from aploss_mx.text import visible

_COLUMNS = ("AP", "AP50", "VOC07_AP50", "VOC10_AP50")


def evaluate(
    samples: Sequence[Sample], detections: Mapping[str, Detections], classes: Sequence[str], min_area: float = 0
) -> dict[str, Any]:
    """Evaluate detections by the rules of COCO and of PASCAL VOC.

    Parameters
    ----------
    samples : sequence of Sample
        The ground truth.
    detections : mapping of str to Detections
        By image id; an image that is left out has no detections.
    classes : sequence of str
        Names of the classes, in the order of the labels.
    min_area : float
        In square pixels: smaller objects do not count. For COCO's metrics see `coco_average_precision`; for those of
        PASCAL VOC, and in ``objects``, they are difficult.

    Returns
    -------
    dict
        Ready for JSON; each value is a float in [0, 1], or None where no object counts:

        - ``AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl``, see `coco_average_precision`;
        - ``VOC07_AP50``, ``VOC10_AP50``: 11-point and area mean at IoU 0.5, see `voc_average_precision`;
        - ``best_F1_score``: score from which on detections at IoU 0.5 have the highest F1, see `VOCMetric`;
        - ``calibration``: how scores become confidences, see `calibrate`;
        - ``per_class``: by class name a dict of ``AP``, ``AP50``, ``VOC07_AP50``, ``VOC10_AP50`` and ``objects``,
          the int number of objects that are not difficult.

    Raises
    ------
    ValueError
        As in `check_detections`.
    """
    coco = coco_average_precision(samples, detections, classes, min_area)
    return with_coco(coco, samples, detections, classes, min_area)


def with_coco(
    coco: COCOMetric,
    samples: Sequence[Sample],
    detections: Mapping[str, Detections],
    classes: Sequence[str],
    min_area: float = 0,
) -> dict[str, Any]:
    """Return what `evaluate` does, of COCO's metrics that are there already."""
    counted = [without_smaller(sample, min_area) for sample in samples]
    voc = voc_average_precision(counted, detections, classes)
    by_class = zip(classes, coco.ap, coco.ap50, voc.eleven_point, voc.area, voc.objects)
    return {
        **{name: _number(value) for name, value in coco.metrics.items()},
        "VOC07_AP50": _number(voc.mean_eleven_point),
        "VOC10_AP50": _number(voc.mean_area),
        "best_F1_score": _number(voc.best_f1_score),
        "calibration": calibrate(counted, detections),
        "per_class": {
            name: {**dict(zip(_COLUMNS, map(_number, values))), "objects": int(objects)}
            for name, *values, objects in by_class
        },
    }


def format_table(metrics: Mapping[str, Any]) -> str:
    """Lay out what `evaluate` returned: a row a class, their mean, and a line of COCO's metrics, all in percent."""
    per_class = {visible(name): row for name, row in metrics["per_class"].items()}
    width = max(map(len, ["class", *per_class]))
    header = f"{'class':{width}}  {'objects':>7}" + "".join(f"  {column:>10}" for column in _COLUMNS)
    total = {**metrics, "objects": sum(row["objects"] for row in per_class.values())}
    rows = [
        f"{name:{width}}  {row['objects']:7d}" + "".join(f"  {_percent(row[column]):>10}" for column in _COLUMNS)
        for name, row in [*per_class.items(), ("mean", total)]
    ]
    rule = "-" * len(header)
    figures = "  ".join(f"{name} {_percent(metrics[name])}" for name in METRICS)
    return "\n".join([header, rule, *rows[:-1], rule, rows[-1], "", f"COCO: {figures}"])


def format_summary(metrics: Mapping[str, Any]) -> str:
    """Lay out the metrics of a progress report in one line, in percent."""
    return "  ".join(f"{name} {_percent(metrics[name])}" for name in ("AP", "AP50", "AP75", "VOC07_AP50"))


def without_smaller(sample: Sample, min_area: float) -> Sample:
    """Return a sample whose objects below so many square pixels are difficult."""
    areas = box_areas(sample.boxes) if sample.areas is None else sample.areas
    return replace(sample, difficult=sample.difficult | (areas < min_area))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
