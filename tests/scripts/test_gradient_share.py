"""The measure of both losses' gradients: held against a step of plain SGD, and its program."""

from __future__ import annotations

import csv
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from tiny_training import tiny_recipe, tiny_run

from aploss_mx.checkpoint import Checkpoint, parameters_of
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOCDetection
from scripts.benchmarks import gradient_share
from scripts.benchmarks.gradient_share import Norms, gradient_norms


@pytest.fixture
def samples(shapes) -> list:
    return list(VOCDetection(shapes, "2007_train", SHAPES_CLASSES).samples)


def network_of(trained):
    return Checkpoint.load(trained / "last.npz").network([mx.cpu()])


def test_the_box_norm_is_in_proportion_to_its_weight_and_the_class_norm_is_not(trained, samples):
    recipe = tiny_recipe()
    plain, heavy = (
        gradient_norms(network_of(trained), replace(recipe, box_loss_weight=weight), samples, 2, 0) for weight in (1, 4)
    )
    assert plain.class_loss > 0 and plain.box_loss > 0
    assert heavy.class_loss == pytest.approx(plain.class_loss, rel=1e-5)
    assert heavy.box_loss == pytest.approx(4 * plain.box_loss, rel=1e-5)
    assert Norms(1.0, 3.0).share == 0.25 and Norms(0.0, 0.0).share == 0


@pytest.mark.parametrize(("loss", "weight"), [("class_loss", 0), ("box_loss", 1e4)])
def test_the_norm_is_how_far_plain_gradient_descent_moves_what_is_shared(loss, weight, samples, shapes, folder):
    """One batch of all images, ranked in groups; batch normalisation's statistics move as well, but have no gradient.

    The other loss counts for nothing, or for too little to tell.
    """
    rate = 0.25 / max(1, weight)
    settings = {"batch_size": 8, "ranking_batch": 2, "augmentation": "none", "box_loss_weight": weight}
    run = tiny_run(shapes, folder, **settings, momentum=0, wd=0, lr=rate)
    names = [
        name for name, param in run.network._collect_params_with_prefix().items()
        if name.startswith(("backbone.", "fpn.")) and param.grad_req != "null"
    ]  # fmt: skip
    before = parameters_of(run.network)
    expected = gradient_norms(run.network, tiny_recipe(**settings), samples, 1, 0)
    run.update(next(iter(run.loader)), rate)
    after = parameters_of(run.network)
    moved = sum(float(((after[name] - before[name]).astype(np.float64) ** 2).sum()) for name in names) ** 0.5
    assert getattr(expected, loss) == pytest.approx(moved / rate, rel=1e-3)
    assert expected.share == pytest.approx(float(loss == "class_loss"), abs=1e-2)


def test_the_program_compares_the_start_and_the_end(trained, shapes, tmp_path, capsys):
    flags = ["--dataset-root", str(shapes), "--steps", "1", "--num-workers", "0", "--start"]
    output = tmp_path / "share.csv"
    gradient_share.main(["--params", str(trained / "last.npz"), *flags, "--output", str(output)])
    with output.open(newline="", encoding="utf-8") as file:
        start, end = csv.DictReader(file)
    assert (start["step"], end["step"], end["loss"], end["checkpoint"]) == ("0", "2", "ap", "run/last.npz")
    for row in (start, end):
        class_loss, box_loss = float(row["class loss"]), float(row["box loss"])
        assert float(row["share"]) == pytest.approx(class_loss / (class_loss + box_loss), abs=1e-3)
    assert (
        f"| run/last.npz | ap | 2 | {end['class loss']} | {end['box loss']} | {end['share']} |"
        in capsys.readouterr().out
    )
