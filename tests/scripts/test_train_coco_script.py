"""train_coco.py: its training is that of train_voc.py, and bad data end it before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from coco_shapes import change, coco_flags, rename_category
from narrow_network import NAME
from PIL import Image
from script_output import message_of
from tiny_training import assert_same_arrays, tiny_flags

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import train_coco, train_voc
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.training.loop import TrainingRun


def test_training_on_coco_is_training_on_voc(shapes, trained_on_coco, folder):
    """The same pictures, boxes and settings in the other layout give the same bits."""
    train_voc.main(tiny_flags(shapes, folder))
    ours, theirs = (Checkpoint.load(path / "last.npz") for path in (trained_on_coco, folder))
    assert ours.classes == theirs.classes == SHAPES_CLASSES
    assert ours.epoch == 1
    assert_same_arrays(ours.parameters, theirs.parameters)
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (trained_on_coco, folder))
    assert ours == theirs
    assert ours["AP50"] > 0


def test_training_leaves_what_the_other_script_leaves(trained_on_coco):
    names = {path.name for path in trained_on_coco.iterdir()}
    assert {"last.npz", "best.npz", "metrics.csv", "metrics.json", "detections.json", "curves.png"} <= names
    # By name: a checkpoint must not depend on the data's files.
    assert Checkpoint.load(trained_on_coco / "last.npz").recipe.classes == SHAPES_CLASSES


def test_the_recipe_is_cocos_but_for_the_flags(trained_on_coco):
    recipe = Checkpoint.load(trained_on_coco / "last.npz").recipe
    assert (recipe.train_split, recipe.val_split, recipe.loss) == ("train", "val", "ap")
    assert (recipe.network, recipe.epochs, recipe.optimizer) == (NAME, 1, "sgd")


def test_eval_only_repeats_the_last_evaluation(coco, trained_on_coco, capsys):
    train_coco.main([*coco_flags(coco, trained_on_coco), "--eval-only"])
    written = trained_on_coco / "evaluation.json"
    expected = json.loads((trained_on_coco / "metrics.json").read_text())
    assert json.loads(written.read_text())["AP"] == expected["AP"]
    written.unlink()
    printed = capsys.readouterr().out
    assert "coco val: 4 images" in printed and "mean" in printed


def spoil_boxes(content: dict) -> None:
    content["annotations"][0]["bbox"] = [1, 2, 3]


def hide_objects(content: dict) -> None:
    for entry in content["annotations"]:
        entry["iscrowd"] = 1


@pytest.mark.parametrize(
    ("split", "edit", "told"),
    [
        ("train", spoil_boxes, ["broken annotation", "instances_train.json", "four finite numbers"]),
        ("val", spoil_boxes, ["broken annotation", "instances_val.json"]),
        ("train", lambda content: content.pop("images"), ["not in COCO's layout", "instances_train.json"]),
        ("val", lambda content: content["images"].clear(), ["empty split", "instances_val.json"]),
        ("val", rename_category, ["disc", "circle"]),
        ("train", hide_objects, ["no objects", "train on"]),
        ("val", lambda content: content["images"].append(content["images"][0]), ["repeated image id"]),
    ],
    ids=["boxes", "boxes of val", "layout", "no images", "other categories", "no objects", "repeated id"],
)
def test_broken_data_end_before_training(own_coco, folder, split, edit, told, no_work):
    change(own_coco, split, edit)
    message = message_of(train_coco.main, coco_flags(own_coco, folder))
    assert all(part in message for part in told), message
    assert not list(folder.rglob("*"))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", ["missing image", "unreadable image", "size mismatch"])
def test_broken_images_end_before_training(own_coco, folder, split, kind, no_work):
    image = sorted((own_coco / split).iterdir())[1]
    if kind == "missing image":
        image.unlink()
    elif kind == "unreadable image":
        image.write_bytes(image.read_bytes()[:200])
    else:
        Image.new("RGB", (65, 64)).save(image)
    message = message_of(train_coco.main, coco_flags(own_coco, folder))
    assert kind in message and str(image) in message
    assert not list(folder.rglob("*"))


def save_as(mode: str, grey: np.ndarray, path: Path) -> Path:
    """Write a grey picture, uint8 (H, W), in one of the ways that pictures come, without loss; return its file."""
    path = path.with_suffix(".tif" if mode == "CMYK" else ".png")
    tags = Image.Exif()
    if mode == "turned":
        tags[0x0112] = 6  # viewers turn it; the boxes refer to the pixels as stored
        mode = "L"
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "CMYK":
        image = Image.fromarray(grey).convert("RGB").convert("CMYK")
    else:
        image = Image.fromarray(grey).convert(mode)
    image.save(path, exif=tags)
    return path


def test_training_takes_pictures_of_all_modes(own_coco, folder):
    """Grey pictures give the same bits in whatever mode they are stored."""
    parameters = []
    for modes in (["RGB"], ["L", "I;16", "RGBA", "CMYK", "P", "turned", "LA", "RGB"]):
        images = sorted((own_coco / "train").iterdir())
        assert len(images) == 8
        names = {}
        for number, image in enumerate(images):
            grey = np.asarray(Image.open(image).convert("L"))
            image.unlink()
            names[image.stem] = save_as(modes[number % len(modes)], grey, image).name

        def rename(content: dict, names=names) -> None:
            for entry in content["images"]:
                entry["file_name"] = names[Path(entry["file_name"]).stem]

        change(own_coco, "train", rename)
        train_coco.main(coco_flags(own_coco, folder))
        parameters.append(Checkpoint.load(folder / "last.npz").parameters)
        shutil.rmtree(folder)
    assert_same_arrays(*parameters)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train_split": "train2017"}, ["missing split", "instances_train.json"]),
        ({"val_split": "minival"}, ["missing split", "instances_minival2014.json"]),
        ({"train_split": "train:ids.txt"}, ["missing id list", "ids.txt"]),
        ({"train_split": "train+val+train"}, ["repeated split"]),
        ({"val_split": "test"}, ["no objects"]),
        ({"classes": "circle,square"}, ["unknown class", "star"]),
        ({"classes": "voc"}, ["class that the data lack", "aeroplane"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_is_told_before_training(coco, folder, settings, told, no_work):
    message = message_of(train_coco.main, coco_flags(coco, folder, **settings))
    assert all(part in message for part in told), message
    assert not list(folder.rglob("*"))


def test_names_of_categories_may_hold_what_joins_classes(own_coco, folder, monkeypatch):
    """Both splits have them, so nothing is wrong with the data; nobody typed the names."""
    for split in ("train", "val"):
        change(own_coco, split, lambda content: content["categories"][0].update(name="circle, filled"))
    monkeypatch.setattr(TrainingRun, "run", lambda _: (_ for _ in ()).throw(ValueError("it trains")))
    assert message_of(train_coco.main, coco_flags(own_coco, folder)) == "error: it trains"
