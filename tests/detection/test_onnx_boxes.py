"""A whole detector in one ONNX file: onnxruntime finds what `Detector.predict` finds."""

from __future__ import annotations

import json

import cv2
import mxnet as mx
import numpy as np
import pytest
from random_detector import CLASSES, make_detector

from aploss_mx.data.pixels import read_image
from aploss_mx.detection.description import describe
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import ExportError, export_onnx, export_onnx_boxes
from aploss_mx.evaluation.calibration import Calibration
from aploss_mx.geometry.boxes import pairwise_iou

onnx, onnxruntime = (pytest.importorskip(name, reason="of the extra dev") for name in ("onnx", "onnxruntime"))
pytest.importorskip("onnx.mapping", reason="of the extra onnx")


def open_session(detector: Detector, folder):
    path = export_onnx_boxes(detector, export_onnx(detector.network, folder / "model.onnx"), folder / "detector.onnx")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "ohem"},
        {"test_warp": "true"},
        {"score_threshold": 0.0, "nms_threshold": 0.3, "max_detections": 7},
        {"score_threshold": 0.9999, "topk": 3},
        {"anchor_size": 3, "anchor_scales": (1.5,), "anchor_ratios": (2, 0.25)},
    ],
    ids=str,
)
def test_the_boxes_are_those_of_predict(tmp_path, shared_data, settings):
    detector = make_detector(**settings)
    session = open_session(detector, tmp_path)
    assert [value.name for value in session.get_inputs()] == ["image"]
    assert [value.name for value in session.get_outputs()] == ["boxes", "scores", "labels"]
    photograph = read_image(shared_data / "demo" / "dog.jpg")
    # Of the size that the network sees, so that nothing is resized, and one that is padded.
    for height, width in ((96, 96), (96, 130)):
        image = cv2.resize(photograph, (96 if detector.recipe.test_warp else width, height))
        boxes, scores, labels = session.run(None, {"image": image})
        expected = detector.predict(image)
        assert len(expected)
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-5)


def test_photographs_of_any_size_are_resized_inside(tmp_path, shared_data):
    detector = make_detector(score_threshold=0.0)
    session = open_session(detector, tmp_path)
    for name in ("street.jpg", "eagle.jpg"):
        image = read_image(shared_data / "demo" / name)
        boxes, scores, labels = session.run(None, {"image": image})
        expected = detector.predict(image)
        # Random weights turn the last bit of a pixel into other boxes; most are the same ones.
        same = (pairwise_iou(expected.boxes, boxes) > 0.9) & (expected.labels[:, None] == labels)
        assert same.any(axis=1).mean() > 0.7
        assert abs(scores[0] - expected.scores[0]) < 0.02
        assert boxes.max() > 150  # in the photograph's pixels, not in those of the network


def test_sizes_are_rounded_as_predict_rounds_them(tmp_path):
    """Of halves: in float32, 202 x 404 at 500 and 833 was 417 high."""
    detector = make_detector(test_short=500, test_long=833)
    path = export_onnx_boxes(detector, export_onnx(detector.network, tmp_path / "model.onnx"), tmp_path / "one.onnx")
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((202, 404, 3), (273, 546, 3)):
        image = np.full(shape, 255, np.uint8)
        (data,) = session.run(["data"], {"image": image})
        expected = detector.views[0](image)
        assert data[0].shape == expected.shape
        np.testing.assert_array_equal(data[0] == 0, expected == 0)  # where it is padded


def test_nothing_found_is_three_empty_outputs(tmp_path):
    """As the last level has no threshold, only boxes that are all outside leave nothing."""
    detector = make_detector()
    detector.network.box_head[-1].bias.set_data(mx.nd.full((24,), 1e4))
    image = np.zeros((40, 60, 3), np.uint8)
    boxes, scores, labels = open_session(detector, tmp_path).run(None, {"image": image})
    assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0,))
    assert len(detector.predict(image)) == 0


def test_confidences_of_a_calibrated_detector(tmp_path, shared_data):
    detector = make_detector()
    detector.calibration = Calibration(1.7, 0.4)
    session = open_session(detector, tmp_path)
    assert [value.name for value in session.get_outputs()] == ["boxes", "scores", "labels", "confidences"]
    image = cv2.resize(read_image(shared_data / "demo" / "dog.jpg"), (96, 96))
    (confidences,) = session.run(["confidences"], {"image": image})
    np.testing.assert_allclose(confidences, detector.predict(image).confidence, atol=1e-5)


def test_the_model_says_what_it_is(tmp_path):
    detector = make_detector()
    about = open_session(detector, tmp_path).get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == list(CLASSES)
    assert json.loads(about["description"]) == json.loads(describe(detector))
    names = [node.name for node in onnx.load(tmp_path / "detector.onnx").graph.node]
    assert "" not in names and len(set(names)) == len(names)


@pytest.mark.parametrize("settings", [{"test_scales": "64,96"}, {"test_flip": "true"}], ids=str)
def test_several_views_are_refused(tmp_path, settings):
    with pytest.raises(ExportError, match="test_scales.*test_flip"):
        open_session(make_detector(**settings), tmp_path)
