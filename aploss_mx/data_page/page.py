"""Write the page of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aploss_mx.config import Recipe
from aploss_mx.data.check import MATCH, Dataset, Report
from aploss_mx.data.objects import counted_objects
from aploss_mx.data.problems import BOX_BELOW_PIXEL, SIZE_MISMATCH
from aploss_mx.data_page.examples import augmented_gallery, choose_examples, examples_gallery
from aploss_mx.data_page.plots import (
    MOST_BARS,
    class_plots,
    class_table,
    coverage_plots,
    crowd_plot,
    images_of_classes,
    shape_plots,
)
from aploss_mx.data_page.problems import PICTURED, kinds_of
from aploss_mx.page.render import percent, write_page
from aploss_mx.page.tables import fewest

TEMPLATE = Path(__file__).with_name("templates") / "data.html"
FEW_IMAGES = 20  # below which a class is hardly learnt, and its AP a matter of chance


def write_data_page(path: str | Path, dataset: Dataset | None, report: Report, recipe: Recipe) -> None:
    """Write what a data set holds, and what is wrong with it, as a page.

    Parameters
    ----------
    path : path-like
        The HTML file.
    dataset : Dataset or None
        None where the data could not be opened: the page has the problems alone.
    report : Report
        Of the data set, at the recipe's `data_shape` and anchors.
    recipe : Recipe
        Of the training: its `data_shape`, anchors, augmentation, pixels and seed are shown.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    samples, classes = (dataset.samples, dataset.classes) if dataset else ([], ())
    kinds = kinds_of(report.problems, samples, classes)
    objects = counted_objects(samples, recipe.data_shape, recipe.anchors)
    unfit = {str(problem.image) for problem in report.errors if problem.kind in (SIZE_MISMATCH, BOX_BELOW_PIXEL)}
    examples = choose_examples(samples, len(classes), unfit)
    poor = float((objects.overlap < MATCH).mean()) if len(objects.label) else None
    write_page(
        path,
        TEMPLATE,
        name=report.name,
        verdict=_verdict(report),
        settings=_settings(recipe),
        tiles=_tiles(report, poor) if samples else [],
        few=_few(images_of_classes(objects, len(classes)), classes) if samples else "",
        kinds=kinds,
        pictured=PICTURED,
        data_shape=recipe.data_shape,
        augmentation=recipe.augmentation,
        match=MATCH,
        few_classes=len(classes) <= MOST_BARS,
        by_class=class_table(report, objects) if samples else None,
        class_charts=class_plots(report, objects) if samples else [],
        shape_charts=[*shape_plots(objects, recipe.anchors, recipe.data_shape), crowd_plot(objects, len(samples))]
        if samples
        else [],
        coverage_charts=coverage_plots(report, objects) if len(objects.label) else [],
        examples=examples_gallery(examples, classes) if examples else None,
        augmented=augmented_gallery(examples, classes, recipe) if examples else None,
    )


def _verdict(report: Report) -> str:
    if report.ok:
        warnings = len(report.warnings)
        return f"Training can start; {_count(warnings, 'warning')}." if warnings else "Training can start."
    return f"Training cannot start: {_count(len(report.errors), 'error')} must be mended first."


def _settings(recipe: Recipe) -> str:
    anchors = recipe.anchors
    return (
        f"Checked for training images of {recipe.data_shape} × {recipe.data_shape} px, augmentation "
        f"{recipe.augmentation}, with {anchors.per_cell} anchors in a cell: size {anchors.size:.4g}, "
        f"scales {', '.join(f'{scale:.4g}' for scale in anchors.scales)}, "
        f"ratios {', '.join(f'{ratio:.4g}' for ratio in anchors.ratios)}."
    )


def _tiles(report: Report, poor: float | None) -> list[tuple[str, str, str]]:
    return [
        ("images", f"{report.images:,}", "images"),
        ("objects", f"{sum(report.objects.values()):,}", "objects that count"),
        ("difficult", f"{sum(report.difficult.values()):,}", "difficult objects, which do not"),
        ("classes", f"{len(report.objects):,}", "classes"),
        ("empty", f"{report.images_without_objects:,}", "images without an object that counts"),
        ("uncovered", percent(poor), f"objects without an anchor of IoU {MATCH}"),
    ]


def _few(images: np.ndarray, classes: tuple[str, ...]) -> str:
    few = {name: count for name, count in zip(classes, images.tolist()) if 0 < count < FEW_IMAGES}
    told = f"in fewer than {FEW_IMAGES} images, a class is hardly learnt, and its AP a matter of chance."
    return f"{fewest(few)}: {told}" if few else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
