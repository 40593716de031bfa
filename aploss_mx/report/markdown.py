"""Lay out tables as Markdown, and show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from aploss_mx.atomic import write_csv


def format_row(cells: Iterable[object]) -> str:
    """Return one row."""
    return "| " + " | ".join(map(str, cells)) + " |"


def format_head(names: Sequence[str], texts: int = 0) -> str:
    """Return the head of a table, of which the first `texts` columns are texts and the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(names) - texts)
    return f"{format_row(names)}\n{format_row(rule)}"


def show_table(rows: Sequence[Mapping[str, Any]], texts: int, output: Path | None) -> None:
    """Print rows, whose first `texts` columns are texts; write them as CSV where `output` names a file."""
    print(f"\n{format_head(list(rows[0]), texts)}")
    for row in rows:
        print(format_row(row.values()))
    if output:
        write_csv(output, rows)
        print(f"wrote {output}")
