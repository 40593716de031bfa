"""Draw what a data set holds: classes, sizes, shapes, objects an image, and what anchors cover."""

from __future__ import annotations

from typing import Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.data.check import MATCH, Report
from aploss_mx.data.objects import Objects
from aploss_mx.geometry.anchors import STRIDES, AnchorShapes, cell_anchors
from aploss_mx.page.charts import Curve, bars, scatter, short
from aploss_mx.page.tables import Column, table

MOST_BARS = 25  # classes that bars are drawn of
MOST_POINTS = 3000
HAIR = 0.01  # px; a thinner box is drawn as one so thin
RATIOS = (0.25, 0.5, 1 / 2**0.5, 1.0, 2**0.5, 2.0, 4.0)  # between the bars
OVERLAPS = tuple(step / 10 for step in range(1, 10))


def images_of_classes(objects: Objects, classes: int) -> np.ndarray:
    """Return in how many images each class has an object that counts, int (C,)."""
    pairs = np.unique(np.stack([objects.label, objects.image]), axis=1)
    return np.bincount(pairs[0], minlength=classes)


def class_table(report: Report, objects: Objects) -> Markup:
    """Return a table of the classes: counts, typical size, and what anchors cover."""
    images = images_of_classes(objects, len(report.objects))
    sides = _sides(objects)
    rows = [
        (
            name,
            count,
            report.difficult[name],
            int(images[label]),
            float(np.median(sides[objects.label == label])) if count else None,
            1 - report.uncovered[name] if count else None,
            report.uncovered[name] if count else None,
        )
        for label, (name, count) in enumerate(report.objects.items())
    ]
    poor = float((objects.overlap < MATCH).mean()) if len(sides) else None
    typical = float(np.median(sides)) if len(sides) else None
    covered = None if poor is None else 1 - poor
    total = (sum(report.objects.values()), sum(report.difficult.values()), len(np.unique(objects.image)))
    rows.append(("all", *total, typical, covered, poor))
    columns = [
        Column("class"),
        *(Column(name, ",") for name in ("objects", "difficult", "images")),
        Column("median side, px", ".0f"),
        Column(f"anchor IoU ≥ {MATCH}", "%"),
        Column("forced match alone", "%"),
    ]
    return table(columns, rows, "By class; images are those with an object that counts", last=True)


def class_plots(report: Report, objects: Objects) -> list[Markup]:
    """Return bars of the objects and the images of each class, the most first."""
    images = images_of_classes(objects, len(report.objects))
    return [
        _class_bars("Objects of each class", list(report.objects), list(report.objects.values()), ","),
        _class_bars("Images of each class", list(report.objects), images.tolist(), ","),
    ]


def shape_plots(objects: Objects, anchors: AnchorShapes, data_shape: int) -> list[Markup]:
    """Return the sizes and shapes of objects beside those of the anchors, in pixels of the training images."""
    boxes = objects.warped
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], HAIR)
    drawn = np.unique(np.linspace(0, len(sizes) - 1, min(MOST_POINTS, len(sizes))).astype(int))
    shapes = np.concatenate([cell_anchors(stride, anchors) for stride in STRIDES])
    shapes = shapes[:, 2:] - shapes[:, :2]
    some = f"{len(drawn):,} of {len(sizes):,} objects are drawn. " * (len(drawn) < len(sizes))
    own = sorted({round(float(side)) for side in np.sqrt(shapes.prod(axis=1))})
    return [
        scatter(
            "Width and height beside the anchors'",
            [Curve("objects", *sizes[drawn].T), Curve("anchors", *shapes.T)],
            "width, px",
            "height, px",
            note=f"{some}Both axes are logarithmic; the training images are {data_shape} px wide and high.",
        ),
        bars(
            "Side of the square of a box's area",
            *_counted(_sides(objects), [2.0**power for power in range(2, 10) if 2**power < data_shape], " px"),
            note=f"Objects by size; the anchors' own sides: {_listed(own)} px.",
            form=",",
        ),
        bars(
            "Height / width",
            *_counted(sizes[:, 1] / sizes[:, 0], RATIOS),
            note="Objects by shape, in images warped to squares; the anchors' own: "
            f"{_listed([short(ratio) for ratio in sorted(anchors.ratios)])}.",
            form=",",
        ),
    ]


def crowd_plot(objects: Objects, images: int) -> Markup:
    """Return bars of the objects that count on an image."""
    counts = np.bincount(objects.image, minlength=images)
    edges = [1, 2, 3, *(2**power + 1 for power in range(2, 12) if 2**power < counts.max(initial=0)), np.inf]
    lows = [0, *edges[:-1]]
    names = [
        f"{low}" if high == low + 1 else f"{low} or more" if high == np.inf else f"{low} – {high - 1}"
        for low, high in zip(lows, edges)
    ]
    values = [int(((counts >= low) & (counts < high)).sum()) for low, high in zip(lows, edges)]
    return bars("Objects on an image", names, values, note="Images by how many objects count on them.", form=",")


def coverage_plots(report: Report, objects: Objects) -> list[Markup]:
    """Return bars of what no anchor covers, the worst class first, and of the best anchors' IoUs."""
    names = [name for name, count in report.objects.items() if count]
    values = [100 * report.uncovered[name] for name in names]
    return [
        _class_bars(f"Without an anchor of IoU {MATCH}, % of a class's objects", names, values, ".1f"),
        bars(
            "IoU of an object's best anchor",
            *_counted(objects.overlap, OVERLAPS),
            note=f"Objects by how well the best anchor fits. Below {MATCH}, only the forced match gives them one.",
            form=",",
        ),
    ]


def _class_bars(title: str, names: Sequence[str], values: Sequence[float], form: str) -> Markup:
    order = np.argsort(-np.asarray(values, np.float64), kind="stable")[:MOST_BARS]
    note = f"The first {MOST_BARS} of {len(names)} classes." if len(names) > MOST_BARS else ""
    return bars(title, [names[one] for one in order], [values[one] for one in order], note=note, form=form)


def _sides(objects: Objects) -> np.ndarray:
    return np.sqrt((objects.warped[:, 2:] - objects.warped[:, :2]).prod(axis=1))


def _counted(values: np.ndarray, edges: Sequence[float], unit: str = "") -> tuple[list[str], list[int]]:
    """Names and counts of the intervals between edges, and of those below and from the last one on."""
    words = [short(round(edge, 2)) for edge in edges]
    names = [f"below {words[0]}", *(f"{low} – {high}" for low, high in zip(words, words[1:])), f"from {words[-1]}"]
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return [name + unit for name in names], counts.tolist()


def _listed(items: Sequence) -> str:
    return ", ".join(map(str, items))
