"""Reading ``.npz`` archives that may be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class ArchiveError(ValueError):
    """A file that is no whole ``.npz`` archive; the message says why."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an archive by name; nothing in it is unpickled.

    Raises
    ------
    OSError
        If there is no such file or it cannot be read.
    ArchiveError
        If it is cut off, damaged or no archive.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ArchiveError("it holds a single array, not an archive")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, MemoryError, ArchiveError):
        raise
    except Exception as error:  # damage surfaces as whatever zipfile, zlib, or the parser of NumPy's headers raises
        raise ArchiveError(f"{type(error).__name__}: {error}") from error
