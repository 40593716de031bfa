"""Every setting of a recipe, given as a flag, changes those parts of a training that it is of, and no other."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from tiny_training import tiny_flags

from aploss_mx.checkpoint import parameters_of
from aploss_mx.commands import train_voc, training
from aploss_mx.config import Recipe
from aploss_mx.data.examples import Draw
from aploss_mx.geometry.anchors import AnchorShapes
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.training.loop import TrainingRun

BASE = {
    "epochs": 4,
    "lr_decay_epoch": "2",
    "warmup_steps": 3,
    "warmup_factor": 0.5,
    "val_interval": 2,
    "score_threshold": 0.2,
    "topk": 60,
    "max_detections": 150,
}
CHANGES: dict[str, tuple[Any, set[str]]] = {
    "network": ("resnet18_v1b", {"weights"}),
    "channels": (24, {"weights"}),
    "new_conv_std": (0.01, {"weights"}),
    "pretrained": ("a checkpoint", {"weights"}),
    "seed": (1, {"weights", "order", "examples"}),
    "pixels": ("caffe", {"examples", "validation", "views"}),
    "anchor_size": (6, {"examples", "detections"}),
    "anchor_scales": ("1,1.6", {"examples", "detections"}),
    "anchor_ratios": ("0.4,1,2.5", {"examples", "detections"}),
    "augmentation": ("none", {"examples"}),
    "data_shape": (96, {"examples"}),
    "train_split": ("2007_val", {"order", "examples", "rates"}),
    "val_split": ("2007_train", {"validation"}),
    "classes": ("square,circle,triangle,star,cross", {"examples", "validation"}),
    "batch_size": (2, {"order", "rates"}),
    "loss": ("auc", {"class loss"}),
    "delta": (0.3, {"class loss"}),
    "interpolated": (False, {"class loss"}),
    "ranking_scope": ("class", {"class loss"}),
    "ranking_batch": (2, {"class loss", "box loss"}),
    "sync_ranking": (True, {"ranking of all devices"}),
    "box_loss_weight": (0.5, {"box loss"}),
    "optimizer": ("adam", {"update"}),
    "momentum": (0.5, {"update"}),
    "wd": (0.01, {"update"}),
    "backbone_lr_mult": (0.5, {"update"}),
    "lr": (0.02, {"rates"}),
    "lr_decay": (0.2, {"rates"}),
    "lr_decay_epoch": ("3", {"rates"}),
    "warmup_steps": (2, {"rates"}),
    "warmup_factor": (0.1, {"rates"}),
    "epochs": (5, {"rates", "evaluations"}),
    "val_interval": (3, {"evaluations"}),
    "test_short": (32, {"validation", "views"}),
    "test_long": (96, {"views"}),  # the pictures are squares
    "test_scales": ("32,96", {"validation", "views"}),
    "test_warp": (True, {"views"}),
    "test_flip": (True, {"validation", "views"}),
    "topk": (20, {"detections"}),
    "score_threshold": (0.8, {"detections"}),
    "nms_threshold": (0.2, {"detections"}),
    "max_detections": (5, {"detections"}),
}
ELSEWHERE = {"temperature"}  # of another loss: tests/losses/test_class_losses.py


class Seen(Exception):
    """Ends a training whose parts were looked at."""


def parts_of(run: TrainingRun, train) -> dict[str, Any]:
    """Return what a run is made of and what it does, by name; `train` is its method `run`, here without updates."""
    rng = np.random.default_rng(0)
    logits = mx.nd.array(rng.normal(size=(4, 40, 5)) + np.arange(5))
    targets = rng.integers(-1, 6, (4, 40))
    class_targets, zeros = mx.nd.array(targets), mx.nd.zeros((4, 40, 4))
    deltas = mx.nd.array(rng.normal(0, 2, (4, 40, 4)))
    examples = run.loader.dataset
    joint = run.sync_method and solve_anchors(run.sync_method, logits.asnumpy(), targets)[0]
    anchors = 6 * (64 + 16 + 4 + 1 + 1)
    outputs = (rng.normal(size=(anchors, 5)).astype(np.float32), rng.normal(size=(anchors, 4)).astype(np.float32))
    parts = {
        "weights": {name: digest(array) for name, array in parameters_of(run.network).items()},
        "order": list(run.sampler),
        "examples": [[*map(digest, examples[Draw(0, index, index)])] for index in range(len(examples))],
        "validation": [[digest(array.asnumpy()) for array in batch] for batch in run.val_loader]
        + [sample.labels.tolist() for sample in run.val_samples],
        "views": (run.val_loader.dataset.views, run.detector.views),
        "class loss": run.class_loss(logits, class_targets).asscalar(),
        "box loss": run.box_loss(deltas, zeros, class_targets).asscalar(),
        "ranking of all devices": joint,
        "detections": digest(run.detector.postprocess(*outputs, 64, 64).boxes),
        "update": two_updates(run),
    }
    rates, evaluated = [], []
    run.update = lambda batch, rate: rates.append(rate) or np.zeros(2)
    run.evaluate = lambda *_: evaluated.append(run.epoch) or {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "best_F1_score": 0.5,
                                                              "calibration": {"slope": None}}  # fmt: skip
    train(run)
    return {**parts, "rates": rates, "evaluations": evaluated}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest() + str(array.shape)


def two_updates(run: TrainingRun) -> list[float]:
    """Return what two steps make of weights of 1 in the backbone and a head, whose gradients are 0.5."""
    weights = [run.network.backbone.conv1.weight, run.network.class_head[0].weight]
    before = [weight.data().copy() for weight in weights]
    for weight in weights:
        weight.set_data(weight.data() * 0 + 1)
    run.trainer.set_learning_rate(0.1)
    for _ in range(2):
        with autograd.record():
            total = sum((0.5 * weight.data()).sum() for weight in weights)
        total.backward()
        run.trainer.step(1, ignore_stale_grad=True)
    after = [float(weight.data().asnumpy().flat[0]) for weight in weights]
    for weight, array in zip(weights, before):
        weight.set_data(array)
    return after


@pytest.fixture(scope="module")
def parts_with(shapes, trained, tmp_path_factory):
    """Return the parts of a training from the command line with these settings instead of those of BASE."""

    def look(**settings) -> dict[str, Any]:
        if "pretrained" in settings:
            settings["pretrained"] = trained / "last.npz"
        folder, seen, train = tmp_path_factory.mktemp("run"), {}, TrainingRun.run

        def stop(run):
            seen.update(parts_of(run, train))
            raise Seen

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Seen):
            patch.setattr(TrainingRun, "run", stop)
            train_voc.main([*tiny_flags(shapes, folder, **{**BASE, **settings}), "--log-interval", "1000"])
        for path in folder.glob("*.npz"):
            path.unlink()
        return seen

    return look


@pytest.fixture(scope="module")
def base(parts_with) -> dict[str, Any]:
    return parts_with()


def rounds() -> list[list[str]]:
    """Return the settings in groups that are changed together: no two of a group change the same part."""
    groups: list[list[str]] = []
    for name, (_, parts) in CHANGES.items():
        for group in groups:
            if all(parts.isdisjoint(CHANGES[other][1]) for other in group):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


@pytest.mark.parametrize("names", rounds(), ids=" ".join)
def test_what_changes_is_what_the_settings_are_of(base, parts_with, names):
    now = parts_with(**{name: CHANGES[name][0] for name in names})
    changed = {part for part in base if now[part] != base[part]}
    assert changed == set().union(*(CHANGES[name][1] for name in names))


def test_every_setting_is_changed():
    assert CHANGES.keys() | ELSEWHERE == {item.name for item in fields(Recipe)}


@pytest.mark.parametrize(
    ("given", "timeouts"), [("", (600, 120)), ("37", (37, 37)), ("0", (5, 5)), ("inf", (1e6, 1e6)), ("nan", (5, 5))]
)
def test_the_timeout_is_that_of_the_run(shapes, tmp_path, monkeypatch, given, timeouts):
    def stop(*arguments):
        raise Seen(arguments[-1])

    monkeypatch.setattr(training, "set_up", stop)
    with pytest.raises(Seen) as seen:
        train_voc.main([*tiny_flags(shapes, tmp_path / "run"), *(["--timeout", given] if given else [])])
    (options,) = seen.value.args
    assert options.timeouts == timeouts


def test_data_are_checked_for_the_recipes_anchors(shapes, tmp_path, monkeypatch):
    def stop(_, **settings):
        raise Seen(settings)

    monkeypatch.setattr(training, "check_dataset", stop)
    with pytest.raises(Seen) as seen:
        train_voc.main(tiny_flags(shapes, tmp_path / "run", anchor_size=6))
    assert seen.value.args == ({"data_shape": 64, "anchors": AnchorShapes(size=6)},)
