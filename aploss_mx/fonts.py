"""Find a font that has the letters of a text: class names may be of any alphabet."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

DIGITS = frozenset("0123456789.")
DEJAVU = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@lru_cache(maxsize=256)
def font_of(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of `size` pixels that has all letters of a text: DejaVu Sans, or one of the system's.

    Where there is none, DejaVu Sans with a warning, once whatever number follows a name: what it lacks is drawn as
    boxes.
    """
    letters = frozenset(text)
    return ImageFont.truetype(_file_of(letters | DIGITS if letters & DIGITS else letters), size)


@lru_cache(maxsize=256)
def _file_of(letters: frozenset[str]) -> str:
    wanted = {ord(letter) for letter in letters if letter.isprintable() and not letter.isspace()}
    if wanted <= _letters(DEJAVU):
        return DEJAVU
    for path in _system_fonts():  # which takes a moment to find out
        if wanted <= _letters(path):
            return path
    shown = "".join(map(chr, sorted(wanted)))
    warnings.warn(f"no font here has all letters of {shown!r}: install one that has, such as Noto", stacklevel=2)
    return DEJAVU


def families_of(text: str) -> list[str]:
    """Return the families that matplotlib finds the letters of a text in: DejaVu Sans, and one that has what it lacks.

    Where there is none, DejaVu Sans alone, with a warning.
    """
    other = _file_of(frozenset(letter for letter in text if ord(letter) not in _letters(DEJAVU)))
    font_manager.fontManager.addfont(other)
    return [font_manager.FontProperties(fname=path).get_name() for path in dict.fromkeys((DEJAVU, other))]


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    return tuple(sorted(font_manager.findSystemFonts()))


@lru_cache(maxsize=None)
def _letters(path: str) -> frozenset[int]:
    try:
        font = FT2Font(path)
        # Pillow draws fonts of bitmaps, such as coloured emoji, in their own size alone.
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError):  # a file that is no font
        return frozenset()
