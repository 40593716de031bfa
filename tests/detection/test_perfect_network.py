"""A network that knows the truth scores 1 on real data: nothing between image file and metric loses an object."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Sequence

import mxnet as mx
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aploss_mx.config import Recipe
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.pixels import read_image
from aploss_mx.data.sample import Sample
from aploss_mx.data.voc import VOCDetection
from aploss_mx.detection.detector import Detector, views_of
from aploss_mx.evaluation.detections import load_detections, save_coco_results, save_detections
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.geometry.coder import encode
from aploss_mx.geometry.detections import Detections

SURE, NEVER = 10, -50
# Real objects of one class overlap by any amount, and some images have many: no box may go.
RECIPE = Recipe(test_short=320, test_long=533, nms_threshold=1, max_detections=1000, topk=200)


def digest(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(pixels.tobytes()).digest()


EVERY = pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])  # of the images


class PerfectNetwork:
    """Answers an input that it has seen before with anchors and deltas that decode to the objects in it."""

    def __init__(self, samples: Sequence[Sample], classes: int):
        self.classes = classes
        self.seen: dict[bytes, tuple[Sample, np.ndarray]] = {}
        (view,) = views_of(RECIPE)
        for sample in samples:
            pixels = view(read_image(sample.image_path))
            self.seen[digest(pixels)] = sample, view.transform.scale(sample.height, sample.width)
        assert len(self.seen) == len(samples)

    def __call__(self, images: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
        anchors = make_anchors(*images.shape[2:])
        logits = np.full((len(images), len(anchors), self.classes), NEVER, np.float32)
        deltas = np.zeros((len(images), len(anchors), 4), np.float32)
        for row, pixels in enumerate(images.asnumpy()):
            sample, scale = self.seen[digest(pixels)]
            boxes = sample.boxes * np.tile(scale, 2)
            free = pairwise_iou(boxes, anchors)
            for box, label, overlaps in zip(boxes, sample.labels, free):
                anchor = overlaps.argmax()
                free[:, anchor] = -1  # an anchor has one box
                logits[row, anchor, label] = SURE
                deltas[row, anchor] = encode(box, anchors[anchor])
        return mx.nd.array(logits), mx.nd.array(deltas)


def detections_of_perfect_network(samples: Sequence[Sample], classes: Sequence[str], file: Path) -> dict:
    """Detect through the loader, resizing, padding, decoding and a file of detections."""
    detector = Detector(PerfectNetwork(samples, len(classes)), classes, RECIPE, mx.cpu())
    save_detections(file, detector.detect(samples, detector.loader(samples, 0)), classes)
    return load_detections(file, classes, [sample.image_id for sample in samples])


def sure(found: Detections) -> Detections:
    """Leave out what P7 adds below the score threshold."""
    return found[found.scores > 0.5]


def assert_as_many_as_objects(samples: Sequence[Sample], detections: dict[str, Detections]) -> None:
    """The network answers for difficult objects and crowds, too: they must not count as errors."""
    assert any(sample.difficult.any() for sample in samples)
    assert {key: len(found) for key, found in detections.items()} == {
        sample.image_id: len(sample.boxes) for sample in samples
    }


@EVERY
def test_voc(shared_data, tmp_path, every):
    dataset = VOCDetection(shared_data / "VOCdevkit", "2007_val")
    samples = dataset.samples[::every]
    found = detections_of_perfect_network(samples, dataset.classes, tmp_path / "found.json")
    assert_as_many_as_objects(samples, {key: sure(one) for key, one in found.items()})
    metrics = evaluate(samples, found, dataset.classes)
    for name in ("AP", "AP50", "AP75", "VOC07_AP50", "VOC10_AP50"):
        assert metrics[name] == pytest.approx(1, abs=1e-9), name


@EVERY
def test_coco(shared_data, tmp_path, every):
    root = shared_data / "coco"
    dataset = COCODetection(root, "train2017")
    samples = dataset.samples[::every]
    found = detections_of_perfect_network(samples, dataset.classes, tmp_path / "found.json")
    found = {key: sure(one) for key, one in found.items()}  # COCO counts no more than 100
    assert_as_many_as_objects(samples, found)
    metrics = evaluate(samples, found, dataset.classes)
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"):
        assert metrics[name] == pytest.approx(1, abs=1e-9), name

    save_coco_results(tmp_path / "results.json", found, samples, dataset.category_ids)
    truth = COCO(str(root / "annotations" / "instances_train2017.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
    evaluation.params.imgIds = [int(sample.image_id) for sample in samples]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # pycocotools by itself leaves boxes over the edge as they are.
    assert evaluation.stats[0] == pytest.approx(1, abs=5e-4)
