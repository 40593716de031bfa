"""Small scenes of ground truth and detections for the tests of the metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from aploss_mx.data.sample import Sample
from aploss_mx.geometry.detections import Detections

CLASSES = ("cat", "dog", "bird")


def make_sample(image_id, boxes=(), labels=None, difficult=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(
        image_id,
        Path(f"{image_id}.jpg"),
        100,
        100,
        boxes,
        np.zeros(len(boxes), np.int64) if labels is None else np.array(labels, np.int64),
        np.zeros(len(boxes), bool) if difficult is None else np.array(difficult, bool),
    )


def make_detections(boxes=(), scores=(), labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(
        boxes,
        np.array(scores, np.float32),
        np.zeros(len(boxes), np.int64) if labels is None else np.array(labels, np.int64),
    )


def perfect_detections(samples, seed=0):
    """One detection on each object, difficult ones too, in random order and with random scores."""
    rng = np.random.default_rng(seed)
    orders = {sample.image_id: rng.permutation(len(sample.boxes)) for sample in samples}
    return {
        sample.image_id: make_detections(sample.boxes[order], rng.random(len(order)), sample.labels[order])
        for sample, order in zip(samples, orders.values())
    }


@st.composite
def scenes(draw, pixels_per_unit=1):
    """Up to 4 images of up to 4 objects and 6 detections, crowded enough to overlap, share objects and tie.

    Coordinates are multiples of 1 / pixels_per_unit: sums and products of them are exact in float64.
    """

    def boxes(count):
        corner, side = st.integers(0, 4 * pixels_per_unit), st.integers(1, 6 * pixels_per_unit)
        rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
        return [
            (x / pixels_per_unit, y / pixels_per_unit, (x + w) / pixels_per_unit, (y + h) / pixels_per_unit)
            for x, y, w, h in rows
        ]

    def labels(count):
        return draw(st.lists(st.integers(0, len(CLASSES) - 1), min_size=count, max_size=count))

    counts = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=4))
    total = sum(found for _, found in counts)
    ranks = draw(st.lists(st.integers(0, 3), min_size=total, max_size=total))
    samples, detections = [], {}
    for number, (objects, found) in enumerate(counts):
        flags = draw(st.lists(st.booleans(), min_size=objects, max_size=objects))
        samples.append(make_sample(f"{number:06d}", boxes(objects), labels(objects), flags))
        scores, ranks = np.array(ranks[:found]) / 32, ranks[found:]
        detections[f"{number:06d}"] = make_detections(boxes(found), scores, labels(found))
    return samples, detections
