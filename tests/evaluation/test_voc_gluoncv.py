"""VOC's average precision beside GluonCV's metrics, whose figures are those that others publish."""

from __future__ import annotations

import numpy as np
import pytest
from detection_scenes import CLASSES, make_sample
from gluoncv.utils.metrics.voc_detection import VOC07MApMetric, VOCMApMetric

from aploss_mx.evaluation.voc import eleven_point_ap, voc_average_precision
from aploss_mx.geometry.detections import Detections


def random_set(seed: int):
    """Ten to thirty images; classes of 5, 10, 20 or 40 objects, whose recalls stand on the eleven points.

    No scores tie: GluonCV's sort is not stable.
    """
    rng = np.random.default_rng(seed)
    images = int(rng.integers(10, 31))
    where = [(int(rng.integers(images)), label) for label in range(3) for _ in range(rng.choice([5, 10, 20, 40]))]
    samples, detections = [], {}
    for number in range(images):
        labels = np.array([label for image, label in where if image == number] + [0] * int(rng.integers(3)), np.int64)
        corners = rng.integers(0, 60, (len(labels), 2))
        boxes = np.hstack([corners, corners + rng.integers(5, 40, corners.shape)])
        difficult = np.arange(len(labels)) >= sum(image == number for image, _ in where)
        samples.append(make_sample(f"{number:03d}", boxes, labels, difficult))
        rows = np.flatnonzero(rng.random(len(labels)) < 0.7)
        rows = np.concatenate([rows, rows[rng.random(len(rows)) < 0.2]]).astype(np.int64)
        found = np.vstack([boxes[rows] + rng.integers(-3, 4, (len(rows), 4)), [[90, 90, 95, 99]]]).astype(np.float64)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        kinds = np.append(labels[rows], rng.integers(3))
        detections[f"{number:03d}"] = Detections(found, rng.random(len(found)), kinds)
    return samples, detections


def gluoncv(metric, samples, detections) -> list[float]:
    """Return AP by class and their mean; GluonCV's corners are inclusive, and it adds 1 to the lower right ones."""
    inclusive = np.array([0, 0, 1, 1])
    for sample in samples:
        found = detections[sample.image_id]
        arrays = (
            found.boxes - inclusive, found.labels, found.scores,
            sample.boxes - inclusive, sample.labels, sample.difficult,
        )  # fmt: skip
        metric.update(*(array[None] for array in arrays))
    return metric.get()[1]


@pytest.mark.parametrize("seed", range(50))
def test_eleven_points_are_gluoncvs_to_the_last_digit(seed):
    samples, detections = random_set(seed)
    metric = voc_average_precision(samples, detections, CLASSES)
    expected = gluoncv(VOC07MApMetric(0.5, CLASSES), samples, detections)
    assert [*metric.eleven_point, metric.mean_eleven_point] == expected
    assert 0 < expected[-1] < 1
    by_area = gluoncv(VOCMApMetric(0.5, CLASSES), samples, detections)
    assert [*metric.area, metric.mean_area] == pytest.approx(by_area, rel=1e-12)


def test_three_of_ten_objects_do_not_reach_three_tenths():
    assert eleven_point_ap(np.ones(3, bool), 10) == pytest.approx(3 / 11)
