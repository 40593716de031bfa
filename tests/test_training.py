"""The training loop: what a run writes, what it refuses before it starts, and how it ends when it must."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from tiny_training import (
    assert_same_arrays,
    paint_shapes,
    running,
    running_script,
    tiny_flags,
    tiny_recipe,
    tiny_run,
    wait_until,
)

from aploss_mx.checkpoint import Checkpoint, CheckpointError, optimizer_states, parameters_of
from aploss_mx.config import ConfigError, load_recipe
from aploss_mx.data.sample import Sample
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.detector import Detector
from aploss_mx.metrics_log import read_metrics
from aploss_mx.options import Options
from aploss_mx.ranking.measure import measure_ap_loss
from aploss_mx.start import CHANGEABLE
from aploss_mx.training import TrainingError, TrainingRun
from symbols.retinanet import get_network

OTHER = {
    "network": "resnet34_v1b",
    "channels": "24",
    "new_conv_std": "0.01",
    "pretrained": "gluoncv",
    "pixels": "caffe",
    "train_split": "2007_val",
    "val_split": "2007_train",
    "classes": "circle,square",
    "augmentation": "none",
    "data_shape": "96",
    "loss": "focal",
    "delta": "0.5",
    "interpolated": "false",
    "sync_ranking": "true",
    "temperature": "1",
    "ranking_batch": "2",
    "ranking_scope": "class",
    "box_loss_weight": "0.5",
    "batch_size": "2",
    "epochs": "3",
    "optimizer": "adam",
    "lr": "0.02",
    "lr_decay": "0.5",
    "lr_decay_epoch": "1",
    "warmup_steps": "5",
    "warmup_factor": "0.5",
    "momentum": "0.8",
    "wd": "0.001",
    "seed": "1",
    "val_interval": "1",
    "test_short": "32",
    "test_long": "96",
    "test_scales": "32,64",
    "test_warp": "true",
    "test_flip": "true",
    "topk": "10",
    "score_threshold": "0.5",
    "nms_threshold": "0.3",
    "max_detections": "5",
}
"""Another value for each setting of the tiny recipe."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return paint_shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture
def folder(tmp_path):
    """A folder for a run, from which the checkpoints are removed afterwards: pytest keeps the others for days."""
    yield tmp_path / "run"
    for path in tmp_path.rglob("*.npz"):
        path.unlink()


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """The folder of a run of one epoch of two steps, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    tiny_run(shapes, folder).run()
    yield folder
    for path in folder.glob("*.npz"):
        path.unlink()


@contextmanager
def as_somebody() -> Iterator[None]:
    """Root may write anywhere: be somebody else in the block."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def content_of(folder) -> dict[str, tuple[int, int]]:
    """Size and time of all files: enough to see that none was touched."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_run_writes_all_it_promises(shapes, folder, capsys):
    run = tiny_run(shapes, folder, epochs=2, val_interval=1)
    metrics = run.run()
    names = {path.name for path in folder.iterdir()}
    assert names == {"last.npz", "best.npz", "metrics.csv", "metrics.json", "detections.json", "recipe.yaml",
                     "tensorboard"}  # fmt: skip
    assert load_recipe(str(folder / "recipe.yaml")) == run.recipe
    assert json.loads((folder / "metrics.json").read_text()) == {"epoch": 2, **metrics}

    last = Checkpoint.load(folder / "last.npz")
    assert (last.recipe, last.classes, last.epoch, last.step) == (run.recipe, SHAPES_CLASSES, 2, 4)
    assert_same_arrays(last.parameters, parameters_of(run.network))
    best = Checkpoint.load(folder / "best.npz")
    assert last.best == best.best
    assert best.best["epoch"] == best.epoch

    rows = read_metrics(folder / "metrics.csv")
    training = [row for row in rows if row["loss"]]
    evaluations = [row for row in rows if row["AP"]]
    assert [int(row["step"]) for row in training] == [1, 2, 3, 4]
    assert [int(row["step"]) for row in evaluations] == [2, 4]
    assert [int(row["epoch"]) for row in evaluations] == [1, 2]
    for row in training:
        assert float(row["loss"]) == pytest.approx(float(row["cls_loss"]) + float(row["box_loss"]), abs=2e-6)
        assert 0 <= float(row["cls_loss"]) <= 1
        assert 0 < float(row["ap_loss"]) <= 1
    assert float(evaluations[-1]["AP"]) == metrics["AP"]
    assert "epoch 2: AP " in capsys.readouterr().out


@pytest.mark.parametrize("loss", ["ap", "ohem"])
def test_training_is_measured_by_the_same_ap_loss_whatever_it_minimises(shapes, folder, loss):
    run = tiny_run(shapes, folder, loss=loss)
    images, class_targets, _ = next(iter(run.loader))
    expected = measure_ap_loss(scores_of(run, images), class_targets.asnumpy())
    run.run()
    measured = float(read_metrics(folder / "metrics.csv")[0]["ap_loss"])
    assert measured == pytest.approx(expected, abs=1e-3)


def scores_of(run, images):
    with autograd.train_mode():  # BatchNorm is live
        logits, _ = run.network(images)
    if run.recipe.background:
        return mx.nd.log(mx.nd.softmax(logits))[..., 1:].asnumpy()
    return logits.asnumpy()


def test_without_box_regression_its_head_does_not_learn(shapes, folder):
    run = tiny_run(shapes, folder, box_loss_weight=0, wd=0)
    before = parameters_of(run.network)
    run.run()
    after = parameters_of(run.network)
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert "class_head" in changed and "box_head" not in changed
    assert {row["box_loss"] for row in read_metrics(folder / "metrics.csv") if row["loss"]} == {"0.0"}


def test_the_rows_of_a_training_tell_epoch_and_step_alike(finished):
    """The epoch of a row is that of the evaluation at the same step."""
    rows = read_metrics(finished / "metrics.csv")
    assert {(row["step"], row["epoch"]) for row in rows} == {("1", "1"), ("2", "1")}


def test_the_same_detector_comes_out_of_the_checkpoint(shapes, finished):
    run = tiny_run(shapes, finished, resume="auto")
    detector = Detector.load(finished / "last.npz")
    ours = run.detector.detect(run.val_samples, run.val_loader)
    theirs = detector.detect(run.val_samples, detector.loader(run.val_samples, 0))
    assert ours.keys() == theirs.keys() == {sample.image_id for sample in run.val_samples}
    assert sum(map(len, ours.values())) > 0
    for image_id in ours:
        np.testing.assert_array_equal(ours[image_id].boxes, theirs[image_id].boxes)
        np.testing.assert_array_equal(ours[image_id].scores, theirs[image_id].scores)


def test_workers_do_not_change_the_result(shapes, folder, finished):
    run = tiny_run(shapes, folder, workers=2)
    run.run()
    assert_same_arrays(parameters_of(run.network), Checkpoint.load(finished / "last.npz").parameters)


def test_each_epoch_shows_all_images_in_an_order_of_its_own(shapes, folder, monkeypatch):
    shown, update = [], TrainingRun.update

    def look(run, batch, rate):
        shown.extend(image.asnumpy().tobytes() for image in batch[0])
        return update(run, batch, rate)

    monkeypatch.setattr(TrainingRun, "update", look)
    tiny_run(shapes, folder, epochs=2, augmentation="none").run()
    first, second = shown[:8], shown[8:]
    assert len(set(first)) == 8
    assert sorted(first) == sorted(second)
    assert first != second


def test_evaluations_come_at_the_interval_and_at_the_end(shapes, folder, monkeypatch):
    scores = {2: 0.1, 4: 0.3, 5: 0.2}
    evaluated = []

    def evaluate(run, _):
        evaluated.append(run.epoch)
        return {"AP": scores[run.epoch], "AP50": 0.5, "AP75": None, "best_F1_score": scores[run.epoch]}

    monkeypatch.setattr(TrainingRun, "evaluate", evaluate)
    monkeypatch.setattr(TrainingRun, "_train_epoch", lambda run, *_: None)
    metrics = tiny_run(shapes, folder, epochs=5, val_interval=2).run()
    assert evaluated == [2, 4, 5]
    assert metrics["AP"] == 0.2
    assert Checkpoint.load(folder / "best.npz").epoch == 4
    assert Checkpoint.load(folder / "last.npz").epoch == 5
    assert Checkpoint.load(folder / "best.npz").best_f1_score == 0.3
    assert Checkpoint.load(folder / "last.npz").best_f1_score == 0.2
    assert Checkpoint.load(folder / "last.npz").best == {"epoch": 4, "AP": 0.3, "AP50": 0.5, "AP75": 0.0}


# Losses that are not finite


def spoil(batch):
    """Return a batch whose box targets are not finite. Pixels would not do: MXNet's ReLU makes NaN 0 on a CPU."""
    images, class_targets, box_targets = batch
    return [images, class_targets, box_targets * np.nan]


def test_a_loss_that_is_not_finite_stops_the_run_and_changes_no_weight(shapes, folder):
    run = tiny_run(shapes, folder)
    batch = next(iter(run.loader))
    run.update(batch, 0.01)
    before = {name: array for name, array in parameters_of(run.network).items() if "running_" not in name}
    states = optimizer_states(run.trainer, run.network)
    with pytest.raises(TrainingError, match="the loss is not finite at step 0 .*there was no checkpoint yet"):
        run.update(spoil(batch), 0.01)
    after = parameters_of(run.network)
    assert_same_arrays({name: after[name] for name in before}, before)
    assert_same_arrays(optimizer_states(run.trainer, run.network), states)


def test_the_last_checkpoint_outlives_a_loss_that_is_not_finite(shapes, folder, monkeypatch):
    update = TrainingRun.update
    monkeypatch.setattr(
        TrainingRun, "update", lambda run, batch, rate: update(run, spoil(batch) if run.step == 3 else batch, rate)
    )
    with pytest.raises(TrainingError, match=r"not finite at step 3 .*the last good checkpoint is .*last\.npz"):
        tiny_run(shapes, folder, epochs=3).run()
    monkeypatch.undo()
    assert Checkpoint.load(folder / "last.npz").step == 2
    assert tiny_run(shapes, folder, resume="auto", epochs=2).epoch == 1


def test_weights_that_are_not_finite_reach_no_checkpoint(shapes, folder, monkeypatch):
    """The last step of an epoch may spoil the weights, and then no loss has shown it before the checkpoint."""
    update = TrainingRun.update

    def spoil_the_fourth(run, batch, rate):
        losses = update(run, batch, rate)
        if run.step == 3:
            run.network.fpn.output3.weight.set_data(run.network.fpn.output3.weight.data() * np.nan)
        return losses

    monkeypatch.setattr(TrainingRun, "update", spoil_the_fourth)
    with pytest.raises(TrainingError):
        tiny_run(shapes, folder, epochs=3).run()
    assert Checkpoint.load(folder / "last.npz").step == 2


@pytest.mark.parametrize(("rate", "val_interval"), [("1e3", 0), ("1e9", 1), ("1e38", 0)])
def test_a_run_that_diverges_leaves_a_checkpoint_that_loads_or_none(shapes, folder, rate, val_interval):
    with pytest.raises((TrainingError, ValueError)):
        tiny_run(shapes, folder, epochs=4, val_interval=val_interval, lr=rate, batch_size=8).run()
    if (folder / "last.npz").exists():
        Checkpoint.load(folder / "last.npz")


# What is refused before training


def test_a_folder_that_holds_a_run_is_left_alone(shapes, finished):
    before = content_of(finished)
    with pytest.raises(ConfigError, match="run holds a run already: .*--resume auto, or .*--save-prefix"):
        tiny_run(shapes, finished)
    assert content_of(finished) == before


# The temperature is of no use to the AP-loss, nor to this test.
@pytest.mark.parametrize("name", sorted(OTHER.keys() - CHANGEABLE - {"temperature"}))
def test_a_run_does_not_go_on_with_another_setting(shapes, finished, name):
    before = content_of(finished)
    with pytest.raises(CheckpointError, match=rf"cannot go on with other settings \({name}: .* → "):
        tiny_run(shapes, finished, resume="auto", **{name: OTHER[name]})
    assert content_of(finished) == before


def test_all_changed_settings_are_named(shapes, finished):
    with pytest.raises(CheckpointError, match=r"\(batch_size: 4 → 2; seed: 0 → 7\)"):
        tiny_run(shapes, finished, resume="auto", batch_size=2, seed=7, epochs=9)


def test_a_run_does_not_go_on_with_other_classes(shapes, finished):
    run = tiny_run(shapes, finished, resume="auto")
    with pytest.raises(CheckpointError, match="classes are circle, square"):
        TrainingRun(run.recipe, SHAPES_CLASSES[::-1], [], [], run.options)


def test_every_setting_is_changed_in_these_tests():
    recipe = tiny_recipe()
    assert OTHER.keys() == recipe.to_dict().keys()
    for name, text in OTHER.items():
        base = recipe.override(loss="smooth-ap") if name == "temperature" else recipe
        assert getattr(base.override(**{name: text}), name) != getattr(base, name)


@pytest.mark.parametrize("name", sorted(CHANGEABLE))
def test_these_settings_may_change(shapes, finished, folder, name):
    run = tiny_run(shapes, folder, resume=str(finished / "last.npz"), **{name: OTHER[name]})
    assert (run.epoch, run.step) == (1, 2)
    assert load_recipe(str(folder / "recipe.yaml")) == tiny_recipe(**{name: OTHER[name]})


def test_a_finished_run_that_goes_on_writes_no_row_twice(shapes, folder):
    tiny_run(shapes, folder).run()
    once = read_metrics(folder / "metrics.csv")
    before = Checkpoint.load(folder / "last.npz")
    metrics = tiny_run(shapes, folder, resume="auto").run()
    assert metrics["AP"] == float(once[-1]["AP"])
    assert_same_arrays(Checkpoint.load(folder / "last.npz").parameters, before.parameters)
    assert read_metrics(folder / "metrics.csv") == once


def test_resume_auto_starts_anew_where_there_is_nothing(shapes, folder):
    run = tiny_run(shapes, folder, resume="auto")
    assert (run.epoch, run.step) == (0, 0)


def test_a_missing_checkpoint_is_named_and_no_folder_made(shapes, folder):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere\.npz"):
        tiny_run(shapes, folder, resume=str(folder / "nowhere.npz"))
    assert not folder.exists()


@pytest.mark.parametrize("cpus", [3, 8])
def test_a_batch_must_divide_evenly_over_the_devices(shapes, folder, cpus):
    with pytest.raises(ConfigError, match=f"batch_size 4 cannot be split evenly over {cpus} devices"):
        tiny_run(shapes, folder, cpus=cpus)
    assert not folder.exists()


@pytest.mark.parametrize("below", ["", "run", "a/b/run"])
def test_a_folder_that_cannot_be_made_is_refused_before_training(shapes, tmp_path, below, monkeypatch):
    monkeypatch.setattr(TrainingRun, "update", lambda *_: pytest.fail("it trains"))
    (tmp_path / "notes.txt").write_text("a regular file")
    with pytest.raises(OSError, match=r"notes\.txt"):
        tiny_run(shapes, tmp_path / "notes.txt" / below).run()
    assert (tmp_path / "notes.txt").read_text() == "a regular file"


def test_a_read_only_folder_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(TrainingRun, "update", lambda *_: pytest.fail("it trains"))
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to others
        os.chmod(root, 0o755)
        shapes, folder = paint_shapes(Path(root) / "shapes"), Path(root) / "run"
        folder.mkdir(mode=0o555)
        with as_somebody(), pytest.raises(OSError, match="cannot write to --save-prefix .*run: Permission denied"):
            tiny_run(shapes, folder).run()
        assert not list(folder.iterdir())


def test_a_full_disk_is_noticed_before_training(shapes, folder, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(TrainingRun, "update", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="run.*Read-only file system"):
        tiny_run(shapes, folder)


# Ctrl-C


def test_a_process_may_end_while_a_loss_is_under_way():
    """MXNet stops custom operators at exit before it waits for them; Ctrl-C leads there at any time."""
    program = """
import aploss_mx, mxnet as mx
from aploss_mx.losses import APLoss
logits, class_targets = mx.nd.random.normal(shape=(8, 20000, 5)), mx.nd.zeros((8, 20000))
class_targets[:, ::100] = 1
mx.nd.waitall()
for _ in range(8):
    logits = logits + APLoss()(logits, class_targets)
"""
    with running([sys.executable, "-c", program]) as process:
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_ctrl_c_ends_a_training_that_goes_on_later(folder):
    shapes = paint_shapes(folder.parent / "shapes", num_train=32)  # 8 steps an epoch
    flags = [*tiny_flags(shapes, folder, epochs=500), "--num-workers", "2"]
    with running_script("train_voc.py", flags) as process:
        wait_until(lambda: len(read_metrics(folder / "metrics.csv")) >= 10, process)  # amid the second epoch
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it as well
        stdout, stderr = process.communicate(timeout=60)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # no worker is left
    assert process.returncode == 130
    assert "interrupted; " in stderr
    assert "--resume auto" in stderr
    assert "Traceback" not in stdout + stderr
    assert not list(folder.glob(".*"))

    assert Checkpoint.load(folder / "last.npz").epoch == 1
    tiny_run(shapes, folder, resume="auto", epochs=2).run()
    assert Checkpoint.load(folder / "last.npz").epoch == 2
    steps = [int(row["step"]) for row in read_metrics(folder / "metrics.csv") if row["loss"]]
    assert steps == list(range(1, 17))


def test_fine_tuning_with_other_classes(shapes, finished, folder, capsys):
    run = tiny_run(shapes, folder, pretrained=str(finished / "last.npz"))
    old = Checkpoint.load(finished / "last.npz").parameters
    assert "starts at random" not in capsys.readouterr().out
    assert_same_arrays(parameters_of(run.network), old)

    classes = ("square", "circle")
    recipe = tiny_recipe(classes=",".join(classes), pretrained=str(finished / "last.npz"))
    samples = [Sample("one", run.val_samples[0].image_path, 64, 64, np.array([[8, 8, 40, 40]], np.float32),
                      np.array([1]), np.array([False]))] * 4  # fmt: skip
    other = TrainingRun(recipe, classes, samples, samples[:1], Options(folder / "other", [mx.cpu()], num_workers=0))
    lines = capsys.readouterr().out
    assert "lacks 2 parameters, which start at random: class_head.4.bias, class_head.4.weight" in lines
    new = parameters_of(other.network)
    assert new["class_head.4.weight"].shape[0] == 2 * 6
    assert_same_arrays(*({n: a for n, a in group.items() if not n.startswith("class_head.4")} for group in (new, old)))
    other.run()
    assert Checkpoint.load(folder / "other" / "last.npz").classes == classes


def test_the_same_number_of_other_classes_starts_anew(finished):
    checkpoint = Checkpoint.load(finished / "last.npz")
    network = checkpoint.network(mx.cpu())
    assert checkpoint.fine_tune(network, SHAPES_CLASSES) == ([], [])
    swapped = (*SHAPES_CLASSES[1:], SHAPES_CLASSES[0])
    assert checkpoint.fine_tune(network, swapped)[1] == ["class_head.4.bias", "class_head.4.weight"]


def test_fine_tuning_keeps_frozen_what_was(finished):
    checkpoint = Checkpoint.load(finished / "last.npz")
    checkpoint = replace(checkpoint, pretrained=("conv1.weight",))
    network = get_network("resnet18_v1b", 2, 16)
    assert checkpoint.fine_tune(network, ("a", "b"))[0] == ["conv1.weight"]
    params = network._collect_params_with_prefix()
    assert (params["backbone.conv1.weight"].grad_req, params["backbone.layer2.0.conv1.weight"].grad_req) == (
        "null",
        "write",
    )


def test_a_checkpoint_of_another_backbone_cannot_be_fine_tuned(finished):
    checkpoint = Checkpoint.load(finished / "last.npz")
    for array in [name for name in checkpoint.parameters if name.startswith("backbone.")]:
        del checkpoint.parameters[array]
    with pytest.raises(CheckpointError, match="another backbone"):
        checkpoint.fine_tune(get_network("resnet18_v1b", 2, 16), ("a", "b"))
