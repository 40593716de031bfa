"""COCO folders for tests, of images of one size and objects of two categories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from aploss_mx.data.coco import COCODetection
from aploss_mx.data.problems import DataError

WIDTH, HEIGHT = 40, 30
CAT, DOG = 3, 18
# Not in the order of the ids, as which the labels go.
CATEGORIES = [{"id": DOG, "name": "dog", "supercategory": "animal"}, {"id": CAT, "name": "cat"}]
BOX = [1, 2, 10, 20]


def image_of(number, file_name: str = "", **more) -> dict:
    return {"id": number, "file_name": file_name or f"{number}.jpg", "width": WIDTH, "height": HEIGHT, **more}


def object_of(image_id=1, bbox=BOX, category_id=CAT, **more) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def write_split(root: Path, name: str, images, objects=(), categories=CATEGORIES) -> Path:
    """Write ``annotations/<name>.json``; without a list of annotations where `objects` is None."""
    content = {"info": {}, "images": list(images), "categories": list(categories)}
    if objects is not None:
        content["annotations"] = [{"id": number, **entry} for number, entry in enumerate(objects, start=1)]
    return write_text(root, name, json.dumps(content))


def write_text(root: Path, name: str, text: str) -> Path:
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_image(path: Path, size=(WIDTH, HEIGHT), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)
    return path


def read_objects(root: Path, *objects: dict, **options) -> COCODetection:
    """The data set of one image, id 1, with these objects."""
    write_split(root, "instances_train", [image_of(1)], objects)
    return COCODetection(root, "train", **options)


def error_of(root: Path, splits: str = "train", **options) -> str:
    with pytest.raises(DataError) as caught:
        COCODetection(root, splits, **options)
    return str(caught.value)


def ids(root: Path, splits: str) -> list[str]:
    return [sample.image_id for sample in COCODetection(root, splits)]


def write_2014(root: Path) -> None:
    """The three files of 2014 that the paper's splits are made of, of an image each."""
    for split, number, folder in (
        ("train2014", 1, "train2014"),
        ("valminusminival2014", 2, "val2014"),
        ("minival2014", 3, "val2014"),
    ):
        name = f"COCO_{folder}_{number:012d}.jpg"
        write_split(root, f"instances_{split}", [image_of(number, name)], [object_of(number)])
        write_image(root / folder / name)
