"""Pretrained weights: every source loads exactly, forward passes equal NumPy's, and broken files are named."""

from __future__ import annotations

import math
from functools import lru_cache

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model
from mxnet import autograd
from numpy_layers import resnet_stages
from safetensors.numpy import save_file

from aploss_mx import backbones
from aploss_mx.backbones import WeightsError, from_torchvision, load_pretrained
from symbols.resnet import BATCH_NORM_ROLES, ResNetFeatures

BLOCKS = {
    "resnet18_v1b": (2, 2, 2, 2),
    "resnet34_v1b": (3, 4, 6, 3),
    "resnet50_v1b": (3, 4, 6, 3),
    "resnet101_v1b": (3, 4, 23, 3),
}
NUMBER_OF_PARAMETERS = {
    "resnet18_v1b": 11_689_512,
    "resnet34_v1b": 21_797_672,
    "resnet50_v1b": 25_557_032,
    "resnet101_v1b": 44_549_160,
}


@lru_cache(maxsize=None)
def torchvision_state(name: str) -> dict[str, np.ndarray]:
    """A ResNet's state dict as torchvision names it, filled at random, its classifier included; not to be changed."""
    rng = np.random.default_rng(0)
    state = {}

    def add(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> None:
        std = math.sqrt(2 / (inputs * kernel * kernel))
        state[f"{conv}.weight"] = rng.normal(0, std, (outputs, inputs, kernel, kernel)).astype(np.float32)
        state[f"{norm}.weight"] = rng.uniform(0.4, 0.8, outputs).astype(np.float32)
        state[f"{norm}.bias"] = rng.normal(0, 0.2, outputs).astype(np.float32)
        state[f"{norm}.running_mean"] = rng.normal(0, 0.2, outputs).astype(np.float32)
        state[f"{norm}.running_var"] = rng.uniform(0.5, 2, outputs).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(7)

    bottleneck = name in ("resnet50_v1b", "resnet101_v1b")
    add("conv1", "bn1", 3, 64, 7)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS[name], 1):
        width = 32 * 2**stage
        outputs = 4 * width if bottleneck else width
        for number in range(blocks):
            block = f"layer{stage}.{number}"
            sides = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
            for place, side in enumerate(sides if bottleneck else [(inputs, width, 3), (width, width, 3)], 1):
                add(f"{block}.conv{place}", f"{block}.bn{place}", *side)
            if inputs != outputs:
                add(f"{block}.downsample.0", f"{block}.downsample.1", inputs, outputs, 1)
            inputs = outputs
    state["fc.weight"] = rng.normal(0, 0.01, (1000, inputs)).astype(np.float32)
    state["fc.bias"] = np.zeros(1000, np.float32)
    learnable = [array.size for key, array in state.items() if "running" not in key and "num_" not in key]
    assert sum(learnable) == NUMBER_OF_PARAMETERS[name]
    return state


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory) -> str:
    """`torchvision_state` of a ResNet-18 in a file."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.npz"
    np.savez(path, **torchvision_state("resnet18_v1b"))
    return str(path)


@pytest.fixture(scope="module")
def resnet50_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet50.npz"
    np.savez(path, **torchvision_state("resnet50_v1b"))
    return str(path)


def random_backbone(name: str = "resnet18_v1b") -> ResNetFeatures:
    mx.random.seed(0)
    backbone = ResNetFeatures(name)
    backbone.initialize_random([mx.cpu()])
    return backbone


def values(backbone: ResNetFeatures) -> dict[str, np.ndarray]:
    return {name: param.data().asnumpy() for name, param in backbone._collect_params_with_prefix().items()}


def random_image(height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (3, height, width)).astype(np.float32)


def features(backbone: ResNetFeatures, image: np.ndarray) -> list[np.ndarray]:
    return [maps.asnumpy()[0] for maps in backbone(mx.nd.array(image[None]))]


def assert_close(maps: np.ndarray, expected: np.ndarray) -> None:
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def is_live(backbone: ResNetFeatures, name: str) -> bool:
    """Whether a parameter has a gradient."""
    return backbone._collect_params_with_prefix()[name].grad_req != "null"


# torchvision's names


@pytest.mark.parametrize(
    ("name", "sides"),
    [("resnet18_v1b", (64, 96)), ("resnet34_v1b", (32, 64)), ("resnet50_v1b", (64, 32)), ("resnet101_v1b", (32, 32))],
)
def test_torchvision_state_computes_what_it_does_in_numpy(name, sides, tmp_path):
    """By way of both files that hold a state dict, converted first or not."""
    save_file(torchvision_state(name), tmp_path / "state.safetensors")
    backbones.main(["convert", str(tmp_path / "state.safetensors"), str(tmp_path / "w.params"), "--network", name])
    backbone = random_backbone(name)
    assert load_pretrained(backbone, name, str(tmp_path / "w.params")) == ([], [])
    converted = values(backbone)
    backbone = random_backbone(name)
    np.savez(tmp_path / "state.npz", **torchvision_state(name))
    assert load_pretrained(backbone, name, str(tmp_path / "state.npz")) == ([], [])
    for path in tmp_path.iterdir():
        path.unlink()
    assert converted.keys() == values(backbone).keys()
    for key, array in values(backbone).items():
        np.testing.assert_array_equal(array, converted[key], err_msg=key)
    image = random_image(*sides)
    for maps, expected in zip(features(backbone, image), resnet_stages(torchvision_state(name), image)[1:]):
        assert_close(maps, expected)


@pytest.mark.parametrize("name", BLOCKS)
def test_each_array_of_a_torchvision_state_goes_to_its_parameter(name):
    state = torchvision_state(name)
    arrays = from_torchvision(state)
    roles = {"gamma": "weight", "beta": "bias"}
    expected = {}
    for key in ResNetFeatures(name)._collect_params_with_prefix():
        layer, _, role = key.rpartition(".")
        expected[key] = state[f"{layer}.{roles.get(role, role)}"]
    assert set(arrays) == {*expected, "fc.weight", "fc.bias"}
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


def test_wholly_pretrained_backbone_is_frozen_as_detectors_are(resnet18_file):
    backbone = random_backbone()
    load_pretrained(backbone, "resnet18_v1b", resnet18_file)
    before = values(backbone)
    with autograd.record():
        loss = sum(maps.sum() for maps in backbone(mx.nd.array(random_image()[None])))
    loss.backward()
    for key, array in values(backbone).items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)
        is_convolution = not key.endswith(BATCH_NORM_ROLES)
        assert is_live(backbone, key) == (is_convolution and key.startswith(("layer2.", "layer3.", "layer4."))), key


def test_half_precision_weights(tmp_path):
    key = "layer3.0.conv1.weight"
    weight = torchvision_state("resnet18_v1b")[key].astype(np.float16)
    np.savez_compressed(tmp_path / "weights.npz", **{key: weight})
    backbone = random_backbone()
    left = load_pretrained(backbone, "resnet18_v1b", str(tmp_path / "weights.npz")).at_random
    loaded = values(backbone)
    assert left == sorted(set(loaded) - {key})
    assert loaded[key].dtype == np.float32
    np.testing.assert_array_equal(loaded[key], weight)


def test_missing_arrays_are_named_and_stay_at_random(tmp_path):
    state = torchvision_state("resnet18_v1b")
    missing = {"layer1.1.conv2.weight": "layer1.1.conv2.weight", "layer2.0.bn1.bias": "layer2.0.bn1.beta"}
    np.savez(tmp_path / "weights.npz", **{key: array for key, array in state.items() if key not in missing})
    backbone = random_backbone()
    before = values(backbone)
    left = load_pretrained(backbone, "resnet18_v1b", str(tmp_path / "weights.npz")).at_random
    assert left == sorted(missing.values())
    after = values(backbone)
    unchanged = {key for key in after if np.array_equal(after[key], before[key])}
    assert unchanged == set(left)
    live = {key for key in after if is_live(backbone, key)}
    assert {"layer1.1.conv2.weight", "layer2.0.bn1.gamma", "layer2.0.bn1.beta"} <= live
    assert not live & {"layer1.1.conv1.weight", "layer1.1.bn2.gamma", "layer2.0.bn2.gamma"}


def test_what_is_left_over_is_named(tmp_path):
    state = {**torchvision_state("resnet18_v1b"), "neck.weight": np.ones(3, np.float32)}
    del state["layer4.1.conv2.weight"]
    state["layer4.1.conv2.bias"] = np.ones(512, np.float32)
    np.savez(tmp_path / "weights.npz", **state)
    result = load_pretrained(random_backbone(), "resnet18_v1b", str(tmp_path / "weights.npz"))
    assert result.at_random == ["layer4.1.conv2.weight"]
    assert result.left_over == ["layer4.1.conv2.bias", "neck.weight"]


def test_converting_tells_what_is_lacking_and_spoils_no_file(tmp_path, capsys):
    state = torchvision_state("resnet18_v1b")
    np.savez(tmp_path / "state.npz", **{key: array for key, array in state.items() if key != "conv1.weight"})
    target = tmp_path / "weights.params"
    target.write_text("precious")
    with pytest.raises(SystemExit, match="error: .*wants"):
        backbones.main(["convert", str(tmp_path / "state.npz"), str(target), "--network", "resnet50_v1b"])
    assert target.read_text() == "precious"
    backbones.main(["convert", str(tmp_path / "state.npz"), str(target), "--network", "resnet18_v1b"])
    assert "lacking: conv1.weight\nleft over: nothing" in capsys.readouterr().out
    assert load_pretrained(random_backbone(), "resnet18_v1b", str(target)).at_random == ["conv1.weight"]


# BatchNorm folded into the convolutions


def folded(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same network without BatchNorm: weight · γ/σ and bias β − μ·γ/σ in its convolutions."""
    result = {}
    for key in [key for key in state if key.endswith("weight") and state[key].ndim == 4]:
        conv = key[: -len(".weight")]
        norm = f"{conv[:-1]}1" if conv.endswith("downsample.0") else conv.replace("conv", "bn")
        slope = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 1e-5)
        result[key] = state[key] * slope[:, None, None, None]
        result[f"{conv}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * slope
    return result


def test_folding_batch_norm_changes_nothing(tmp_path, resnet18_file):
    np.savez(tmp_path / "folded.npz", **folded(torchvision_state("resnet18_v1b")))
    outputs = []
    for file in (resnet18_file, str(tmp_path / "folded.npz")):
        backbone = random_backbone()
        assert load_pretrained(backbone, "resnet18_v1b", file).at_random == []
        outputs.append(features(backbone, random_image()))
    for maps, expected in zip(*outputs):
        assert_close(maps, expected)


def test_folded_bottlenecks_give_all_parameters():
    state = folded(torchvision_state("resnet50_v1b"))
    arrays = from_torchvision(state)
    params = ResNetFeatures("resnet50_v1b")._collect_params_with_prefix()
    assert {key: array.shape for key, array in arrays.items()} == {key: param.shape for key, param in params.items()}
    for conv, norm in [
        ("conv1", "bn1"),
        ("layer1.0.conv3", "layer1.0.bn3"),
        ("layer4.0.downsample.0", "layer4.0.downsample.1"),
    ]:
        np.testing.assert_array_equal(arrays[f"{norm}.beta"], state[f"{conv}.bias"])


def test_imagenet_resnet18_computes_what_it_does_in_numpy(shared_weights):
    backbone = random_backbone()
    load_pretrained(backbone, "resnet18_v1b", str(shared_weights))
    with np.load(shared_weights) as archive:
        state = {key: archive[key] for key in archive.files}
    image = random_image()
    c3, c4, _ = features(backbone, image)
    stages = resnet_stages(state, image)
    assert len(stages) == 3
    assert_close(c3, stages[1])
    assert_close(c4, stages[2])


def test_imagenet_resnet18_without_its_last_stage_trains_that(shared_weights):
    backbone = random_backbone()
    left = load_pretrained(backbone, "resnet18_v1b", str(shared_weights)).at_random
    blocks = [f"layer4.{block}" for block in (0, 1)]
    norms = [f"{block}.bn{number}.{role}" for block in blocks for number in (1, 2) for role in BATCH_NORM_ROLES]
    convolutions = [f"{block}.conv{number}.weight" for block in blocks for number in (1, 2)]
    assert left == sorted(norms + convolutions)

    before = values(backbone)
    with autograd.record():
        loss = (backbone(mx.nd.array(random_image()[None]))[2] ** 2).sum()
    loss.backward()
    after = values(backbone)
    for key in before:
        learns = key.startswith(("layer2.", "layer3.", "layer4.0.downsample.0")) and "bn" not in key
        learns = learns and not key.endswith(tuple(f"downsample.1.{role}" for role in BATCH_NORM_ROLES))
        moves = key in left and "running" in key
        assert is_live(backbone, key) == (learns or (key in left and not moves)), key
        assert (after[key] != before[key]).any() == moves, key


# MXNet's files and GluonCV's own weights


@lru_cache(maxsize=None)
def filled_classifier():
    """GluonCV's ResNet-18 with random weights and statistics."""
    mx.random.seed(5)
    classifier = get_model("resnet18_v1b", pretrained=False, pretrained_base=False)
    classifier.initialize(mx.init.MSRAPrelu())
    classifier(mx.nd.zeros((1, 3, 32, 32)))
    for key, param in classifier._collect_params_with_prefix().items():
        if key.endswith(BATCH_NORM_ROLES):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
    return classifier


def gluoncv_features(classifier, image: np.ndarray) -> list[np.ndarray]:
    maps = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(mx.nd.array(image[None])))))
    c3 = classifier.layer2(classifier.layer1(maps))
    c4 = classifier.layer3(c3)
    return [maps.asnumpy()[0] for maps in (c3, c4, classifier.layer4(c4))]


def test_params_file_computes_what_gluoncvs_network_does(tmp_path):
    classifier = filled_classifier()
    classifier.save_parameters(str(tmp_path / "weights.params"))
    backbone = random_backbone()
    assert load_pretrained(backbone, "resnet18_v1b", str(tmp_path / "weights.params")).at_random == []
    for maps, expected in zip(features(backbone, random_image()), gluoncv_features(classifier, random_image())):
        assert_close(maps, expected)


def test_gluoncvs_weights_come_through_its_model_zoo(monkeypatch):
    classifier = filled_classifier()
    asked = []
    monkeypatch.setattr(backbones, "get_model", lambda name, pretrained: asked.append((name, pretrained)) or classifier)
    backbone = random_backbone()
    assert load_pretrained(backbone, "resnet18_v1b", "gluoncv").at_random == []
    assert asked == [("resnet18_v1b", True)]
    for maps, expected in zip(features(backbone, random_image()), gluoncv_features(classifier, random_image())):
        assert_close(maps, expected)
    assert not is_live(backbone, "conv1.weight") and is_live(backbone, "layer4.0.conv1.weight")


def test_download_that_fails_tells_of_the_other_ways(monkeypatch):
    def fail(name, pretrained):
        raise RuntimeError("Failed downloading url https://example.org")

    monkeypatch.setattr(backbones, "get_model", fail)
    with pytest.raises(WeightsError, match=r"Failed downloading url .*; give a file with --pretrained, or .* 'none'"):
        load_pretrained(random_backbone(), "resnet18_v1b", "gluoncv")


def test_weights_reach_all_devices(resnet18_file):
    backbone = ResNetFeatures("resnet18_v1b")
    backbone.initialize_random([mx.cpu(0), mx.cpu(1)])
    load_pretrained(backbone, "resnet18_v1b", resnet18_file)
    key = "layer4.1.conv2.weight"
    for data in backbone._collect_params_with_prefix()[key].list_data():
        np.testing.assert_array_equal(data.asnumpy(), torchvision_state("resnet18_v1b")[key])


def test_none_leaves_everything_at_random_and_learning():
    backbone = random_backbone()
    before = values(backbone)
    assert load_pretrained(backbone, "resnet18_v1b", "none").at_random == sorted(before)
    for key, array in values(backbone).items():
        np.testing.assert_array_equal(array, before[key])
        assert is_live(backbone, key) == ("running" not in key)


# What cannot be used


@pytest.fixture(scope="module")
def untouched() -> ResNetFeatures:
    """The backbone of all refusals, none of which may change it."""
    return random_backbone()


@pytest.fixture
def refuse(untouched):
    """A check that a file is refused, with a message on one line that names it and matches, and changes nothing."""

    def check(path, match: str) -> None:
        before = values(untouched)
        with pytest.raises(WeightsError, match=match) as caught:
            load_pretrained(untouched, "resnet18_v1b", str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        for key, array in values(untouched).items():
            np.testing.assert_array_equal(array, before[key])
            assert is_live(untouched, key) == ("running" not in key)

    return check


def test_missing_file(tmp_path, refuse):
    refuse(tmp_path / "weights.npz", "no file .*; --pretrained takes 'gluoncv', 'none', a .params, .npz or .saf")


def test_numbers_that_numpy_lacks(tmp_path, refuse):
    header = b'{"conv1.weight":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "bf16.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    refuse(tmp_path / "bf16.safetensors", "float32")


def test_folder_is_no_file(tmp_path, refuse):
    refuse(tmp_path, "no file ")


def test_weights_of_another_network(resnet50_file, refuse):
    shapes = r"layer1.0.conv1.weight has shape \(64, 64, 1, 1\), resnet18_v1b wants \(64, 64, 3, 3\)"
    refuse(resnet50_file, shapes)


def test_one_wrong_shape_at_the_end_changes_nothing(tmp_path, refuse):
    conv1 = torchvision_state("resnet18_v1b")["conv1.weight"]
    np.savez(tmp_path / "weights.npz", **{"conv1.weight": conv1, "layer4.1.bn2.bias": np.zeros(511, np.float32)})
    refuse(tmp_path / "weights.npz", r"layer4.1.bn2.beta has shape \(511,\), resnet18_v1b wants \(512,\)")


def test_nothing_in_common(tmp_path, refuse):
    np.savez(tmp_path / "weights.npz", **{"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)})
    refuse(tmp_path / "weights.npz", r"holds no parameter of resnet18_v1b; it holds features.0.weight")


def test_archive_without_arrays(tmp_path, refuse):
    np.savez(tmp_path / "weights.npz")
    refuse(tmp_path / "weights.npz", "holds no parameter of resnet18_v1b")


def save_first_convolution(path, compressed: bool = False) -> bytearray:
    """Write a file that would load, and return its bytes."""
    weight = torchvision_state("resnet18_v1b")["conv1.weight"]
    if path.suffix == ".params":
        mx.nd.save(str(path), {"conv1.weight": mx.nd.array(weight)})
    else:
        (np.savez_compressed if compressed else np.savez)(path, **{"conv1.weight": weight})
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("suffix", [".npz", ".params"])
@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.999])
def test_file_that_is_cut_off(tmp_path, suffix, part, refuse):
    path = tmp_path / f"weights{suffix}"
    content = save_first_convolution(path)
    path.write_bytes(content[: int(part * len(content))])
    refuse(path, "no readable weights file: ")


@pytest.mark.parametrize("suffix", [".npz", ".params"])
def test_file_of_another_kind(tmp_path, suffix, refuse):
    path = tmp_path / f"weights{suffix}"
    path.write_text("<html>404: not found</html>" * 100)
    refuse(path, "no readable weights file: ")


def test_reason_of_mxnet_is_told(tmp_path, untouched):
    """MXNet's messages begin with its own traceback; the reason comes last."""
    path = tmp_path / "weights.params"
    path.write_text("<html>404: not found</html>" * 100)
    with pytest.raises(WeightsError) as caught:
        load_pretrained(untouched, "resnet18_v1b", str(path))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("compressed", "place"),
    [(False, 120), (False, 1000), (True, 380), (True, 1000)],
    ids=["header", "values", "compression", "compressed values"],
)
def test_damage_inside_an_archive(tmp_path, compressed, place, refuse):
    path = tmp_path / "weights.npz"
    content = save_first_convolution(path, compressed)
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    refuse(path, "no readable weights file: ")


def test_single_array_instead_of_an_archive(tmp_path, refuse):
    path = tmp_path / "weights.npz"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    refuse(path, "no readable weights file: ")


def test_list_instead_of_named_arrays(tmp_path, refuse):
    mx.nd.save(str(tmp_path / "weights.params"), [mx.nd.zeros(3)])
    refuse(tmp_path / "weights.params", "no readable weights file: ")


def test_pickled_objects_are_not_loaded(tmp_path, refuse):
    np.savez(tmp_path / "weights.npz", **{"conv1.weight": np.array([print], object)})
    refuse(tmp_path / "weights.npz", "no readable weights file: .*allow_pickle=False")
