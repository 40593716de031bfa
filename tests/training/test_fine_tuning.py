"""Trainings that begin with a checkpoint of this project."""

from __future__ import annotations

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from narrow_network import NAME
from tiny_training import assert_same_arrays, tiny_recipe, tiny_run

from aploss_mx.checkpoint import Checkpoint, CheckpointError, parameters_of
from aploss_mx.config import ConfigError
from aploss_mx.data.sample import Sample
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.training.options import Options
from aploss_mx.training.setup import set_up
from symbols.retinanet import get_network


def test_fine_tuning_with_other_classes(shapes, trained, folder, capsys):
    run = tiny_run(shapes, folder, pretrained=str(trained / "last.npz"))
    old = Checkpoint.load(trained / "last.npz").parameters
    assert "starts at random" not in capsys.readouterr().out
    assert_same_arrays(parameters_of(run.network), old)

    classes = ("square", "circle")
    recipe = tiny_recipe(classes=",".join(classes), pretrained=str(trained / "last.npz"))
    samples = [Sample("one", run.val_samples[0].image_path, 64, 64, np.array([[8, 8, 40, 40]], np.float32),
                      np.array([1]), np.array([False]))] * 4  # fmt: skip
    other = set_up(recipe, classes, samples, samples[:1], Options(folder / "other", [mx.cpu()], num_workers=0))
    lines = capsys.readouterr().out
    assert "lacks 2 parameters, which start at random: class_head.4.bias, class_head.4.weight" in lines
    new = parameters_of(other.network)
    assert new["class_head.4.weight"].shape[0] == 2 * 6
    assert_same_arrays(*({n: a for n, a in group.items() if not n.startswith("class_head.4")} for group in (new, old)))
    other.run()
    assert Checkpoint.load(folder / "other" / "last.npz").classes == classes


def test_a_checkpoint_of_other_pixels_is_refused(shapes, trained, folder):
    with pytest.raises(ConfigError, match="was trained with --pixels torchvision"):
        tiny_run(shapes, folder, pretrained=str(trained / "last.npz"), pixels="caffe")


def test_the_same_number_of_other_classes_starts_anew(trained):
    checkpoint = Checkpoint.load(trained / "last.npz")
    network = checkpoint.network(mx.cpu())
    assert checkpoint.fine_tune(network, SHAPES_CLASSES) == ([], [])
    swapped = (*SHAPES_CLASSES[1:], SHAPES_CLASSES[0])
    assert checkpoint.fine_tune(network, swapped)[1] == ["class_head.4.bias", "class_head.4.weight"]


def test_fine_tuning_keeps_frozen_what_was(trained):
    checkpoint = Checkpoint.load(trained / "last.npz")
    checkpoint = replace(checkpoint, pretrained=("conv1.weight",))
    network = get_network(NAME, 2, 16)
    assert checkpoint.fine_tune(network, ("a", "b"))[0] == ["conv1.weight"]
    params = network._collect_params_with_prefix()
    assert (params["backbone.conv1.weight"].grad_req, params["backbone.layer2.0.conv1.weight"].grad_req) == (
        "null",
        "write",
    )


def test_a_run_remembers_what_is_pretrained(shapes, trained, folder):
    start = folder.parent / "start.npz"
    replace(Checkpoint.load(trained / "last.npz"), pretrained=("conv1.weight",)).save(start)
    for epochs in (1, 2):
        tiny_run(shapes, folder, pretrained=str(start), resume="auto", epochs=epochs).run()
        last = Checkpoint.load(folder / "last.npz")
        assert (last.epoch, last.pretrained) == (epochs, ("conv1.weight",))
    before = Checkpoint.load(start).parameters
    moved = {name for name in before if not np.array_equal(before[name], last.parameters[name])}
    assert "backbone.layer2.0.conv1.weight" in moved and "backbone.conv1.weight" not in moved


def test_a_checkpoint_of_another_backbone_cannot_be_fine_tuned(trained):
    checkpoint = Checkpoint.load(trained / "last.npz")
    for array in [name for name in checkpoint.parameters if name.startswith("backbone.")]:
        del checkpoint.parameters[array]
    with pytest.raises(CheckpointError, match="another backbone"):
        checkpoint.fine_tune(get_network(NAME, 2, 16), ("a", "b"))
