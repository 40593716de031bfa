"""The dict of all metrics and its table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import CLASSES, make_detections, make_sample

from aploss_mx.evaluation.coco import METRICS
from aploss_mx.evaluation.evaluate import evaluate, format_table

NEAR, FAR = (10, 10, 30, 30), (40, 40, 90, 90)


@pytest.fixture
def metrics():
    # cat: true, false, true; dog: missed; bird: difficult only.
    samples = [make_sample("a", [NEAR, FAR], labels=[0, 1]), make_sample("b", [FAR, NEAR], [0, 2], [False, True])]
    found = {"a": make_detections([NEAR, FAR], [0.9, 0.8]), "b": make_detections([FAR], [0.7])}
    return evaluate(samples, found, CLASSES)


def test_values(metrics):
    assert set(metrics) == {*METRICS, "VOC07_AP50", "VOC10_AP50", "best_F1_score", "calibration", "per_class"}
    cat = {
        "AP": (51 + 50 * 2 / 3) / 101,
        "AP50": (51 + 50 * 2 / 3) / 101,
        "VOC07_AP50": (6 + 5 * 2 / 3) / 11,
        "VOC10_AP50": 5 / 6,
    }
    dog = dict.fromkeys(cat, 0)
    assert metrics["per_class"]["cat"] == pytest.approx({**cat, "objects": 2})
    assert metrics["per_class"]["dog"] == {**dog, "objects": 1}
    assert metrics["per_class"]["bird"] == {**dict.fromkeys(cat), "objects": 0}
    for name in cat:
        assert metrics[name] == pytest.approx(cat[name] / 2)
    assert metrics["APl"] is None


def test_smaller_objects_do_not_count():
    """A missed small object costs nothing, one found is no error, and what is found of no object counts by its size."""
    samples = [make_sample("a", [NEAR, (60, 10, 80, 30), FAR])]
    found = {"a": make_detections([NEAR, (5, 60, 25, 80), FAR], [0.9, 0.8, 0.7])}
    metrics = evaluate(samples, found, CLASSES, min_area=1000)
    assert metrics["AP50"] == pytest.approx(1)
    assert metrics["VOC10_AP50"] == pytest.approx(1 / 2)  # PASCAL VOC counts false positives of all sizes
    assert metrics["per_class"]["cat"]["objects"] == 1
    assert evaluate(samples, found, CLASSES, min_area=0) == evaluate(samples, found, CLASSES)


def test_smaller_objects_do_not_calibrate():
    names = [str(number) for number in range(40)]  # fewer are not fitted
    samples = [make_sample(name, [NEAR, FAR]) for name in names]
    found = {name: make_detections([FAR, NEAR, (5, 60, 25, 80)], [0.9, 0.4, 0.3]) for name in names}
    without = [replace(sample, difficult=np.array([True, False])) for sample in samples]
    calibrations = [
        evaluate(*arguments, CLASSES, min_area=area)["calibration"]
        for *arguments, area in ((samples, found, 1000), (without, found, 0), (samples, found, 0))
    ]
    assert calibrations[0] == calibrations[1] != calibrations[2]


def test_the_area_is_that_of_the_mask_where_there_is_one():
    sample = replace(make_sample("a", [NEAR, FAR]), areas=np.array([400.0, 300.0]))
    metrics = evaluate([sample], {"a": make_detections([NEAR], [0.9])}, CLASSES, min_area=350)
    assert (metrics["AP50"], metrics["VOC10_AP50"]) == pytest.approx((1, 1))


def test_is_strict_json(metrics):
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_table(metrics):
    assert format_table(metrics).splitlines() == [
        "class  objects          AP        AP50  VOC07_AP50  VOC10_AP50",
        "--------------------------------------------------------------",
        "cat          2        83.5        83.5        84.8        83.3",
        "dog          1         0.0         0.0         0.0         0.0",
        "bird         0           -           -           -           -",
        "--------------------------------------------------------------",
        "mean         3        41.7        41.7        42.4        41.7",
        "",
        "COCO: AP 41.7  AP50 41.7  AP75 41.7  APs 100.0  APm 25.0  APl -  AR1 50.0  AR10 50.0  AR100 50.0  "
        "ARs 100.0  ARm 50.0  ARl -",
    ]


def test_without_ground_truth():
    metrics = evaluate([], {}, ())
    assert metrics.pop("per_class") == {}
    assert set(metrics.pop("calibration").values()) == {None}
    assert set(metrics.values()) == {None}
