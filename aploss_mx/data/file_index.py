"""Find files by their names without suffix, in a folder and below it, and folders by their names in any case."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Collection, Iterator


class FileIndex:
    """The files of a folder that have one of some suffixes, whatever its case; the folder is read when first asked.

    Links to folders are followed.

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
        for parent, names in _walk(self.folder):
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


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders and the names of their files; what links lead to comes last, each folder once, so that none loops."""
    # A link to a folder above leads back here, and to files that are none of this folder's.
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    waiting = [str(folder)]
    for top in waiting:
        for parent, folders, names in os.walk(top):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            waiting += filter(os.path.islink, (os.path.join(parent, name) for name in folders))
            yield parent, names


class FolderIndex:
    """The folders in a folder by their names; it is listed once, when a name is asked for that none has as spelled.

    Parameters
    ----------
    parent : Path
        It need not exist.
    """

    def __init__(self, parent: Path):
        self.parent = parent
        self._found: dict[str, list[Path]] = {}

    def find(self, name: str) -> list[Path]:
        """Folders of a name: in the case that is given, else in any."""
        if name not in self._found:
            path = self.parent / name
            self._found[name] = [path] if os.path.isdir(path) else self._spellings.get(name.lower(), [])
        return self._found[name]

    @cached_property
    def _spellings(self) -> dict[str, list[Path]]:
        """Folders by name in lower case."""
        spellings: dict[str, list[Path]] = {}
        if os.path.isdir(self.parent):
            with os.scandir(self.parent) as items:
                for name in sorted(item.name for item in items if item.is_dir()):
                    spellings.setdefault(name.lower(), []).append(self.parent / name)
        return spellings
