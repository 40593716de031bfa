"""Write the page of a run, or of detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import numpy as np
from markupsafe import Markup

from aploss_mx.data.check import Dataset
from aploss_mx.evaluation.detections import load_detections
from aploss_mx.inspection.advice import advice_on_findings, advice_on_run
from aploss_mx.inspection.findings import Findings, find
from aploss_mx.inspection.pictures import detections_gallery
from aploss_mx.inspection.plots import Plot, class_plots, confusion_plot, error_plots, training_plots
from aploss_mx.inspection.run_folder import RunFolder
from aploss_mx.inspection.suspects import contradictions, double_labels, suspects_gallery, unfound
from aploss_mx.page.render import percent, write_page
from aploss_mx.page.tables import Column, table

REPORT = "report.html"
TEMPLATES = Path(__file__).with_name("templates")
TILES = {
    "AP": "AP, mean over IoU 0.5 … 0.95",
    "AP50": "AP at IoU 0.5",
    "AP75": "AP at IoU 0.75",
    "VOC07_AP50": "VOC07's AP at IoU 0.5",
    "AR100": "recall with 100 boxes, mean over IoU",
}
SAME = 1e-6  # of AP


def write_run_page(run: RunFolder, dataset: Dataset, path: Path) -> list[Plot]:
    """Write the page of a run, given the data that it was tested on; returns its charts.

    Raises
    ------
    ValueError
        If the data are others.
    OSError
        If the file cannot be written.
    """
    return write_detections_page(path, findings_of(run, dataset), dataset.name, run.name, run.command, run)


def findings_of(run: RunFolder, dataset: Dataset) -> Findings:
    """Return what the last evaluation of a run found in its data; raises ValueError if they are others.

    Where the labels have changed since, all is measured anew.
    """
    if tuple(run.metrics["per_class"]) != tuple(dataset.classes):
        tested, given = (", ".join(names) for names in (run.metrics["per_class"], dataset.classes))
        raise ValueError(f"{run.path} was tested on {tested}, not on {given}")
    ids = [sample.image_id for sample in dataset.samples]
    detections = load_detections(run.path / "detections.json", dataset.classes, ids)
    findings = find(dataset.samples, detections, dataset.classes, run.metrics)
    if _fits(run.metrics, findings):
        return findings
    return find(dataset.samples, detections, dataset.classes)


def _fits(metrics: Mapping[str, Any], findings: Findings) -> bool:
    """Whether metrics are of these labels: as many objects of each class, and the same AP."""
    per_class = metrics["per_class"].values()
    if [of_class["objects"] for of_class in per_class] != findings.counts.tolist():
        return False
    aps = np.array([np.nan if of_class["AP"] is None else of_class["AP"] for of_class in per_class])
    return not (np.abs(aps - findings.precision.mean(axis=(1, 2))) > SAME).any()


def write_detections_page(
    path: Path, findings: Findings, data: str, title: str, command: str, run: RunFolder | None = None
) -> list[Plot]:
    """Write the page of detections.

    Parameters
    ----------
    path : Path
        The HTML file.
    findings : Findings
        Of detections, or of a run's last evaluation.
    data : str
        Name of the data set and its split.
    title : str
        Name of the detections.
    command : str
        What makes them, or the page, again.
    run : RunFolder, optional
        What they come from.

    Returns
    -------
    list of Plot
        The page's charts, but for those of single classes.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    training = training_plots({"": run.log}) if run else []
    errors, matrix = error_plots(findings), confusion_plot(findings)
    most = run.recipe.max_detections if run else None
    write_page(
        path,
        TEMPLATES / "detections.html",
        title=title,
        lead=_lead(findings, data, run),
        tiles=_tiles(findings.metrics),
        command=command,
        advice=[*(advice_on_run(run, findings) if run else []), *advice_on_findings(findings, most)],
        settings=settings_table(run) if run else None,
        training=[plot.svg for plot in training],
        gallery=detections_gallery(findings),
        errors=[plot.svg for plot in errors],
        confusion=matrix.svg,
        by_class=class_table(findings),
        class_charts=[plot.svg for plot in class_plots(findings)],
        lists=_doubtful_labels(findings),
    )
    return [*training, *errors, matrix]


def _doubtful_labels(findings: Findings) -> list[tuple[str, str, Markup]]:
    sure = contradictions(findings)
    lists = [
        (
            "The detector contradicts the label",
            "The surest detections where no label is, or one of another class. On data that the detector was not "
            "trained on, a good part of the first ones are labels to correct.",
            sure,
        ),
        (
            "Nothing finds these objects",
            "Large ones of classes that are mostly found come first.",
            unfound(findings, sure),
        ),
        (
            "Two classes in one place",
            "Labels of different classes that overlap by an IoU of 0.5 or more.",
            double_labels(findings.samples, findings.classes),
        ),
    ]
    return [(heading, text, suspects_gallery(heading, findings, found)) for heading, text, found in lists if found]


def _lead(findings: Findings, name: str, run: RunFolder | None) -> str:
    tested = f"{len(findings.samples):,} pictures with {findings.counts.sum():,} objects of {name}"
    if run is None:
        return f"{len(findings.found.labels):,} detections on {tested}."
    recipe, note = run.recipe, run.note
    objects = sum(note.get("train_objects", {}).values())
    learnt = f"{note['train_images']:,} pictures with {objects:,} objects of " if "train_images" in note else ""
    epoch = run.metrics.get("epoch", recipe.epochs)
    seconds = run.log.loc[run.log["epoch"] <= epoch, "seconds"].max()
    took = "" if np.isnan(seconds) else f" in {_duration(seconds)}"
    return (
        f"RetinaNet over {recipe.network} with the {recipe.loss} loss, trained on {learnt}{recipe.train_split} at "
        f"{recipe.data_shape} px for {epoch} epochs{took}. Tested on {tested}."
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _tiles(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, percent(metrics[name]), text) for name, text in TILES.items() if name in metrics]


def settings_table(run: RunFolder) -> Markup:
    """Return the recipe as a table."""
    rows = [(name, _written(value)) for name, value in run.recipe.to_dict().items()]
    return table([Column("setting"), Column("value")], rows, "All settings of the run")


def _written(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def class_table(findings: Findings) -> Markup:
    """Return a table of the classes: objects, AP, and what the first threshold gives."""
    found, counts = findings.found, findings.counts
    shown, size = found.levels >= findings.start, len(findings.classes)
    right = np.bincount(found.labels[shown & found.right], minlength=size)
    wrong = np.bincount(found.labels[shown & found.wrong], minlength=size)

    def row(name: str, of: Any, right: int, wrong: int, count: int) -> tuple:
        shares = (right / (right + wrong) if right + wrong else None, right / count if count else None)
        return (name, count, of["AP"], of["AP50"], of["VOC07_AP50"], *shares)

    per_class = findings.metrics["per_class"]
    rows = [
        row(name, per_class[name], *map(int, (right[label], wrong[label], counts[label])))
        for label, name in enumerate(findings.classes)
    ]
    rows.append(row("all", findings.metrics, int(right.sum()), int(wrong.sum()), int(counts.sum())))
    columns = [Column("class"), Column("objects", ","), *(Column(name, "%") for name in
               ("AP", "AP50", "VOC07 AP50", "precision", "recall"))]  # fmt: skip
    caption = f"By class; precision and recall at a {findings.measure} of {findings.threshold} and IoU 0.5"
    return table(columns, rows, caption, last=True)
