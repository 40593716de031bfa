"""Draw how often detections are right, by what their scores and their confidences say."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

import numpy as np
from matplotlib.figure import Figure

from aploss_mx.atomic import replacing, write_csv
from aploss_mx.evaluation.calibration import Reliability
from aploss_mx.palette import CURVES


def write_reliability(curves: Mapping[str, Reliability], path: Path) -> tuple[Path, Path]:
    """Write reliability curves as a picture, and their bins as CSV beside it.

    Parameters
    ----------
    curves : mapping of str to Reliability
        By the name of what is judged.
    path : Path
        Of the picture, ``.png``.

    Returns
    -------
    tuple of Path
        Both files. The CSV has a row a bin: ``what``, ``said``, the mean of what its detections say, ``right``, the
        share of them that is right, and ``count``; the first two are empty where there are no detections.
    """
    figure = Figure(figsize=(6, 5.2), layout="constrained")
    shares, counts = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    shares.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="right as often as said")
    rows = []
    for (name, curve), (color, style), marker in zip(curves.items(), CURVES, "so"):
        filled = curve.counts > 0
        label = f"{name}, ECE {curve.error:.3f}"
        points = curve.confidence[filled], curve.precision[filled]
        shares.plot(*points, color=color, linestyle=style, marker=marker, markersize=4.5, label=label)
        edges = np.linspace(0, 1, len(curve.counts) + 1)
        counts.stairs(curve.counts, edges, color=color, linestyle=style)
        rows += [
            {"what": name, "said": said, "right": right, "count": int(count)}
            for said, right, count in zip(*(np.where(filled, part, None) for part in curve[:2]), curve.counts)
        ]
    shares.set(ylabel="share that is right (IoU ≥ 0.5)", xlim=(0, 1), ylim=(0, 1))
    shares.legend(frameon=False)
    counts.set(xlabel="what a detection says", ylabel="detections", yscale="log")
    for axes in (shares, counts):
        axes.grid(color="0.85", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    table = path.with_suffix(".csv")
    write_csv(table, rows)
    return path, table
