"""Measured figures beside the paper's: a CSV file for each table, and Markdown made of it alone."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any, Mapping, Sequence

from aploss_mx.atomic import write_csv
from aploss_mx.report.published import AP_FIGURES, COCO_FIGURES
from aploss_mx.report.trials import SCALES, rows_of

COLUMNS = ("row", "seed", *COCO_FIGURES, "epoch", "commit")
KEY = ("row", "seed")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table's CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured_row(row: str, seed: int, metrics: Mapping[str, Any], commit: str) -> dict[str, str]:
    """Return a CSV row of what `evaluation.evaluate` returned, in percent."""
    figures = {name: "" if metrics[name] is None else f"{100 * metrics[name]:.2f}" for name in COCO_FIGURES}
    return {"row": row, "seed": str(seed), **figures, "epoch": str(metrics.get("epoch", "")), "commit": commit}


def update_rows(path: Path, new: Sequence[Mapping[str, str]]) -> None:
    """Write rows to a table's CSV file, in place of those of the same row and seed."""
    rows = {tuple(row[name] for name in KEY): row for row in [*read_rows(path), *new]}
    write_csv(path, [rows[key] for key in sorted(rows, key=lambda key: (key[0], int(key[1])))], COLUMNS)


def format_table(table: str, scale_name: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Lay out a table's CSV rows as Markdown, in the order of the paper, its figures and the differences beside."""
    scale = SCALES[scale_name]
    published = {row.row: row.figures for row in rows_of(table, scale)}
    names = [name for name in COCO_FIGURES if any(name in figures for figures in published.values())]
    lines = [f"# {_title(table)}, scale `{scale_name}`", "", f"{_sentence(scale.what)}.", ""]
    if names:
        heads = [head for name in names for head in (f"{name} paper", "here", "difference")]
    else:
        lines += [
            "Here, trained on four fifths of the training images and tested on the rest, to choose the rates.",
            "",
        ]
        heads = names = list(AP_FIGURES)
    lines.append("| row | seeds | " + " | ".join(heads) + " |")
    lines.append("| --- | ---: |" + " ---: |" * len(heads))
    for row, figures in published.items():
        measured = [one for one in rows if one["row"] == row]
        cells = [cell for name in names for cell in _cells(figures.get(name), [one[name] for one in measured])]
        lines.append(f"| {row} | {len(measured)} | " + " | ".join(cells if figures else cells[1::3]) + " |")
    spread = [value for value in (_spread(rows, row, names[0]) for row in published) if value is not None]
    lines += ["", "In percent; mean ± standard deviation over seeds."]
    if spread:
        lines.append(f"Differences between rows below {max(spread):.1f} {names[0]} are no more than seeds make: noise.")
    else:
        lines.append("One seed a row: how large noise is was not measured.")
    return "\n".join(lines) + "\n"


def _title(name: str) -> str:
    return _sentence(name.replace("table", "table ").replace("_", " "))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _cells(published: float | None, measured: Sequence[str]) -> tuple[str, str, str]:
    values = [float(value) for value in measured if value]
    paper = "–" if published is None else f"{published:.1f}"
    if not values:
        return paper, "–", "–"
    mean = statistics.mean(values)
    here = f"{mean:.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")
    return paper, here, "–" if published is None else f"{mean - published:+.1f}"


def _spread(rows: Sequence[Mapping[str, str]], row: str, name: str) -> float | None:
    values = [float(one[name]) for one in rows if one["row"] == row and one[name]]
    return statistics.stdev(values) if len(values) > 1 else None
