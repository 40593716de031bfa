"""train_voc.py as a user calls it: on real data, on generated data, and with things that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from script_output import message_of, table_of
from tiny_training import link_images, paint_shapes, running_script, tiny_flags

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import train_voc
from aploss_mx.data.voc import VOC_CLASSES
from aploss_mx.training.loop import TrainingRun
from aploss_mx.training.options import LOCK

SMALL_VOC = [
    "--network", "resnet18_v1b", "--channels", "16", "--data-shape", "64", "--batch-size", "2", "--epochs", "1",
    "--warmup-steps", "0", "--test-short", "64", "--test-long", "96", "--num-workers", "0", "--log-interval", "1",
    "--no-report",
]  # fmt: skip


@pytest.fixture(scope="module")
def bccd(shared_data, tmp_path_factory) -> Path:
    """Three real images of blood cells as split ``tiny``, one of them with a box without area."""
    root = tmp_path_factory.mktemp("cells") / "bccd"
    link_images(shared_data / "bccd", root, ["BloodImage_00338", "BloodImage_00000", "BloodImage_00001"])
    return root


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
    printed = capsys.readouterr().out
    assert "2007_tiny: 4 images" in printed
    assert "layer4.1.conv2.weight" in printed  # said to start at random
    assert all(name in table_of(printed) for name in [*VOC_CLASSES, "mean"])


@pytest.mark.parametrize("split, told", [("2007_val", False), ("2007_train", True)])
def test_testing_on_what_is_trained_on_is_told(split, told, shapes, folder, capsys, monkeypatch):
    def stop(_):
        raise ValueError("it trains")

    monkeypatch.setattr(TrainingRun, "run", stop)
    assert message_of(train_voc.main, tiny_flags(shapes, folder, val_split=split)) == "error: it trains"
    assert ("8 of 8 images, such as train_000000: all figures flatter" in capsys.readouterr().out) == told


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


def test_eval_only_writes_beside_the_checkpoint_and_says_so(shapes, trained, tmp_path, monkeypatch, capsys):
    """The flags leave the default recipe, whose folder may hold another run."""
    monkeypatch.chdir(tmp_path)
    flags = tiny_flags(shapes, trained)
    start = flags.index("--save-prefix")
    train_voc.main([*flags[:start], *flags[start + 2 :], "--eval-only", "--resume", str(trained / "best.npz")])
    written = trained / "evaluation.json"
    assert capsys.readouterr().out.endswith(f"wrote {written}\n")
    written.unlink()
    assert not any(tmp_path.iterdir())


def test_eval_only_heeds_test_settings(shapes, trained, capsys):
    train_voc.main([*tiny_flags(shapes, trained, score_threshold="1", test_long="96", test_short="96"), "--eval-only"])
    assert "mean" in capsys.readouterr().out
    # What training alone hangs on may be given as for it.
    train_voc.main([*tiny_flags(shapes, trained, val_split="2007_train", lr="1"), "--eval-only"])
    assert "shapes 2007_train: " in capsys.readouterr().out
    message = message_of(train_voc.main, [*tiny_flags(shapes, trained, topk="0"), "--eval-only"])
    assert "topk = '0'" in message


def test_eval_only_without_a_checkpoint(shapes, folder):
    message = message_of(train_voc.main, [*tiny_flags(shapes, folder), "--eval-only"])
    assert f"no checkpoint {folder / 'last.npz'}" in message
    assert not folder.exists()


@pytest.mark.parametrize("flags", [["--save-prefix", "file/run"], ["--eval-only", "--resume", "file/run/best.npz"]])
def test_a_folder_that_cannot_be_written_is_told_before_the_data_are_read(tmp_path, monkeypatch, no_work, flags):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    told = f"error: cannot write to --save-prefix file/run: Not a directory: {tmp_path / 'file'}"
    assert message_of(train_voc.main, flags) == told


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
def test_what_cannot_be_used_is_told_before_anything_is_written(shapes, folder, settings, told, no_work):
    message = message_of(train_voc.main, tiny_flags(shapes, folder, **settings))
    assert all(part in message for part in told), message
    assert {path.name for path in folder.rglob("*")} <= {LOCK}


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


def test_a_message_comes_without_a_traceback_and_with_status_1(shapes, folder):
    with running_script("train_voc.py", tiny_flags(shapes, folder, gpus="99")) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith("error: --gpus 99: MXNet ")
    assert "Traceback" not in stderr
