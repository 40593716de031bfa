"""Average precision over training steps, several runs in one picture (Figure 5a)."""

from __future__ import annotations

import csv
import io
import statistics
import textwrap
from pathlib import Path
from typing import Sequence

from matplotlib.figure import Figure

from aploss_mx.atomic import replacing, write_text
from aploss_mx.metrics_log import read_metrics

COLUMNS = ("row", "seed", "step", "AP")
# Okabe and Ito's colours; markers and dashes tell the curves apart without them.
STYLES = (("#000000", "o", "-"), ("#0072B2", "s", "--"), ("#D55E00", "^", ":"), ("#009E73", "D", "-."))


def write_curves(path: Path, runs: Sequence[tuple[str, int, Path]]) -> None:
    """Write the evaluations of runs, each a row's name, a seed and a metrics file, as CSV with AP in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, seed, metrics in runs:
        points = {int(point["step"]): point["AP"] for point in read_metrics(metrics) if point["AP"]}
        writer.writerows((row, seed, step, f"{100 * float(ap):.2f}") for step, ap in sorted(points.items()))
    write_text(path, text.getvalue())


def draw_curves(path: Path, what: str) -> None:
    """Draw a CSV file of `write_curves` as PNG beside it: the mean over seeds, and all seeds as a band."""
    curves: dict[str, dict[int, list[float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for point in csv.DictReader(file):
            curves.setdefault(point["row"], {}).setdefault(int(point["step"]), []).append(float(point["AP"]))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, (row, points) in enumerate(curves.items()):
        color, marker, style = STYLES[number % len(STYLES)]
        steps, values = zip(*sorted(points.items()))
        means, lowest, highest = (list(map(measure, values)) for measure in (statistics.mean, min, max))
        axes.plot(steps, means, color=color, marker=marker, linestyle=style, label=row)
        axes.fill_between(steps, lowest, highest, color=color, alpha=0.15)
    axes.set(xlabel="training step", ylabel="AP (%)", ylim=(0, None))
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.suptitle(textwrap.fill(what, 90), fontsize=8)
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
