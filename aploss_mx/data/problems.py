"""Collect problems found in a data set, and raise the error that names them all. Knows no data format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

from aploss_mx.text import cut, visible

ERROR = "error"
WARNING = "warning"

# Kinds that every reader of annotations reports, one problem a box.
BOX_LEFT_OUT = "box left out"
BOX_CLIPPED = "box clipped"
AREA_FROM_BOX = "area taken from the box"
NOT_TRAINED = "left out of training"
BOX_BELOW_PIXEL = "boxes below a pixel"
SIZE_MISMATCH = "size mismatch"

SHOWN_PER_KIND = 10
LONGEST_ENTRY = 4000  # characters; names from files may be of any length


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file.

    Attributes
    ----------
    severity : str
        `ERROR` (training on it would be wrong or would fail) or `WARNING` (dealt with, worth knowing).
    kind : str
        A few words that problems of one sort share; reports group by it.
    file : str
        The file at fault, or the data set's name where no single file is.
    message : str
        What is wrong and what to do about it.
    image : path-like, or None
        The picture in which it can be seen, whether or not it can be read; None where there is no such picture.
    box : sequence of 4 floats, or None
        The box in question, as annotated: corners [x1, y1, x2, y2] in the image's pixels; None where it is all of them.
    """

    severity: str
    kind: str
    file: str
    message: str
    image: str | Path | None = None
    box: Sequence[float] | None = None


class DataError(ValueError):
    """The data cannot be used.

    Attributes
    ----------
    problems : list of Problem
        Every error, not only the first; as text they are grouped by kind, each kind capped.
    """

    def __init__(self, problems: Sequence[Problem]):
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join([f"errors in the data ({len(self.problems)})", *format_problems(self.problems)])


def raise_if_errors(problems: Iterable[Problem]) -> None:
    """Raise one `DataError` with all of the `problems` that are errors, if there are any."""
    errors = [problem for problem in problems if problem.severity == ERROR]
    if errors:
        raise DataError(errors)


def format_problems(problems: Iterable[Problem]) -> list[str]:
    """Lines that show the problems by kind, each kind with its count and at most `SHOWN_PER_KIND` files."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(
            "    " + cut(visible(f"{problem.file}: {problem.message}"), LONGEST_ENTRY)
        )
    lines = []
    for kind, entries in kinds.items():
        lines.append(f"  {kind} ({len(entries)})")
        lines += entries[:SHOWN_PER_KIND]
        if len(entries) > SHOWN_PER_KIND:
            lines.append(f"    ... and {len(entries) - SHOWN_PER_KIND} more")
    return lines


def shortened(names: Sequence[str], limit: int = 100) -> str:
    """The names joined by commas, those past `limit` only counted."""
    more = f", ... and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
