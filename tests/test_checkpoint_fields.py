"""Checkpoints of others: every field that cannot be a checkpoint's is refused, by name, before it is used."""

from __future__ import annotations

import io
import json
import random
import tracemalloc
import zipfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from narrow_network import NAME
from tiny_training import tiny_recipe

from aploss_mx.checkpoint import Checkpoint, CheckpointError, is_checkpoint, parameters_of
from aploss_mx.training.optimizer import make_trainer, restore_optimizer
from symbols.retinanet import get_network

CLASSES = ("cat", "dog")
WEIGHT = "head.weight"
VALUES = [None, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**30, "", "x" * 1000, [], [None], {}, ["a", "a"]]


@pytest.fixture
def path(tmp_path) -> Path:
    """A sound checkpoint of a few numbers."""
    Checkpoint(
        recipe=tiny_recipe(optimizer="adam"),
        classes=CLASSES,
        epoch=3,
        step=42,
        updates=41,
        seconds=12.5,
        best={"epoch": 2, "AP": 0.1},
        pretrained=(),
        parameters={WEIGHT: np.ones((2, 3), np.float32), "bn1.running_var": np.ones(2, np.float32)},
        optimizer={WEIGHT: [np.zeros((2, 3), np.float32)] * 2},
    ).save(tmp_path / "last.npz")
    return tmp_path / "last.npz"


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("about").tobytes()), arrays


def write(path: Path, about: object, arrays: dict[str, np.ndarray]) -> None:
    if isinstance(about, dict) and "arrays" in about:
        about = {**about, "arrays": list(arrays)}
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def header(shape: tuple, descr: str) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def refused(path: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        Checkpoint.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("recipe", [None, [], "ap", {"network": None}, {"channels": [1]}, {"lr": "nan"}, {"anchor_free": True}]),
        ("classes", [None, [], "cat", [1, 2], ["cat", "cat"], [""], {"cat": 1}]),
        ("epoch", [None, -1, 1.0, True, "3", 2**60, 43]),
        ("step", [None, -1, 42.0, 2**60, 40]),
        ("updates", [None, -1, 43, "41"]),
        ("seconds", [None, -1, float("nan"), float("inf"), "1", True]),
        ("best", [None, [], {"AP": 1}, {"epoch": 1, "AP": None}, {"epoch": 1, "AP": float("nan")}]),
        ("pretrained", [None, "conv1", [1], ["a", "a"]]),
        ("best_f1_score", ["0.5", float("nan"), [], True]),
        ("omp_num_threads", [2, [], "x" * 1000, "\x1b[2J"]),
        ("images_together", [-1, 1.5, "8", True]),
        ("calibration", [1, [], [1], [0, 1], [1, None], [float("nan"), 0], "12", {"slope": 1}]),
        ("arrays", [None, {}, [1]]),
        ("format", [None, 2, "1", []]),
    ],
)
def test_fields_of_another_type_or_size(path, field, values):
    about, arrays = read(path)
    for value in values:
        wrong = {**about, field: value}
        np.savez(path, about=np.frombuffer(json.dumps(wrong).encode(), np.uint8), **arrays)
        refused(path, field.rstrip("s") if field != "step" else "step")


@pytest.mark.parametrize("field", ["recipe", "classes", "epoch", "step", "updates", "seconds", "best", "pretrained"])
def test_fields_that_are_missing(path, field):
    about, arrays = read(path)
    del about[field]
    write(path, about, arrays)
    refused(path, f"it lacks {field}")


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        (f"parameter/{WEIGHT}", np.zeros((2, 3)), f"{WEIGHT} is of type float64"),
        (f"parameter/{WEIGHT}", np.zeros((2, 3), ">f4"), f"{WEIGHT} is of type >f4"),
        (f"parameter/{WEIGHT}", np.zeros((2, 3), np.int32), f"{WEIGHT} is of type int32"),
        (f"parameter/{WEIGHT}", np.full((2, 3), "a"), f"{WEIGHT} is of type <U1"),
        (f"parameter/{WEIGHT}", np.zeros((3, 2), np.float32), "optimizer's state of head.weight is float32"),
        ("parameter/bn1.running_var", np.float32([1, -1]), "running_var holds numbers below 0"),
        (f"optimizer/0/{WEIGHT}", np.zeros((2, 4), np.float32), "optimizer's state of head.weight is float32"),
        (f"optimizer/1/{WEIGHT}", np.zeros((2, 3), np.float16), "optimizer's state of head.weight is float16"),
        (f"optimizer/1/{WEIGHT}", np.full((2, 3), -1, np.float32), "head.weight holds numbers below 0"),
        (f"optimizer/2/{WEIGHT}", np.zeros((2, 3), np.float32), "optimizer has 3 states of head.weight"),
        (f"optimizer/01/{WEIGHT}", np.zeros((2, 3), np.float32), "has no place in a checkpoint"),
        ("optimizer/0/bn1.running_var", np.ones(2, np.float32), "optimizer has 1 states of bn1.running_var"),
        ("optimizer/0/tail", np.ones(2, np.float32), "states of tail, which is no parameter"),
        ("weights", np.ones(2, np.float32), "has no place in a checkpoint"),
    ],
)
def test_arrays_of_another_type_shape_or_name(path, name, array, match):
    about, arrays = read(path)
    write(path, about, {**arrays, name: array})
    refused(path, match)


@pytest.mark.parametrize(("optimizer", "states"), [({"optimizer": "sgd"}, 1), ({"optimizer": "sgd", "momentum": 0}, 0)])
def test_another_optimizers_states(path, optimizer, states):
    about, arrays = read(path)
    write(path, {**about, "recipe": tiny_recipe(**optimizer).to_dict()}, arrays)
    refused(path, f"optimizer has 2 states of head.weight, and sgd {states}")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (header((10**13,), "<f4") + bytes(24), r"parameter/x.npy claims 4e\+13 bytes"),
        (header((2**62, 2**62), "<f4") + bytes(24), "parameter/x.npy claims"),
        (header((-6,), "<f4") + bytes(24), "parameter/x.npy claims"),
        (header((6,), "<f4") + bytes(20), "parameter/x.npy claims 24 bytes"),
        (header((6,), "<f4") + bytes(25), "parameter/x.npy claims 24 bytes"),
        (header((1,), "|O") + bytes(8), "holds Python objects"),
        (npy(np.array([{}], object)), "holds Python objects"),
        (np.lib.format.magic(2, 0) + b"\xff\xff\xff\x7f" + bytes(24), "header is longer than any"),
        (np.lib.format.magic(3, 0) + bytes(24), r"format \(3, 0\)"),
        (b"no array at all", "magic string"),
        (b"", "ValueError|EOF"),
        (bytes(200_000_000), r"members claim 0\.2 GB, in a file of 0\.\d+ MB"),
    ],
    ids=range(12),
)
def test_members_that_claim_what_they_are_not(path, content, match):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("parameter/x.npy", content)
    tracemalloc.start()
    refused(path, match)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e7
    assert is_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "method", "match"),
    [
        ("parameter/x", zipfile.ZIP_STORED, "is no .npy file"),
        ("about.npy", zipfile.ZIP_STORED, "two members share a name"),
        ("parameter/x.npy", zipfile.ZIP_LZMA, "compressed in a way"),
    ],
)
def test_members_that_numpy_does_not_write(path, name, method, match):
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(name, npy(np.ones(2, np.float32)))
    refused(path, match)


def test_compressed_archives_of_numpy_are_read(path):
    checkpoint, (about, arrays) = Checkpoint.load(path), read(path)
    np.savez_compressed(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    assert Checkpoint.load(path).step == checkpoint.step


def test_a_recipe_of_an_enormous_network_is_refused_before_it_is_made(path):
    about, arrays = read(path)
    write(path, {**about, "recipe": {**about["recipe"], "channels": 10**8}}, arrays)
    with pytest.raises(CheckpointError, match="of another network"):
        Checkpoint.load(path).network(mx.cpu())


def test_what_is_pretrained_must_be_in_the_network():
    network = get_network(NAME, len(CLASSES), 16, mx.cpu())
    wrong = Checkpoint(tiny_recipe(), CLASSES, 0, 0, 0, 0.0, {}, ("conv9.weight",), parameters_of(network), {})
    with pytest.raises(CheckpointError, match="conv9.weight is not in it"):
        wrong.restore(network)


def test_states_of_a_part_of_the_network_are_refused():
    network = get_network(NAME, len(CLASSES), 16, mx.cpu())
    trainer = make_trainer(network, tiny_recipe(), "device")
    bias = parameters_of(network)["class_head.4.bias"]
    with pytest.raises(CheckpointError, match="lacks the optimizer's state of backbone"):
        restore_optimizer(trainer, network, {"class_head.4.bias": [np.zeros_like(bias)]}, 3)


def places_in(value: object, path: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places_in(item, (*path, key)))]


def test_mutations_at_random_are_refused_or_do_no_harm(path):
    """Nothing but CheckpointError; what is loaded holds numbers of the shapes and types that are wanted."""
    rng = random.Random(0)
    sound, arrays = read(path)
    refusals = 0
    for _ in range(400):
        about = json.loads(json.dumps(sound))
        place = rng.choice([place for place in places_in(about) if place])
        parent = about
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = rng.choice(VALUES)
        mutated = dict(arrays)
        if rng.random() < 0.3:
            shape, kind = rng.choice([(), (2,), (2, 3), (3, 2), (0,)]), rng.choice(["f4", "f2", "f8", "i4", "U3", "?"])
            mutated[rng.choice(list(arrays))] = np.zeros(shape, kind)
        np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **mutated)
        try:
            checkpoint = Checkpoint.load(path)
        except CheckpointError:
            refusals += 1
            continue
        for name, states in checkpoint.optimizer.items():
            assert all(state.dtype == np.float32 for state in states)
            assert all(state.shape == checkpoint.parameters[name].shape for state in states)
        assert type(checkpoint.epoch) is type(checkpoint.step) is int and checkpoint.epoch <= checkpoint.step
        assert checkpoint.classes and all(isinstance(name, str) for name in checkpoint.classes)
    assert 250 < refusals < 400
