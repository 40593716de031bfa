"""Read ``.npz`` archives that may be damaged, or made to do harm, and write MXNet's ``.params`` files whole."""

from __future__ import annotations

import errno
import math
import zipfile
from pathlib import Path
from typing import IO, Mapping

import mxnet as mx
import numpy as np

from aploss_mx.atomic import replacing

# Weights hardly compress: what claims to be many times the file is a bomb, or nonsense.
LARGEST_RATIO, FREE_BYTES = 20, 1 << 24
HEADER_BYTES = 1 << 16
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class ArchiveError(ValueError):
    """A file that is no whole ``.npz`` archive; the message says why."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an archive by name; nothing in it is unpickled, and nothing read that it cannot hold.

    Raises
    ------
    OSError
        If there is no such file or it cannot be read.
    ArchiveError
        If it is cut off, damaged, no archive, or has members that are no plain arrays or claim too much memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, path.stat().st_size)
            return {member.filename[: -len(".npy")]: _read_array(archive, member) for member in members}
    except (OSError, ArchiveError):
        raise
    except MemoryError:
        raise ArchiveError("it does not fit in memory") from None
    except Exception as error:  # damage surfaces as whatever zipfile, zlib, or the parser of NumPy's headers raises
        raise ArchiveError(f"{type(error).__name__}: {error}") from error


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [member.filename for member in members]
    odd = [name for name in names if not name.endswith(".npy")]
    if odd:
        raise ArchiveError(f"member {odd[0][:40]!r} is no .npy file")
    if len(set(names)) < len(names):
        raise ArchiveError("two members share a name")
    if any(member.compress_type not in METHODS for member in members):
        raise ArchiveError("it is compressed in a way that NumPy does not write")
    claimed = sum(member.file_size for member in members)
    if claimed > LARGEST_RATIO * size + FREE_BYTES:
        raise ArchiveError(f"its members claim {claimed / 1e9:.3g} GB, in a file of {size / 1e6:.3g} MB")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        shape, dtype = _read_header(file)
        if dtype.hasobject:
            raise ArchiveError(f"{member.filename} holds Python objects")
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or claimed != member.file_size - file.tell():
            raise ArchiveError(f"the header of {member.filename} claims {claimed:.3g} bytes, and it has others")
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # at the end of the file its checksum is compared
        return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ArchiveError(f"NumPy's format {version} is none of arrays of numbers")
    size_bytes = 2 if version == (1, 0) else 4
    length = int.from_bytes(file.read(size_bytes), "little")
    if length > HEADER_BYTES:
        raise ArchiveError("an array's header is longer than any")
    file.seek(-size_bytes, 1)
    shape, _, dtype = HEADERS[version](file)
    return shape, dtype


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
