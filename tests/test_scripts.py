"""The scripts as a user calls them: on real data, on generated data, and with things that cannot be used."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_training import paint_shapes, running_script, tiny_flags

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOC_CLASSES
from aploss_mx.evaluation.detections import load_detections
from aploss_mx.training import TrainingRun
from scripts import demo, evaluate, train_voc

SMALL_VOC = [
    "--network", "resnet18_v1b", "--channels", "16", "--data-shape", "64", "--batch-size", "2", "--epochs", "1",
    "--warmup-steps", "0", "--test-short", "64", "--test-long", "96", "--num-workers", "0", "--log-interval", "1",
]  # fmt: skip


def link_images(source: Path, target: Path, image_ids: list[str]) -> None:
    """Make a folder in VOC layout with these images of another, which are its split ``tiny``."""
    for folder in ("Annotations", "JPEGImages"):
        (target / folder).mkdir(parents=True)
        for image_id in image_ids:
            (file,) = (source / folder).glob(f"{image_id}.*")
            (target / folder / file.name).symlink_to(file)
    (target / "ImageSets" / "Main").mkdir(parents=True)
    (target / "ImageSets" / "Main" / "tiny.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))


@pytest.fixture(scope="module")
def voc(shared_data, tmp_path_factory) -> Path:
    """Four real images of PASCAL VOC as split ``2007_tiny``."""
    source = shared_data / "VOCdevkit" / "VOC2007"
    root = tmp_path_factory.mktemp("voc")
    image_ids = (source / "ImageSets" / "Main" / "train.txt").read_text().split()[:4]
    link_images(source, root / "VOC2007", image_ids)
    return root


@pytest.fixture(scope="module")
def bccd(shared_data, tmp_path_factory) -> Path:
    """Three real images of blood cells as split ``tiny``, one of them with a box without area."""
    root = tmp_path_factory.mktemp("cells") / "bccd"
    link_images(shared_data / "bccd", root, ["BloodImage_00338", "BloodImage_00000", "BloodImage_00001"])
    return root


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    root = paint_shapes(tmp_path_factory.mktemp("data") / "shapes")
    (root / "VOC2007" / "ImageSets" / "Main" / "empty.txt").write_text("\n")
    return root


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory) -> Path:
    """The folder of a finished run on shapes, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_voc.main(tiny_flags(shapes, folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder for a run, removed afterwards for its large checkpoints."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def message_of(main, flags) -> str:
    """Run a script that must end with a message for the user; return it."""
    with pytest.raises(SystemExit) as end:
        main([str(flag) for flag in flags])
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith("error: ")
    return end.value.code


def table_of(printed: str) -> str:
    """Return the table of average precisions, which comes after that of the objects."""
    return re.search(r"^class .*?(?=\n\n)", printed, re.DOTALL | re.MULTILINE).group()


# train_voc.py


def test_training_on_pascal_voc(voc, shared_weights, folder, capsys):
    flags = [*SMALL_VOC, "--pretrained", str(shared_weights), "--train-split", "2007_tiny", "--val-split", "2007_tiny"]
    train_voc.main(["--dataset-root", str(voc), "--save-prefix", str(folder), *flags])
    checkpoint = Checkpoint.load(folder / "last.npz")
    assert (checkpoint.classes, checkpoint.epoch, checkpoint.step) == (VOC_CLASSES, 1, 2)
    # The recipe is the paper's but for the flags.
    assert (checkpoint.recipe.optimizer, checkpoint.recipe.lr, checkpoint.recipe.augmentation) == ("sgd", 0.001, "ssd")
    with np.load(shared_weights) as weights:
        stem, stage3 = weights["conv1.weight"], weights["layer3.0.conv1.weight"]
    np.testing.assert_array_equal(checkpoint.parameters["backbone.conv1.weight"], stem)
    learned = checkpoint.parameters["backbone.layer3.0.conv1.weight"]
    assert not np.array_equal(learned, stage3)
    np.testing.assert_allclose(learned, stage3, atol=0.01)
    assert {"last.npz", "best.npz", "metrics.csv", "curves.png"} <= {path.name for path in folder.iterdir()}
    printed = capsys.readouterr().out
    assert "2007_tiny: 4 images" in printed
    assert "layer4.1.conv2.weight" in printed  # said to start at random
    assert all(name in table_of(printed) for name in [*VOC_CLASSES, "mean"])


def test_training_on_blood_cells(bccd, shared_weights, folder, capsys):
    flags = [*SMALL_VOC, "--classes", "RBC,WBC,Platelets", "--train-split", "tiny", "--val-split", "tiny"]
    flags += ["--dataset-root", str(bccd), "--save-prefix", str(folder), "--pretrained", str(shared_weights)]
    train_voc.main(flags)
    checkpoint = Checkpoint.load(folder / "last.npz")
    assert (checkpoint.classes, checkpoint.step) == (("RBC", "WBC", "Platelets"), 2)
    printed = capsys.readouterr().out
    assert "1 boxes left out" in printed
    assert "BloodImage_00338.xml" in printed
    assert all(name in table_of(printed) for name in ("RBC", "WBC", "Platelets"))
    assert json.loads((folder / "metrics.json").read_text())["per_class"]["WBC"]["objects"] >= 3


def test_eval_only_repeats_the_last_evaluation_and_changes_nothing_else(shapes, trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    train_voc.main([*tiny_flags(shapes, trained), "--eval-only"])
    table = table_of(capsys.readouterr().out)
    metrics = json.loads((trained / "metrics.json").read_text())
    mean = next(line for line in table.splitlines() if line.startswith("mean"))
    assert f" {100 * metrics['AP']:.1f} " in mean
    train_voc.main([*tiny_flags(shapes, trained), "--eval-only", "--resume", str(trained / "best.npz")])
    assert table_of(capsys.readouterr().out) == table  # one epoch: the best is the last
    written = trained / "evaluation.json"
    assert json.loads(written.read_text())["AP"] == metrics["AP"]
    written.unlink()
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_eval_only_heeds_test_settings(shapes, trained, capsys):
    train_voc.main([*tiny_flags(shapes, trained, score_threshold="1", test_long="96", test_short="96"), "--eval-only"])
    assert "mean" in capsys.readouterr().out
    message = message_of(train_voc.main, [*tiny_flags(shapes, trained, topk="0"), "--eval-only"])
    assert "topk = '0'" in message


def test_eval_only_without_a_checkpoint(shapes, folder):
    message = message_of(train_voc.main, [*tiny_flags(shapes, folder), "--eval-only"])
    assert f"no checkpoint {folder / 'last.npz'}" in message
    assert not folder.exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train_split": "2007_empty"}, ["empty split", "empty.txt"]),
        ({"val_split": "2007_empty"}, ["empty split", "empty.txt"]),
        ({"train_split": "2007_trainval"}, ["missing split", "2007_train", "2007_val"]),
        ({"classes": "circle,square"}, ["unknown class", "'star'", "'triangle'", "'cross'", "--classes"]),
        ({"classes": "circle,circle"}, ["repeated class names", "circle"]),
        ({"classes": "names.txt"}, ["names.txt does not exist"]),
        ({"pretrained": "weights.npz"}, ["no file weights.npz", "--pretrained"]),
        ({"network": "vgg16"}, ["network = 'vgg16'", "resnet50_v1b"]),
        ({"lr": "0"}, ["lr = '0'"]),
        ({"recipe": "voc12"}, ["no recipe 'voc12'", "quickstart", "voc07_resnet50"]),
        ({"gpus": "99"}, ["--gpus 99", "GPU(s) here"]),
        ({"gpus": "zero"}, ["--gpus takes ids", "'zero'"]),
        ({"cpus": "3"}, ["batch_size 4 cannot be split evenly over 3 devices"]),
        ({"resume": "old.npz"}, ["no checkpoint old.npz"]),
        ({"test_short": "96"}, ["test_short", "test_long"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_is_told_before_anything_is_written(shapes, folder, settings, told, monkeypatch):
    monkeypatch.setattr(TrainingRun, "run", lambda _: pytest.fail("it trains"))
    message = message_of(train_voc.main, tiny_flags(shapes, folder, **settings))
    assert all(part in message for part in told), message
    assert not list(folder.rglob("*"))


@pytest.mark.parametrize("flag", ["cpus", "log_interval"])
def test_counts_of_nothing_are_refused_by_the_parser(shapes, folder, flag, capsys):
    with pytest.raises(SystemExit) as exit_status:
        train_voc.main(tiny_flags(shapes, folder, **{flag: "0"}))
    assert exit_status.value.code == 2
    assert f"--{flag.replace('_', '-')}: must be at least 1, not 0" in capsys.readouterr().err
    assert not folder.exists()


def test_a_missing_data_set_is_told(tmp_path, folder):
    message = message_of(train_voc.main, tiny_flags(tmp_path / "nowhere", folder))
    assert str(tmp_path / "nowhere") in message
    assert not folder.exists()


def test_a_broken_image_is_told_before_training(tmp_path, folder):
    shapes = paint_shapes(tmp_path / "shapes")
    image = shapes / "VOC2007" / "JPEGImages" / "train_000003.jpg"
    image.write_bytes(image.read_bytes()[:200])
    message = message_of(train_voc.main, tiny_flags(shapes, folder))
    assert str(image) in message
    assert not folder.exists()


def test_data_without_an_object_is_told(tmp_path, folder):
    shapes = paint_shapes(tmp_path / "shapes")
    for path in (shapes / "VOC2007" / "Annotations").glob("train_*.xml"):
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    assert "train on" in message_of(train_voc.main, tiny_flags(shapes, folder))
    assert not folder.exists()


def test_a_folder_with_a_run_and_a_folder_in_a_file_are_told(shapes, trained, tmp_path):
    assert "holds a run already" in message_of(train_voc.main, tiny_flags(shapes, trained))
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        assert str(path) in message_of(train_voc.main, tiny_flags(shapes, path))


def test_a_message_comes_without_a_traceback_and_with_status_1(shapes, folder):
    with running_script("train_voc.py", tiny_flags(shapes, folder, gpus="99")) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith("error: --gpus 99: MXNet ")
    assert "Traceback" not in stderr


# evaluate.py


def test_evaluating_a_checkpoint_gives_what_training_gave(shapes, trained, tmp_path, capsys):
    output, found = tmp_path / "reports" / "metrics.json", tmp_path / "found.json"
    data = ["--dataset-root", str(shapes), "--split", "2007_val", "--num-workers", "1"]
    flags = ["--params", str(trained / "last.npz"), "--output", str(output), "--save-detections", str(found)]
    evaluate.main([*flags, *data])
    table = table_of(capsys.readouterr().out)
    metrics = json.loads(output.read_text())
    expected = json.loads((trained / "metrics.json").read_text())
    assert expected.pop("epoch") == 1
    assert metrics == expected
    assert metrics["AP50"] > 0
    image_ids = (shapes / "VOC2007" / "ImageSets" / "Main" / "val.txt").read_text().split()
    ours, theirs = (load_detections(path, SHAPES_CLASSES, image_ids) for path in (found, trained / "detections.json"))
    for image_id in image_ids:
        np.testing.assert_array_equal(ours[image_id].boxes, theirs[image_id].boxes)

    evaluate.main(["--detections", str(found), "--classes", ",".join(SHAPES_CLASSES), *data])
    assert table_of(capsys.readouterr().out) == table


def test_test_settings_change_what_is_found(shapes, trained, tmp_path):
    flags = ["--params", str(trained / "last.npz"), "--dataset-root", str(shapes), "--split", "2007_val"]
    evaluate.main([*flags, "--num-workers", "0", "--max-detections", "2", "--save-detections", str(tmp_path / "few")])
    assert len(json.loads((tmp_path / "few").read_text())) == 2 * 4
    assert "topk = '0'" in message_of(evaluate.main, [*flags, "--topk", "0"])


def perfect_detections(folder: Path, image_ids: list[str]) -> list[dict]:
    """Boxes of annotation files, by the layout that the script's help tells."""
    entries = []
    for image_id in image_ids:
        for element in ElementTree.parse(folder / "Annotations" / f"{image_id}.xml").getroot().iter("object"):
            xmin, ymin, xmax, ymax = (
                float(element.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            bbox = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
            entries.append({"image_id": image_id, "category": element.findtext("name"), "bbox": bbox, "score": 0.5})
    return entries


def test_perfect_detections_on_pascal_voc_score_1(voc, tmp_path, capsys):
    image_ids = (voc / "VOC2007" / "ImageSets" / "Main" / "tiny.txt").read_text().split()
    entries = perfect_detections(voc / "VOC2007", image_ids)
    (tmp_path / "perfect.json").write_text(json.dumps(entries))
    flags = ["--dataset-root", str(voc), "--split", "2007_tiny", "--output", str(tmp_path / "metrics.json")]
    evaluate.main(["--detections", str(tmp_path / "perfect.json"), *flags])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("AP", "AP50", "AP75", "VOC07_AP50", "VOC10_AP50"):
        assert metrics[name] == pytest.approx(1, abs=1e-9)
    present = {entry["category"] for entry in entries}
    for name, row in metrics["per_class"].items():
        if row["objects"]:
            assert name in present
            assert row["AP"] == pytest.approx(1, abs=1e-9)
        else:
            assert row["AP"] is None
    assert " 100.0 " in table_of(capsys.readouterr().out).splitlines()[-1]

    # At 0.7 of the width the IoU is 0.7.
    for entry in entries:
        entry["bbox"][2] *= 0.7
    (tmp_path / "narrow.json").write_text(json.dumps(entries))
    evaluate.main(["--detections", str(tmp_path / "narrow.json"), *flags])
    narrow = json.loads((tmp_path / "metrics.json").read_text())
    assert narrow["AP50"] == pytest.approx(1, abs=1e-9)
    assert narrow["AP75"] < 0.1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{", "is not a JSON file"),
        ("", "is not a JSON file"),
        ("{}", "must hold a list"),
        ('[{"image_id": "val_000000"}]', "entry 0 (from 0) lacks category, bbox, score"),
        ('[{"image_id": "val_000000", "category": "disc", "bbox": [0, 0, 1, 1], "score": 1}]', "disc"),
        ('[{"image_id": "other", "category": "circle", "bbox": [0, 0, 1, 1], "score": 1}]', "other"),
        ('[{"image_id": "val_000000", "category": "circle", "bbox": [0, 0, NaN, 1], "score": 1}]', "four finite"),
    ],
)
def test_detections_that_cannot_be_used_are_told(shapes, tmp_path, text, told):
    path, output = tmp_path / "found.json", tmp_path / "metrics.json"
    path.write_text(text)
    flags = ["--dataset-root", shapes, "--split", "2007_val", "--classes", ",".join(SHAPES_CLASSES)]
    message = message_of(evaluate.main, ["--detections", path, "--output", output, *flags])
    assert str(path) in message
    assert told in message
    assert not output.exists()


def test_evaluate_tells_what_is_missing(shapes, trained, tmp_path):
    data = ["--dataset-root", shapes, "--split", "2007_val"]
    assert "nowhere.npz" in message_of(evaluate.main, ["--params", tmp_path / "nowhere.npz", *data])
    assert "nowhere.json" in message_of(evaluate.main, ["--detections", tmp_path / "nowhere.json", *data, "--classes",
                                                        ",".join(SHAPES_CLASSES)])  # fmt: skip
    last = ["--params", trained / "last.npz"]
    assert "GPU" in message_of(evaluate.main, [*last, *data, "--gpus", "99"])
    assert "2007_test" in message_of(evaluate.main, [*last, "--dataset-root", shapes, "--split", "2007_test"])
    reordered = message_of(evaluate.main, [*last, *data, "--classes", ",".join(SHAPES_CLASSES[::-1])])
    assert "in the same order, with --classes" in reordered


@pytest.mark.parametrize("source", [[], ["--params", "a.npz", "--detections", "b.json"]])
def test_evaluate_takes_one_source(source, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main([*source, "--dataset-root", "data", "--split", "2007_val"])
    assert end.value.code == 2
    assert "--detections" in capsys.readouterr().err


# demo.py


@pytest.fixture
def photographs(shared_data, tmp_path) -> Path:
    """A folder with two real photographs, a text file by the name of a picture, and a file of no interest."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("dog.jpg", "eagle.jpg"):
        (folder / name).symlink_to(shared_data / "demo" / name)
    (folder / "letter.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not asked for")
    return folder


def run_demo(trained: Path, pictures: object, output: Path, *flags: object) -> None:
    demo.main(
        [str(text) for text in ("--params", trained / "last.npz", "--input", pictures, "--output", output, *flags)]
    )


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_demo_on_all_photographs(shared_data, trained, tmp_path, capsys):
    output, sheet = tmp_path / "found", tmp_path / "sheets" / "sheet.png"
    run_demo(trained, shared_data / "demo", output, "--min-score", "0.02", "--sheet", sheet)
    printed = capsys.readouterr().out
    photographs = sorted((shared_data / "demo").iterdir())
    assert len(photographs) == 10
    assert {path.name for path in output.iterdir()} == {
        "detections.json",
        *(f"{path.stem}.png" for path in photographs),
    }
    assert min(size_of(sheet)) > 100
    found = load_detections(output / "detections.json", SHAPES_CLASSES, [path.stem for path in photographs])
    for path in photographs:
        width, height = size_of(path)
        assert size_of(output / f"{path.stem}.png") == (width, height)
        boxes = found[path.stem].boxes
        assert boxes.min(initial=0) >= 0
        assert (boxes[:, 2:] <= [width + 0.01, height + 0.01]).all()
        assert f"{path}: {int((found[path.stem].scores >= 0.02).sum())} object(s)" in printed


def test_demo_refuses_pictures_of_one_name(shared_data, trained, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(shared_data / "demo" / "dog.jpg", tmp_path / folder)
    with pytest.raises(SystemExit, match="several pictures are named dog"):
        run_demo(trained, tmp_path / "*" / "*.jpg", tmp_path / "found")
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("flags", [["--output", "here"], ["--output", "there", "--sheet", "here/dog.png"]])
def test_demo_overwrites_no_photograph(shared_data, trained, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    cv2.imwrite("here/dog.png", cv2.imread(str(shared_data / "demo" / "dog.jpg")))
    before = Path("here/dog.png").read_bytes()
    with pytest.raises(SystemExit, match=r"dog\.png would be overwritten"):
        demo.main(["--params", str(trained / "last.npz"), "--input", "here", *flags])
    assert Path("here/dog.png").read_bytes() == before


def test_a_sheet_of_no_known_format_is_refused_at_once(shared_data, trained, tmp_path):
    with pytest.raises(SystemExit, match="no picture format"):
        run_demo(trained, shared_data / "demo", tmp_path / "found", "--sheet", tmp_path / "sheet.foo")
    assert not (tmp_path / "found").exists()


def test_evaluate_overwrites_no_file_that_it_reads(shapes, tmp_path):
    found = tmp_path / "found.json"
    found.write_text("[]")
    data = ["--dataset-root", str(shapes), "--split", "2007_val", "--classes", "circle,square,triangle,star,cross"]
    with pytest.raises(SystemExit, match="is read from"):
        evaluate.main(["--detections", str(found), *data, "--output", str(found)])
    assert found.read_text() == "[]"


def test_demo_on_a_file_draws_what_scores_enough(shared_data, trained, tmp_path):
    photograph = shared_data / "demo" / "dog.jpg"
    run_demo(trained, photograph, tmp_path / "none", "--min-score", "1.1")
    run_demo(trained, photograph, tmp_path / "all", "--min-score", "0")
    none, drawn = (cv2.imread(str(tmp_path / name / "dog.png")) for name in ("none", "all"))
    np.testing.assert_array_equal(none, cv2.imread(str(photograph)))
    assert (drawn != none).any()
    texts = [(tmp_path / name / "detections.json").read_text() for name in ("none", "all")]
    assert texts[0] == texts[1] != "[]"


@pytest.mark.parametrize("pattern", ["", "*.jpg", "**/*g*.jpg"], ids=["folder", "glob", "recursive glob"])
def test_demo_leaves_out_what_is_no_picture(photographs, trained, tmp_path, capsys, pattern):
    run_demo(trained, photographs / pattern, tmp_path / "found")
    assert {path.name for path in (tmp_path / "found").iterdir()} >= {"detections.json", "dog.png", "eagle.png"}
    assert not (tmp_path / "found" / "letter.png").exists()
    assert not (tmp_path / "found" / "notes.png").exists()
    left_out = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == (pattern != "**/*g*.jpg")
    assert all(str(photographs / "letter.jpg") in line for line in left_out)


def test_demo_ends_with_an_error_where_nothing_is_a_picture(tmp_path, trained, capsys):
    (tmp_path / "letter.jpg").write_text("no picture")
    flags = ["--params", trained / "last.npz", "--output", tmp_path / "found", "--input", tmp_path / "letter.jpg"]
    assert "none of the 1 file(s)" in message_of(demo.main, flags)
    assert f"left out: {tmp_path / 'letter.jpg'}" in capsys.readouterr().err


@pytest.mark.parametrize("pictures", ["nowhere.jpg", "nowhere/*.jpg", "empty"])
def test_demo_tells_where_there_are_no_pictures(tmp_path, trained, pictures):
    (tmp_path / "empty").mkdir()
    flags = ["--params", trained / "last.npz", "--output", tmp_path / "found", "--input", tmp_path / pictures]
    assert f"--input {tmp_path / pictures}: no such file" in message_of(demo.main, flags)
    assert not (tmp_path / "found").exists()


def test_demo_tells_what_else_cannot_be_used(tmp_path, trained):
    Image.new("RGB", (40, 30)).save(tmp_path / "black.png")
    (tmp_path / "file").write_text("")
    picture = ["--input", tmp_path / "black.png"]
    last = ["--params", trained / "last.npz"]
    assert "nowhere.npz" in message_of(demo.main, ["--params", tmp_path / "nowhere.npz", *picture])
    assert "file is damaged or no checkpoint" in message_of(demo.main, ["--params", tmp_path / "file", *picture])
    assert "--gpus 99" in message_of(demo.main, [*last, *picture, "--gpus", "99"])
    assert str(tmp_path / "file") in message_of(demo.main, [*last, *picture, "--output", tmp_path / "file"])


def test_demo_takes_pictures_of_all_modes(tmp_path, trained):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        suffix = "tif" if mode in ("CMYK", "I;16") else "png"
        Image.new(mode, (50, 33)).save(pictures / f"{mode.replace(';', '')}.{suffix}")
    run_demo(trained, pictures, tmp_path / "found")
    assert len(list((tmp_path / "found").glob("*.png"))) == 6


def test_test_settings_are_of_no_use_to_saved_detections(shapes, trained, capsys):
    flags = ["--detections", str(trained / "detections.json"), "--dataset-root", str(shapes), "--split", "2007_val"]
    with pytest.raises(SystemExit) as end:
        evaluate.main([*flags, "--nms-threshold", "0.3", "--test-flip"])
    assert end.value.code == 2
    assert "test_flip, nms_threshold: test settings go with --params" in capsys.readouterr().err
