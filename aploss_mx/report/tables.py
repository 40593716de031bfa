"""Set measured metrics beside the paper's: a CSV file for each table, and Markdown and a summary made of it alone."""

from __future__ import annotations

import statistics
from itertools import groupby
from pathlib import Path
from typing import Any, Mapping, Sequence

import pandas as pd

from aploss_mx.atomic import write_csv
from aploss_mx.report.markdown import format_head, format_row
from aploss_mx.report.paper import AP_METRICS, COCO_METRICS
from aploss_mx.report.plan import SCALES, rows_of

COLUMNS = ("row", "seed", *COCO_METRICS, "epoch", "commit")
SUMMARY_COLUMNS = ("row", "figure", "paper", "seeds", "mean", "deviation", "difference")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table's CSV file; none where there is no file."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.exists() else []


def measured_row(row: str, seed: int, metrics: Mapping[str, Any], commit: str) -> dict[str, str]:
    """Return a CSV row of what `evaluation.evaluate` returned, in percent."""
    figures = {name: "" if metrics[name] is None else f"{100 * metrics[name]:.2f}" for name in COCO_METRICS}
    return {"row": row, "seed": str(seed), **figures, "epoch": str(metrics.get("epoch", "")), "commit": commit}


def update_rows(path: Path, new: Sequence[Mapping[str, str]]) -> None:
    """Write rows to a table's CSV file, in place of those of the same row and seed."""
    rows = pd.DataFrame([*read_rows(path), *new], columns=COLUMNS).drop_duplicates(["row", "seed"], keep="last")
    rows = rows.sort_values(["row", "seed"], key=lambda column: column.astype(int if column.name == "seed" else str))
    write_csv(path, rows.to_dict("records"), COLUMNS)


def summarise(table: str, scale_name: str, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return a row for each metric of a table, in the order of the paper: SUMMARY_COLUMNS, in percent."""
    published = rows_of(table, SCALES[scale_name])
    named = [name for name in COCO_METRICS if any(name in row.metrics for row in published)]
    summary = []
    for row in published:
        for name in named or AP_METRICS:
            values = [float(one[name]) for one in rows if one["row"] == row.name and one[name]]
            paper = row.metrics.get(name)
            mean = statistics.mean(values) if values else None
            summary.append({
                "row": row.name,
                "figure": name,
                "paper": paper,
                "seeds": len(values),
                "mean": mean,
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "difference": None if None in (mean, paper) else mean - paper,
            })  # fmt: skip
    return summary


def write_summary(path: Path, summary: Sequence[Mapping[str, Any]]) -> None:
    """Write what `summarise` returned as CSV."""
    rounded = (
        {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in one.items()} for one in summary
    )
    write_csv(path, list(rounded), SUMMARY_COLUMNS)


def format_table(table: str, scale_name: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Lay out a table's CSV rows as Markdown, its metrics and the differences beside the paper's."""
    summary = summarise(table, scale_name, rows)
    names = list(dict.fromkeys(one["figure"] for one in summary))
    compared = any(one["paper"] is not None for one in summary)
    heads = [head for name in names for head in ((f"{name} paper", "here", "difference") if compared else (name,))]
    lines = [
        f"# {_sentence(table.replace('table', 'table ').replace('_', ' '))}, scale `{scale_name}`",
        "",
        f"{_sentence(SCALES[scale_name].describe(table))}.",
        "",
        format_head(["row", "seeds", *heads], texts=1),
    ]
    for row, figures in groupby(summary, key=lambda one: one["row"]):
        figures = list(figures)
        cells = [cell for one in figures for cell in (_cells(one) if compared else _cells(one)[1:2])]
        lines.append(format_row([row, max(one["seeds"] for one in figures), *cells]))
    return "\n".join([*lines, "", _noise([one for one in summary if one["figure"] == names[0]])]) + "\n"


def _noise(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence on how far seeds move the first metric."""
    repeated = [one for one in summary if one["seeds"] > 1]
    if not repeated:
        return "In percent, one seed a row: how large noise is was not measured."
    freedom = [one["seeds"] - 1 for one in repeated]
    variance = sum(degrees * one["deviation"] ** 2 for degrees, one in zip(freedom, repeated)) / sum(freedom)
    single = sum(one["seeds"] == 1 for one in summary)
    alone = f" Rows of one seed, which say less: {single}." if single else ""
    return (
        f"In percent; mean ± standard deviation over seeds. Seeds make a row vary by {variance**0.5:.1f} "
        f"{repeated[0]['figure']} (standard deviation, pooled over rows of several): smaller differences "
        f"between rows are noise.{alone}"
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _cells(one: Mapping[str, Any]) -> tuple[str, str, str]:
    here = _number(one["mean"]) + ("" if one["deviation"] is None else f" ± {one['deviation']:.1f}")
    return _number(one["paper"]), here, _number(one["difference"], "+")


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.1f}"
