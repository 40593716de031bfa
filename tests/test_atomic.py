"""A file is its old self until the new one is complete, and nothing else is left behind."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from aploss_mx.archive import write_npz, write_params
from aploss_mx.atomic import remove_unfinished, replacing, write_csv, write_text
from aploss_mx.report.draw import write_picture


def files_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_file_and_its_folders_appear(tmp_path):
    path = tmp_path / "a" / "b" / "run.json"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename is atomic on one file system only"
    assert path.read_text() == "new"
    assert files_in(path.parent) == ["run.json"]


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "я" * 125 + ".npz"])
def test_the_longest_names_can_be_written(tmp_path, name):
    """Of 255 bytes, whatever the temporary file is called."""
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
        remove_unfinished(tmp_path, "*.json")
        assert temporary.exists() and temporary.suffix == Path(name).suffix
    assert files_in(tmp_path) == [name]


def test_a_name_that_is_too_long_is_told_by_its_own(tmp_path):
    with pytest.raises(OSError, match="too long.*n{256}'$"), replacing(tmp_path / ("n" * 256)) as temporary:
        temporary.write_text("new")
    assert files_in(tmp_path) == []


def test_old_content_stays_until_the_end(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with replacing(str(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert files_in(tmp_path) == ["run.json"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_failure_keeps_the_old_file_and_clears_up(tmp_path, error):
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert files_in(tmp_path) == ["run.json"]


def test_block_that_writes_nothing_fails_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_foreign_bytes_of_a_name_are_written_as_escapes(tmp_path):
    write_csv(tmp_path / "table.csv", [{"checkpoint": os.fsdecode(b"\xffrun/last.npz")}])
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "checkpoint\n\\udcffrun/last.npz\n"


def test_two_at_once_on_one_file_do_not_mix(tmp_path):
    path = tmp_path / "last.npz"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert files_in(tmp_path) == ["last.npz"]


def test_links_are_replaced_and_not_written_through(tmp_path):
    other, path = tmp_path / "other", tmp_path / "run.json"
    other.write_text("precious")
    path.symlink_to(other)
    write_text(path, "new")
    assert (other.read_text(), path.read_text(), path.is_symlink()) == ("precious", "new", False)


@pytest.mark.parametrize("linked", [False, True])
def test_pipes_are_written_and_not_replaced(tmp_path, linked):
    """And so are devices, which tests cannot make."""
    pipe, path = tmp_path / "pipe", tmp_path / "link" if linked else tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path.symlink_to(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "new")
    assert os.read(reading, 9) == b"new"
    os.close(reading)
    assert pipe.is_fifo() and path.is_symlink() == linked


KILLED = """
import os, signal, sys
from pathlib import Path
from aploss_mx.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_found(tmp_path):
    path = tmp_path / "last.npz"
    path.write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_text() == "old" and len(files_in(tmp_path)) == 2
    remove_unfinished(tmp_path, "*.json")
    assert len(files_in(tmp_path)) == 2
    remove_unfinished(tmp_path, "*.npz")
    assert files_in(tmp_path) == ["last.npz"]


WRITERS = {
    "archive": lambda path: write_npz(path, {"x": np.ones(100), "y": np.ones(10)}),
    "archive's list of contents": lambda path: write_npz(path, {"x": np.ones(80), "y": np.ones(1)}),
    "text": lambda path: write_text(path, "a" * 5000),
    "arrays": lambda path: write_params(path, {"x": mx.nd.ones(1000)}),
    "last bytes of arrays": lambda path: write_params(path, {"x": mx.nd.ones(235)}),
    "picture": lambda path: write_picture(path, np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)),
}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_names_the_file(tmp_path, write):
    path = tmp_path / "run.png"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # for tests what a full disk is for users
    try:
        with pytest.raises(OSError, match=f"'{path}'"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert files_in(tmp_path) == ["run.png"]
