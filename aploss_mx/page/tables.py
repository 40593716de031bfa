"""Lay out tables: numbers to the right, sorted by a click on a column's head."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from markupsafe import Markup

from aploss_mx.page.render import percent, render

NAMED = 8  # classes


class Column(NamedTuple):
    """A column of a table.

    Attributes
    ----------
    name : str
    form : str
        How numbers are written: a format such as ``.2f`` or ``,``; ``%`` for shares of 1 in percent; '' for text.
    """

    name: str
    form: str = ""

    def text(self, value: Any) -> str:
        if not self.form:
            return str(value)
        if value is None or value != value:
            return "–"
        return percent(value) if self.form == "%" else format(value, self.form)


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], caption: str, *, last: bool = False) -> Markup:
    """Return a table; a cell of None or nan shows a dash.

    Parameters
    ----------
    columns : sequence of Column
    rows : sequence of sequences
        A cell for each column.
    caption : str
        What it shows, for readers who listen to it, too.
    last : bool
        The last row is a total: it stands apart, and stays last when the table is sorted.
    """
    cells = [[(value, column.text(value)) for column, value in zip(columns, row)] for row in rows]
    return render("table.html", columns=columns, rows=cells, caption=caption, last=last)


def fewest(counts: Mapping[str, int]) -> str:
    """Return which classes have the fewest, as text: their names with their counts, and how many more there are."""
    ordered = sorted(counts.items(), key=lambda item: item[1])
    more = f" and {len(ordered) - NAMED} more classes" if len(ordered) > NAMED else ""
    return ", ".join(f"{name} ({count})" for name, count in ordered[:NAMED]) + more
