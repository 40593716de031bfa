"""Data sets in both layouts with a fault of every kind that the preflight knows, and hostile names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
CLASSES = ("<script>alert(1)</script>", 'Bär\'s "&amp;"', "猫", "never there")
STEM = "läuft <b>\"'&猫"
WITHOUT_PICTURE = {"missing image", "unreadable image", "line that names no image", "unknown size",
                   "class without objects", "annotation without an image", "category left out",
                   "class that the data lack", "no objects"}  # fmt: skip
"""Kinds of which no picture can be shown: there is none, it cannot be read, or all of them are meant."""


def paint(path: Path, **options) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path.read_bytes()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _voc(folder: Path, stem: str, *objects: tuple, size=(WIDTH, HEIGHT), more="", paints=True, **options) -> bytes:
    """Objects are a class's name and [xmin, ymin, xmax, ymax]."""
    parts = [
        f"<object><name>{_escape(name)}</name>{more}<bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
        + "</bndbox></object>"
        for name, box in objects
    ]
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    path = folder / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{shape}{''.join(parts)}</annotation>", encoding="utf-8")
    return paint(folder / "JPEGImages" / f"{stem}.jpg", **options) if paints else b""


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def faulty_voc(root: Path) -> Path:
    """Splits ``2007_train`` and ``2012_train``."""
    folder, (script, bear, cat, _) = root / "VOC2007", CLASSES
    pictures = folder / "JPEGImages"
    _voc(folder, STEM, (script, (3, 3, 20, 20)), (bear, (5, 5, 30, 30)), (cat, (30, 9, 60, 40)))
    for number in range(20):  # none of which an anchor covers
        _voc(folder, f"thin{number}", (cat, (3, 3, 60, 5)))
    _voc(folder, "no area", (cat, (9, 9, 9, 9)), (cat, (500, 9, 600, 20)), (cat, (-900, -900, -800, -800)))
    _voc(folder, "beyond", (script, (20, 20, 90, 40)))
    _voc(folder, "fractions", (bear, (0.1, 0.1, 0.5, 0.5)))
    _voc(folder, "stranger", ("dog", (5, 5, 30, 30)))
    _voc(folder, "misspelt", (cat, (5, 5, 30, 30)), more="<dificult>1</dificult>")
    _voc(folder, "other size", (cat, (5, 5, 300, 200)), size=(400, 300))
    _voc(folder, "turned", (cat, (5, 5, 30, 30)), exif=exif(6))
    content = _voc(folder, "unfinished", (cat, (5, 5, 30, 30)))
    (pictures / "unfinished.jpg").write_bytes(content[:-2] + bytes(9))
    _voc(folder, "absent", (cat, (5, 5, 30, 30)), paints=False)
    _voc(folder, "broken picture", (cat, (5, 5, 30, 30)))
    (pictures / "broken picture.jpg").write_bytes(b"<html>404</html>")
    _voc(folder, "no size", (cat, (5, 5, 30, 30)), size=None, paints=False)
    _voc(folder, "two", (cat, (5, 5, 30, 30)))
    paint(pictures / "two.png")
    _voc(folder, "broken annotation", (cat, ("x", 5, 30, 30)))
    paint(pictures / "no annotation.jpg")
    _voc(folder, "twice", (cat, (5, 5, 30, 30)))
    stems = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    _write_list(folder, [*stems, "no annotation", "twice", "../../x"])
    _voc(root / "VOC2012", "two", (cat, (5, 5, 30, 30)))
    _write_list(root / "VOC2012", ["two"])
    return root


def _write_list(folder: Path, names: list[str]) -> None:
    path = folder / "ImageSets" / "Main" / "train.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(names), encoding="utf-8")


def faulty_coco(root: Path) -> Path:
    """Splits ``a`` and ``b``; the annotations of the first have the faults."""
    entries = [{"id": number, "file_name": f"{STEM} {number}.jpg", "width": WIDTH, "height": HEIGHT}
               for number in (1, 2)]  # fmt: skip
    for entry in entries:
        paint(root / "a" / entry["file_name"])
    paint(root / "b" / entries[0]["file_name"])
    categories = [{"id": number, "name": name, "supercategory": "all"} for number, name in enumerate(CLASSES, start=1)]
    categories += [{"id": 9, "name": "all"}, {"id": 8, "name": "dog"}]

    def annotation(bbox, category=1, image=1, **more) -> dict:
        return {"image_id": image, "category_id": category, "bbox": bbox, **more}

    annotations = [
        annotation([3, 3, 20, 20], area=100),
        annotation([5, 5, 20, 20], 2, area=0.5),
        annotation([30, 30, 1, 9], 3, area=9),
        annotation([9, 9, 0, 0], 3),
        annotation([50, 40, 30, 30], 3),
        annotation([5, 5, 10, 10], 3, is_crowd=1),
        annotation([5, 5, 10, 10], 8),
        annotation([5, 5, "x", 10], 3),
        annotation([5, 5, 10, 10], 77),
        annotation([5, 5, 10, 10], 3, image=[]),
        annotation([5, 5, 10, 10], 3, image=99),
        annotation([0.1, 0.1, 0.5, 0.5], 3, image=2),
    ]
    (root / "annotations").mkdir(parents=True)
    for split, held, known in (("a", entries, annotations), ("b", entries[:1], [])):
        content = {"images": held, "categories": categories, "annotations": known}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
