"""Write the page of two runs: their metrics and curves, and what one finds in a picture and the other does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.data.check import Dataset
from aploss_mx.evaluation.coco import METRICS
from aploss_mx.inspection.findings import Findings
from aploss_mx.inspection.page import TEMPLATES, findings_of
from aploss_mx.inspection.pictures import FEWER, GREY, MOST_PICTURES, boxes_of, thumbnails
from aploss_mx.inspection.plots import COSTS, Plot, training_plots
from aploss_mx.inspection.run_folder import RunFolder
from aploss_mx.page.gallery import IGNORED, LEVELS, Group, gallery
from aploss_mx.page.render import write_page
from aploss_mx.page.tables import Column, table
from aploss_mx.palette import BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION

NEITHER, FIRST, SECOND, BOTH = range(4)  # bits: who finds an object
POINTS = "+.1f"


def write_comparison_page(
    path: Path, runs: Sequence[RunFolder], dataset: Dataset, names: Sequence[str] = ()
) -> list[Plot]:
    """Write the page of two runs that were tested on the same data; returns the charts.

    The runs' `names` are those of their folders unless they are given.

    Raises
    ------
    ValueError
        If the runs are of other classes or data.
    OSError
        If the file cannot be written.
    """
    one, other = runs
    if one.recipe.val_split != other.recipe.val_split:
        splits = " and ".join(run.recipe.val_split for run in runs)
        raise ValueError(
            f"{one.path} and {other.path} were tested on different splits, {splits}: there is no comparing"
        )
    findings = [findings_of(run, dataset) for run in runs]
    objects = findings[0].counts.sum()
    names = names or run_names(runs)
    plots = training_plots(dict(zip(names, (run.log for run in runs))))
    write_page(
        path,
        TEMPLATES / "comparison.html",
        names=names,
        lead=f"Tested on {len(dataset.samples):,} pictures with {objects:,} objects of {dataset.name}.",
        metrics=_metrics_table(names, findings),
        settings=_settings_table(names, runs),
        commands=[(name, run.command) for name, run in zip(names, runs) if run.command],
        training=[plot.svg for plot in plots],
        costs=_costs_table(names, findings),
        classes=_class_table(names, findings),
        gallery=differences_gallery(names, findings),
    )
    return plots


def run_names(runs: Sequence[RunFolder]) -> list[str]:
    """Return names that tell the runs apart: their folders', or their paths where those are the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(runs) else [str(run.path) for run in runs]


def differences_gallery(names: Sequence[str], findings: Sequence[Findings]) -> Markup:
    """Return the pictures with who finds which object, each at the threshold of its best F1; most differences first."""
    one, other = findings
    objects = one.objects
    finders = sum(bit * of.objects.found_at(of.start) for bit, of in ((FIRST, one), (SECOND, other)))
    differ = objects.counted & np.isin(finders, (FIRST, SECOND))
    order = np.argsort(-np.bincount(objects.image, differ, len(one.samples)), kind="stable")
    chosen = order[: FEWER if len(order) > MOST_PICTURES else MOST_PICTURES]
    groups = (
        Group("neither finds", VERMILION, IGNORED),
        Group(f"only {names[0]} finds", BLUE, IGNORED),
        Group(f"only {names[1]} finds", ORANGE, IGNORED),
        Group("both find", GREEN, IGNORED),
        Group(f"wrong box of {names[0]}", SKY_BLUE, IGNORED),
        Group(f"wrong box of {names[1]}", PURPLE, IGNORED),
        Group("difficult object", GREY, IGNORED),
    )
    wrong = [np.flatnonzero(of.found.wrong & (of.found.levels >= of.start)) for of in findings]
    parts = [of.found for of in findings]
    group = np.where(objects.counted, finders, len(groups) - 1)
    samples = [one.samples[index] for index in chosen]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(objects, name), *(getattr(of, name)[rows] for of, rows in zip(parts, wrong))])

    groups_of_all = np.concatenate([group, *(np.full(len(rows), 4 + number) for number, rows in enumerate(wrong))])
    boxes = boxes_of(
        samples, chosen, joined("image"), joined("boxes"), joined("labels"), groups_of_all,
        np.full(len(groups_of_all), LEVELS),
    )  # fmt: skip
    note = "Boxes of objects, by who finds them, and wrong detections; each run at the threshold of its best F1."
    if len(chosen) < len(order):
        note += f" These are the {len(chosen)} pictures of {len(order):,} with the most differences."
    return gallery("What one finds and the other does not", thumbnails(samples), boxes, one.classes, groups, note=note)


def _compared(name: str, values: Sequence[float | None]) -> tuple:
    first, second = values
    known = first is not None and second is not None
    return (name, first, second, 100 * (second - first) if known else None)


def _columns(first: str, names: Sequence[str], form: str = "%") -> list[Column]:
    return [Column(first), *(Column(name, form) for name in names), Column("difference in points", POINTS)]


def _metrics_table(names: Sequence[str], findings: Sequence[Findings]) -> Markup:
    rows = [_compared(name, [of.metrics[name] for of in findings]) for name in (*METRICS, "VOC07_AP50", "VOC10_AP50")]
    return table(_columns("metric", names), rows, "Metrics of the last evaluations")


def _costs_table(names: Sequence[str], findings: Sequence[Findings]) -> Markup:
    rows = [_compared(text, [of.errors.costs[name] for of in findings]) for name, text in COSTS.items()]
    return table(
        _columns("kind of error", names), rows, "What each kind of error costs: dAP, of AP50, as TIDE defines it"
    )


def _class_table(names: Sequence[str], findings: Sequence[Findings]) -> Markup:
    rows = [_compared(name, [of.metrics["per_class"][name]["AP"] for of in findings]) for name in findings[0].classes]
    return table(_columns("class", names), rows, "AP by class")


def _settings_table(names: Sequence[str], runs: Sequence[RunFolder]) -> Markup | None:
    one, other = (run.recipe.to_dict() for run in runs)
    rows: list[tuple[Any, ...]] = [(name, one[name], other[name]) for name in one if one[name] != other[name]]
    columns = [Column("setting"), *map(Column, names)]
    return table(columns, rows, "Settings in which they differ") if rows else None
