"""Figures over training steps, several runs in one picture (Figures 5a and 5b)."""

from __future__ import annotations

import csv
import statistics
import textwrap
from pathlib import Path
from typing import Iterable, Tuple

from matplotlib.figure import Figure

from aploss_mx.atomic import replacing, write_csv
from aploss_mx.metrics_log import read_metrics

COLUMNS = ("row", "seed", "step", "value")
WHAT_IS_DRAWN = {"figure5a": "AP (%)", "figure5b": "training AP-loss (Heaviside step)"}
MANY_POINTS = 30  # from here on, markers would hide the lines
# Okabe and Ito's colours; markers and dashes tell the curves apart without them.
STYLES = (("#000000", "o", "-"), ("#0072B2", "s", "--"), ("#D55E00", "^", ":"), ("#009E73", "D", "-."))


Point = Tuple[str, int, int, float]
"""Name of a curve, seed, step, value."""


def evaluations(row: str, seed: int, metrics: Path) -> list[Point]:
    """Return the points of a run's evaluations, AP in percent."""
    points = {int(point["step"]): float(point["AP"]) for point in read_metrics(metrics) if point["AP"]}
    return [(row, seed, step, round(100 * ap, 2)) for step, ap in sorted(points.items())]


def write_curves(path: Path, points: Iterable[Point]) -> None:
    """Write points as CSV, in place of those of the same curve and seed."""
    new = [tuple(map(str, point)) for point in points]
    replaced = {point[:2] for point in new}
    kept = [point for point in _read(path) if point[:2] not in replaced]
    ordered = sorted([*kept, *new], key=lambda point: (point[0], int(point[1]), int(point[2])))
    write_csv(path, [dict(zip(COLUMNS, point)) for point in ordered], COLUMNS)


def _read(path: Path) -> list[tuple[str, ...]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def draw_curves(path: Path, what: str) -> None:
    """Draw a CSV file of `write_curves` as PNG beside it: the mean over seeds, and all seeds as a band."""
    curves: dict[str, dict[int, list[float]]] = {}
    for row, _, step, value in _read(path):
        curves.setdefault(row, {}).setdefault(int(step), []).append(float(value))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, (row, points) in enumerate(curves.items()):
        color, marker, style = STYLES[number % len(STYLES)]
        steps, values = zip(*sorted(points.items()))
        means, lowest, highest = (list(map(measure, values)) for measure in (statistics.mean, min, max))
        marker = marker if len(steps) < MANY_POINTS else ""
        axes.plot(steps, means, color=color, marker=marker, linestyle=style, label=row)
        axes.fill_between(steps, lowest, highest, color=color, alpha=0.15)
    axes.set(xlabel="training step", ylabel=WHAT_IS_DRAWN[path.stem], ylim=(0, None))
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.suptitle(textwrap.fill(what, 90), fontsize=8)
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
