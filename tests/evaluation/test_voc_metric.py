"""Average precision of PASCAL VOC against closed forms, a plain transcription of the kit's rules and invariances."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from detection_scenes import CLASSES, make_detections, make_sample, perfect_detections, scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.evaluation.voc import area_ap, best_f1_score, eleven_point_ap, voc_average_precision
from aploss_mx.geometry.detections import Detections

BOX = (10, 10, 30, 30)
FAR = (60, 60, 80, 80)


def assert_same(metric, expected):
    np.testing.assert_array_equal(metric.objects, expected.objects)
    np.testing.assert_allclose(metric.eleven_point, expected.eleven_point, rtol=1e-12)
    np.testing.assert_allclose(metric.area, expected.area, rtol=1e-12)


# ---- average precision of a given ranking ----


@pytest.mark.parametrize(
    ("ranking", "objects", "eleven_point", "area"),
    [
        ("T", 1, 1, 1),
        ("F", 1, 0, 0),
        ("", 1, 0, 0),
        ("T", 2, 6 / 11, 1 / 2),
        ("FT", 1, 1 / 2, 1 / 2),
        # Recall 1/2 at precision 1, then recall 1 at precision 2/3.
        ("TFT", 2, (6 * 1 + 5 * 2 / 3) / 11, 1 / 2 * 1 + 1 / 2 * 2 / 3),
        # The later 3/4 lifts the earlier 1/2 and 2/3.
        ("FTTT", 4, 8 / 11 * 3 / 4, 3 / 4 * 3 / 4),
        # 3/10 does not reach the third point, the float 3 * 0.1, which is a bit above it; 4/10 reaches the fourth.
        ("TTT", 10, 3 / 11, 3 / 10),
        ("TTTT", 10, 5 / 11, 4 / 10),
    ],
)
def test_closed_forms(ranking, objects, eleven_point, area):
    hits = np.array([letter == "T" for letter in ranking], bool)
    assert eleven_point_ap(hits, objects) == pytest.approx(eleven_point, rel=1e-12)
    assert area_ap(hits, objects) == pytest.approx(area, rel=1e-12)


# ---- matching ----


def test_overlap_is_that_of_inclusive_pixels():
    # Kit: object [1, 1, 10, 10], detection [1, 1, 10, 5] are 100 and 50 pixels, overlap 0.5 to the bit.
    sample, found = make_sample("a", [(0, 0, 10, 10)]), {"a": make_detections([(0, 0, 10, 5)], [0.5])}
    assert voc_average_precision([sample], found, CLASSES).mean_area == 1
    assert voc_average_precision([sample], found, CLASSES, iou_threshold=0.501).mean_area == 0
    # Kit: [1, 1, 10, 10] and [10, 1, 19, 10] share one column, overlap 10 / 190; [11, ...] touches without overlap.
    assert (
        voc_average_precision(
            [sample], {"a": make_detections([(9, 0, 19, 10)], [0.5])}, CLASSES, iou_threshold=10 / 190
        ).mean_area
        == 1
    )
    assert (
        voc_average_precision(
            [sample], {"a": make_detections([(10, 0, 20, 10)], [0.5])}, CLASSES, iou_threshold=1e-9
        ).mean_area
        == 0
    )


def test_second_detection_of_an_object_is_a_false_positive():
    samples = [make_sample("a", [BOX, FAR])]
    found = {"a": make_detections([BOX, BOX, FAR], [0.9, 0.8, 0.7])}
    assert voc_average_precision(samples, found, CLASSES).mean_area == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_taken_object_does_not_pass_a_detection_on():
    # Both detections overlap the first object most; the second object stays unfound, unlike with COCO's matching.
    samples = [make_sample("a", [(0, 0, 10, 10), (0, 0, 10, 8)])]
    found = {"a": make_detections([(0, 0, 10, 10), (0, 0, 10, 9.5)], [0.9, 0.8])}
    assert voc_average_precision(samples, found, CLASSES).mean_area == pytest.approx(1 / 2)


def test_difficult_object_absorbs_all_its_detections():
    samples = [make_sample("a", [BOX, FAR], difficult=[True, False])]
    found = {"a": make_detections([BOX, BOX, FAR], [0.9, 0.8, 0.7])}
    metric = voc_average_precision(samples, found, CLASSES)
    assert (metric.objects[0], metric.eleven_point[0], metric.area[0]) == (1, pytest.approx(1), 1)


def test_class_without_counted_objects_leaves_the_mean():
    samples = [make_sample("a", [BOX, FAR], labels=[0, 1], difficult=[False, True])]
    found = {"a": make_detections([BOX, FAR, FAR], [0.9, 0.8, 0.7], [0, 1, 2])}
    metric = voc_average_precision(samples, found, CLASSES)
    np.testing.assert_array_equal(metric.area, [1, math.nan, math.nan])
    assert (metric.mean_area, metric.mean_eleven_point) == (1, pytest.approx(1))


def test_no_detections_score_zero():
    samples = [make_sample("a", [BOX, FAR], labels=[0, 1]), make_sample("b")]
    for found in ({}, {"a": Detections(), "b": Detections()}):
        metric = voc_average_precision(samples, found, CLASSES)
        np.testing.assert_array_equal(metric.area, [0, 0, math.nan])
        assert metric.mean_area == metric.mean_eleven_point == 0


@pytest.mark.parametrize("samples", [[], [make_sample("a")], [make_sample("a", [BOX], difficult=[True])]])
def test_no_objects_have_no_mean(samples):
    found = {sample.image_id: make_detections([BOX], [0.9]) for sample in samples}
    metric = voc_average_precision(samples, found, CLASSES)
    assert math.isnan(metric.mean_area)
    assert math.isnan(metric.mean_eleven_point)
    assert not metric.objects.any()


def test_perfect_detections_score_one():
    samples = [
        make_sample("a", [BOX, FAR], labels=[0, 1], difficult=[False, True]),
        make_sample("b"),
        make_sample("c", [BOX, FAR, (1, 2, 9, 90)], labels=[1, 1, 2]),
    ]
    metric = voc_average_precision(samples, perfect_detections(samples), CLASSES)
    np.testing.assert_array_equal(metric.objects, [1, 2, 1])
    np.testing.assert_array_equal(metric.area, 1)
    np.testing.assert_allclose(metric.eleven_point, 1, rtol=1e-15)


@pytest.mark.parametrize("threshold", [0, 1.5, math.nan])
def test_threshold_out_of_range(threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        voc_average_precision([], {}, CLASSES, iou_threshold=threshold)


# ---- the kit's rules, in its own pixels and with a loop for everything ----


def devkit_overlap(bb, bbgt):
    iw = min(bb[2], bbgt[2]) - max(bb[0], bbgt[0]) + 1
    ih = min(bb[3], bbgt[3]) - max(bb[1], bbgt[1]) + 1
    if iw <= 0 or ih <= 0:
        return -math.inf
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (bb, bbgt)]
    return iw * ih / (sum(areas) - iw * ih)


def devkit_pixels(corners):
    x1, y1, x2, y2 = map(float, corners)
    return x1 + 1, y1 + 1, x2, y2


def devkit_class(samples, detections, label, threshold):
    """Number of objects, 11-point AP and area AP of one class."""
    truth = {
        s.image_id: [
            (devkit_pixels(box), bool(hard)) for box, its, hard in zip(s.boxes, s.labels, s.difficult) if its == label
        ]
        for s in samples
    }
    objects = sum(not hard for image in truth.values() for _, hard in image)
    found = [(s.image_id, detections[s.image_id]) for s in samples]
    rows = [
        (score, image_id, devkit_pixels(box))
        for image_id, image in found
        for box, score, its in zip(image.boxes, image.scores, image.labels)
        if its == label
    ]
    taken, true, false, curve = set(), 0, 0, [(Fraction(0), Fraction(0))]
    for _, image_id, box in sorted(rows, key=lambda row: -row[0]):
        best, winner = -math.inf, None
        for number, (other, _) in enumerate(truth[image_id]):
            if devkit_overlap(box, other) > best:
                best, winner = devkit_overlap(box, other), number
        if best < threshold:
            false += 1
        elif not truth[image_id][winner][1]:
            if (image_id, winner) in taken:
                false += 1
            else:
                taken.add((image_id, winner))
                true += 1
        if objects and true + false:
            curve.append((Fraction(true, objects), Fraction(true, true + false)))
    if not objects:
        return 0, math.nan, math.nan
    points = [Fraction(tenths * 0.1) for tenths in range(11)]
    eleven = sum(max((p for r, p in curve if float(r) >= point), default=0) for point in points) / 11
    area = sum(
        (r - before) * max(p for _, p in curve[i:])
        for i, ((before, _), (r, _)) in enumerate(zip(curve, curve[1:]), start=1)
    )
    return objects, float(eleven), float(area)


@pytest.mark.parametrize("pixels_per_unit", [1, 64])
@settings(max_examples=80, deadline=None)
@given(data=st.data(), threshold=st.sampled_from([0.25, 0.5, 0.75]))
def test_equals_the_kit(pixels_per_unit, data, threshold):
    samples, detections = data.draw(scenes(pixels_per_unit))
    metric = voc_average_precision(samples, detections, CLASSES, threshold)
    expected = [devkit_class(samples, detections, label, threshold) for label in range(len(CLASSES))]
    objects, eleven_point, area = map(np.array, zip(*expected))
    np.testing.assert_array_equal(metric.objects, objects)
    np.testing.assert_allclose(metric.eleven_point, eleven_point, rtol=1e-12)
    np.testing.assert_allclose(metric.area, area, rtol=1e-12)


# ---- invariances ----


@settings(max_examples=60, deadline=None)
@given(scene=scenes())
def test_only_the_order_of_scores_matters(scene):
    samples, detections = scene
    moved = {
        image_id: dataclasses.replace(found, scores=np.exp(5 * found.scores) - 100)
        for image_id, found in detections.items()
    }
    assert_same(voc_average_precision(samples, moved, CLASSES), voc_average_precision(samples, detections, CLASSES))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), max_size=12), st.integers(0, 5))
def test_best_f1_score_is_the_best_of_all_cut_offs(found, missed):
    found = sorted(found, key=lambda item: -item[0])
    scores, hits = np.array([score for score, _ in found]), np.array([hit for _, hit in found], bool)
    objects = int(hits.sum()) + missed
    best = best_f1_score(scores, hits, objects)
    if not hits.any():
        assert np.isnan(best)
        return

    def f1(cut_off):
        kept = hits[scores >= cut_off]
        precision, recall = kept.mean(), kept.sum() / objects
        return 2 * precision * recall / (precision + recall) if kept.any() else 0.0

    assert f1(best) == pytest.approx(max(f1(score) for score in scores))


def test_the_metric_has_the_best_f1_score_of_all_classes_together():
    sample = make_sample("a", [(0, 0, 10, 10), (20, 0, 30, 10)], [0, 1])
    found = make_detections([(0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)], [0.9, 0.4, 0.3], [0, 1, 0])
    assert voc_average_precision([sample], {"a": found}, CLASSES).best_f1_score == pytest.approx(0.4)
