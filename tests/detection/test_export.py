"""Models that leave: other programs compute what the network does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from narrow_network import NAME
from tiny_training import tiny_recipe

from aploss_mx.checkpoint import Checkpoint, CheckpointError, parameters_of
from aploss_mx.commands import export
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from aploss_mx.training.resume import load_checkpoint, new_network
from symbols.retinanet import get_network

CLASSES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    mx.random.seed(0)
    network = get_network(NAME, len(CLASSES), 16, mx.cpu(), None)
    path = tmp_path_factory.mktemp("trained") / "last.npz"
    Checkpoint(tiny_recipe(), CLASSES, 1, 1, 1, 0.0, {}, (), parameters_of(network), {}).save(path)
    yield path
    path.unlink()


def outputs_of(detector: Detector, images: np.ndarray) -> list[np.ndarray]:
    return [output.asnumpy() for output in detector.network(mx.nd.array(images))]


def test_the_symbol_computes_the_same_bits(checkpoint, tmp_path):
    export.main(["--params", str(checkpoint), "--output", str(tmp_path / "out")])
    files = [str(tmp_path / "out" / name) for name in ("model-symbol.json", "model-0000.params")]
    block = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    for ours, theirs in zip(outputs_of(Detector.load(checkpoint), images), block(mx.nd.array(images))):
        np.testing.assert_array_equal(theirs.asnumpy(), ours)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["classes"] == list(CLASSES)
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_the_module_api_takes_the_files(checkpoint, tmp_path):
    """Which wants to know arguments from auxiliary states, where Gluon guesses."""
    export.main(["--params", str(checkpoint), "--output", str(tmp_path)])
    images = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / "model"), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", images.shape)], for_training=False)
    module.set_params(arguments, states)
    module.forward(mx.io.DataBatch([mx.nd.array(images)]), is_train=False)
    for ours, theirs in zip(outputs_of(Detector.load(checkpoint), images), module.get_outputs()):
        assert np.abs(theirs.asnumpy() - ours).max() <= 1e-5 * np.abs(ours).max()


def test_onnx_computes_the_same_for_any_batch_and_size(checkpoint, tmp_path, shared_data):
    onnx, onnxruntime = (pytest.importorskip(name, reason="of the extra dev") for name in ("onnx", "onnxruntime"))
    export.main(["--params", str(checkpoint), "--output", str(tmp_path), "--onnx"])
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (opset,) = onnx.load(tmp_path / "model.onnx").opset_import
    assert opset.version == 13  # MXNet would say that of the onnx installed, which older runtimes refuse
    assert [value.name for value in session.get_inputs()] == ["data"]
    assert [value.name for value in session.get_outputs()] == ["logits", "deltas"]
    detector = Detector.load(checkpoint, test_short=96, test_long=160)
    photograph = detector.views[0](read_image(sorted((shared_data / "demo").glob("*.jpg"))[0]))
    noise = np.random.default_rng(0).normal(size=(3, 3, 32, 64)).astype(np.float32)
    for images in (photograph[None], noise):
        for ours, theirs in zip(outputs_of(detector, images), session.run(None, {"data": images})):
            assert np.abs(theirs - ours).max() <= 1e-4 * np.abs(ours).max()


def test_without_onnx_the_way_to_it_is_told(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx.mapping", None)
    with pytest.raises(SystemExit, match="error: .*onnx<1.18"):
        export.main(["--params", str(checkpoint), "--output", str(tmp_path), "--onnx"])
    assert not (tmp_path / "model.onnx").exists()


def test_a_background_logit_is_told(tmp_path):
    recipe = tiny_recipe(loss="ohem", test_scales="64,96")
    network = get_network(NAME, len(CLASSES), 16, mx.cpu(), None, background=True)
    path = tmp_path / "last.npz"
    Checkpoint(recipe, CLASSES, 1, 1, 1, 0.0, {}, (), parameters_of(network), {}).save(path)
    export.main(["--params", str(path), "--output", str(tmp_path / "out")])
    path.unlink()
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (about["background"], about["test_scales"], about["pixels"]) == (True, [64, 96], "torchvision")
    (tmp_path / "out" / "model-0000.params").unlink()


def test_no_checkpoint_no_export(tmp_path):
    with pytest.raises(SystemExit, match="error: no checkpoint"):
        export.main(["--params", str(tmp_path / "none.npz"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, whole_resnet18) -> Path:
    """A checkpoint with a whole ImageNet backbone, as wide as fits, and an optimizer's state."""
    recipe = tiny_recipe(network="resnet18_v1b", channels=96, pretrained=str(whole_resnet18), classes=",".join(CLASSES))
    network, pretrained = new_network(recipe, CLASSES, [mx.cpu()])
    parameters = parameters_of(network)
    optimizer = {name: [np.ones_like(array)] for name, array in parameters.items() if name.startswith("fpn.")}
    path = tmp_path_factory.mktemp("whole") / "last.npz"
    Checkpoint(recipe, CLASSES, 1, 1, 1, 0.0, {}, pretrained, parameters, optimizer, 0.25).save(path)
    yield path
    path.unlink()


def test_a_compact_checkpoint_detects_alike_at_half_the_size(whole, tmp_path, shared_data, capsys):
    """The real BatchNorm has variances beyond float16, which would become infinite."""
    path = tmp_path / "detector.npz"
    export.main(["--params", str(whole), "--compact", str(path)])
    assert capsys.readouterr().out.endswith(f"wrote {path}\n")
    before, after = Checkpoint.load(whole), Checkpoint.load(path)
    assert path.stat().st_size <= 26e6
    assert max(array.max() for array in before.parameters.values()) > np.finfo(np.float16).max
    for name, array in before.parameters.items():
        assert after.parameters[name].dtype == (np.float16 if array.ndim == 4 else np.float32), name
        np.testing.assert_allclose(after.parameters[name], array, rtol=2**-11, atol=2**-25, err_msg=name)
    assert not after.optimizer
    assert after.recipe == before.recipe.override(pretrained="resnet18_imagenet_whole.npz")
    assert (after.classes, after.pretrained, after.best_f1_score) == (CLASSES, before.pretrained, 0.25)
    detectors = [Detector.load(file) for file in (whole, path)]
    image = detectors[0].views[0](read_image(shared_data / "demo" / "dog.jpg"))
    for ours, theirs in zip(*(outputs_of(detector, image[None]) for detector in detectors)):
        assert ours.dtype == theirs.dtype == np.float32
        assert np.abs(theirs - ours).max() <= 5e-3 * np.abs(ours).max()
    path.unlink()


def test_weights_beyond_float16_stay_as_they_are(checkpoint):
    whole = Checkpoint.load(checkpoint)
    whole.parameters["fpn.down6.weight"][0, 0, 0, 0] = 1e5
    compact = whole.compact()
    assert compact.parameters["fpn.down6.weight"].dtype == np.float32
    assert not compact.not_finite()


def test_nothing_goes_on_from_a_compact_checkpoint_but_fine_tuning_does(checkpoint, tmp_path):
    path = tmp_path / "detector.npz"
    export.main(["--params", str(checkpoint), "--compact", str(path)])
    with pytest.raises(CheckpointError, match="detector.npz was exported for use, .* with --pretrained"):
        load_checkpoint(path, tiny_recipe(), CLASSES, 1)
    network, _ = new_network(tiny_recipe(pretrained=str(path)), CLASSES, [mx.cpu()])
    compact = Checkpoint.load(path)
    for name, array in parameters_of(network).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, compact.parameters[name], err_msg=name)
    path.unlink()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give a folder with --output, or a file with --compact"),
        (["--compact", "a.npz", "--onnx"], "give a folder with --output"),
        (["--compact", "detector.params"], "detector.params: a checkpoint's name ends in .npz"),
    ],
)
def test_flags_that_do_not_say_where(checkpoint, flags, message, capsys):
    with pytest.raises(SystemExit):
        export.main(["--params", str(checkpoint), *flags])
    assert message in capsys.readouterr().err


def test_a_checkpoint_is_not_replaced_by_its_compact_form(checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(SystemExit, match="last.npz would be overwritten"):
        export.main(["--params", str(checkpoint), "--compact", str(checkpoint)])
    assert checkpoint.read_bytes() == before
