"""Draw a page's charts as PNG, for papers and for TensorBoard."""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path
from typing import Any, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from aploss_mx.atomic import naming, replacing
from aploss_mx.fonts import families_of
from aploss_mx.inspection.plots import Plot
from aploss_mx.page.charts import FEW_POINTS, NUMBERED, Curve
from aploss_mx.palette import BLUE, CURVES
from aploss_mx.text import visible

DPI = 150
LONGEST_SIDE = 30.0  # inches: of a thousand classes a square would take gigabytes


def write_pngs(folder: Path, plots: Sequence[Plot]) -> list[Path]:
    """Write charts into a folder; returns the files."""
    paths = [folder / f"{plot.file}.png" for plot in plots]
    for path, plot in zip(paths, plots):
        with replacing(path) as temporary:
            _save(_draw(plot), temporary, DPI)
    return paths


def log_images(folder: Path, step: int, plots: Sequence[Plot]) -> None:
    """Write charts as images of a step into the TensorBoard events of a run's folder."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        board = EventsWriter(str(folder / "events"), ".report")
        values = []
        for plot in plots:
            figure, file = _draw(plot), io.BytesIO()
            _save(figure, file, 100)
            width, height = (int(side * 100) for side in figure.get_size_inches())
            image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=file.getvalue())
            values.append(Summary.Value(tag=f"report/{plot.file}", image=image))
        board.write_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
        board.flush()
        board.close()


def _draw(plot: Plot) -> Figure:
    content = dict(plot.content)
    with matplotlib.rc_context({"font.family": families_of(str(content))}):
        figure = Figure(figsize=_size(plot), layout="constrained")
        axes = figure.subplots()
        {"lines": _lines, "bars": _bars, "heat_map": _heat_map}[plot.kind](axes, **content)
        axes.set_title(content["title"], fontsize=11)
    return figure


def _save(figure: Figure, file: Any, dpi: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # one by one, of what `families_of` has told
        figure.savefig(file, format="png", dpi=dpi)


def _size(plot: Plot) -> tuple[float, float]:
    if plot.kind == "heat_map":
        side = min(2 + 0.32 * len(plot.content["rows"]), LONGEST_SIDE)
        return side, side
    height = min(0.8 + 0.3 * len(plot.content["names"]), LONGEST_SIDE) if plot.kind == "bars" else 3.6
    return 5.6, height


def _lines(axes: Axes, *, curves: Sequence[Curve], x: str, y: str, x_range: Any = None, y_range: Any = None,
           diagonal: bool = False, empty: str = "Nothing was measured.", **_: Any) -> None:  # fmt: skip
    for number, curve in enumerate(curves):
        color, style = CURVES[number % len(CURVES)]
        marker = "o" if len(curve.x) <= FEW_POINTS else None
        axes.plot(
            curve.x, curve.y, color=color, linestyle=style, marker=marker, markersize=3.5, label=_text(curve.name)
        )
    if diagonal:
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=0.8)
    axes.set(xlabel=_text(x), ylabel=_text(y))
    axes.set_xlim(x_range)
    axes.set_ylim(y_range or (0, None) if all(np.nanmin(curve.y) >= 0 for curve in curves) else y_range)
    axes.grid(color="0.9", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8)
    if not curves:
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", va="center", color="0.4")


def _bars(axes: Axes, *, names: Sequence[str], values: Sequence[float], form: str = ".1f", **_: Any) -> None:
    places = np.arange(len(names))
    bars = axes.barh(places, np.nan_to_num(np.maximum(values, 0)), color=BLUE, height=0.65)
    axes.bar_label(bars, ["–" if np.isnan(value) else format(value, form) for value in values], padding=4, fontsize=9)
    axes.set_yticks(places, [_text(name) for name in names])
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.margins(x=0.15)


def _heat_map(
    axes: Axes, *, rows: Sequence[str], columns: Sequence[str], counts: np.ndarray, row: str, column: str, **_: Any
) -> None:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.2)
    axes.set_xticks(np.arange(len(columns)), [_text(name) for name in columns], rotation=90, fontsize=8)
    axes.set_yticks(np.arange(len(rows)), [_text(name) for name in rows], fontsize=8)
    axes.set(xlabel=column, ylabel=row)
    if len(rows) <= NUMBERED:
        for down, right in zip(*np.nonzero(counts)):
            axes.text(right, down, f"{counts[down, right]:,}", ha="center", va="center", fontsize=7)


def _text(text: str) -> str:
    """Text that matplotlib takes as it is: a dollar would begin a formula, and a line named _ has no legend."""
    text = visible(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
