"""Read ``.npz`` archives that may be damaged, and write MXNet's ``.params`` files whole."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path
from typing import Mapping

import mxnet as mx
import numpy as np

from aploss_mx.atomic import replacing


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


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as `numpy.savez` does, which leaves its archive open where the disk is full, as `replacing` does."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def write_params(path: Path, arrays: Mapping[str, mx.nd.NDArray]) -> None:
    """Write arrays as `mx.nd.save` does, as `replacing` does.

    Raises
    ------
    OSError
        If the file could not be written whole, of which MXNet says nothing.
    """
    with replacing(path) as temporary:
        mx.nd.save(str(temporary), arrays)
        try:
            mx.nd.load(str(temporary))
        except mx.MXNetError as error:
            raise OSError(errno.ENOSPC, "could not be written whole; is the disk full?", str(path)) from error
