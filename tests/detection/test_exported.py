"""Exported networks in a checkpoint's place: the detector finds the same by each of them, and says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from random_detector import CLASSES, random_network
from tiny_training import tiny_recipe

from aploss_mx.checkpoint import Checkpoint, parameters_of
from aploss_mx.commands import export
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import ExportError
from aploss_mx.detection.exported import ExportedError
from aploss_mx.detection.quantize import has_int8_units, quantize
from aploss_mx.evaluation.calibration import Calibration
from aploss_mx.geometry.anchors import PAPERS, STRIDES

onnx, onnxruntime = (pytest.importorskip(name, reason="of the extra dev") for name in ("onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A calibrated detector of random weights, with scores that differ."""
    recipe = tiny_recipe(test_short=96, test_long=160)
    path = tmp_path_factory.mktemp("trained") / "last.npz"
    trained = Checkpoint(recipe, CLASSES, 1, 1, 1, 0.0, {}, (), parameters_of(random_network(recipe)), {})
    replace(trained, best_f1_score=0.3, calibration=(1.5, 0.25)).save(path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export.main(["--params", str(checkpoint), "--output", str(folder), "--format", "mxnet", "onnx"])
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def photograph(shared_data):
    return read_image(shared_data / "demo" / "dog.jpg")


@pytest.mark.filterwarnings("error:Cannot decide type")
@pytest.mark.parametrize("name", ["", "model-symbol.json", "model-0000.params", "model.onnx"])
def test_the_same_is_found(checkpoint, exported, photograph, name):
    ours, theirs = Detector.load(checkpoint), Detector.load(exported / name)
    assert theirs.classes == ours.classes
    assert theirs.shown_score == ours.shown_score == 0.3
    assert theirs.calibration == ours.calibration
    expected, found = ours.predict(photograph), theirs.predict(photograph)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)


def test_test_settings_can_be_changed(exported, photograph):
    assert len(Detector.load(exported, max_detections=7).predict(photograph)) == 7


@pytest.mark.parametrize(("form", "name"), [("mxnet", "int8-symbol.json"), ("onnx", "int8.onnx")])
def test_int8_is_near_float32_and_loads(checkpoint, photograph, shared_data, tmp_path, capfd, form, name):
    detector = Detector.load(checkpoint)
    flags = ["--params", str(checkpoint), "--output", str(tmp_path), "--format", form, "--int8", "--calibrate", "3"]
    export.main([*flags, "--images", str(shared_data / "demo")])
    assert not re.search("quantized[.]|calibration result|WARNING", capfd.readouterr().err)  # hundreds of lines
    assert re.search(b"quantized|QuantizeLinear", (tmp_path / name).read_bytes())
    assert not list(tmp_path.glob("model[.-][os]*"))  # in place of float32
    quantized = Detector.load(tmp_path)
    inputs = detector.views[0](photograph)[None]
    for ours, theirs in zip(detector.forward(inputs), quantized.forward(inputs)):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9  # of random weights
        assert not np.array_equal(ours, theirs)
    assert len(quantized.predict(photograph)) > 5
    with pytest.raises(ExportedError, match=f"{name} computes on the CPU alone: leave out --gpus"):
        Detector.load(tmp_path, mx.gpu(0))


@pytest.mark.parametrize("int8", [False, True])
def test_exported_networks_take_images_of_any_size_in_turn(checkpoint, shared_data, tmp_path, int8):
    flags = ["--params", str(checkpoint), "--output", str(tmp_path)]
    int8_flags = ["--int8", "--calibrate", "1", "--images", str(shared_data / "demo")]
    export.main([*flags, *int8_flags] if int8 else flags)
    detector = Detector.load(tmp_path)
    rng = np.random.default_rng(0)
    images = [rng.normal(size=shape).astype(np.float32) for shape in ((1, 3, 64, 96), (2, 3, 96, 64), (1, 3, 64, 96))]
    together = [detector.forward(image) for image in (*images, images[0])]
    for image, found in zip(images, together):
        for ours, theirs in zip(found, Detector.load(tmp_path).forward(image)):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(together[3][0], together[0][0])


def test_int8_in_onnx_is_of_convolutions_alone(checkpoint, photograph, shared_data, tmp_path):
    flags = ["--params", str(checkpoint), "--output", str(tmp_path), "--format", "onnx", "--boxes", "--int8"]
    export.main([*flags, "--calibrate", "3", "--images", str(shared_data / "demo")])
    graph = onnx.load(tmp_path / "int8-detector.onnx").graph
    makers = {name: node for node in graph.node for name in node.output}
    kinds = {weight.name: weight.data_type for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    float32 = [node for node in convolutions if kinds.get(node.input[1]) == onnx.TensorProto.FLOAT]
    assert len(float32) == 2 * len(STRIDES)  # the last of each head, which shares its weights among the levels
    for node in convolutions:
        if node not in float32:
            image, weight, _ = (makers[name] for name in node.input)
            assert (image.op_type, weight.op_type) == ("DequantizeLinear",) * 2
            assert kinds[weight.input[0]] == onnx.TensorProto.INT8
    session = onnxruntime.InferenceSession(str(tmp_path / "int8-detector.onnx"), providers=["CPUExecutionProvider"])
    image = np.ascontiguousarray(photograph[:96, :96])  # of the size that the network sees, so that none is resized
    boxes, scores, labels, confidences = session.run(None, {"image": image})
    expected = Detector.load(tmp_path / "int8.onnx").predict(image)
    assert len(expected) > 5
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(confidences, expected.confidence, atol=1e-5)


@pytest.mark.parametrize("form", ["mxnet", "onnx"])
def test_int8_says_where_it_may_be_slow_or_cannot_be(checkpoint, shared_data, tmp_path, monkeypatch, capsys, form):
    monkeypatch.setattr(export, "has_int8_units", lambda: False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    flags = ["--params", str(checkpoint), "--output", str(tmp_path), "--format", form, "--int8", "--calibrate", "1"]
    flags += ["--images", str(shared_data / "demo" / "dog.jpg")]
    if form == "mxnet":
        export.main(flags)
    else:
        with pytest.raises(SystemExit, match="takes onnxruntime and its quantization .*pip install onnxruntime"):
            export.main(flags)
        assert not list(tmp_path.glob("*.onnx"))
    assert "no VNNI" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", "model.onnx"])
def test_what_is_exported_is_not_exported_again(exported, tmp_path, name):
    with pytest.raises(SystemExit, match="is exported already: give the checkpoint it was made of"):
        export.main(["--params", str(exported / name), "--output", str(tmp_path / "new"), "--format", "onnx"])
    assert not (tmp_path / "new").exists()


@pytest.fixture
def other(checkpoint, tmp_path):
    """A detector with other scores for other classes."""
    was = Checkpoint.load(checkpoint)
    name = next(name for name in was.parameters if name.startswith("class_head") and name.endswith("bias"))
    path = tmp_path / "other.npz"
    changed = {**was.parameters, name: was.parameters[name] + 1}
    replace(was, classes=("cow", "hen", "owl"), parameters=changed).save(path)
    return path


def test_no_network_stands_beside_another_ones_description(checkpoint, exported, other, photograph, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "exported")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit, match=r"holds model-symbol\.json, which model\.json does not say to be of this"):
        export.main(["--params", str(other), "--output", str(folder), "--format", "onnx"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    export.main(["--params", str(checkpoint), "--output", str(folder), "--format", "onnx"])  # in turn
    export.main(["--params", str(other), "--output", str(folder), "--onnx"])
    expected = Detector.load(other).predict(photograph)
    for name in ("", "model.onnx"):
        found = Detector.load(folder / name)
        assert found.classes == ("cow", "hen", "owl")
        np.testing.assert_allclose(found.predict(photograph).scores, expected.scores, atol=1e-5)


@pytest.fixture
def failing(monkeypatch):
    def fail(*_):
        raise ExportError("no more")

    monkeypatch.setattr(export, "export_onnx", fail)


def test_an_export_that_fails_leaves_no_description(exported, other, tmp_path, failing):
    folder = shutil.copytree(exported, tmp_path / "exported")
    with pytest.raises(SystemExit, match="no more"):
        export.main(["--params", str(other), "--output", str(folder), "--onnx"])
    with pytest.raises(ExportedError, match=r"no .*model\.json"):
        Detector.load(folder)


def test_an_export_that_fails_spoils_none_of_the_same_detector(checkpoint, exported, photograph, tmp_path, failing):
    folder = shutil.copytree(exported, tmp_path / "exported")
    for _ in range(2):
        with pytest.raises(SystemExit, match="no more"):
            export.main(["--params", str(checkpoint), "--output", str(folder), "--format", "onnx"])
    found, expected = (Detector.load(one).predict(photograph) for one in (folder, checkpoint))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_networks_with_boxes_are_of_the_test_settings_too(checkpoint, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "exported")
    (folder / "detector.onnx").write_text("of before")
    was = Checkpoint.load(checkpoint)
    replace(was, recipe=was.recipe.override(nms_threshold=0.7)).save(tmp_path / "other.npz")
    with pytest.raises(SystemExit, match=r"holds detector\.onnx, which model\.json does not say to be of this"):
        export.main(["--params", str(tmp_path / "other.npz"), "--output", str(folder)])
    export.main(["--params", str(checkpoint), "--output", str(folder)])
    (tmp_path / "other.npz").unlink()


@pytest.mark.parametrize("settings", [{"test_flip": True}, {"test_scales": (96,)}])
def test_boxes_of_several_views_are_refused_before_anything_is_written(checkpoint, exported, tmp_path, settings):
    folder = shutil.copytree(exported, tmp_path / "exported")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    was = Checkpoint.load(checkpoint)
    replace(was, recipe=was.recipe.override(**settings)).save(tmp_path / "several.npz")
    with pytest.raises(SystemExit, match="test_scales or test_flip"):
        export.main(["--params", str(tmp_path / "several.npz"), "--output", str(folder), "--onnx", "--boxes"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "several.npz").unlink()


@pytest.mark.parametrize("flags", [["--images", "photographs"], ["--calibrate", "8"]])
def test_images_are_of_int8_alone(checkpoint, tmp_path, capsys, flags):
    with pytest.raises(SystemExit):
        export.main(["--params", str(checkpoint), "--output", str(tmp_path / "out"), *flags])
    assert "--images and --calibrate go with --int8" in capsys.readouterr().err


def test_int8_without_images_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="images to calibrate"):
        quantize(Detector.load(checkpoint), [])
    flags = ["--params", str(checkpoint), "--output", str(tmp_path / "out"), "--int8"]
    with pytest.raises(SystemExit):
        export.main(flags)
    with pytest.raises(SystemExit, match="no pictures in this folder itself"):
        export.main([*flags, "--images", str(tmp_path)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "expected"), [("sse2 avx512_vnni", True), ("avx_vnni", True), ("avx2 avx512f", False), (None, False)]
)
def test_int8_units_are_seen(tmp_path, flags, expected):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags} vme\n")
    assert has_int8_units(tmp_path / "cpuinfo") is expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "model.json: it is written beside"),
        ("{", "cannot be read as JSON"),
        ({"classes": None}, "classes must be a list"),
        ({"classes": []}, "classes must be a list"),
        ({"topk": -1}, r"model\.json: topk = -1"),
        ({"calibration": [1, 2]}, "calibration must be null"),
        ({"calibration": {"slope": -1, "offset": 0}}, "calibration must be null"),
        ({"calibration": {"slope": float("nan"), "offset": 0}}, "calibration must be null"),
        ({"calibration": {"slope": 1, "offset": float("inf")}}, "calibration must be null"),
        ({"calibration": {"slope": 10**400, "offset": 0}}, "calibration must be null"),
        ({"shown_score": "high"}, "shown_score must be a number"),
        ({"shown_score": float("nan")}, "shown_score must be a number"),
        ({"nms_threshold": ...}, "lacks nms_threshold"),
    ],
    ids=str,
)
def test_descriptions_that_cannot_be_used(exported, tmp_path, change, message):
    shutil.copy(exported / "model-symbol.json", tmp_path)
    shutil.copy(exported / "model-0000.params", tmp_path)
    if isinstance(change, dict):
        about = {**json.loads((exported / "model.json").read_text()), **change}
        change = json.dumps({name: value for name, value in about.items() if value is not ...})
    if change is not None:
        (tmp_path / "model.json").write_text(change)
    with pytest.raises(ValueError, match=message):
        Detector.load(tmp_path)


@pytest.mark.parametrize("classes", [["cat", "dog"], ["cat", "dog", "bird", "fox"]])
def test_a_description_of_fewer_or_more_classes_than_the_network_has_is_told(exported, tmp_path, photograph, classes):
    folder = shutil.copytree(exported, tmp_path / "exported")
    about = {**json.loads((folder / "model.json").read_text()), "classes": classes}
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=f"not of these {len(classes)} classes, cat, dog.* gives 3 logits an anchor"):
        Detector.load(folder).predict(photograph)


def test_other_anchors_in_a_cell_than_the_network_has_are_told(exported, tmp_path, photograph):
    folder = shutil.copytree(exported, tmp_path / "exported")
    about = json.loads((folder / "model.json").read_text())
    about["anchors"]["ratios"] = [1]
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"logits of \d+ anchors, and an input of \d+×\d+ pixels has"):
        Detector.load(folder).predict(photograph)


def test_the_calibration_of_metrics_json_is_one_of_model_json(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "exported")
    about = json.loads((folder / "model.json").read_text())
    about["calibration"] = {"slope": 2.0, "offset": 1.0, "ECE_score": 0.1, "ECE_confidence": None}
    (folder / "model.json").write_text(json.dumps(about))
    assert Detector.load(folder).calibration == Calibration(2.0, 1.0)


def test_networks_that_cannot_be_used(exported, tmp_path):
    with pytest.raises(ExportedError, match="holds no exported network: none of [a-z0-9., -]*$"):
        Detector.load(tmp_path)
    with pytest.raises(ExportedError, match=r"no exported network .*nowhere\.onnx"):
        Detector.load(tmp_path / "nowhere.onnx")
    shutil.copy(exported / "model.json", tmp_path)
    for name in ("model.onnx", "model-symbol.json"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(ExportedError, match=name):
            Detector.load(tmp_path / name)


def test_exports_of_before_have_the_papers_anchors(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "exported")
    about = json.loads((folder / "model.json").read_text())
    del about["anchors"]
    (folder / "model.json").write_text(json.dumps(about))
    assert Detector.load(folder).recipe.anchors == PAPERS


def test_checkpoints_of_before_have_no_calibration(checkpoint, tmp_path, photograph):
    replace(Checkpoint.load(checkpoint), calibration=None).save(tmp_path / "before.npz")
    assert Detector.load(tmp_path / "before.npz").predict(photograph).confidence is None


def test_several_images_at_once(checkpoint, photograph):
    detector = Detector.load(checkpoint)
    images = [photograph, photograph[:, :300], photograph[::-1], photograph[:200, :600], photograph[:, :300][::-1]]
    together = detector.predict(images, batch_size=2)
    for image, found in zip(images, together):
        alone = detector.predict(image)
        np.testing.assert_array_equal(found.labels, alone.labels)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.01)
    assert detector.predict([]) == []
