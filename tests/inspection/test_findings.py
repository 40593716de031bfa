"""What a page counts: confusions, hardness, the slider's levels and figures."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import detect, paint

from aploss_mx.evaluation.errors import Kind
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.geometry.detections import Detections
from aploss_mx.inspection import pictures
from aploss_mx.inspection.findings import find
from aploss_mx.inspection.pictures import GROUPS, boxes_of, detections_gallery, hardness
from aploss_mx.inspection.plots import class_plots, confusion
from aploss_mx.page.gallery import NEVER

CLASSES = ("cat", "dog", "<b>猫</b>")


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    samples = paint(tmp_path_factory.mktemp("pictures"), 30, len(CLASSES))
    return find(samples, detect(samples, len(CLASSES)), CLASSES)


def test_groups_are_in_the_order_of_the_kinds():
    names = {Kind.IGNORED: "on a difficult object"}
    assert [group.name for group in GROUPS[2:]] == [names.get(kind, kind.name.lower()) for kind in Kind]


def test_metrics_are_those_of_an_evaluation(findings):
    assert findings.metrics == evaluate(findings.samples, findings.detections, CLASSES)
    per_class = [findings.metrics["per_class"][name]["AP"] for name in CLASSES]
    assert findings.precision.mean(axis=(1, 2)) == pytest.approx(per_class)
    again = find(findings.samples, findings.detections, CLASSES, findings.metrics)
    np.testing.assert_array_equal(again.precision, findings.precision)
    assert findings.errors.ap50 == pytest.approx(findings.metrics["AP50"], abs=1e-9)


def test_flat_arrays_hold_what_each_image_has(findings):
    found, objects = findings.found, findings.objects
    for number, sample in enumerate(findings.samples):
        mine, errors = found.image == number, findings.errors.images[sample.image_id]
        np.testing.assert_array_equal(found.boxes[mine], findings.detections[sample.image_id].boxes)
        np.testing.assert_array_equal(found.kinds[mine], errors.kinds)
        with_object = mine & (found.objects >= 0)
        np.testing.assert_array_equal(objects.image[found.objects[with_object]], number)
    right = found.right
    np.testing.assert_array_equal(objects.labels[found.objects[right]], found.labels[right])
    assert sorted(objects.confidence[objects.confidence > 0]) == sorted(found.confidence[right])
    np.testing.assert_array_equal(objects.levels == NEVER, objects.confidence == 0)


def test_the_slider_starts_at_the_best_f1(findings):
    found = findings.found
    objects = findings.counts.sum()

    def f1(level: int) -> float:
        shown = found.levels >= level
        right, wrong = (shown & found.right).sum(), (shown & found.wrong).sum()
        return 2 * right / (right + wrong + objects)

    assert f1(findings.start) >= max(map(f1, range(1001))) - 0.01  # a level holds several scores


@pytest.mark.parametrize(("factor", "shift"), [(100, 0), (100, -20), (1e300, 0), (1e-3, 5)])
def test_scores_of_any_range_have_the_whole_slider(findings, factor, shift):
    foreign = {
        image_id: Detections(one.boxes, factor * np.asarray(one.scores, np.float64) + shift, one.labels)
        for image_id, one in findings.detections.items()
    }
    scaled = find(findings.samples, foreign, CLASSES)
    scores = np.concatenate([one.scores for one in foreign.values()])
    assert scaled.ends == (scores.min(), scores.max()) and scaled.calibration is None and scaled.measure == "score"
    shares = (scores / factor - scores.min() / factor) / np.ptp(scores / factor)
    np.testing.assert_allclose(scaled.found.confidence, shares, atol=1e-9)
    assert (scaled.found.levels.min(), scaled.found.levels.max()) == (0, 1000)
    shown = scores >= scaled.metrics["best_F1_score"]
    np.testing.assert_array_equal(scaled.found.levels[shown] >= scaled.start, True)


def test_each_object_and_each_detection_has_one_cell_of_the_confusion_matrix(findings):
    matrix = confusion(findings)
    found = findings.found
    shown = (found.levels >= findings.start) & (found.kinds != Kind.IGNORED)
    np.testing.assert_array_equal(matrix[:-1].sum(axis=1), findings.counts)
    np.testing.assert_array_equal(matrix[:, :-1].sum(axis=0), np.bincount(found.labels[shown], minlength=len(CLASSES)))
    np.testing.assert_array_equal(
        np.diag(matrix)[:-1], np.bincount(found.labels[shown & found.right], minlength=len(CLASSES))
    )
    assert matrix[-1, -1] == 0


def test_confusion_of_a_picture_by_hand(findings):
    sample = findings.samples[0]
    boxes, labels = sample.boxes[:2], np.array([0, 1])
    one = type(sample)("a", sample.image_path, 160, 160, boxes, labels, np.zeros(2, bool))
    # The first object twice, once as a dog; nothing on the second.
    detections = Detections(boxes[[0, 0]], np.array([0.5, 0.9]), np.array([0, 1]))
    assert confusion(find([one], {"a": detections}, CLASSES)).tolist() == [
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]  # fmt: skip


def test_an_object_is_taken_for_the_class_of_its_surest_detection(findings):
    sample = findings.samples[0]
    one = type(sample)("a", sample.image_path, 160, 160, sample.boxes[:1], np.array([1]), np.zeros(1, bool))
    detections = Detections(sample.boxes[[0, 0]], np.array([0.6, 0.8]), np.array([0, 2]))
    assert confusion(find([one], {"a": detections}, CLASSES)).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 0],
    ]  # fmt: skip


def test_hardness_is_what_each_picture_is_wrong_by(findings):
    by_hand = []
    for number in range(len(findings.samples)):
        mine, ours = findings.found.image == number, findings.objects.image == number
        wrong = mine & findings.found.wrong & (findings.found.levels >= findings.start)
        lacking = (1 - findings.objects.confidence[ours])[findings.objects.counted[ours]].sum()
        by_hand.append(findings.found.confidence[wrong].sum() + lacking)
    np.testing.assert_allclose(hardness(findings), by_hand)


@pytest.mark.parametrize(("most", "count"), [(30, 30), (29, 4)])
def test_the_gallery_shows_the_hardest_first_and_of_too_many_pictures_these_alone(findings, monkeypatch, most, count):
    shown, thumbnails = [], pictures.thumbnails
    monkeypatch.setattr(pictures, "MOST_PICTURES", most)
    monkeypatch.setattr(pictures, "FEWER", 4)
    monkeypatch.setattr(pictures, "thumbnails", lambda samples: shown.extend(samples) or thumbnails(samples))
    html = detections_gallery(findings)
    hard = dict(zip((sample.image_id for sample in findings.samples), hardness(findings)))
    assert [sample.image_id for sample in shown] == sorted(hard, key=hard.get, reverse=True)[:count]
    assert ("These are the 4 hardest of 30 pictures" in html) == (count == 4)


def test_boxes_come_in_the_order_of_the_chosen_pictures(findings):
    chosen, found = np.array([7, 2, 20]), findings.found
    boxes = boxes_of(
        [findings.samples[index] for index in chosen], chosen,
        found.image, found.boxes, found.labels, found.kinds, found.levels,
    )  # fmt: skip
    assert (np.diff(boxes.picture) >= 0).all() and set(boxes.picture) == {0, 1, 2}
    for place, index in enumerate(chosen):
        np.testing.assert_allclose(boxes.xyxy[boxes.picture == place] * 160, found.boxes[found.image == index])


def test_the_curves_of_a_class_are_of_the_ious_that_they_name(findings):
    plots = class_plots(findings)
    assert [plot.content["title"] for plot in plots] == list(CLASSES)
    for label, plot in enumerate(plots):
        assert [curve.name for curve in plot.content["curves"]] == ["IoU 0.5", "IoU 0.75", "IoU 0.9"]
        for curve, step in zip(plot.content["curves"], (0, 5, 8)):  # of 0.05 from 0.5 on
            np.testing.assert_array_equal(curve.y, findings.precision[label, step])
    at_three_quarters = [np.mean(plot.content["curves"][1].y) for plot in plots]
    assert np.mean(at_three_quarters) == pytest.approx(findings.metrics["AP75"])


@pytest.mark.parametrize("count", [0, 3])
def test_it_bears_nothing_found_and_no_objects(tmp_path, count):
    samples = paint(tmp_path, 2, len(CLASSES), objects=count)
    findings = find(samples, {}, CLASSES)
    assert findings.calibration is None and findings.measure == "score"
    assert confusion(findings)[:, -1].sum() == findings.counts.sum()
    assert (findings.objects.levels == NEVER).all()
