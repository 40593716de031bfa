"""Find fields of annotations that are not read, but look like one that is."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Iterable

LIKENESS = 0.85  # of difflib, from 0 to 1: one letter of six may be wrong
# What other tools call an object that does not count.
SYNONYMS = {"ignore": "difficult", "ignored": "difficult", "crowd": "iscrowd", "iscrowd": "difficult"}


@lru_cache(maxsize=4096)
def look_alike(name: str, known: tuple[str, ...]) -> str | None:
    """Return the one of the `known` fields that a field looks like without being it, None if there is none."""
    if name in known:
        return None
    plain = {_plain(field): field for field in known}
    meant = _plain(name)
    while meant not in plain and meant in SYNONYMS:
        meant = SYNONYMS[meant]
    if meant == "difficult" and "iscrowd" in plain:
        meant = "iscrowd"
    near = [meant] if meant in plain else difflib.get_close_matches(meant, plain, 1, LIKENESS)
    return plain[near[0]] if near else None


def hint(names: Iterable[str], missing: str) -> str:
    """Return words on a field that looks like a missing one, for a message; '' if there is none."""
    return next((f"; it has {name!r}, which looks like it" for name in names if look_alike(name, (missing,))), "")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())
