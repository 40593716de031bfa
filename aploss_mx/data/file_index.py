"""Find the files of a folder, and of those below it, by their names without suffix."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Collection


class FileIndex:
    """The files of a folder that have one of some suffixes, whatever its case; the folder is read when first asked.

    Parameters
    ----------
    folder : Path
    suffixes : collection of str
        In lower case, with their dot.
    """

    def __init__(self, folder: Path, suffixes: Collection[str]):
        self.folder = folder
        self.suffixes = suffixes

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Files by name: the path from the folder with ``/`` and without suffix."""
        files: dict[str, list[Path]] = {}
        for parent, _, names in os.walk(self.folder):
            for name in sorted(names):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in self.suffixes:
                    path = Path(parent, name)
                    files.setdefault(path.with_name(stem).relative_to(self.folder).as_posix(), []).append(path)
        return files

    @cached_property
    def names_by_stem(self) -> dict[str, list[str]]:
        """Names that end in the same way, by their last part."""
        names: dict[str, list[str]] = {}
        for name in sorted(self.files):
            names.setdefault(name.rpartition("/")[2], []).append(name)
        return names
