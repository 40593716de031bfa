"""Detections made from the truth and noise, and a data set of noise pictures to make them on."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from aploss_mx.data.sample import Sample
from aploss_mx.geometry.detections import Detections


def detect(
    samples: Sequence[Sample], classes: int, seed: int = 0, recall: float = 0.9, confused: float = 0.05, each: int = 4
) -> dict[str, Detections]:
    """Return detections that find most objects, take some for other classes, and see `each` that are not there."""
    generator = np.random.default_rng(seed)
    return {sample.image_id: _detect(sample, classes, generator, recall, confused, each) for sample in samples}


def _detect(
    sample: Sample, classes: int, generator: np.random.Generator, recall: float, confused: float, each: int
) -> Detections:
    found = generator.random(len(sample.boxes)) < recall
    boxes, labels = sample.boxes[found], sample.labels[found]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + generator.normal(0, 0.03, boxes.shape) * sides
    labels = np.where(generator.random(len(labels)) < confused, generator.integers(0, classes, len(labels)), labels)
    size = np.array([sample.width, sample.height] * 2, np.float64)
    centres = np.tile(generator.random((each, 2)), 2)
    half = generator.uniform(0.03, 0.2, (each, 2)) @ np.array([[-1, 0, 1, 0], [0, -1, 0, 1.0]])
    boxes = np.clip(np.vstack([boxes, (centres + half) * size]), 0, size)
    scores = np.concatenate([generator.beta(6, 2, len(labels)), generator.beta(1, 6, each)])
    return Detections(boxes, scores, np.concatenate([labels, generator.integers(0, classes, each)]).astype(np.int64))


def paint(folder: Path, count: int, classes: int, side: int = 160, seed: int = 0, objects: int = 4) -> list[Sample]:
    """Return samples of noise pictures, whose files have names that HTML must escape."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        path = folder / f'{number} "Bär\'s" <b>猫&.jpg'
        noise = generator.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        path.write_bytes(cv2.imencode(".jpg", cv2.resize(noise, (side, side)))[1].tobytes())
        low = generator.uniform(0, 0.6 * side, (objects, 2))
        boxes = np.hstack([low, low + generator.uniform(0.15, 0.4, (objects, 2)) * side])
        difficult = generator.random(objects) < 0.1
        labels = generator.integers(0, classes, objects)
        samples.append(Sample(f"image {number}", path, side, side, boxes, labels, difficult))
    return samples
