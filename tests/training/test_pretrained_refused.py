"""Weights that cannot be used: each file is refused with its name and the reason, and changes nothing."""

from __future__ import annotations

import pickle
import zipfile

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import save_file
from weights_files import is_live, random_backbone, torchvision_state, values

from aploss_mx.training.pretrained import WeightsError, load_pretrained
from symbols.resnet import ResNetFeatures


@pytest.fixture(scope="module")
def resnet50_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet50.npz"
    np.savez(path, **torchvision_state("resnet50_v1b"))
    return str(path)


@pytest.fixture(scope="module")
def untouched() -> ResNetFeatures:
    """The backbone of all refusals, none of which may change it."""
    return random_backbone()


@pytest.fixture
def refuse(untouched):
    """A check that a file is refused, with a message on one line that names it and matches, and changes nothing."""

    before = values(untouched)

    def check(path, match: str) -> None:
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


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("kind", "size", "told"), [("BF16", 2, "bfloat16"), ("F8_E4M3", 1, "float8_e4m3fn"), ("F8_E5M2", 1, "float8_e5m2")]
)
def test_numbers_that_numpy_lacks(tmp_path, refuse, known, kind, size, told):
    if known:  # from then on safetensors reads them
        pytest.importorskip("ml_dtypes")
    header = f'{{"conv1.weight":{{"dtype":"{kind}","shape":[1],"data_offsets":[0,{size}]}}}}'.encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    refuse(tmp_path / "a.safetensors", f"{told}.*; save it as float32")


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".npz", ".params", ".safetensors"])
def test_numbers_that_are_not_finite(tmp_path, suffix, value, refuse):
    weights = np.zeros((64, 3, 7, 7), np.float32)
    weights[3, 1, 2, 4] = value
    path = tmp_path / f"spoilt{suffix}"
    if suffix == ".npz":
        np.savez(path, **{"conv1.weight": weights})
    elif suffix == ".safetensors":
        save_file({"conv1.weight": weights}, path)
    else:
        mx.nd.save(str(path), {"conv1.weight": mx.nd.array(weights)})
    refuse(path, "conv1.weight, of type float32, holds what is no finite number")


@pytest.mark.parametrize("kind", ["int8", "bool", "complex64", "U1"])
def test_types_that_are_no_weights(tmp_path, kind, refuse):
    np.savez(tmp_path / "odd.npz", **{"conv1.weight": np.zeros((64, 3, 7, 7), kind)})
    refuse(tmp_path / "odd.npz", "conv1.weight, of type .* holds what is no finite number")


@pytest.mark.parametrize("name", ["resnet18.pth", "resnet18.pt", "resnet18-archive", "resnet18-pickle"])
def test_files_of_pytorch_tell_how_to_convert_them(tmp_path, name, refuse):
    path = tmp_path / name
    if name.endswith("archive"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("resnet18/data.pkl", pickle.dumps({}))
    else:
        path.write_bytes(pickle.dumps({}, protocol=2))
    refuse(path, r"file of PyTorch; .*torch.load\('.*safetensors'\)")


def test_archives_that_claim_more_than_they_hold(tmp_path, refuse):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conv1.weight.npy", bytes(100_000_000))
    refuse(tmp_path / "bomb.npz", "claim 0.1 GB, in a file of 0.0")


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
    refuse(tmp_path / "weights.npz", "no readable weights file: .*holds Python objects")
