"""A part of the training images is held out, and never mixed with that of another data set."""

from __future__ import annotations

import pytest
from tiny_training import paint_shapes

from aploss_mx.report.held_out import hold_out

SPLITS = ("2007_train", "2007_val")


def test_every_fifth_training_image_is_held_out_from_the_rest(tmp_path):
    root = paint_shapes(tmp_path / "data", num_train=11)
    (tmp_path / "held_out").mkdir()
    for _ in range(2):
        hold_out(root, tmp_path / "held_out", *SPLITS)
    listed = [(tmp_path / "held_out" / "ImageSets" / "Main" / f"{split}.txt").read_text().split() for split in SPLITS]
    assert listed[1] == ["train_000000", "train_000005", "train_000010"]
    assert sorted(listed[0] + listed[1]) == [f"train_{number:06d}" for number in range(11)]
    assert all((tmp_path / "held_out" / "JPEGImages" / f"{image}.jpg").exists() for image in listed[0] + listed[1])


def test_another_data_set_is_refused(tmp_path):
    one, other = (paint_shapes(tmp_path / name, num_train=count) for name, count in (("one", 8), ("other", 9)))
    (tmp_path / "held_out").mkdir()
    hold_out(one, tmp_path / "held_out", *SPLITS)
    before = {path: path.read_bytes() for path in (tmp_path / "held_out").rglob("*.txt")}
    with pytest.raises(ValueError, match="leads to .*one.*, not to .*other.*: choose another --runs"):
        hold_out(other, tmp_path / "held_out", *SPLITS)
    assert {path: path.read_bytes() for path in before} == before


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lists 4 images, too few"):
        hold_out(paint_shapes(tmp_path / "data", num_train=4), tmp_path, *SPLITS)
