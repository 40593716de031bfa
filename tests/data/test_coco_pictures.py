"""COCO's pictures, and the check before training."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from coco_files import DOG, HEIGHT, WIDTH, image_of, object_of, write_image, write_split, write_text

from aploss_mx.commands.check import main
from aploss_mx.data.check import check_dataset, check_images
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.pixels import read_image


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two sound images, three cats, a crowd of dogs, one box without area and one over the edge."""
    objects = [object_of(1), object_of(1), object_of(1, [-1, 1, 9, 9]), object_of(1, [3, 3, 0, 4])]
    objects += [object_of(2, category_id=DOG, iscrowd=1)]
    write_split(tmp_path, "instances_train", [image_of(1), image_of(2)], objects)
    for number in (1, 2):
        write_image(tmp_path / "train" / f"{number}.jpg")
    return tmp_path


def test_preflight_counts(folder):
    report = check_dataset(COCODetection(folder, "train"))
    assert (report.images, report.images_without_objects) == (2, 1)
    assert (report.objects, report.difficult) == ({"cat": 3, "dog": 0}, {"cat": 0, "dog": 1})
    assert (report.boxes_left_out, report.boxes_clipped) == (1, 1)
    assert report.ok
    assert [problem.kind for problem in report.warnings].count("class without objects") == 1


@pytest.mark.parametrize("listed, stored", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_composed_or_apart(tmp_path, listed, stored):
    write_split(tmp_path, "train", [image_of(1, unicodedata.normalize(listed, "café.jpg"))])
    path = write_image(tmp_path / "train" / unicodedata.normalize(stored, "café.jpg"))
    assert COCODetection(tmp_path, "train")[0].image_path == path


def test_one_picture_of_two_images_is_told(tmp_path):
    write_split(tmp_path, "train", [image_of(1, "a.jpg"), image_of(2, "a.jpg"), image_of(3)])
    (problem,) = COCODetection(tmp_path, "train").problems
    assert (problem.severity, problem.kind) == ("warning", "shared picture") and "of 1, 2" in problem.message


def test_preflight_from_the_command_line(folder, capsys):
    flags = ["--dataset-root", str(folder), "--split"]
    assert main([*flags, "train"]) == 0
    assert "2 images, 3 objects and 1 difficult ones" in capsys.readouterr().out
    assert main([*flags, "train", "--classes", "cat,cow"]) == 1
    printed = capsys.readouterr().out
    assert all(kind in printed for kind in ("unknown class (1)", "class that the data lack (1)"))
    assert main([*flags, "val"]) == 1
    assert "files there: instances_train.json" in capsys.readouterr().err


def test_preflight_names_annotations_and_images_together(folder):
    (folder / "train" / "2.jpg").unlink()
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    content["annotations"][0]["bbox"] = []
    write_text(folder, "instances_train", json.dumps(content))
    report = check_dataset(COCODetection(folder, "train", strict=False))
    assert sorted(problem.kind for problem in report.errors) == ["broken annotation", "missing image"]
    assert str(folder / "train" / "2.jpg") in str(report)


@pytest.mark.parametrize(
    "mode, suffix",
    [
        ("1", "png"), ("L", "jpg"), ("L", "png"), ("LA", "png"), ("I;16", "png"), ("I;16", "tif"), ("P", "png"),
        ("RGBA", "png"), ("CMYK", "jpg"), ("CMYK", "tif"),
    ],
)  # fmt: skip
def test_pictures_of_all_modes_are_read(tmp_path, mode, suffix):
    name = f"1.{suffix}"
    write_split(tmp_path, "train", [image_of(1, name)], [object_of()])
    write_image(tmp_path / "train" / name, mode=mode)
    dataset = COCODetection(tmp_path, "train")
    assert check_images(dataset) == []
    pixels = read_image(dataset[0].image_path)
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
