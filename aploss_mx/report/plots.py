"""Plot a training run, and the paper's Figures 5a and 5b of several runs."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, NamedTuple, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aploss_mx.atomic import replacing, write_csv
from aploss_mx.inspection.run_folder import read_log
from aploss_mx.palette import CURVES
from aploss_mx.report.plan import FIGURE_5B, RATE
from aploss_mx.training.metrics_log import read_metrics

MANY_POINTS = 30  # of a curve: markers on more would hide its line style, and noise its course

# One run -----------------------------------------------------------------------------------------

# Column and name in the legend; the first of CURVES in turn, but for AP, the most important, which comes last.
_LOSSES = (("loss", "total"), ("cls_loss", "classification"), ("box_loss", "box regression"))
_PRECISIONS = (("AP50", "AP50 (IoU ≥ 0.50)"), ("AP75", "AP75 (IoU ≥ 0.75)"), ("AP", "AP (mean over IoU)"))


def plot_training(metrics_csv_path: str | Path, output_png: str | Path) -> None:
    """Plot a run's losses over its steps and its average precision over its epochs.

    Parameters
    ----------
    metrics_csv_path : str or Path
        Metrics log of the run.
    output_png : str or Path
        PNG file to write; a missing folder is created.

    Raises
    ------
    OSError
        If the plot cannot be written.
    """
    log = read_log(Path(metrics_csv_path))
    figure = Figure(figsize=(10, 4), constrained_layout={"w_pad": 0.12})
    losses, precisions = figure.subplots(1, 2)
    _plot_columns(losses, log, "step", _LOSSES, CURVES[:3], empty="no training step logged yet")
    losses.set(title="Training loss", xlabel="step (mini-batches)", ylabel="loss (dimensionless)")
    styles = (*CURVES[1:3], CURVES[0])
    _plot_columns(precisions, log, "epoch", _PRECISIONS, styles, empty="no evaluation logged yet")
    precisions.set(
        title="Evaluation", xlabel="epoch (passes over the training set)", ylabel="average precision (0 to 1)"
    )
    with replacing(output_png) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _plot_columns(
    axes: Axes,
    log: pd.DataFrame,
    x: str,
    columns: Sequence[tuple[str, str]],
    styles: Sequence[tuple[str, object]],
    empty: str,
) -> None:
    """Draw one curve a column over column x; instead of nothing at all, say that there is nothing."""
    for (column, name), (color, style) in zip(columns, styles):
        points = log[[x, column]].dropna().to_numpy(float)
        if len(points):
            marker = "o" if len(points) <= MANY_POINTS else None
            label = f"{name}, last {points[-1, 1]:#.3g}"
            axes.plot(*points.T, color=color, linestyle=style, marker=marker, markersize=3.5, label=label)
    axes.grid(color="0.85", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if axes.lines:
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", va="center", color="0.4")


# Several runs ------------------------------------------------------------------------------------

END = 5  # points that the end of a curve is judged by


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


def curve_of(figure: str, row: str, seed: int, folder: Path, commit: str) -> list[Point]:
    """Return what a figure shows of the run in a folder."""
    drawing = DRAWINGS[figure]
    points = read_metrics(folder / "metrics.csv")
    values = {int(point["step"]): float(point[drawing.column]) for point in points if point[drawing.column]}
    return [Point(row, seed, step, round(drawing.factor * value, 4), commit) for step, value in sorted(values.items())]


def write_curves(path: Path, points: Iterable[Point]) -> None:
    """Write points as CSV, in place of those of the same curves and seeds.

    Raises
    ------
    ValueError
        If they could not be drawn beside those that are there.
    """
    new = list(points)
    replaced = {point[:2] for point in new}
    old = [Point(*point) for point in _read(path).itertuples(index=False)] if path.exists() else []
    kept = [point for point in old if point[:2] not in replaced]
    points = sorted([*kept, *new])
    _by_row(pd.DataFrame(points, columns=Point._fields))  # which raises, before what is there is lost
    write_csv(path, [point._asdict() for point in points], Point._fields)


def _read(path: Path) -> pd.DataFrame:
    types = {"row": str, "seed": int, "step": int, "value": float, "commit": str}
    return pd.read_csv(path, dtype=types, keep_default_na=False, float_precision="round_trip")


def draw_curves(path: Path, what: str) -> None:
    """Draw a CSV file of `write_curves` as PNG beside it: the mean over seeds, and all seeds as a band.

    Of rows that differ in the learning rate alone, the one that ends lowest is drawn so, the others thin.
    """
    drawing = DRAWINGS[path.stem]
    curves = _by_row(_read(path))
    contenders: dict[str, list[str]] = {}
    for row in curves:
        contenders.setdefault(row.split(RATE)[0], []).append(row)

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, rows in enumerate(contenders.values()):
        (color, style), marker = CURVES[number % 4], "os^D"[number % 4]
        best = min(rows, key=lambda row: _end(curves[row]))
        for row in rows:
            curve = curves[row]
            means = curve.mean(axis=1)
            if row == best:
                end = _end(curve) if len(rows) > 1 else means.iloc[-1]
                label = f"{row}: {end:{drawing.form}}"
                axes.plot(means.index, means, color=color, marker=marker, linestyle=style, markersize=4, label=label)
                axes.fill_between(curve.index, curve.min(axis=1), curve.max(axis=1), color=color, alpha=0.15)
            else:
                axes.plot(means.index, means, color=color, linestyle=style, linewidth=0.7, alpha=0.5)
    axes.set(xlabel="training step", ylabel=drawing.label, ylim=(0, None))
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(textwrap.fill(what, 90), fontsize=8)
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _by_row(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {row: _compared(row, of_row) for row, of_row in points.groupby("row", sort=False)}


def _compared(row: str, points: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one row's points by step, where all seeds have it, a column a seed."""
    curves = [_averaged(of_seed.set_index("step")["value"].sort_index()) for _, of_seed in points.groupby("seed")]
    joined = pd.concat(curves, axis=1, join="inner").sort_index()
    if joined.empty:
        raise ValueError(f"the seeds of {row} share no step, so their data differ: choose another --results")
    return joined


def _averaged(curve: pd.Series) -> pd.Series:
    """Return at most MANY_POINTS points, each the mean of as many consecutive ones; those left over come first."""
    width = -(-len(curve) // MANY_POINTS)
    parts = curve.groupby(-(np.arange(len(curve))[::-1] // width))
    return pd.Series(parts.mean().to_numpy(), [part.index[-1] for _, part in parts])


def _end(curve: pd.DataFrame) -> float:
    return float(curve.tail(END).to_numpy().mean())
