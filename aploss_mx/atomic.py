"""Write files that are whole or not there: a reader, or a power cut, never meets a half-written one."""

from __future__ import annotations

import csv
import errno
import io
import os
import secrets
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

UNFINISHED = ".unfinished."
LONGEST_NAME = 255  # bytes that file systems take
# What a training keeps in its folder, which recipe.yaml tells from others.
OF_A_TRAINING = (
    "recipe.yaml", "run.json", "metrics.csv", "metrics.json", "detections.json", "curves.png", "best.npz", "last.npz",
)  # fmt: skip


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Give errors of the system, such as a full disk, the name of the file where they have none, or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write, and move it over `path` when the block ends well.

    The temporary file stands beside `path` under a name of its own, since others may write `path` at the same time. It
    is removed if the block fails, and where the process was killed, `remove_unfinished` finds it. Its folder is made
    if need be. A device or a pipe is written itself, such as ``/dev/null``.

    Raises
    ------
    OSError
        Of the block, such as a disk that is full; names `path` if it names no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_device(path):
        with naming(path):
            yield path
        return
    start, name = f"{UNFINISHED}{secrets.token_hex(4)}.", path.name
    while len(os.fsencode(start + name)) > LONGEST_NAME:
        name = name[1:]
    temporary = path.with_name(start + name)
    try:
        with naming(path, temporary):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raise OSError where a file could not be written, or a training's be lost, before the work whose result it is."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.name in OF_A_TRAINING and path.exists() and path.with_name("recipe.yaml").exists():
        raise FileExistsError(errno.EEXIST, "a training keeps its own here", str(path))
    if not _is_device(path):
        check_target_folder(path.parent)


def check_target_folder(path: Path) -> None:
    """Raise OSError where no file could be written into a folder.

    Nothing is made, no missing folder either: the work may come to nothing.
    """
    path = path.absolute()
    nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(nearest)) from error


def _is_device(path: Path) -> bool:
    """Whether a path is written itself: a file in its place would be no device any more, and /dev/stdout no link."""
    return path.exists() and (not (path.is_file() or path.is_dir()) or path.parent.absolute() == Path("/dev"))


def free_path(path: Path) -> Path:
    """Return the path, or the first of its names with _2, _3 and so on that no file has."""
    if not path.exists():
        return path
    others = (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in count(2))
    return next(other for other in others if not other.exists())


def remove_unfinished(folder: Path, pattern: str) -> None:
    """Remove what killed processes left of files named like `pattern`, which nobody may be writing."""
    for file in folder.glob(f"{UNFINISHED}*.{pattern}"):
        file.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, UTF-8, as `replacing` does; what no UTF-8 has, of foreign bytes in a name, as escapes."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV, atomically; the columns are those of the first row where they are not given."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
