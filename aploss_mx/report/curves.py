"""Figures over training steps, several runs in one picture (Figures 5a and 5b)."""

from __future__ import annotations

import csv
import statistics
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

from matplotlib.figure import Figure

from aploss_mx.atomic import replacing, write_csv
from aploss_mx.metrics_log import read_metrics

COLUMNS = ("row", "seed", "step", "value")
RATE = ", lr "  # parts a row's name from its learning rate, where rows differ in that as well
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
    """

    column: str
    factor: float
    label: str


DRAWINGS = {
    "figure5a": Drawing("AP", 100, "AP (%)"),
    "figure5b": Drawing("ap_loss", 1, "training AP-loss (Heaviside step)"),
}

Point = Tuple[str, int, int, float]
"""Name of a curve, seed, step, value."""
Curve = Dict[int, List[float]]
"""A value of each seed, by step."""


def curve_of(figure: str, row: str, seed: int, folder: Path) -> list[Point]:
    """Return what a figure shows of the run in a folder."""
    drawing = DRAWINGS[figure]
    points = read_metrics(folder / "metrics.csv")
    values = {int(point["step"]): float(point[drawing.column]) for point in points if point[drawing.column]}
    return [(row, seed, step, round(drawing.factor * value, 4)) for step, value in sorted(values.items())]


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
    """Draw a CSV file of `write_curves` as PNG beside it: the mean over seeds, and all seeds as a band.

    Of rows that differ in the learning rate alone, the one that ends lowest is drawn so, the others thin.
    """
    curves: dict[str, Curve] = {}
    for row, _, step, value in _read(path):
        curves.setdefault(row, {}).setdefault(int(step), []).append(float(value))
    curves = {row: _averaged(curve) for row, curve in curves.items()}
    contenders: dict[str, list[str]] = {}
    for row in curves:
        contenders.setdefault(row.split(RATE)[0], []).append(row)

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, rows in enumerate(contenders.values()):
        color, marker, style = STYLES[number % len(STYLES)]
        best = min(rows, key=lambda row: _end(curves[row]))
        for row in rows:
            steps, values = zip(*sorted(curves[row].items()))
            means, lowest, highest = (list(map(measure, values)) for measure in (statistics.mean, min, max))
            if row == best:
                label = f"{row}: {means[-1]:#.3g}"
                axes.plot(steps, means, color=color, marker=marker, linestyle=style, markersize=4, label=label)
                axes.fill_between(steps, lowest, highest, color=color, alpha=0.15)
            else:
                axes.plot(steps, means, color=color, linestyle=style, linewidth=0.7, alpha=0.5)
    axes.set(xlabel="training step", ylabel=DRAWINGS[path.stem].label, ylim=(0, None))
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.suptitle(textwrap.fill(what, 90), fontsize=8)
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _end(curve: Curve) -> float:
    return statistics.mean(value for step in sorted(curve)[-END:] for value in curve[step])


def _averaged(curve: Curve) -> Curve:
    """Return at most MANY_POINTS points, each the mean of as many consecutive ones; those left over come first."""
    steps = sorted(curve)
    width = -(-len(steps) // MANY_POINTS)
    parts = [steps[max(0, end - width) : end] for end in range(len(steps), 0, -width)][::-1]
    return {part[-1]: [statistics.mean(seed) for seed in zip(*(curve[step] for step in part))] for part in parts}
