"""The scripts on data in COCO layout, and on the test images of both servers, whose objects are secret."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from script_output import message_of
from tiny_training import assert_same_arrays, tiny_flags

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOCDetection
from aploss_mx.detector import Detector
from aploss_mx.training import TrainingRun
from scripts import evaluate, train_coco, train_voc

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


@pytest.fixture(scope="module")
def coco(shapes, tmp_path_factory) -> Path:
    """Generated shapes in COCO layout, not to be changed."""
    return to_coco(shapes, tmp_path_factory.mktemp("coco") / "coco")


@pytest.fixture
def own_coco(coco, tmp_path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(coco, tmp_path / "own")


@pytest.fixture(scope="module")
def trained(coco, tmp_path_factory) -> Path:
    """The folder of a finished run on them, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_coco.main(coco_flags(coco, folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def no_work(monkeypatch) -> None:
    """Loading a network, or training one, fails."""
    monkeypatch.setattr(Detector, "load", lambda *_, **__: pytest.fail("it loads a network"))
    monkeypatch.setattr(TrainingRun, "run", lambda _: pytest.fail("it trains"))


def run_evaluate(*flags: object) -> None:
    evaluate.main([*map(str, flags), "--num-workers", "0"])


# train_coco.py -----------------------------------------------------------------------------------


def test_training_on_coco_is_training_on_voc(shapes, trained, folder):
    """The same pictures, boxes and settings in the other layout give the same bits."""
    train_voc.main(tiny_flags(shapes, folder))
    ours, theirs = (Checkpoint.load(path / "last.npz") for path in (trained, folder))
    assert ours.classes == theirs.classes == SHAPES_CLASSES
    assert ours.epoch == 1
    assert_same_arrays(ours.parameters, theirs.parameters)
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (trained, folder))
    assert ours == theirs
    assert ours["AP50"] > 0


def test_training_leaves_what_the_other_script_leaves(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"last.npz", "best.npz", "metrics.csv", "metrics.json", "detections.json", "curves.png"} <= names
    # By name: a checkpoint must not depend on the data's files.
    assert Checkpoint.load(trained / "last.npz").recipe.classes == ",".join(SHAPES_CLASSES)


def test_the_recipe_is_cocos_but_for_the_flags(trained):
    recipe = Checkpoint.load(trained / "last.npz").recipe
    assert (recipe.train_split, recipe.val_split, recipe.loss) == ("train", "val", "ap")
    assert (recipe.network, recipe.epochs, recipe.optimizer) == ("resnet18_v1b", 1, "sgd")


def test_eval_only_repeats_the_last_evaluation(coco, trained, capsys):
    train_coco.main([*coco_flags(coco, trained), "--eval-only"])
    written = trained / "evaluation.json"
    expected = json.loads((trained / "metrics.json").read_text())
    assert json.loads(written.read_text())["AP"] == expected["AP"]
    written.unlink()
    printed = capsys.readouterr().out
    assert "coco val: 4 images" in printed and "mean" in printed


def spoil_boxes(content: dict) -> None:
    content["annotations"][0]["bbox"] = [1, 2, 3]


def rename_category(content: dict) -> None:
    content["categories"][0]["name"] = "disc"


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


# evaluate.py -------------------------------------------------------------------------------------


def test_evaluating_a_checkpoint_gives_what_training_gave(coco, trained, tmp_path, capsys):
    output, found, results = (tmp_path / name for name in ("metrics.json", "found.json", "results.json"))
    data = ["--dataset-root", coco, "--split", "val"]
    flags = ["--output", output, "--save-detections", found, "--coco-results", results]
    run_evaluate("--params", trained / "last.npz", *flags, *data)
    printed = capsys.readouterr().out
    expected = json.loads((trained / "metrics.json").read_text())
    del expected["epoch"]
    assert json.loads(output.read_text()) == expected
    assert f"COCO: AP {100 * expected['AP']:.1f}" in printed
    assert all(name in printed for name in SHAPES_CLASSES)

    run_evaluate("--detections", found, "--min-area", "1e6", *data)
    assert "COCO: AP -" in capsys.readouterr().out  # all objects are smaller

    # The detections alone score the same, and make the same file for the server.
    run_evaluate("--detections", found, "--output", output, "--coco-results", tmp_path / "again.json", *data)
    assert json.loads(output.read_text()) == expected
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(results.read_text())


def test_detecting_without_annotations_writes_cocos_results(coco, trained, tmp_path, capsys):
    results, found = tmp_path / "new" / "results.json", tmp_path / "found.json"
    flags = ["--dataset-root", coco, "--split", "test", "--detect-only", "--save-detections", found]
    run_evaluate("--params", trained / "last.npz", "--coco-results", results, *flags)
    entries = json.loads(results.read_text())
    # The images are val's, on which training detected.
    expected = json.loads((trained / "detections.json").read_text())
    named = dict(zip(SHAPES_CLASSES, CATEGORY_IDS))
    assert entries == [
        {"image_id": int(entry["image_id"]), "category_id": named[entry["category"]], "bbox": entry["bbox"],
         "score": entry["score"]}
        for entry in expected
    ]  # fmt: skip
    assert len(entries) > 0
    assert json.loads(found.read_text()) == expected
    assert "AP50" not in capsys.readouterr().out


def test_saved_detections_become_cocos_results_without_a_network(coco, trained, tmp_path, no_work):
    results = tmp_path / "results.json"
    flags = ["--dataset-root", coco, "--split", "test", "--detect-only", "--coco-results", results]
    run_evaluate("--detections", trained / "detections.json", *flags)
    assert len(json.loads(results.read_text())) == len(json.loads((trained / "detections.json").read_text()))


@pytest.fixture
def voc_test(shapes, tmp_path) -> Path:
    """Images of PASCAL VOC's test of 2012 as its server's users have them: no folder of annotations."""
    root = tmp_path / "VOCdevkit"
    (root / "VOC2012" / "ImageSets" / "Main").mkdir(parents=True)
    (root / "VOC2012" / "JPEGImages").mkdir()
    for number in range(3):
        shutil.copy(
            shapes / "VOC2007" / "JPEGImages" / f"val_{number:06d}.jpg",
            root / "VOC2012" / "JPEGImages" / f"2008_{number:06d}.jpg",
        )
    (root / "VOC2012" / "ImageSets" / "Main" / "test.txt").write_text("2008_000000\n2008_000001\n2008_000002\n")
    return root


def test_detecting_without_annotations_writes_vocs_results(voc_test, trained, tmp_path, capsys):
    results, found = tmp_path / "results.zip", tmp_path / "found.json"
    flags = ["--dataset-root", voc_test, "--split", "2012_test", "--detect-only", "--save-detections", found]
    run_evaluate("--params", trained / "last.npz", "--voc-results", results, *flags)
    entries = json.loads(found.read_text())
    assert {entry["image_id"] for entry in entries} == {"2008_000000", "2008_000001", "2008_000002"}
    with zipfile.ZipFile(results) as archive:
        names = [f"results/VOC2012/Main/comp4_det_test_{name}.txt" for name in SHAPES_CLASSES]
        assert sorted(archive.namelist()) == sorted(names)
        for name, file in zip(SHAPES_CLASSES, names):
            rows = [line.split() for line in archive.read(file).decode().splitlines()]
            expected = [entry for entry in entries if entry["category"] == name]
            assert [row[0] for row in rows] == [entry["image_id"] for entry in expected]
            boxes = np.float64([entry["bbox"] for entry in expected]).reshape(-1, 4)
            ours = np.float64([row[2:] for row in rows]).reshape(-1, 4)
            np.testing.assert_allclose(ours[:, :2], boxes[:, :2] + 1, atol=1e-3)
            np.testing.assert_allclose(ours[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-3)
    assert "AP50" not in capsys.readouterr().out


@pytest.mark.parametrize("part", [0.5, 0.1], ids=["cut off", "without its size"])
def test_a_broken_test_image_is_told_before_detecting(voc_test, trained, tmp_path, monkeypatch, part):
    image = voc_test / "VOC2012" / "JPEGImages" / "2008_000001.jpg"
    content = image.read_bytes()
    image.write_bytes(content[: int(part * len(content))])
    monkeypatch.setattr(Detector, "detect", lambda *_: pytest.fail("it detects"))
    flags = ["--dataset-root", voc_test, "--split", "2012_test", "--detect-only"]
    flags += ["--params", trained / "last.npz", "--voc-results", tmp_path / "results.zip"]
    message = message_of(evaluate.main, flags)
    assert str(image) in message
    assert not (tmp_path / "results.zip").exists()


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_scoring_images_without_annotations_is_told(coco, voc_test, trained, layout):
    root, split, told = (coco, "test", "--detect-only") if layout == "coco" else (voc_test, "2012_test", "Annotations")
    flags = ["--params", trained / "last.npz", "--dataset-root", root, "--split", split, "--num-workers", "0"]
    assert told in message_of(evaluate.main, flags)


def test_scoring_detections_without_annotations_is_told(coco, trained, tmp_path):
    """A table of dashes would look like a result."""
    flags = ["--dataset-root", coco, "--split", "test", "--output", tmp_path / "metrics.json"]
    message_of(evaluate.main, ["--detections", trained / "detections.json", *flags])
    assert not (tmp_path / "metrics.json").exists()


def test_classes_of_the_checkpoint_that_the_data_lack_are_told(own_coco, trained, tmp_path):
    change(own_coco, "val", rename_category)
    flags = ["--params", trained / "last.npz", "--dataset-root", own_coco, "--split", "val"]
    message = message_of(evaluate.main, [*flags, "--coco-results", tmp_path / "results.json"])
    assert "disc" in message and "circle" in message
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("source", ["--params", "--detections"])
@pytest.mark.parametrize(
    ("layout", "split", "flag", "told"),
    [
        ("coco", "val", "--voc-results", "--voc-results wants data in VOC layout"),
        ("voc", "2007_val", "--coco-results", "--coco-results wants data in COCO layout"),
        ("voc", "val", "--voc-results", "one --split YEAR_NAME"),
        ("voc", "2007_val+2007_train", "--voc-results", "one --split YEAR_NAME"),
    ],
)
def test_results_of_the_other_layout_are_refused_at_once(
    coco, shapes, tmp_path, no_work, source, layout, split, flag, told
):
    (tmp_path / "source").write_text("[]")
    root = coco if layout == "coco" else shapes
    flags = [source, tmp_path / "source", "--dataset-root", root, "--split", split, flag, tmp_path / "results"]
    for more in ([], ["--detect-only"]):
        assert told in message_of(evaluate.main, [*flags, *more])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("flag", ["--coco-results", "--voc-results"])
def test_no_file_that_is_read_is_overwritten(coco, shapes, tmp_path, no_work, flag):
    found = tmp_path / "found.json"
    found.write_text("[]")
    root, split = (coco, "val") if flag == "--coco-results" else (shapes, "2007_val")
    flags = ["--detections", found, "--dataset-root", root, "--split", split, flag, found]
    assert "is read from" in message_of(evaluate.main, flags)
    assert found.read_text() == "[]"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--params", "a.npz", "--detect-only"], "--detect-only wants"),
        (["--params", "a.npz", "--detect-only", "--coco-results", "b", "--output", "c"], "--output takes metrics"),
        (["--detections", "a.json", "--save-detections", "b"], "--save-detections goes with --params"),
    ],
)
def test_flags_that_do_not_go_together(coco, no_work, flags, told, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main([*flags, "--dataset-root", str(coco), "--split", "val"])
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert "error: " in printed and told in printed
