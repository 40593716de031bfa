"""Generated shapes in COCO layout, and flags of scripts that train on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tiny_training import tiny_flags

from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOCDetection

CATEGORY_IDS = (2, 3, 5, 7, 11)
# Whatever the data hold: no names on the command line.
COCO_SETTINGS = {"classes": "data", "train_split": "train", "val_split": "val"}


def to_coco(shapes: Path, root: Path) -> Path:
    """Write generated shapes in COCO layout: splits ``train`` and ``val``, and ``test``, val's images alone."""
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, SHAPES_CLASSES)]
    for first, split in ((100, "train"), (200, "val")):
        (root / split).mkdir()
        images, objects = [], []
        for number, sample in enumerate(VOCDetection(shapes, f"2007_{split}", SHAPES_CLASSES), start=first):
            name = f"{number:012d}.jpg"
            shutil.copy(sample.image_path, root / split / name)
            images.append({"id": number, "file_name": name, "width": sample.width, "height": sample.height})
            for (x1, y1, x2, y2), label, difficult in zip(sample.boxes.tolist(), sample.labels, sample.difficult):
                w, h = x2 - x1, y2 - y1
                where = {"image_id": number, "category_id": CATEGORY_IDS[label], "bbox": [x1, y1, w, h]}
                objects.append({**where, "id": len(objects) + 1, "area": w * h, "iscrowd": int(difficult)})
        content = {"images": images, "categories": categories, "annotations": objects}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    del content["annotations"]
    (root / "annotations" / "image_info_test.json").write_text(json.dumps(content))
    shutil.copytree(root / "val", root / "test")
    return root


def coco_flags(root: Path, folder: Path, **settings) -> list[str]:
    return tiny_flags(root, folder, **{**COCO_SETTINGS, **settings})


def change(root: Path, split: str, edit) -> None:
    """Edit the content of a split's annotation file in place."""
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def rename_category(content: dict) -> None:
    content["categories"][0]["name"] = "disc"
