"""VOC folders for tests, of images of one size."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from aploss_mx.data.problems import DataError
from aploss_mx.data.voc import VOCDetection

WIDTH, HEIGHT = 40, 30
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def object_xml(name: str, box, difficult: str = "<difficult>0</difficult>") -> str:
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{difficult}<bndbox>{sides}</bndbox></object>"


def write_image(folder: Path, stem: str, *objects: str, size: str = SIZE, filename: str = "", suffix: str = ".jpg"):
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    filename = f"<filename>{filename}</filename>"
    (folder / "Annotations" / f"{stem}.xml").write_text(
        f"<annotation>{filename}{size}{''.join(objects)}</annotation>", encoding="utf-8"
    )
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages" / f"{stem}{suffix}")


def write_split(folder: Path, name: str, text: str) -> None:
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text, encoding="utf-8")


def read_one(folder: Path, *objects: str, classes=("cat", "dog"), **image) -> VOCDetection:
    """The data set of one image `a` with these objects."""
    write_image(folder, "a", *objects, **image)
    write_split(folder, "train", "a\n")
    return VOCDetection(folder, "train", classes)


def error_of(folder: Path, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        VOCDetection(folder, *arguments, **options)
    return str(caught.value)
