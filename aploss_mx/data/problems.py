"""Problems found in a data set, and the error that names them all. Knows no data format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

ERROR = "error"
WARNING = "warning"

# Kinds that every reader of annotations reports, one problem a box.
BOX_LEFT_OUT = "box left out"
BOX_CLIPPED = "box clipped"
BOX_BELOW_PIXEL = "boxes below a pixel"

SHOWN_PER_KIND = 10


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
    """

    severity: str
    kind: str
    file: str
    message: str


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


def existing_folder(root: str | Path) -> Path:
    """Return the absolute path of a data set's folder; raise a `DataError` where there is none."""
    folder = Path(root).expanduser().absolute()
    if not os.path.isdir(folder):
        raise DataError([Problem(ERROR, "no such folder", str(folder), "correct --dataset-root, or make it")])
    return folder


def format_problems(problems: Iterable[Problem]) -> list[str]:
    """Lines that show the problems by kind, each kind with its count and at most `SHOWN_PER_KIND` files."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(f"    {problem.file}: {problem.message}")
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


def shortened_text(text: str, limit: int = 100) -> str:
    """The text, or its beginning and its length where it is long."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text)} characters)"
