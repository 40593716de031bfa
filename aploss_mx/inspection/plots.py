"""Say what a page's charts show; `aploss_mx.page.charts` draws them as SVG, and `pngs` the same as PNG."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from aploss_mx.evaluation.calibration import try_calibration
from aploss_mx.evaluation.errors import RECALLS, Kind
from aploss_mx.inspection.findings import Findings
from aploss_mx.page import charts
from aploss_mx.page.charts import Curve

SHOWN_IOUS = (0, 2, 4, 6, 8)  # indices of 0.5, 0.6, …, 0.9 among COCO's
NOTHING = "background"


class Plot(NamedTuple):
    """A chart, whoever draws it.

    Attributes
    ----------
    file : str
        Name of its PNG, without the suffix.
    kind : str
        ``lines``, ``bars`` or ``heat_map``: a function of `aploss_mx.page.charts`.
    content : mapping
        Its arguments.
    """

    file: str
    kind: str
    content: Mapping[str, Any]

    @property
    def svg(self) -> Markup:
        """Return the chart for a page."""
        return getattr(charts, self.kind)(**self.content)


def training_plots(logs: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """Return the curves of runs' metrics logs, by the run's name; '' as the name of the only one."""

    def plot(file: str, title: str, x: str, y: str, columns: Mapping[str, str], factor: float = 1, **more: Any) -> Plot:
        curves = []
        for run, log in logs.items():
            for column, name in columns.items():
                points = log[[x, column]].dropna()
                if len(points):
                    both = f"{run}: {name}" if run and len(columns) > 1 else run or name
                    curves.append(Curve(both, points[x].to_numpy(float), factor * points[column].to_numpy(float)))
        return Plot(file, "lines", {"title": title, "curves": curves, "x": x, "y": y, **more})

    alone = len(logs) == 1
    parts = {"loss": "total", "cls_loss": "classification", "box_loss": "box regression"}
    precisions = {"AP": "AP", "AP50": "AP50", "AP75": "AP75"}
    return [
        plot("loss", "Training loss", "step", "loss", parts if alone else {"loss": "total"}),
        plot(
            "ap_loss", "AP-loss of the ranking", "step", "1 − AP of the logged batch", {"ap_loss": "AP-loss"},
            note="Measured without ramp or interpolation, whatever the loss is: runs of different losses compare.",
        ),
        plot("ap", "Average precision", "epoch", "AP (%)", precisions if alone else {"AP": "AP"}, 100,
             empty="No evaluation was logged."),
        plot("lr", "Learning rate", "step", "learning rate", {"lr": "learning rate"}),
    ]  # fmt: skip


def error_plots(findings: Findings) -> list[Plot]:
    """Return what goes wrong, and what the curves of precision are."""
    metrics, costs = findings.metrics, findings.errors.costs
    kinds = [name.replace("_", " ") for name in costs]
    names = ("small, up to 32²", "medium, up to 96²", "large")
    sizes = [100 * (np.nan if metrics[name] is None else metrics[name]) for name in ("APs", "APm", "APl")]
    return [
        Plot("errors", "bars", {
            "title": "What each kind of error costs", "names": kinds, "values": [100 * cost for cost in costs.values()],
            "note": "dAP: the points of AP50 that mending this kind alone would gain, as TIDE defines it; kinds do not "
            "add up.",
        }),
        Plot("sizes", "bars", {
            "title": "AP by size of the object", "names": names, "values": sizes,
            "note": "In percent; sides in pixels of the picture as it is, by COCO's borders.",
        }),
        Plot("precision_recall", "lines", {
            "title": "Precision over recall", "curves": _mean_curves(findings), "x": "recall", "y": "precision",
            "x_range": (0, 1), "y_range": (0, 1), "note": "Mean of the classes, interpolated as COCO does.",
        }),
        reliability_plot(findings),
    ]  # fmt: skip


def _mean_curves(findings: Findings) -> list[Curve]:
    counted = findings.precision[findings.counts > 0]
    if not len(counted):
        return []
    return [Curve(f"IoU {0.5 + 0.05 * iou:.1f}", RECALLS, counted[:, iou].mean(axis=0)) for iou in SHOWN_IOUS]


def class_plots(findings: Findings) -> list[Plot]:
    """Return a chart of precision over recall for each class with objects."""
    ious = {0: "IoU 0.5", 5: "IoU 0.75", 8: "IoU 0.9"}
    return [
        Plot(f"precision_recall_{label}", "lines", {
            "title": findings.classes[label],
            "curves": [Curve(name, RECALLS, findings.precision[label, iou]) for iou, name in ious.items()],
            "x": "recall", "y": "precision", "x_range": (0, 1), "y_range": (0, 1),
        })
        for label in np.flatnonzero(findings.counts)
    ]  # fmt: skip


def reliability_plot(findings: Findings) -> Plot:
    """Return the share of right detections by what they were said to be, on pictures that the fit has not seen."""
    tried = try_calibration(findings.samples, findings.detections)
    errors = ", ".join(f"{curve.error:.3f} of the {name}" for name, curve in tried.items())
    curves = [
        Curve(name, curve.confidence[curve.counts > 0], curve.precision[curve.counts > 0])
        for name, curve in reversed(list(tried.items()))
    ]
    return Plot("reliability", "lines", {
        "title": "Reliability", "curves": curves, "x": "what it was said to be", "y": "share that is right",
        "x_range": (0, 1), "y_range": (0, 1), "diagonal": True,
        "note": "On every second picture, the calibration fitted on the others, in 10 bins; dashed is where a perfect "
        f"one would lie. Expected calibration error: {errors}.",
        "empty": "No calibration to try: too few detections are right, or wrong, or scores are beyond 0 and 1.",
    })  # fmt: skip


def confusion(findings: Findings) -> np.ndarray:
    """Return how often an object of a class (row) was taken for a class (column), int64 (C + 1, C + 1).

    The last row is detections on no object, or on one that another detection has; the last column objects that
    nothing was found on. Each object that counts stands in one cell of its row, each detection that is shown and counts
    in one of its column. Of what the slider shows first.
    """
    found, objects, classes = findings.found, findings.objects, len(findings.classes)
    shown = (found.levels >= findings.start) & (found.kinds != Kind.IGNORED)
    taken = np.full(len(objects.labels), -1)
    rows = np.full(len(found.labels), classes)
    order = np.argsort(-found.confidence, kind="stable")
    for kind in (Kind.RIGHT, Kind.CLASSIFICATION):
        for one in order[(shown & (found.kinds == kind))[order]]:
            if taken[found.objects[one]] < 0:
                taken[found.objects[one]] = found.labels[one]
                rows[one] = objects.labels[found.objects[one]]
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(matrix, (rows[shown], found.labels[shown]), 1)
    np.add.at(matrix[:, classes], objects.labels[objects.counted & (taken < 0)], 1)
    return matrix


def confusion_plot(findings: Findings) -> Plot:
    """Return the confusion matrix of the classes that occur, with the background."""
    matrix = confusion(findings)
    kept = np.append(np.flatnonzero((matrix.sum(0) + matrix.sum(1))[:-1]), len(matrix) - 1)
    names: Sequence[str] = [*findings.classes, NOTHING]
    kept_names = [names[one] for one in kept]
    return Plot("confusion", "heat_map", {
        "title": "Confusion matrix", "rows": kept_names, "columns": kept_names, "counts": matrix[np.ix_(kept, kept)],
        "row": "what it is", "column": "what it was taken for",
        "note": f"Of detections with a {findings.measure} of {findings.threshold} or more, at IoU 0.5. Row "
        f"{NOTHING}: boxes on no object of their own; column {NOTHING}: objects that nothing was found on.",
    })  # fmt: skip
