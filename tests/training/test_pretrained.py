"""Pretrained weights: every source loads exactly, and forward passes equal NumPy's."""

from __future__ import annotations

from functools import lru_cache

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model
from mxnet import autograd
from numpy_layers import resnet_stages
from safetensors.numpy import save_file
from weights_files import (
    BLOCKS,
    assert_close,
    features,
    is_live,
    random_backbone,
    random_image,
    torchvision_state,
    values,
)

from aploss_mx.training import pretrained as backbones
from aploss_mx.training.pretrained import WeightsError, from_torchvision, load_pretrained
from symbols.resnet import BATCH_NORM_ROLES, ResNetFeatures


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory) -> str:
    """`torchvision_state` of a ResNet-18 in a file."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.npz"
    np.savez(path, **torchvision_state("resnet18_v1b"))
    return str(path)


# torchvision's names


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("resnet18_v1b", (64, 96)),
        pytest.param("resnet34_v1b", (32, 64), marks=pytest.mark.slow),
        pytest.param("resnet50_v1b", (64, 32), marks=pytest.mark.slow),
        pytest.param("resnet101_v1b", (32, 32), marks=pytest.mark.slow),
    ],
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


def test_what_has_no_place_keeps_its_name():
    names = {"layer1.0.bn1.gamma", "layer2.0.downsample.1.beta", "layer1.0.bn1.scale", "neck.bias"}
    assert set(from_torchvision(dict.fromkeys([*names, "bn1.num_batches_tracked"], np.ones(3)))) == names


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
