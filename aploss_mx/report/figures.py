"""Figures of a training run, drawn from its metrics log."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aploss_mx.atomic import replacing

# Column, name in the legend, colour (Okabe and Ito's) and line style: each curve is told apart without its colour.
_LOSSES = (
    ("loss", "total", "#000000", "-"),
    ("cls_loss", "classification", "#0072B2", "--"),
    ("box_loss", "box regression", "#D55E00", ":"),
)
_PRECISIONS = (
    ("AP50", "AP50 (IoU ≥ 0.50)", "#0072B2", "--"),
    ("AP75", "AP75 (IoU ≥ 0.75)", "#D55E00", ":"),
    ("AP", "AP (mean over IoU)", "#000000", "-"),
)
_MAX_MARKED_POINTS = 30  # markers on longer curves would hide their line style


def plot_training(metrics_csv_path: str | Path, output_png: str | Path) -> None:
    """Plot a run's losses over its steps and its average precision over its epochs.

    Parameters
    ----------
    metrics_csv_path : str or Path
        Metrics log: a CSV file with at least the columns epoch, step, loss, cls_loss, box_loss, AP, AP50 and AP75.
        An empty field means "not measured in this row"; AP lies between 0 and 1.
    output_png : str or Path
        PNG file to write; a missing folder is created.

    Raises
    ------
    ValueError
        If the log lacks a column or holds something other than a number.
    OSError
        If the log cannot be read or the figure cannot be written.
    """
    rows = _read_rows(Path(metrics_csv_path))
    figure = Figure(figsize=(10, 4), constrained_layout={"w_pad": 0.12})
    FigureCanvasAgg(figure)
    loss_axes, precision_axes = figure.subplots(1, 2)
    _plot_columns(loss_axes, rows, "step", _LOSSES, empty="no training step logged yet")
    loss_axes.set(title="Training loss", xlabel="step (mini-batches)", ylabel="loss (dimensionless)")
    _plot_columns(precision_axes, rows, "epoch", _PRECISIONS, empty="no evaluation logged yet")
    precision_axes.set(
        title="Evaluation", xlabel="epoch (passes over the training set)", ylabel="average precision (0 to 1)"
    )
    with replacing(output_png) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _read_rows(path: Path) -> list[dict[str, float]]:
    """Rows of the log as numbers; an empty field has no key."""
    columns = ["epoch", "step", *(column for column, *_ in (*_LOSSES, *_PRECISIONS))]
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(columns).difference(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: not a metrics log, for it lacks the column(s) {', '.join(sorted(missing))}")
        rows = []
        for row in reader:
            try:
                rows.append({column: float(row[column]) for column in columns if row[column]})
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}; correct or delete the line") from None
    return rows


def _plot_columns(
    axes: Axes, rows: Sequence[dict[str, float]], x: str, curves: Sequence[tuple[str, str, str, str]], empty: str
) -> None:
    """Draw one curve a column over column x; instead of nothing at all, say that there is nothing."""
    for column, name, color, style in curves:
        points = [(row[x], row[column]) for row in rows if x in row and column in row]
        if points:
            marker = "o" if len(points) <= _MAX_MARKED_POINTS else None
            label = f"{name}, last {points[-1][1]:#.3g}"
            axes.plot(*zip(*points), color=color, linestyle=style, marker=marker, markersize=3.5, label=label)
    axes.grid(color="0.85", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if axes.lines:
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", va="center", color="0.4")
