"""Progress on a terminal as a bar, and in a log as a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any, Iterable, Iterator, Sized

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 60.0
PROGRESS_BAR_FROM = 2000  # files; fewer are read before a bar would be of use


def track(
    items: Iterable | None = None,
    desc: str = "",
    total: int | None = None,
    initial: int = 0,
    unit: str = "it",
    leave: bool = True,
    hidden: bool = False,
) -> Any:
    """Return a bar of tqdm where standard error is a terminal, else what writes a line a minute there.

    The arguments are tqdm's; `hidden` shows neither. Of a bar's methods, `Lines` has those that are used here.
    """
    if hidden or sys.stderr.isatty():
        return tqdm(items, desc, total, initial=initial, unit=unit, leave=leave, disable=hidden)
    return Lines(items, desc, total, initial, unit)


class Lines:
    """Says how far a work is, once a minute, and nothing where it takes less; the arguments are `track`'s."""

    def __init__(self, items: Iterable | None, desc: str, total: int | None, initial: int, unit: str):
        self._items: Iterable = () if items is None else items
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._done = initial
        self._unit = unit
        self._desc, self._postfix = desc, ""
        self._said = time.monotonic()

    def __iter__(self) -> Iterator:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_description(self, desc: str) -> None:
        """Change the words before the numbers."""
        self._desc = desc

    def set_postfix_str(self, postfix: str) -> None:
        """Change the words behind the numbers."""
        self._postfix = postfix

    def update(self, count: int = 1) -> None:
        """Count what was done, and say so if it is time."""
        self._done += count
        if time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            parts = [f"{self._desc}: {self._done}{of} {self._unit}" if self._desc else f"{self._done}{of} {self._unit}"]
            print(", ".join(filter(None, [*parts, self._postfix])), file=sys.stderr, flush=True)
