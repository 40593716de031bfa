"""Lay out tables as Markdown."""

from __future__ import annotations

from typing import Iterable, Sequence


def format_row(cells: Iterable[object]) -> str:
    """Return one row."""
    return "| " + " | ".join(map(str, cells)) + " |"


def format_head(names: Sequence[str], texts: int = 0) -> str:
    """Return the head of a table, of which the first `texts` columns are texts and the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(names) - texts)
    return f"{format_row(names)}\n{format_row(rule)}"
