"""The training loop: what a run writes, and how it ends when it must."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from tiny_training import assert_same_arrays, paint_shapes, running, running_script, tiny_flags, tiny_run, wait_until

from aploss_mx.checkpoint import Checkpoint, CheckpointError, parameters_of
from aploss_mx.commands import train_voc
from aploss_mx.config import load_recipe
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.detection.detector import Detector
from aploss_mx.ranking.measure import measure_ap_loss
from aploss_mx.training.loop import TrainingError, TrainingRun
from aploss_mx.training.metrics_log import read_metrics
from aploss_mx.training.optimizer import optimizer_states
from aploss_mx.training.options import LOCK


def test_a_run_writes_all_it_promises(shapes, folder, capsys):
    run = tiny_run(shapes, folder, epochs=2, val_interval=1)
    metrics = run.run()
    names = {path.name for path in folder.iterdir()} - {LOCK}
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
    assert [(int(row["epoch"]), int(row["step"])) for row in training] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    assert [(int(row["epoch"]), int(row["step"])) for row in evaluations] == [(1, 2), (2, 4)]
    for row in training:
        assert float(row["loss"]) == pytest.approx(float(row["cls_loss"]) + float(row["box_loss"]), abs=2e-6)
        assert 0 <= float(row["cls_loss"]) <= 1
        assert 0 < float(row["ap_loss"]) <= 1
        assert 0 < float(row["score_spread"])
    assert float(evaluations[-1]["AP"]) == metrics["AP"]
    assert "epoch 2: AP " in capsys.readouterr().out


def test_a_row_is_of_the_steps_since_the_last_one(shapes, folder):
    every, second = (tiny_run(shapes, folder / name, batch_size=2) for name in ("every", "second"))
    second.options = replace(second.options, log_interval=2)
    for run in (every, second):
        run.run()
    rows, means = (
        [row for row in read_metrics(folder / name / "metrics.csv") if row["loss"]] for name in ("every", "second")
    )
    assert [int(row["step"]) for row in means] == [2, 4]
    for mean, *pair in zip(means, rows[::2], rows[1::2]):
        for name in ("loss", "cls_loss", "box_loss"):
            assert float(mean[name]) == pytest.approx(np.mean([float(row[name]) for row in pair]), abs=2e-6)
        for name in ("epoch", "step", "lr", "ap_loss", "score_spread"):
            assert mean[name] == pair[1][name]


@pytest.mark.parametrize(("loss", "ranking_batch"), [("ap", 0), ("ohem", 0), ("ap", 1)])
def test_training_is_measured_by_the_same_ap_loss_whatever_it_minimises(shapes, folder, loss, ranking_batch):
    run = tiny_run(shapes, folder, loss=loss, ranking_batch=ranking_batch)
    images, class_targets, _ = next(iter(run.loader))
    expected = measure_ap_loss(scores_of(run, images), class_targets.asnumpy(), ranking_batch)
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


def test_the_same_detector_comes_out_of_the_checkpoint(shapes, trained):
    run = tiny_run(shapes, trained, resume="auto")
    detector = Detector.load(trained / "last.npz")
    ours = run.detector.detect(run.val_samples, run.val_loader)
    theirs = detector.detect(run.val_samples, detector.loader(run.val_samples, 0))
    assert ours.keys() == theirs.keys() == {sample.image_id for sample in run.val_samples}
    assert sum(map(len, ours.values())) > 0
    for image_id in ours:
        np.testing.assert_array_equal(ours[image_id].boxes, theirs[image_id].boxes)
        np.testing.assert_array_equal(ours[image_id].scores, theirs[image_id].scores)


def test_workers_do_not_change_the_result(shapes, folder, trained):
    run = tiny_run(shapes, folder, workers=2)
    run.run()
    assert_same_arrays(parameters_of(run.network), Checkpoint.load(trained / "last.npz").parameters)


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
    evaluated, held = [], []

    def train(run, *_):
        held.append(sum(isinstance(one, Checkpoint) for one in gc.get_objects()))
        run.step += 1

    def evaluate(run, _):
        evaluated.append(run.epoch)
        time.sleep(0.1)
        return {"AP": scores[run.epoch], "AP50": 0.5, "AP75": None, "best_F1_score": scores[run.epoch],
                "calibration": {"slope": 2.0, "offset": scores[run.epoch]}}  # fmt: skip

    monkeypatch.setattr(TrainingRun, "evaluate", evaluate)
    monkeypatch.setattr(TrainingRun, "train_one_epoch", train)
    metrics = tiny_run(shapes, folder, epochs=5, val_interval=2).run()
    assert evaluated == [2, 4, 5]
    assert len(set(held)) == 1  # no checkpoint stays in memory while the next epoch trains
    assert Checkpoint.load(folder / "last.npz").seconds >= 0.3  # with all evaluations
    assert metrics["AP"] == 0.2
    assert Checkpoint.load(folder / "best.npz").epoch == 4
    assert Checkpoint.load(folder / "last.npz").epoch == 5
    assert Checkpoint.load(folder / "best.npz").best_f1_score == 0.3
    assert Checkpoint.load(folder / "last.npz").best_f1_score == 0.2
    assert Checkpoint.load(folder / "last.npz").calibration == (2.0, 0.2)
    assert Checkpoint.load(folder / "last.npz").best == {"epoch": 4, "AP": 0.3, "AP50": 0.5, "AP75": 0.0}


def test_a_run_does_not_resume_to_have_fewer_epochs(shapes, folder):
    tiny_run(shapes, folder, epochs=2).run()
    recipe = (folder / "recipe.yaml").read_text()
    with pytest.raises(CheckpointError, match="has 2 epochs, more than --epochs 1"):
        tiny_run(shapes, folder, resume="auto", epochs=1)
    assert (folder / "recipe.yaml").read_text() == recipe


@pytest.mark.parametrize("epochs, told", [(0, "no epoch was whole yet"), (1, "--resume auto")])
def test_an_interrupt_says_whether_there_is_something_to_resume(epochs, told, shapes, folder, monkeypatch, capsys):
    def train(run, *_):
        if run.epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "train_one_epoch", train)
    with pytest.raises(SystemExit):
        train_voc.main([*tiny_flags(shapes, folder, epochs=3), "--resume", "auto"])
    said = capsys.readouterr()
    assert f"nothing to resume in {folder}: a new run" in said.out
    assert "interrupted; " in said.err and told in said.err


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
    shapes = paint_shapes(folder.parent / "shapes", num_train=64)  # 16 steps an epoch
    flags = [*tiny_flags(shapes, folder, epochs=500), "--num-workers", "2"]
    with running_script("train_voc.py", flags) as process:
        wait_until(lambda: len(read_metrics(folder / "metrics.csv")) >= 18, process)  # amid the second epoch
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it as well
        stdout, stderr = process.communicate(timeout=60)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # no worker is left
    assert process.returncode == 130
    assert "interrupted; " in stderr
    assert "--resume auto" in stderr
    assert "Traceback" not in stdout + stderr
    assert [path.name for path in folder.glob(".*")] == [LOCK]

    assert Checkpoint.load(folder / "last.npz").epoch == 1
    tiny_run(shapes, folder, resume="auto", epochs=2).run()
    assert Checkpoint.load(folder / "last.npz").epoch == 2
    steps = [int(row["step"]) for row in read_metrics(folder / "metrics.csv") if row["loss"]]
    assert steps == list(range(1, 33))
