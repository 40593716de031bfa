"""model.json suffices: a decoder written from it alone, with NumPy and Pillow, finds what the detector finds."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from random_detector import make_detector

from aploss_mx.data.pixels import read_image
from aploss_mx.detection.description import describe


def resized_like_the_document(about, image, view=0):
    """By bilinear interpolation between pixel centres, spelled out."""
    height, width = image.shape[:2]
    shown = about["input"]["views"][view]
    if shown["mirrored"]:
        image = image[:, ::-1]
    if about["input"]["resize"].startswith("both"):
        shape = (shown["shorter"], shown["shorter"])
    else:
        scale = min(shown["shorter"] / min(height, width), shown["longest"] / max(height, width))
        shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    values = image.astype(np.float64)
    for axis, (new, old) in enumerate(zip(shape, (height, width))):
        places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, old - 1)
        part = (places - low).reshape([-1 if dim == axis else 1 for dim in range(3)])
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return np.floor(values + 0.5)


def input_of(about, image, view=0):
    """The network's input (1, 3, H, W) of an image, and its scale by axis (x, y)."""
    resized = resized_like_the_document(about, image, view)
    wanted = about["input"]
    channels = [("red", "green", "blue").index(name) for name in wanted["channels"]]
    normalised = (resized[..., channels] - wanted["mean"]) / wanted["deviation"]
    height, width = resized.shape[:2]
    fill = [(0, -side % wanted["pad_to"]) for side in (height, width)]
    padded = np.pad(normalised, [*fill, (0, 0)])
    return padded.transpose(2, 0, 1)[None].astype(np.float32), (width / image.shape[1], height / image.shape[0])


def anchors_of(about, height, width):
    """Anchors (N, 4) of a padded input, and the number of each level's."""
    levels, counts = [], []
    rows, columns = height, width
    for number, level in enumerate(about["levels"]):
        stride = level["stride"]
        rows, columns = (height // stride, width // stride) if number < 3 else ((rows + 1) // 2, (columns + 1) // 2)
        for row in range(rows):
            for column in range(columns):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                levels += [[x + x1, y + y1, x + x2, y + y2] for x1, y1, x2, y2 in level["anchors"]]
        counts.append(rows * columns * len(level["anchors"]))
    return np.array(levels), counts


def decoded(about, deltas, anchors):
    out = about["outputs"]
    shifts = deltas * out["delta_deviations"]
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2 + shifts[:, :2] * sizes
    halves = sizes * np.exp(np.minimum(shifts[:, 2:], out["largest_log_scale"])) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def scores_of(about, logits):
    if not about["background"]:
        return 1 / (1 + np.exp(-logits.astype(np.float64)))
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True))[:, 1:]


def iou(box, others):
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared)


def candidates_of(about, network, image, view):
    """Boxes, scores and labels of a view, before those of several suppress each other."""
    pixels, scale = input_of(about, image, view)
    logits, deltas = (output.asnumpy()[0] for output in network(mx.nd.array(pixels)))
    anchors, counts = anchors_of(about, *pixels.shape[2:])
    scores = scores_of(about, logits)
    candidates = []
    start = 0
    for number, count in enumerate(counts):
        pairs = [(scores[anchor, label], anchor, label) for anchor in range(start, start + count)
                 for label in range(len(about["classes"]))]  # fmt: skip
        if number < len(counts) - 1:
            pairs = [pair for pair in pairs if pair[0] > about["score_threshold"]]
        candidates += sorted(pairs, key=lambda pair: -pair[0])[: about["topk"]]
        start += count
    found = np.array([anchor for _, anchor, _ in candidates])
    boxes = decoded(about, deltas[found].astype(np.float64), anchors[found]) / np.tile(scale, 2)
    height, width = image.shape[:2]
    boxes = np.clip(boxes, 0, [width, height, width, height])
    if about["input"]["views"][view]["mirrored"]:
        boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 0
    return [(score, box, label) for (score, _, label), box, kept in zip(candidates, boxes, whole) if kept]


def detect(about, network, image):
    """Boxes, scores and labels of an image, by the document."""
    views = range(len(about["input"]["views"]))
    candidates = [one for view in views for one in candidates_of(about, network, image, view)]
    candidates = sorted(candidates, key=lambda one: -one[0])[: about["topk"] * len(about["levels"])]
    boxes = np.array([box for _, box, _ in candidates])
    kept: list[int] = []
    for place in range(len(candidates)):
        rivals = [one for one in kept if candidates[one][2] == candidates[place][2]]
        if not rivals or iou(boxes[place], boxes[rivals]).max() <= about["nms_threshold"]:
            kept.append(place)
    kept = kept[: about["max_detections"]]
    return boxes[kept], np.array([candidates[place][0] for place in kept]), [candidates[place][2] for place in kept]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "ohem"},
        {"test_warp": "true", "pixels": "caffe"},
        {"anchor_size": 2, "anchor_ratios": (3, 1)},
        {"test_scales": "64", "test_long": 151},
        {"test_flip": "true", "topk": 20},
    ],
    ids=str,
)
def test_a_decoder_written_from_the_document_agrees(shared_data, settings):
    detector = make_detector(**settings)
    about = json.loads(describe(detector))
    for photograph in ("dog.jpg", "person.jpg", "eagle.jpg"):
        image = read_image(shared_data / "demo" / photograph)
        # As large as the network takes it: how OpenCV rounds what it interpolates is nobody's to repeat.
        height, width = resized_like_the_document(about, image).shape[:2]
        image = np.array(Image.fromarray(image).resize((width, height)))
        expected = detector.predict(image)
        boxes, scores, labels = detect(about, detector.network, image)
        assert len(expected) > 20
        assert list(expected.labels) == labels
        np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-4)


def test_resizing_is_as_described_but_for_rounding(shared_data):
    detector = make_detector()
    about = json.loads(describe(detector))
    for path in sorted((shared_data / "demo").glob("*.jpg")):
        image = read_image(path)
        pixels, scale = input_of(about, image)
        view = detector.views[0]
        np.testing.assert_allclose(scale, view.transform.scale(*image.shape[:2]), rtol=1e-6)
        levels = np.abs(pixels[0] - view(image)) * np.reshape(about["input"]["deviation"], (3, 1, 1))
        assert levels.max() <= 1.01  # of 255
