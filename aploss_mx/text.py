"""Make text from files and file names fit to be shown."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Controls of terminals and of the direction of writing, and halves of characters, as which Python reads foreign bytes.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, lines: bool = False) -> str:
    """Return text with escapes such as ``\\x1b`` for what would act on a terminal or cannot be written.

    Line breaks stay where `lines` says that there may be several.
    """
    return _HIDDEN.sub(lambda found: found[0] if lines and found[0] == "\n" else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def cut(text: str, limit: int = 100) -> str:
    """Return the text, or its beginning and its length where it is long."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text)} characters)"


def shown(value: Any) -> str:
    """Return a value as Python writes it, shortened; its type alone where that fails, as with huge or deep ones."""
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"


def unicode_forms(name: str) -> list[str]:
    """Return a file's name as it is written, and with its accents as other systems write them: composed, or apart."""
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]))
