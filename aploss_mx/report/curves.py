"""Figures over training steps, several runs in one picture (Figures 5a and 5b)."""

from __future__ import annotations

import csv
import statistics
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Sequence

from matplotlib.figure import Figure

from aploss_mx.atomic import replacing, write_csv
from aploss_mx.report.plan import FIGURE_5B, RATE
from aploss_mx.training.metrics_log import read_metrics

END = 5  # points that the end of a curve is judged by
MANY_POINTS = 30  # of a noisy curve; each shown is the mean of those of its seed since the one before
# Okabe and Ito's colours; markers and dashes tell the curves apart without them.
STYLES = (("#000000", "o", "-"), ("#0072B2", "s", "--"), ("#D55E00", "^", ":"), ("#009E73", "D", "-."))


@dataclass(frozen=True)
class Drawing:
    """What a figure shows of its runs.

    Attributes
    ----------
    column : str
        Of the metrics log.
    factor : float
        From the log's units to the figure's.
    label : str
        Of the axis.
    form : str
        Of numbers.
    """

    column: str
    factor: float
    label: str
    form: str


DRAWINGS = {
    "figure5a": Drawing("AP", 100, "AP (%)", ".1f"),
    FIGURE_5B: Drawing("ap_loss", 1, "training AP-loss (Heaviside step)", ".3f"),
}


class Point(NamedTuple):
    """A point of a curve, by its row's name and its seed, and the commit that it was measured with."""

    row: str
    seed: int
    step: int
    value: float
    commit: str


Curve = Dict[int, float]
"""Value by step."""


def curve_of(figure: str, row: str, seed: int, folder: Path, commit: str) -> list[Point]:
    """Return what a figure shows of the run in a folder."""
    drawing = DRAWINGS[figure]
    points = read_metrics(folder / "metrics.csv")
    values = {int(point["step"]): float(point[drawing.column]) for point in points if point[drawing.column]}
    return [Point(row, seed, step, round(drawing.factor * value, 4), commit) for step, value in sorted(values.items())]


def write_curves(path: Path, points: Iterable[Point]) -> None:
    """Write points as CSV, in place of those of the same curves and seeds."""
    new = list(points)
    replaced = {point[:2] for point in new}
    kept = [point for point in _read(path) if point[:2] not in replaced]
    write_csv(path, [point._asdict() for point in sorted([*kept, *new])], Point._fields)


def _read(path: Path) -> list[Point]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Point(point["row"], int(point["seed"]), int(point["step"]), float(point["value"]), point["commit"])
            for point in csv.DictReader(file)
        ]


def draw_curves(path: Path, what: str) -> None:
    """Draw a CSV file of `write_curves` as PNG beside it: the mean over seeds, and all seeds as a band.

    Of rows that differ in the learning rate alone, the one that ends lowest is drawn so, the others thin.
    """
    drawing = DRAWINGS[path.stem]
    seeds: dict[str, dict[int, Curve]] = {}
    for point in _read(path):
        seeds.setdefault(point.row, {}).setdefault(point.seed, {})[point.step] = point.value
    curves = {row: [_averaged(curve) for curve in of_row.values()] for row, of_row in seeds.items()}
    contenders: dict[str, list[str]] = {}
    for row in curves:
        contenders.setdefault(row.split(RATE)[0], []).append(row)

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, rows in enumerate(contenders.values()):
        color, marker, style = STYLES[number % len(STYLES)]
        best = min(rows, key=lambda row: _end(curves[row]))
        for row in rows:
            steps, values = _common(curves[row])
            means, lowest, highest = ([measure(one) for one in values] for measure in (statistics.mean, min, max))
            if row == best:
                end = _end(curves[row]) if len(rows) > 1 else means[-1]
                label = f"{row}: {end:{drawing.form}}"
                axes.plot(steps, means, color=color, marker=marker, linestyle=style, markersize=4, label=label)
                axes.fill_between(steps, lowest, highest, color=color, alpha=0.15)
            else:
                axes.plot(steps, means, color=color, linestyle=style, linewidth=0.7, alpha=0.5)
    axes.set(xlabel="training step", ylabel=drawing.label, ylim=(0, None))
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(textwrap.fill(what, 90), fontsize=8)
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _averaged(curve: Curve) -> Curve:
    """Return at most MANY_POINTS points, each the mean of as many consecutive ones; those left over come first."""
    steps = sorted(curve)
    width = -(-len(steps) // MANY_POINTS)
    parts = [steps[max(0, end - width) : end] for end in range(len(steps), 0, -width)]
    return {part[-1]: statistics.mean(curve[step] for step in part) for part in parts}


def _common(curves: Sequence[Curve]) -> tuple[list[int], list[list[float]]]:
    """Return the steps that all seeds have, and the seeds' values there."""
    steps = sorted(set.intersection(*map(set, curves)))
    return steps, [[curve[step] for curve in curves] for step in steps]


def _end(curves: Sequence[Curve]) -> float:
    _, values = _common(curves)
    return statistics.mean(value for one in values[-END:] for value in one)
