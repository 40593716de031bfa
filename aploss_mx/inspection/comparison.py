"""Write the page of a few runs: their metrics and curves, and what one finds in a picture and another does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.data.check import Dataset
from aploss_mx.evaluation.coco import METRICS
from aploss_mx.inspection.findings import Findings
from aploss_mx.inspection.page import TEMPLATES, findings_of
from aploss_mx.inspection.pictures import FEWER, GREY, MOST_PICTURES, boxes_of, thumbnails
from aploss_mx.inspection.plots import Plot, training_plots
from aploss_mx.inspection.run_folder import RunFolder
from aploss_mx.page.gallery import LEVELS, Group, gallery, tally
from aploss_mx.page.render import write_page
from aploss_mx.page.tables import Column, table
from aploss_mx.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION, YELLOW

MOST_RUNS = 4
POINTS = "+.1f"
ALONE = (BLUE, ORANGE, SKY_BLUE, PURPLE)  # of what only one run finds


def write_comparison_page(
    path: Path, runs: Sequence[RunFolder], dataset: Dataset, names: Sequence[str] = ()
) -> list[Plot]:
    """Write the page of two to `MOST_RUNS` runs that were tested on the same data; returns the charts.

    The runs' `names` are those of their folders unless they are given.

    Raises
    ------
    ValueError
        If the runs are of other classes or data.
    OSError
        If the file cannot be written.
    """
    if len({run.recipe.val_split for run in runs}) > 1:
        paths, splits = (" and ".join(map(str, of)) for of in zip(*((run.path, run.recipe.val_split) for run in runs)))
        raise ValueError(f"{paths} were tested on different splits, {splits}: there is no comparing")
    findings = [findings_of(run, dataset) for run in runs]
    objects = findings[0].counts.sum()
    names = names or run_names(runs)
    others = [(name, run) for name, run, of_run in zip(names, runs, findings) if of_run.metrics is not run.metrics]
    plots = training_plots(dict(zip(names, (run.log for run in runs))))
    metrics = {name: [of.metrics[name] for of in findings] for name in (*METRICS, "VOC07_AP50", "VOC10_AP50")}
    costs = {name.replace("_", " "): [of.errors.costs[name] for of in findings] for name in findings[0].errors.costs}
    classes = {name: [of.metrics["per_class"][name]["AP"] for of in findings] for name in dataset.classes}
    costs_caption = "What each kind of error costs: dAP, of AP50, as TIDE defines it"
    write_page(
        path,
        TEMPLATES / "comparison.html",
        names=names,
        lead=f"Tested on {len(dataset.samples):,} pictures with {objects:,} objects of {dataset.name}."
        + "".join(_measured_anew(name, run, runs[0]) for name, run in others),
        metrics=_compared("metric", names, metrics, "Metrics of the last evaluations"),
        settings=_settings_table(names, runs),
        commands=[(name, run.command) for name, run in zip(names, runs) if run.command],
        training=[plot.svg for plot in plots],
        costs=_compared("kind of error", names, costs, costs_caption),
        classes=_compared("class", names, classes, "AP by class"),
        gallery=differences_gallery(names, findings),
    )
    return plots


def _measured_anew(name: str, run: RunFolder, first: RunFolder) -> str:
    text = f" Its labels are not those that {name} was tested on: it is measured anew."
    root, other = (one.note.get("dataset_root") for one in (first, run))
    where = f" It was tested in {other}, and the first run in {root}: are the pictures the same?"
    return text + where * (root != other and None not in (root, other))


def run_names(runs: Sequence[RunFolder]) -> list[str]:
    """Return names that tell the runs apart: their folders', or their paths where those are the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(runs) else [str(run.path) for run in runs]


def differences_gallery(names: Sequence[str], findings: Sequence[Findings]) -> Markup:
    """Return the pictures with who finds which object, each at the threshold of its best F1; most differences first."""
    one, count = findings[0], len(names)
    objects = one.objects
    found = np.stack([of.objects.found_at(of.start) for of in findings])
    finders = found.sum(0)
    differ = objects.counted & (0 < finders) & (finders < count)
    order = np.argsort(-np.bincount(objects.image, differ, len(one.samples)), kind="stable")
    chosen = order[: FEWER if len(order) > MOST_PICTURES else MOST_PICTURES]
    alone = [Group(f"only {name} finds", color) for name, color in zip(names, ALONE)]
    if count == 2:
        finding = [Group("neither finds", VERMILION), *alone, Group("both find", GREEN)]
        wrong_boxes = [Group(f"wrong box of {name}", color) for name, color in zip(names, ALONE[count:])]
    else:
        finding = [Group("none finds", VERMILION), *alone, Group("several find", YELLOW), Group("all find", GREEN)]
        wrong_boxes = [Group("wrong box", BLACK)]
    groups = (*finding, *wrong_boxes, Group("difficult object", GREY))
    wrong = [np.flatnonzero(of.found.wrong & (of.found.levels >= of.start)) for of in findings]
    only = 1 + found.argmax(0)
    group = np.select(
        [~objects.counted, finders == 0, finders == count, finders == 1],
        [len(groups) - 1, 0, len(finding) - 1, only],
        default=len(finding) - 2,
    )
    samples = [one.samples[index] for index in chosen]

    def joined(name: str) -> np.ndarray:
        of_wrong = (getattr(of.found, name)[rows] for of, rows in zip(findings, wrong))
        return np.concatenate([getattr(objects, name), *of_wrong])

    numbers = (len(finding) + min(number, len(wrong_boxes) - 1) for number in range(count))
    groups_of_all = np.concatenate([group, *(np.full(len(rows), number) for rows, number in zip(wrong, numbers))])
    levels = np.full(len(groups_of_all), LEVELS)
    boxes = boxes_of(samples, chosen, joined("image"), joined("boxes"), joined("labels"), groups_of_all, levels)
    counts = tally(joined("labels"), groups_of_all, levels, one.counts)
    note = "Boxes of objects, by who finds them, and wrong detections; each run at the threshold of its best F1."
    if len(chosen) < len(order):
        note += f" These are the {len(chosen)} of {len(order):,} pictures with most differences; figures are of all."
    return gallery(
        "What one finds and another does not", thumbnails(samples), boxes, one.classes, groups, counts=counts, note=note
    )


def _compared(first: str, names: Sequence[str], values: Mapping[str, Sequence[float | None]], caption: str) -> Markup:
    """Return a table of the runs' values by what the first column names, and, of two runs, their difference."""
    columns = [Column(first), *(Column(name, "%") for name in names)]
    rows: list[tuple] = [(name, *of_runs) for name, of_runs in values.items()]
    if len(names) == 2:
        columns.append(Column("difference in points", POINTS))
        rows = [(*row, None if None in row else 100 * (row[2] - row[1])) for row in rows]
    return table(columns, rows, caption)


def _settings_table(names: Sequence[str], runs: Sequence[RunFolder]) -> Markup | None:
    recipes = [run.recipe.to_dict() for run in runs]
    values = {name: [recipe[name] for recipe in recipes] for name in recipes[0]}
    rows: list[tuple[Any, ...]] = [(name, *of) for name, of in values.items() if any(one != of[0] for one in of)]
    columns = [Column("setting"), *map(Column, names)]
    return table(columns, rows, "Settings in which they differ") if rows else None
