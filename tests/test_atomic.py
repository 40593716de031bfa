"""A file is its old self until the new one is complete, and nothing else is left behind."""

from __future__ import annotations

import pytest

from aploss_mx.atomic import replacing


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


def test_failure_leaves_no_new_file(tmp_path):
    with pytest.raises(ValueError), replacing(tmp_path / "run.json") as temporary:
        temporary.write_text("ne")
        raise ValueError
    assert files_in(tmp_path) == []


def test_block_that_writes_nothing_fails_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_two_files_of_one_folder_do_not_meet(tmp_path):
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "b") as second:
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() + (tmp_path / "b").read_text() == "12"
