"""Errors in data are told once, by the first worker alone, and names of classes may hold any text on their way."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from coco_shapes import change, coco_flags
from script_output import message_of
from tiny_training import tiny_flags, tiny_recipe

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import demo, errors, evaluate, train_coco, train_voc, training
from aploss_mx.config import load_recipe
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.training import setup
from aploss_mx.training.distributed import Workers
from aploss_mx.training.resume import load_checkpoint

NAMES = ["ball, red", "two\nlines", " $blank$ ", "\x1b[31m", "../cross"]


def spoil(content: dict) -> None:
    content["annotations"][0]["bbox"] = []
    content["images"][-1]["file_name"] = "gone.jpg"


def test_errors_of_both_splits_are_told_once(own_coco, folder, capsys):
    for split in ("train", "val"):
        change(own_coco, split, spoil)
    message = message_of(train_coco.main, coco_flags(own_coco, folder))
    printed, complained = capsys.readouterr()
    told = printed + complained + message
    for kind in ("broken annotation (2)", "missing image (2)", "instances_train.json", "instances_val.json"):
        assert told.count(kind) == 1 and kind in message
    assert printed.count("boxes left out") == 2 and "errors" not in printed
    assert not folder.exists()


def test_where_no_annotation_can_be_read_the_report_says_so(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}0\n{split}1\n")
    flags = ["--recipe", "own_data", "--pretrained", "none", "--dataset-root", str(tmp_path)]
    message = message_of(train_voc.main, [*flags, "--save-prefix", str(tmp_path / "run")])
    assert "missing annotation (2)" in message and str(tmp_path / "Annotations" / "train0.xml") in message


def test_data_in_the_other_layout_are_told_the_command_for_them(shapes, coco, folder):
    for main, root, other in ((train_voc.main, coco, "train-coco"), (train_coco.main, shapes, "train-voc")):
        assert f"(for {other})" in message_of(main, tiny_flags(root, folder))


def test_the_others_know_that_the_first_worker_makes_its_page_alone(coco, folder, monkeypatch):
    alone, seen = [], []

    @contextmanager
    def noted(_):
        alone.append(True)
        yield
        alone.pop()

    monkeypatch.setattr(Workers, "alone", noted)
    monkeypatch.setattr(training, "plot_training", lambda *_: seen.append(bool(alone)))
    train_coco.main(coco_flags(coco, folder))
    assert seen == [True]


@pytest.fixture
def several(monkeypatch):
    """Whatever the environment says, this is one of two workers."""
    monkeypatch.setattr(setup, "count_workers", lambda _: 2)


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.usefixtures("several")
def test_of_several_workers_the_first_prints_the_report(coco, folder, monkeypatch, capsys, leads):
    run = SimpleNamespace(workers=SimpleNamespace(leads=leads), run=stop)
    monkeypatch.setattr(training, "set_up", lambda *_: run)
    assert message_of(train_coco.main, [*coco_flags(coco, folder), "--kv-store", "dist_sync"]) == "error: it trains"
    assert capsys.readouterr().out.count("boxes left out") == 2 * leads


def stop() -> None:
    raise ValueError("it trains")


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("task, waited", [("0", []), ("1", [errors.SECONDS_TO_LET_TELL])])
def test_of_several_workers_the_others_wait_for_the_first_to_tell(own_coco, folder, monkeypatch, task, waited):
    slept = []
    monkeypatch.setenv("DMLC_TASK_ID", task)
    monkeypatch.setattr(errors, "time", SimpleNamespace(sleep=slept.append))  # other threads' sleep is not counted
    change(own_coco, "train", spoil)
    message_of(train_coco.main, [*coco_flags(own_coco, folder), "--kv-store", "dist_sync"])
    assert slept == waited


# Names of classes --------------------------------------------------------------------------------


def rename(content: dict) -> None:
    for category, name in zip(content["categories"], NAMES):
        category["name"] = name


def test_names_of_classes_may_hold_any_text(own_coco, folder, tmp_path, capsys):
    for split in ("train", "val"):
        change(own_coco, split, rename)
    train_coco.main(coco_flags(own_coco, folder))
    recipe = load_recipe(str(folder / "recipe.yaml"))
    assert recipe.classes == Checkpoint.load(folder / "last.npz").recipe.classes == tuple(NAMES)
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["classes"] == NAMES
    assert list(json.loads((folder / "metrics.json").read_text())["per_class"]) == NAMES

    train_coco.main([*coco_flags(own_coco, folder, epochs=2), "--resume", "auto"])
    data = ["--dataset-root", str(own_coco), "--split", "val"]
    evaluate.main(["--params", str(folder / "last.npz"), *data, "--save-detections", str(tmp_path / "found.json")])
    evaluate.main(["--detections", str(tmp_path / "found.json"), *data])
    pictures = str(own_coco / "val")
    demo.main(
        ["--params", str(folder / "last.npz"), "--input", pictures, "--output", str(tmp_path), "--min-score", "0"]
    )
    printed = "".join(capsys.readouterr())
    assert "\x1b" not in printed and r"two\nlines" in printed and r"\x1b[31m" in printed


@pytest.mark.parametrize("names", [SHAPES_CLASSES, ("a, b", *SHAPES_CLASSES[1:])])
def test_checkpoints_that_join_names_by_commas_go_on(trained, tmp_path, names):
    last = Checkpoint.load(trained / "last.npz")
    older = replace(last, classes=names, recipe=replace(last.recipe, classes=",".join(names)))
    older.save(tmp_path / "last.npz")
    recipe = tiny_recipe(classes=list(names))
    assert load_checkpoint(tmp_path / "last.npz", recipe, names, 1).classes == names
