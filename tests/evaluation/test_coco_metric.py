"""COCO figures against closed forms; `test_coco_ties.py` holds them to pycocotools' own."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from detection_scenes import CLASSES, make_detections, make_sample, perfect_detections, scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.evaluation.coco import METRICS, coco_average_precision
from aploss_mx.evaluation.voc import voc_average_precision
from aploss_mx.geometry.detections import Detections

SMALL, MEDIUM, LARGE = (10, 10, 30, 30), (40, 10, 80, 50), (0, 0, 97, 98)


def test_perfect_detections_score_one():
    samples = [
        make_sample("a", [SMALL, MEDIUM], labels=[0, 1], difficult=[False, True]),
        make_sample("b"),
        make_sample("c", [SMALL, MEDIUM, LARGE], labels=[1, 1, 2]),
    ]
    metric = coco_average_precision(samples, perfect_detections(samples), CLASSES)
    assert set(metric.metrics) == set(METRICS)
    for name, value in metric.metrics.items():
        # AR1 allows one detection of a class in an image: of the two dogs of image c, half.
        assert value == pytest.approx(2.5 / 3 if name == "AR1" else 1), name
    np.testing.assert_allclose(metric.ap, 1)
    np.testing.assert_allclose(metric.ap50, 1)


def test_closed_form_of_a_ranking():
    # True, false, true with 2 objects: precision 1 at the recalls 0, ..., 0.5 and 2/3 at the 50 above.
    samples = [make_sample("a", [SMALL, MEDIUM])]
    found = {"a": make_detections([SMALL, LARGE, MEDIUM], [0.9, 0.8, 0.7])}
    metric = coco_average_precision(samples, found, CLASSES)
    assert metric.ap50[0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert [metric.metrics["AP"], metric.metrics["AP50"]] == pytest.approx([metric.ap[0], metric.ap50[0]])
    assert metric.ap[0] == pytest.approx(metric.ap50[0])
    assert metric.metrics["AR1"] == pytest.approx(1 / 2)


def test_ap_is_the_mean_over_thresholds():
    # IoU 0.72 passes 0.50, 0.55, 0.60, 0.65 and 0.70.
    samples = [make_sample("a", [(0, 0, 10, 100)])]
    figures = coco_average_precision(samples, {"a": make_detections([(0, 0, 10, 72)], [0.9])}, CLASSES).metrics
    assert figures["AP50"] == pytest.approx(1)
    assert figures["AP75"] == 0
    assert [figures["AP"], figures["AR100"]] == pytest.approx([5 / 10, 5 / 10])


def test_figures_by_size():
    samples = [make_sample("a", [SMALL, MEDIUM, LARGE])]
    figures = coco_average_precision(samples, {"a": make_detections([SMALL, LARGE], [0.9, 0.8])}, CLASSES).metrics
    assert [figures[name] for name in ("APs", "APm", "APl", "ARs", "ARm", "ARl")] == pytest.approx([1, 0, 1, 1, 0, 1])


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_above_96_squared_the_figures_are_those_of_large_objects(scene):
    samples = [dataclasses.replace(sample, boxes=40 * sample.boxes) for sample in scene[0]]
    detections = {key: dataclasses.replace(found, boxes=40 * found.boxes) for key, found in scene[1].items()}
    all_sizes = coco_average_precision(samples, detections, CLASSES).metrics
    large = coco_average_precision(samples, detections, CLASSES, min_area=96**2).metrics
    for ours, theirs in (("AP", "APl"), ("AR100", "ARl")):
        np.testing.assert_array_equal(large[ours], all_sizes[theirs])
    for name in ("APs", "APm", "APl", "ARs", "ARm", "ARl"):
        np.testing.assert_array_equal(large[name], all_sizes[name])


def test_difficult_object_takes_what_lies_on_it():
    # Two small boxes inside a large difficult one are left out; PASCAL VOC counts them as false positives.
    samples = [make_sample("a", [(0, 0, 50, 100), (60, 60, 90, 90)], difficult=[True, False])]
    found = {"a": make_detections([(5, 5, 15, 15), (5, 35, 15, 45), (60, 60, 90, 90)], [0.9, 0.8, 0.7])}
    assert coco_average_precision(samples, found, CLASSES).metrics["AP"] == pytest.approx(1)
    assert voc_average_precision(samples, found, CLASSES).mean_area == pytest.approx(1 / 3)


def test_class_without_counted_objects_leaves_the_mean():
    samples = [make_sample("a", [SMALL, MEDIUM], labels=[0, 1], difficult=[False, True])]
    found = {"a": make_detections([SMALL, MEDIUM, LARGE], [0.9, 0.8, 0.7], [0, 1, 2])}
    metric = coco_average_precision(samples, found, CLASSES)
    np.testing.assert_allclose(metric.ap, [1, math.nan, math.nan])
    np.testing.assert_allclose(metric.ap50, [1, math.nan, math.nan])
    assert metric.metrics["AP"] == pytest.approx(1)
    assert math.isnan(metric.metrics["APl"])


def test_no_detections_score_zero():
    samples = [make_sample("a", [SMALL, MEDIUM, LARGE], labels=[0, 1, 1]), make_sample("b")]
    for found in ({}, {"a": Detections(), "b": Detections()}):
        metric = coco_average_precision(samples, found, CLASSES)
        np.testing.assert_array_equal(metric.ap, [0, 0, math.nan])
        assert metric.metrics == dict.fromkeys(METRICS, 0)


@pytest.mark.parametrize("samples", [[], [make_sample("a")], [make_sample("a", [SMALL], difficult=[True])]])
def test_no_objects_have_no_figures(samples):
    found = {sample.image_id: make_detections([SMALL], [0.9]) for sample in samples}
    metric = coco_average_precision(samples, found, CLASSES)
    assert all(map(math.isnan, metric.metrics.values()))
    assert np.isnan(metric.ap).all()


def test_prints_nothing(capsys):
    coco_average_precision([make_sample("a", [SMALL])], {}, CLASSES)
    assert capsys.readouterr() == ("", "")


@settings(max_examples=20, deadline=None)
@given(scene=scenes(), score=st.sampled_from([-1.0, 0.05, 2.0]), label=st.integers(0, 2))
def test_difficult_object_and_its_detections_change_nothing(scene, score, label):
    samples, detections = scene
    first, *rest = samples
    found = detections[first.image_id]
    harder = dataclasses.replace(
        first,
        boxes=np.vstack([first.boxes, np.float32([MEDIUM])]),
        labels=np.append(first.labels, label),
        difficult=np.append(first.difficult, True),
    )
    more = Detections(
        np.vstack([found.boxes, np.float32([MEDIUM] * 2)]),
        np.append(found.scores, np.float32([score] * 2)),
        np.append(found.labels, [label] * 2),
    )
    metric = coco_average_precision(samples, detections, CLASSES)
    changed = coco_average_precision([harder, *rest], {**detections, first.image_id: more}, CLASSES)
    np.testing.assert_allclose(changed.ap, metric.ap, rtol=1e-9)
    np.testing.assert_allclose(changed.ap50, metric.ap50, rtol=1e-9)
