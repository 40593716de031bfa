"""Models that leave: other programs compute what the network does."""

from __future__ import annotations

import json
import sys

import mxnet as mx
import numpy as np
import pytest
from tiny_training import tiny_recipe

from aploss_mx.checkpoint import Checkpoint, parameters_of
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from scripts import export
from symbols.retinanet import get_network

CLASSES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    mx.random.seed(0)
    network = get_network("resnet18_v1b", len(CLASSES), 16, mx.cpu(), None)
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


def test_onnx_computes_the_same_for_any_batch_and_size(checkpoint, tmp_path, shared_data):
    onnx, onnxruntime = (pytest.importorskip(name, reason="of the extra dev") for name in ("onnx", "onnxruntime"))
    export.main(["--params", str(checkpoint), "--output", str(tmp_path), "--onnx"])
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (opset,) = onnx.load(tmp_path / "model.onnx").opset_import
    assert opset.version == 13  # MXNet would say that of the onnx installed, which older runtimes refuse
    assert [value.name for value in session.get_inputs()] == ["data"]
    assert [value.name for value in session.get_outputs()] == ["logits", "deltas"]
    detector = Detector.load(checkpoint, test_short=96, test_long=160)
    photograph, _ = detector.views[0](read_image(sorted((shared_data / "demo").glob("*.jpg"))[0]))
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
    network = get_network("resnet18_v1b", len(CLASSES), 16, mx.cpu(), None, background=True)
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
