"""Detections: what they refuse to be, and their JSON file."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
from detection_scenes import CLASSES, make_detections, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aploss_mx.data.coco import ABSENT
from aploss_mx.evaluation.detections import check_detections, load_detections, save_detections
from aploss_mx.geometry.detections import Detections

IMAGES = ("000001", "000002")
ENTRY = {"image_id": "000001", "category": "dog", "bbox": [10.5, 20, 30, 40.25], "score": 0.75}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for image_id, image in found.items():
        for name in ("boxes", "scores", "labels"):
            array = getattr(image, name)
            np.testing.assert_array_equal(array, getattr(expected[image_id], name))


# ---- Detections ----


def test_default_is_empty():
    assert len(Detections()) == 0
    assert Detections().boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        ([(0, 0, 1, 1)], [0.5, 0.5], [0], "need boxes"),
        ([(0, 0, 1, 1)], [0.5], [0, 1], "need boxes"),
        ([(0, 0, 1, 1)], [0.5], [-1], r"labels \[-1\]"),
        ([(0, 0, 1, np.nan)], [0.5], [0], "not finite"),
        ([(0, 0, 1, 1)], [np.inf], [0], "not finite"),
        ([(5, 0, 1, 1)], [0.5], [0], "x2 < x1"),
        ([(0, 5, 1, 1)], [0.5], [0], "x2 < x1"),
    ],
)
def test_refuses(boxes, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        make_detections(boxes, scores, labels)


def test_refuses_a_confidence_that_is_not_finite():
    with pytest.raises(ValueError, match="confidence that is not finite"):
        Detections([[0, 0, 1, 1]], [0.5], [0], [np.nan])


def test_refuses_labels_that_are_not_integers():
    with pytest.raises(ValueError, match="float32 labels"):
        Detections(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))


# ---- check_detections ----

BOX = [(0, 0, 9, 9)]


@pytest.mark.parametrize(
    ("samples", "found", "message"),
    [
        ([make_sample("a"), make_sample("a")], {}, "unique.*: a$"),
        ([make_sample("a")], {"b": make_detections()}, "not in the ground truth: b;"),
        ([make_sample("a", BOX, [3])], {}, "ground truth of image a: labels 3 have no class, there are 3"),
        ([make_sample("a")], {"a": make_detections(BOX, [1], [7])}, "detections of image a: labels 7 have no class"),
    ],
)
def test_mismatch_of_truth_detections_and_classes(samples, found, message):
    with pytest.raises(ValueError, match=message):
        check_detections(samples, found, CLASSES)


# ---- the file ----


def test_layout_of_the_file(tmp_path):
    found = {"000001": make_detections([(10.5, 20, 40.5, 60.25)], [0.75], [1]), "000002": make_detections()}
    save_detections(tmp_path / "new" / "detections.json", found, CLASSES)
    assert json.loads((tmp_path / "new" / "detections.json").read_text(encoding="utf-8")) == [ENTRY]
    assert_equal(load_detections(tmp_path / "new" / "detections.json", CLASSES, IMAGES), found)


@settings(max_examples=60, deadline=None)
@given(
    corners=hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(-4096, 4096, width=32)),
    seed=st.integers(0, 99),
)
def test_round_trip(tmp_path_factory, corners, seed):
    boxes = np.hstack([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])])
    rng = np.random.default_rng(seed)
    found = {
        image_id: make_detections(boxes, rng.normal(size=len(boxes)), rng.integers(0, 3, len(boxes)))
        for image_id in IMAGES
    }
    path = tmp_path_factory.mktemp("detections") / "detections.json"
    save_detections(path, found, CLASSES)
    loaded = load_detections(path, CLASSES, IMAGES)
    # x + w in float64 loses the last bits of an x2 that is tiny beside x1.
    for image in loaded.values():
        np.testing.assert_allclose(image.boxes, boxes, rtol=0, atol=1e-9)
    assert_equal({key: Detections(boxes, image.scores, image.labels) for key, image in loaded.items()}, found)


def test_saving_many_takes_less_memory_than_the_file(tmp_path):
    box = make_detections([(0, 0, 1, 1)] * 20, [0.5] * 20)
    tracemalloc.start()
    try:
        save_detections(tmp_path / "detections.json", {str(number): box for number in range(100)}, CLASSES)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < (tmp_path / "detections.json").stat().st_size


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "detections.json"
    save_detections(path, {}, CLASSES)

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_detections(path, {"a": make_detections([(0, 0, 1, 1)], [1])}, CLASSES)
    assert [item.name for item in tmp_path.iterdir()] == ["detections.json"]
    assert path.read_text(encoding="utf-8") == "[]"


def test_save_refuses_labels_without_class(tmp_path):
    with pytest.raises(ValueError, match="detections of image a: labels 3 have no class"):
        save_detections(tmp_path / "detections.json", {"a": make_detections([(0, 0, 1, 1)], [1], [3])}, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a JSON file"),
        ("not json", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ('{"image_id": "000001"}', "must hold a list of detections, but holds a dict"),
        ("null", "holds a NoneType"),
        ("[3]", r"entry 0 \(from 0\) must be an object, but is a int"),
    ],
)
def test_hostile_files(tmp_path, text, message):
    path = tmp_path / "hostile.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load_detections(path, CLASSES, IMAGES)
    assert "hostile.json" in str(caught.value)


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"image\.jpg is not a JSON file"):
        load_detections(tmp_path / "image.jpg", CLASSES, IMAGES)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        load_detections(tmp_path / "missing.json", CLASSES, IMAGES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": True}, "image_id True, which must be a string or a whole number"),
        ({"image_id": 1.0}, "image_id 1.0, which must be a string or a whole number"),
        ({"image_id": ["000001"]}, "which must be a string"),
        ({"category": None}, "category None, which must be a string"),
        ({"bbox": [0, 0, 1]}, "four finite numbers"),
        ({"bbox": "0 0 1 1"}, "four finite numbers"),
        ({"bbox": [0, 0, "1", 1]}, "four finite numbers"),
        ({"bbox": [0, 0, float("nan"), 1]}, "four finite numbers"),
        ({"bbox": [0, float("-inf"), 1, 1]}, "four finite numbers"),
        ({"bbox": [0, 0, 10**400, 1]}, "four finite numbers"),
        ({"bbox": [3e38, 0, 3e38, 1]}, "four finite numbers"),
        ({"bbox": [0, 0, -1, 1]}, "negative size"),
        ({"bbox": [0, 0, 1, -1]}, "negative size"),
        ({"score": float("nan")}, "score nan"),
        ({"score": 10**400}, "finite number"),
        ({"score": "0.5"}, "score '0.5'"),
        ({"score": True}, "score True"),
    ],
)
def test_hostile_entries(tmp_path, change, message):
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, **change}]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"hostile\.json: entry 1 \(from 0\) .*{message}"):
        load_detections(path, CLASSES, IMAGES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "Dog"}, "unknown categories Dog; the classes are cat, dog, bird"),
        ({"image_id": 1}, "images that are not in the split: 1;"),  # and not 000001
        ({"image_id": "000003"}, "images that are not in the split: 000003;"),
    ],
)
def test_unknown_names(tmp_path, change, message):
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, **change}]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"foreign\.json: {message}"):
        load_detections(path, CLASSES, IMAGES)


def test_cocos_own_layout(tmp_path):
    """Category ids for names and numbers for image ids, beside entries of our own layout."""
    path = tmp_path / "results.json"
    entries = [
        {"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 1, "segmentation": []},
        {"image_id": "7", "category": "cat", "bbox": [0, 0, 1, 1], "score": 0.5},
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    found = load_detections(path, CLASSES, ["7", "12"], (17, 18, 90))
    assert_equal(found, {"7": make_detections([(1, 2, 4, 6), (0, 0, 1, 1)], [1, 0.5], [2, 0]), "12": Detections()})
    with pytest.raises(ValueError, match="unknown categories 90; the classes are cat, dog, bird, which have no ids"):
        load_detections(path, CLASSES, ["7", "12"])
    with pytest.raises(ValueError, match=r"categories 90; the classes are cat, dog, bird with the ids 1, 2, 3$"):
        load_detections(path, CLASSES, ["7", "12"], (1, 2, 3))
    path.write_text(json.dumps([{**entries[0], "category_id": -1}]), encoding="utf-8")
    with pytest.raises(ValueError, match="unknown categories -1; .* with the ids 90"):
        load_detections(path, ("cow", "dog"), ["7"], (ABSENT, 90))
    path.write_text(json.dumps([{**entries[0], "category_id": "90"}]), encoding="utf-8")
    with pytest.raises(ValueError, match="category_id '90', which must be a whole number"):
        load_detections(path, CLASSES, ["7", "12"], (17, 18, 90))


def test_every_digit_is_kept(tmp_path):
    path = tmp_path / "detections.json"
    scores = [1 - 1e-16, 1 - 2e-9, 1 - 1e-9, 1e300, -5e-324]
    path.write_text(json.dumps([{**ENTRY, "bbox": [0.1, 0, 1e-9, 1], "score": score} for score in scores]))
    found = load_detections(path, CLASSES, IMAGES)["000001"]
    assert found.scores.tolist() == scores
    assert found.boxes[0].tolist() == [0.1, 0, 0.1 + 1e-9, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": list(range(10_000))},
        {"score": "x" * 10_000},
        {"category": ["x" * 10_000]},
        {"category": "x" * 10_000},
        {"image_id": "x" * 10_000},
    ],
    ids=["bbox", "score", "category in a list", "category", "image_id"],
)
def test_a_message_shows_the_beginning_of_a_long_value(tmp_path, change):
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{**ENTRY, **change}]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"… \(\d+ characters\)") as caught:
        load_detections(path, CLASSES, IMAGES)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", list(ENTRY))
def test_missing_key(tmp_path, key):
    path = tmp_path / "hostile.json"
    lacking = {name: value for name, value in ENTRY.items() if name != key}
    path.write_text(json.dumps([ENTRY, lacking]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"entry 1 \(from 0\) lacks {key}$"):
        load_detections(path, CLASSES, IMAGES)


def test_long_lists_are_cut(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{**ENTRY, "image_id": f"{number:03d}"} for number in range(900)]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"split: 000, 001, 002, 003, 004, \.\.\. \(900 in all\); evaluate"):
        load_detections(path, CLASSES, IMAGES)
