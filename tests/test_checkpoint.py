"""Checkpoints: exact round trips, files that are damaged or of something else, and writing whole or not at all."""

from __future__ import annotations

import errno
import gc
import json
import sys
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from narrow_network import NAME
from tiny_training import assert_same_arrays, tiny_recipe

from aploss_mx.checkpoint import Checkpoint, CheckpointError, parameters_of
from aploss_mx.training.optimizer import make_trainer, optimizer_states, restore_optimizer
from symbols.retinanet import RetinaNet, get_network

CLASSES = ("cat", "dog")


@pytest.fixture
def small() -> Checkpoint:
    """A checkpoint of a few numbers, for files that are only read."""
    return Checkpoint(
        recipe=tiny_recipe(optimizer="adam", lr_decay_epoch="2,4", new_conv_std="0.02"),
        classes=("Katze", "Lärche, großer Hund"),
        epoch=3,
        step=42,
        updates=41,
        seconds=12.5,
        best={"epoch": 2, "AP": 0.1, "AP50": 1 / 3, "AP75": 0.0},
        pretrained=("conv1.weight",),
        parameters={"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "head.bias": np.zeros(2, "f4")},
        optimizer={"head.weight": [np.full((2, 3), 0.1, np.float32), np.full((2, 3), 1e-30, np.float32)]},
    )


@pytest.fixture
def saved(small, tmp_path) -> Path:
    small.save(tmp_path / "last.npz")
    return tmp_path / "last.npz"


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert one == replace(other, parameters=one.parameters, optimizer=one.optimizer)
    assert_same_arrays(one.parameters, other.parameters)
    assert_same_arrays(one.optimizer, other.optimizer)


def learn(network: RetinaNet, trainer: mx.gluon.Trainer, steps: int) -> None:
    """Make steps on images that are always the same."""
    images = mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 32, 32)))
    for _ in range(steps):
        with mx.autograd.record():
            logits, deltas = network(images)
            loss = (logits**2).mean() + ((deltas - 1) ** 2).mean()
        loss.backward()
        trainer.step(1)


@pytest.fixture(scope="module")
def of_network() -> Checkpoint:
    """A checkpoint of a whole network that has learned nothing."""
    network = get_network(NAME, len(CLASSES), 16, mx.cpu())
    return Checkpoint(tiny_recipe(), CLASSES, 0, 0, 0, 0.0, {}, (), parameters_of(network), {})


def trained(recipe, pretrained=()) -> tuple[RetinaNet, mx.gluon.Trainer, Checkpoint]:
    mx.random.seed(1)
    network = get_network(recipe.network, len(CLASSES), recipe.channels, mx.cpu(), recipe.new_conv_std)
    network.backbone.freeze(set(pretrained))
    trainer = make_trainer(network, recipe, "device")
    learn(network, trainer, 3)
    checkpoint = Checkpoint(
        recipe, CLASSES, 1, 3, 3, 0.5, {}, pretrained, parameters_of(network), optimizer_states(trainer, network)
    )
    return network, trainer, checkpoint


@pytest.mark.parametrize(
    ("settings", "states"),
    [
        ({"optimizer": "sgd"}, 1),
        ({"optimizer": "adam", "lr": 0.001}, 2),
        ({"optimizer": "sgd", "momentum": 0}, 0),
        ({"optimizer": "adam", "lr": 0.001, "backbone_lr_mult": 0.1}, 2),
    ],
    ids=["sgd", "adam", "sgd without momentum", "another rate for the backbone"],
)
def test_a_network_learns_on_as_if_it_had_not_been_saved(tmp_path, settings, states):
    network, trainer, checkpoint = trained(tiny_recipe(**settings))
    checkpoint.save(tmp_path / "a.npz")
    loaded = Checkpoint.load(tmp_path / "a.npz")
    (tmp_path / "a.npz").unlink()
    assert_same(loaded, checkpoint)
    assert {len(arrays) for arrays in loaded.optimizer.values()} == ({states} if states else set())

    mx.random.seed(2)
    other = loaded.network(mx.cpu())
    assert_same_arrays(parameters_of(other), checkpoint.parameters)
    trainer_of_other = make_trainer(other, loaded.recipe, "device")
    restore_optimizer(trainer_of_other, other, loaded.optimizer, loaded.updates)
    assert_same_arrays(optimizer_states(trainer_of_other, other), checkpoint.optimizer)
    learn(network, trainer, 2)
    learn(other, trainer_of_other, 2)
    assert_same_arrays(parameters_of(other), parameters_of(network))
    assert_same_arrays(optimizer_states(trainer_of_other, other), optimizer_states(trainer, network))
    assert not np.array_equal(parameters_of(other)["fpn.output3.weight"], checkpoint.parameters["fpn.output3.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("factor", [0.125, 2])
def test_the_backbone_steps_at_its_own_multiple_of_the_rate(optimizer, factor):
    """Bit by bit as the backbone of a network that learns at that rate, and the rest as one of the rate itself."""
    rates = {"split": (0.25, factor), "backbone": (0.25 * factor, 1), "rest": (0.25, 1)}
    ends = {}
    for name, (lr, mult) in rates.items():
        mx.random.seed(1)
        recipe = tiny_recipe(optimizer=optimizer, lr=lr, backbone_lr_mult=mult, wd=0.01)
        network = get_network(recipe.network, len(CLASSES), recipe.channels, mx.cpu(), recipe.new_conv_std)
        learn(network, make_trainer(network, recipe, "device"), 1)
        ends[name] = parameters_of(network)
    assert not np.array_equal(ends["backbone"]["backbone.conv1.weight"], ends["rest"]["backbone.conv1.weight"])
    for name, array in ends["split"].items():
        like = ends["backbone" if name.startswith("backbone.") else "rest"]
        np.testing.assert_array_equal(array, like[name], err_msg=name)


def test_what_was_frozen_is_frozen_again():
    backbone = RetinaNet(NAME, len(CLASSES), 16).backbone
    pretrained = tuple(sorted(name for name in backbone._collect_params_with_prefix() if "layer4" not in name))
    network, _, checkpoint = trained(tiny_recipe(), pretrained)
    frozen = {name for name, param in network._collect_params_with_prefix().items() if param.grad_req == "null"}
    assert {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight", "backbone.layer3.0.bn1.gamma"} < frozen
    assert not {"backbone.layer2.0.conv1.weight", "backbone.layer4.0.bn1.gamma", "fpn.down7.bias"} & frozen

    other = checkpoint.network(mx.cpu())
    assert {name for name, param in other._collect_params_with_prefix().items() if param.grad_req == "null"} == frozen
    trainer = make_trainer(other, checkpoint.recipe, "device")
    restore_optimizer(trainer, other, checkpoint.optimizer, checkpoint.updates)
    learn(other, trainer, 1)
    changed = {
        name
        for name, array in parameters_of(other).items()
        if not np.array_equal(array, checkpoint.parameters[name])
    }  # fmt: skip
    assert not changed & frozen - {name for name in frozen if "layer4" in name}  # layer4 keeps its statistics live
    assert {"backbone.layer4.0.bn1.running_mean", "backbone.layer4.0.bn1.gamma", "fpn.down7.bias"} < changed
    assert checkpoint.optimizer.keys().isdisjoint(frozen)


@pytest.mark.parametrize(
    "settings", [{"network": "resnet18_v1b"}, {"channels": 24}], ids=["other backbone", "other width"]
)
def test_other_networks_are_refused(of_network, settings):
    other = {"network": NAME, "channels": 16, **settings}
    with pytest.raises(CheckpointError, match="of another network: "):
        of_network.restore(get_network(other["network"], len(CLASSES), other["channels"], mx.cpu()))


def test_another_number_of_classes_is_refused(of_network):
    with pytest.raises(CheckpointError, match=r"class_head.4.* is \(12.*, not \(18"):
        of_network.restore(get_network(NAME, 3, 16, mx.cpu()))


def test_small_round_trip(small, saved):
    assert_same(Checkpoint.load(saved), small)
    assert_same(Checkpoint.load(str(saved)), small)


@pytest.mark.parametrize("fraction", [0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_files_cut_off_are_refused(saved, fraction):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(CheckpointError, match="last.npz is damaged or no checkpoint"):
        Checkpoint.load(saved)


@pytest.mark.parametrize("missing", [1, 2, 21, 22, 23, 64])
def test_files_that_lack_their_last_bytes_are_refused(saved, missing):
    saved.write_bytes(saved.read_bytes()[:-missing])
    with pytest.raises(CheckpointError, match="last.npz is damaged or no checkpoint"):
        Checkpoint.load(saved)


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_flipped_byte_is_refused_or_does_not_matter(small, saved, mask):
    content = saved.read_bytes()
    directory = content.index(b"PK\x01\x02")  # of the ZIP archive; no checksum covers it
    positions = [*range(0, directory, 7), *range(directory, len(content))]
    refused = 0
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= mask
        saved.write_bytes(damaged)
        try:
            loaded = Checkpoint.load(saved)
        except CheckpointError as error:
            refused += 1
            assert "last.npz" in str(error)
        except Exception as error:
            pytest.fail(f"byte {position} of {len(content)}: {error!r}")
        else:
            assert_same(loaded, small)
    assert refused > len(positions) / 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["parameter/head.weight", "optimizer/1/head.weight"])
def test_numbers_that_are_not_finite_are_refused_by_name(small, tmp_path, place, value):
    array = small.parameters["head.weight"] if place.startswith("parameter") else small.optimizer["head.weight"][1]
    array[1, 2] = value
    small.save(tmp_path / "last.npz")
    with pytest.raises(CheckpointError, match="last.npz: head.weight holds numbers that are not finite"):
        Checkpoint.load(tmp_path / "last.npz")


def interrupt(*_, **__) -> None:
    raise KeyboardInterrupt


def as_bytes(about: object) -> np.ndarray:
    return np.frombuffer(json.dumps(about).encode(), np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        {"conv1.weight": np.zeros(3)},
        {},
        {"about": np.array("a file of someone else")},
        {"about": as_bytes({})},
        {"about": as_bytes([])},
        {"about": as_bytes({"format": 2})},
        {"about": as_bytes({"format": 1})},
        {"about": as_bytes({"format": 1}), "names": np.array(["cat", "dog"])},
        {"about": np.array({"format": 1}, dtype=object)},
    ],
    ids=["weights", "nothing", "text", "no format", "list", "format 2", "no recipe", "strings", "pickle"],
)
def test_other_npz_files_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(CheckpointError, match="other.npz"):
        Checkpoint.load(tmp_path / "other.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "array.npy", np.zeros(3))
    mx.nd.save(str(tmp_path / "net.params"), {"arg:weight": mx.nd.zeros(3)})
    (tmp_path / "folder.npz").mkdir()
    for name in ("text.npz", "array.npy", "net.params", "folder.npz"):
        with pytest.raises(CheckpointError, match=name):
            Checkpoint.load(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*last\.npz"):
        Checkpoint.load(tmp_path / "last.npz")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("older", [True, False], ids=["over an older one", "the first one"])
def test_a_write_that_fails_half_way_changes_nothing(small, tmp_path, monkeypatch, failure, older):
    path = tmp_path / "last.npz"
    if older:
        small.save(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write, written = np.lib.format.write_array, []

    def write_two(file, array, **options):
        if len(written) == 2:
            raise failure
        write(file, array, **options)
        written.append(array)

    monkeypatch.setattr(np.lib.format, "write_array", write_two)
    with pytest.raises(type(failure)):
        replace(small, epoch=4, step=56).save(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_write_that_is_interrupted_prints_no_traceback_later(small, saved, monkeypatch):
    """Python prints what it cannot raise, such as an error when it clears up a half-written archive."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small.save(saved)
    gc.collect()
    assert not unraisable
    monkeypatch.undo()
    assert_same(Checkpoint.load(saved), small)


def test_a_newer_checkpoint_replaces_the_older_and_leaves_nothing_else(small, saved):
    newer = replace(small, epoch=4, step=56)
    newer.save(saved)
    assert_same(Checkpoint.load(saved), newer)
    assert list(saved.parent.iterdir()) == [saved]
