"""How VOC's lists of images are found: years, folders without them, columns, repeated names."""

from __future__ import annotations

from pathlib import Path

import pytest
from voc_files import error_of, object_xml, write_image, write_split

from aploss_mx.data.voc import VOCDetection
from aploss_mx.data.voc_splits import find_split


def devkit(root: Path) -> Path:
    """VOC2007 with train (a) and val (b); VOC2012 with train (c)."""
    for year, split, stem in (("2007", "train", "a"), ("2007", "val", "b"), ("2012", "train", "c")):
        write_image(root / f"VOC{year}", stem, object_xml("cat", (1, 1, 5, 5)))
        write_split(root / f"VOC{year}", split, stem)
    return root


def ids(root: Path, splits: str) -> list[str]:
    return [sample.image_id for sample in VOCDetection(root, splits)]


@pytest.mark.parametrize(
    "splits, expected",
    [("2007_train", "a"), ("2007_train+2012_train", "ac"), ("2012_train+2007_val+2007_train", "cba"), ("val", "b")],
)
def test_splits_join_in_order(tmp_path, splits, expected):
    assert ids(devkit(tmp_path), splits) == list(expected)


@pytest.mark.parametrize("split", ["train", "2007_train"])
def test_root_may_be_the_year_folder(tmp_path, split):
    assert ids(devkit(tmp_path) / "VOC2007", split) == ["a"]


def test_relative_root(tmp_path, monkeypatch):
    monkeypatch.chdir(devkit(tmp_path) / "VOC2007")
    assert ids(Path("."), "2007_train") == ["a"]
    assert "missing split" in error_of(Path("."), "2012_train")


def test_year_folder_does_not_answer_for_another_year(tmp_path):
    assert "missing split" in error_of(devkit(tmp_path) / "VOC2007", "2012_train")


@pytest.mark.parametrize("split", ["test", "2007_test"])
def test_bccd_layout_has_no_year_level(tmp_path, split):
    write_image(tmp_path, "a", object_xml("cat", (1, 1, 5, 5)))
    write_split(tmp_path, "test", "a")
    assert ids(tmp_path, split) == ["a"]


def test_list_named_with_a_year_in_a_folder_without_years(tmp_path):
    write_split(tmp_path, "2021_new", "a")
    assert find_split(tmp_path, "2021_new").name == "2021_new.txt"


@pytest.mark.parametrize("split", ["folds/1", "2007_folds/1", "../Layout/train"])
def test_lists_may_be_in_other_folders_of_imagesets(tmp_path, split):
    folder = devkit(tmp_path) / "VOC2007"
    for path in ("Main/folds/1.txt", "Layout/train.txt"):
        (folder / "ImageSets" / path).parent.mkdir()
        (folder / "ImageSets" / path).write_text("a")
    assert ids(tmp_path, split) == ["a"]


def test_a_list_elsewhere_is_none_of_the_data(tmp_path):
    (tmp_path / "mine.txt").write_text("a")
    assert "missing split" in error_of(devkit(tmp_path), str(tmp_path / "mine"))


def test_split_in_two_years_needs_its_year(tmp_path):
    message = error_of(devkit(tmp_path), "train")
    assert "ambiguous split" in message and "VOC2007" in message and "VOC2012" in message


def test_missing_split_lists_what_was_tried_and_what_exists(tmp_path):
    message = error_of(devkit(tmp_path), "2007_trainval")
    assert str(tmp_path / "VOC2007" / "ImageSets" / "Main" / "trainval.txt") in message
    assert "2007_train, 2007_val, 2012_train" in message


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_split(tmp_path, text):
    write_split(tmp_path, "train", text)
    message = error_of(tmp_path, "train")
    assert "empty split" in message and "train.txt" in message


def test_split_that_is_no_text(tmp_path):
    write_split(tmp_path, "train", "")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\x00")
    assert "unreadable split" in error_of(tmp_path, "train")


def test_columns_blank_lines_and_a_byte_order_mark(tmp_path):
    for stem in "abc":
        write_image(tmp_path, stem)
    write_split(tmp_path, "cat_train", "\ufeffa  1\n\nb -1\r\n  c 0\n")
    assert ids(tmp_path, "cat_train") == ["a", "b", "c"]


def test_image_listed_twice_is_read_once(tmp_path):
    write_image(tmp_path, "a")
    write_split(tmp_path, "train", "a\na\n")
    write_split(tmp_path, "trainval", "a\n")
    dataset = VOCDetection(tmp_path, "train+trainval")
    assert len(dataset) == 1
    assert [(problem.severity, problem.kind) for problem in dataset.problems] == [("warning", "repeated image")] * 2


def test_two_names_for_one_list(tmp_path):
    write_split(tmp_path, "train", "a")
    assert "both 2007_train and 2012_train lead to it" in error_of(tmp_path, "2007_train+2012_train")


def test_two_images_of_one_name(tmp_path):
    devkit(tmp_path)
    write_split(tmp_path / "VOC2012", "train", "a")
    message = error_of(tmp_path, "2007_train+2012_train")
    assert "repeated image name" in message and str(Path("VOC2012", "Annotations", "a.xml")) in message
