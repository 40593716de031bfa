"""Errors by kind: by hand, and the numbers of the package tidecv 1.0.1 on three random sets of detections.

Its figures below are of TIDE().evaluate(truth, found, mode=TIDE.BOX) on Data objects filled with the boxes of
`random_set`, as [x1, y1, x2 - x1, y2 - y1]: `runs`' ap and the lengths of error_dict, and get_all_errors().
"""

from __future__ import annotations

import numpy as np
import pytest
from detection_scenes import make_detections, make_sample

from aploss_mx.evaluation.coco import coco_average_precision
from aploss_mx.evaluation.errors import ERRORS, Kind, errors_of_image, find_errors

TIDE = {
    (0, 40, 3, 6): {
        "ap50": 36.366090936275164,
        "classification": (13, 3.422272539936948),
        "localisation": (53, 17.043482790314947),
        "both": (13, 1.277858511905393),
        "duplicate": (40, 1.373143802000385),
        "background": (60, 4.21297972297387),
        "missed": (27, 10.347836462755197),
        "false_positives": 28.32037771058952,
        "false_negatives": 19.73793281071366,
    },
    (1, 100, 1, 12): {
        "ap50": 31.102661406843335,
        "classification": (0, 0.0),
        "localisation": (255, 19.81656511171489),
        "both": (0, 0.0),
        "duplicate": (192, 3.521909187636407),
        "background": (136, 5.84071338482234),
        "missed": (127, 10.27266763353565),
        "false_positives": 32.26367522682003,
        "false_negatives": 17.9970539720518,
    },
    (2, 60, 8, 9): {
        "ap50": 23.803682126452635,
        "classification": (60, 7.0628977549982075),
        "localisation": (116, 16.64066747971757),
        "both": (55, 2.679512532278011),
        "duplicate": (66, 1.175248318383474),
        "background": (67, 3.543557375236457),
        "missed": (76, 8.143610375355514),
        "false_positives": 30.528001041864194,
        "false_negatives": 19.5473221745925,
    },
}


def random_set(seed, images, classes, most):
    """Objects, and detections near them, of wrong classes, twice, and anywhere, with one decimal."""
    rng = np.random.default_rng(seed)
    samples, detections = [], {}
    for number in range(images):
        count = rng.integers(1, most)
        corners, sides = rng.uniform(0, 80, (count, 2)), rng.uniform(8, 40, (count, 2))
        boxes = np.round(np.concatenate([corners, corners + sides], 1), 1)
        labels = rng.integers(0, classes, count)
        found, found_labels = [], []
        for box, label in zip(boxes, labels):
            for _ in range(rng.integers(0, 4)):
                found.append(box + rng.normal(0, rng.choice([0.5, 3, 8]), 4))
                found_labels.append(label if rng.random() < 0.75 else rng.integers(0, classes))
        for _ in range(rng.integers(0, 4)):
            corner = rng.uniform(0, 80, 2)
            found.append(np.concatenate([corner, corner + rng.uniform(8, 40, 2)]))
            found_labels.append(rng.integers(0, classes))
        found = np.round(np.array(found).reshape(-1, 4), 1)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        samples.append(make_sample(f"{number:03d}", boxes, labels))
        scores = np.round(rng.random(len(found)), 6)
        detections[f"{number:03d}"] = make_detections(found, scores, found_labels)
    return samples, detections


@pytest.mark.parametrize("arguments", TIDE, ids=str)
def test_the_figures_are_those_of_tidecv(arguments):
    report = find_errors(*random_set(*arguments))
    expected = TIDE[arguments]
    assert 100 * report.ap50 == pytest.approx(expected["ap50"], abs=0.01)
    images = report.images.values()
    for kind in ERRORS:
        count, cost = expected[kind.name.lower()]
        assert sum((image.kinds == kind).sum() for image in images) == count
        assert 100 * report.costs[kind.name.lower()] == pytest.approx(cost, abs=0.01)
    assert sum(image.missed.sum() for image in images) == expected["missed"][0]
    assert 100 * report.costs["missed"] == pytest.approx(expected["missed"][1], abs=0.01)
    for name in ("false_positives", "false_negatives"):
        assert 100 * report.costs[name] == pytest.approx(expected[name], abs=0.01)


@pytest.mark.parametrize("arguments", TIDE, ids=str)
def test_ap50_is_that_of_pycocotools(arguments):
    samples, detections = random_set(*arguments)
    classes = [f"class {number}" for number in range(arguments[2])]
    figures = coco_average_precision(samples, detections, classes).metrics
    assert find_errors(samples, detections).ap50 == pytest.approx(figures["AP50"], abs=1e-9)


@pytest.mark.parametrize(("objects", "found"), [(20, 7), (100, 57), (100, 95)])
def test_ap50_is_that_of_pycocotools_where_the_recall_ends_on_a_hundredth(objects, found):
    """7 of 20 objects do not reach COCO's recall of 0.35, a bit above that fraction."""
    samples = [make_sample(f"{number:03d}", [(0, 0, 40, 40)]) for number in range(objects)]
    detections = {sample.image_id: make_detections([(0, 0, 40, 40)], [0.5]) for sample in samples[:found]}
    expected = coco_average_precision(samples, detections, ["cat"]).metrics["AP50"]
    assert find_errors(samples, detections).ap50 == pytest.approx(expected, abs=1e-9)


OBJECT = (0, 0, 40, 40)


@pytest.mark.parametrize(
    ("box", "label", "kind", "object_"),
    [
        ((0, 0, 40, 40), 0, Kind.RIGHT, 0),
        ((0, 0, 40, 16), 0, Kind.LOCALISATION, 0),
        ((0, 0, 40, 40), 1, Kind.CLASSIFICATION, 0),
        ((0, 0, 40, 16), 1, Kind.BOTH, -1),
        ((0, 0, 40, 2), 0, Kind.BACKGROUND, -1),
        ((60, 60, 90, 90), 0, Kind.BACKGROUND, -1),
    ],
)
def test_each_kind_by_hand(box, label, kind, object_):
    errors = errors_of_image(make_sample("a", [OBJECT], [0]), make_detections([box], [0.9], [label]))
    assert (errors.kinds[0], errors.objects[0]) == (kind, object_)
    assert errors.missed[0] == (object_ == -1)


def test_a_duplicate_is_the_less_sure_one():
    found = make_detections([OBJECT, OBJECT], [0.3, 0.6])
    assert errors_of_image(make_sample("a", [OBJECT]), found).kinds.tolist() == [Kind.DUPLICATE, Kind.RIGHT]


def test_difficult_objects_make_no_errors():
    sample = make_sample("a", [OBJECT, (50, 50, 80, 80)], [0, 0], [True, False])
    found = make_detections([OBJECT, (50, 50, 80, 80)], [0.9, 0.8])
    errors = errors_of_image(sample, found)
    assert errors.kinds.tolist() == [Kind.IGNORED, Kind.RIGHT]
    assert not errors.missed.any()
    assert find_errors([sample], {"a": found}).ap50 == 1


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((0, 0, 10, 10), 0, Kind.IGNORED),
        ((0, 36, 10, 45), 0, Kind.BACKGROUND),  # less than half of it
        ((0, 0, 10, 10), 1, Kind.BACKGROUND),
    ],
)
def test_what_lies_on_a_difficult_object_of_its_class_is_no_error(box, label, kind):
    sample = make_sample("a", [OBJECT, (50, 50, 80, 80)], [0, 0], [True, False])
    assert errors_of_image(sample, make_detections([box], [0.9], [label])).kinds.tolist() == [kind]


@pytest.mark.parametrize("seed", range(10))
def test_half_on_a_difficult_object_is_enough_whatever_the_digits(seed):
    """As in COCO, which measures in float64: an area in float32 may be a bit more than twice the half."""
    width, height = np.random.default_rng(seed).uniform(1, 40, 2).astype(np.float32)
    sample = make_sample("a", [(0, 0, width, height), (90, 90, 99, 99)], [0, 0], [True, False])
    found = {"a": make_detections([(0, 0, width, 2 * height), (90, 90, 99, 99)], [0.9, 0.8])}
    assert coco_average_precision([sample], found, ["cat"]).metrics["AP50"] == pytest.approx(1)
    assert errors_of_image(sample, found["a"]).kinds.tolist() == [Kind.IGNORED, Kind.RIGHT]


def test_a_class_that_is_never_detected():
    """Once its objects no longer count it is left out of the mean, as in tidecv."""
    samples = [make_sample("a", [OBJECT, (50, 50, 80, 80), (60, 0, 90, 30)], [0, 1, 1])]
    report = find_errors(samples, {"a": make_detections([OBJECT], [0.9], [0])})
    assert report.ap50 == 0.5
    costs = {name: cost for name, cost in report.costs.items() if cost}
    assert costs == {"missed": 0.5, "false_negatives": 0.5}


def test_nothing_to_find_and_nothing_found():
    assert np.isnan(find_errors([make_sample("a")], {"a": make_detections([OBJECT], [0.5])}).ap50)
    report = find_errors([make_sample("a", [OBJECT])], {})
    assert (report.ap50, report.costs["missed"], report.costs["background"]) == (0, 0, 0)
    assert report.images["a"].missed.tolist() == [True]
