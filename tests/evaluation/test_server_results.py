"""The files for the evaluation servers of COCO and PASCAL VOC, read back as the servers do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import CLASSES, make_detections, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.detections import save_coco_results, save_voc_results
from aploss_mx.geometry.detections import Detections

CATEGORY_IDS = (17, 18, 90)  # of CLASSES; not consecutive, as COCO's
FOUND = {
    "7": make_detections([(10.5, 20, 40.5, 60.25), (0, 0, 8, 4)], [0.75, 0.5], [1, 2]),
    "397133": make_detections([(1, 2, 3, 4)], [0.125], [1]),
    "12": Detections(),
}


# COCO --------------------------------------------------------------------------------------------


def samples_of(image_ids) -> list[Sample]:
    return [replace(make_sample(image_id), coco_id=int(image_id)) for image_id in image_ids]


def load_results(path, image_ids) -> list[dict]:
    """Read results as COCO's server does: it refuses images and categories that it does not know."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": int(image_id), "width": 100, "height": 100} for image_id in image_ids],
            "categories": [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, CLASSES)],
            "annotations": [],
        }
        truth.createIndex()
        return truth.loadRes(str(path)).dataset["annotations"]


def test_coco_results_are_what_pycocotools_loads(tmp_path):
    path = tmp_path / "new" / "results.json"
    save_coco_results(path, FOUND, samples_of(FOUND), CATEGORY_IDS)
    rows = [(row["image_id"], row["category_id"], row["bbox"], row["score"]) for row in load_results(path, FOUND)]
    assert rows == [
        (7, 18, [10.5, 20, 30, 40.25], 0.75),
        (7, 90, [0, 0, 8, 4], 0.5),
        (397133, 18, [1, 2, 2, 2], 0.125),
    ]


def test_coco_results_hold_the_servers_keys_alone(tmp_path):
    save_coco_results(tmp_path / "results.json", FOUND, samples_of(FOUND), CATEGORY_IDS)
    entries = json.loads((tmp_path / "results.json").read_text())
    assert all(set(entry) == {"image_id", "category_id", "bbox", "score"} for entry in entries)
    assert all(type(entry[key]) is int for entry in entries for key in ("image_id", "category_id"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_coco_results_keep_every_bit(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 700, (count, 2, 2)).astype(np.float32)
    boxes = np.hstack([corners.min(axis=1), corners.max(axis=1)])
    found = {"5": Detections(boxes, rng.random(count).astype(np.float32), rng.integers(0, 3, count))}
    path = tmp_path_factory.mktemp("results") / "results.json"
    save_coco_results(path, found, samples_of(found), CATEGORY_IDS)
    loaded = load_results(path, found)
    x, y, w, h = np.array([row["bbox"] for row in loaded]).T
    np.testing.assert_allclose(np.stack([x, y, x + w, y + h], axis=1), boxes, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(np.float32([row["score"] for row in loaded]), found["5"].scores)
    assert [row["category_id"] for row in loaded] == [CATEGORY_IDS[label] for label in found["5"].labels]


def test_coco_results_of_nothing_are_an_empty_list(tmp_path):
    save_coco_results(tmp_path / "results.json", {"1": Detections()}, samples_of("1"), CATEGORY_IDS)
    assert json.loads((tmp_path / "results.json").read_text()) == []


@pytest.mark.parametrize(
    "found",
    [{"1": make_detections([(0, 0, 1, 1)], [1])}, {"7": make_detections([(0, 0, 1, 1)], [1], [3])}],
    ids=["an image that is not there", "a label without category"],
)
def test_coco_results_that_cannot_be_written_leave_the_old_file(tmp_path, found):
    path = tmp_path / "results.json"
    save_coco_results(path, FOUND, samples_of(FOUND), CATEGORY_IDS)
    before = path.read_bytes()
    with pytest.raises((ValueError, LookupError)):
        save_coco_results(path, {**FOUND, **found}, samples_of(FOUND), CATEGORY_IDS)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


# PASCAL VOC --------------------------------------------------------------------------------------


def read_zip(path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        return {name: archive.read(name).decode() for name in names}


def save_voc(path, found, year="2012", split="test") -> dict[str, str]:
    save_voc_results(path, found, CLASSES, year, split)
    return read_zip(path)


@pytest.mark.parametrize("year, split", [("2012", "test"), ("2007", "val")])
def test_voc_results_have_the_servers_names(tmp_path, year, split):
    files = save_voc(tmp_path / "new" / "results.zip", FOUND, year, split)
    assert sorted(files) == sorted(f"results/VOC{year}/Main/comp4_det_{split}_{name}.txt" for name in CLASSES)


def test_voc_results_are_lines_in_1_based_inclusive_pixels(tmp_path):
    found = {
        "2008_000001": make_detections([(0, 0, 500, 375), (10.5, 20, 40.5, 60.25)], [0.75, 0.5], [1, 2]),
        "2008_000004": make_detections([(0, 0, 1, 1)], [0.125], [1]),
    }
    files = save_voc(tmp_path / "results.zip", found)
    lines = {name: [line.split(" ") for line in text.splitlines()] for name, text in files.items()}
    cat, dog, bird = (lines[f"results/VOC2012/Main/comp4_det_test_{name}.txt"] for name in CLASSES)
    assert cat == []  # the server asks for the file of a class without detections, too
    assert [row[0] for row in dog] == ["2008_000001", "2008_000004"]
    # The whole 500x375 image is 1 1 500 375, its first pixel alone 1 1 1 1.
    np.testing.assert_array_equal(np.float64([row[1:] for row in dog]), [[0.75, 1, 1, 500, 375], [0.125, 1, 1, 1, 1]])
    np.testing.assert_array_equal(np.float64([row[1:] for row in bird]), [[0.5, 11.5, 21, 40.5, 60.25]])


def test_voc_results_are_plain_numbers_in_lines_that_end(tmp_path):
    found = {"a": make_detections([(1e-3, 0, 123.4567, 2)], [1e-5]), "b": make_detections([(0, 0, 9, 9)], [0.999999])}
    text = save_voc(tmp_path / "results.zip", found)["results/VOC2012/Main/comp4_det_test_cat.txt"]
    assert re.fullmatch(r"(?:\S+(?: \d+\.\d+){5}\n){2}", text)
    scores = [float(line.split()[1]) for line in text.splitlines()]
    assert 0 < scores[0] < scores[1] < 1
    assert float(text.split()[4]) == pytest.approx(123.4567, abs=1e-3)


def test_voc_results_keep_scores_apart(tmp_path):
    """As many digits as a score has, and no exponent: what is told apart here is told apart by the server."""
    scores = np.array([1 - 1e-12, 1 - 2e-12, 1e-12, 2e-12, 1.0])
    found = {"a": Detections(np.zeros((5, 4)), scores, np.zeros(5, np.int64))}
    text = save_voc(tmp_path / "results.zip", found)["results/VOC2012/Main/comp4_det_test_cat.txt"]
    assert [float(line.split()[1]) for line in text.splitlines()] == scores.tolist()
    assert "e-" not in text


def test_voc_results_of_nothing_have_a_file_for_every_class(tmp_path):
    files = save_voc(tmp_path / "results.zip", {})
    assert len(files) == len(CLASSES) and set(files.values()) == {""}


@pytest.mark.parametrize("failing", [(os, "replace"), (zipfile.ZipFile, "writestr")], ids=["replace", "writestr"])
def test_failed_voc_results_leave_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "results.zip"
    before = save_voc(path, FOUND)

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(*failing, fail)
        with pytest.raises(OSError, match="disk full"):
            save_voc_results(path, {}, CLASSES, "2012", "test")
    assert [file.name for file in tmp_path.iterdir()] == ["results.zip"]
    assert read_zip(path) == before


def test_voc_results_of_a_label_without_class_leave_the_old_file(tmp_path):
    path = tmp_path / "results.zip"
    before = save_voc(path, FOUND)
    with pytest.raises((ValueError, LookupError)):
        save_voc_results(path, {"a": make_detections([(0, 0, 1, 1)], [1], [3])}, CLASSES, "2012", "test")
    assert read_zip(path) == before


@pytest.mark.parametrize("name", ["../cat", "a/b", r"a\b", "/cat", "two\nlines", "nul\0"])
def test_no_class_becomes_a_path_in_the_archive(tmp_path, name):
    with pytest.raises(ValueError, match="can be no file's name"):
        save_voc_results(tmp_path / "results.zip", {}, ["cat", name], "2012", "test")
    assert not list(tmp_path.iterdir())


def test_an_image_whose_name_has_blanks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image 'ali \(1\)' has some"):
        save_voc_results(tmp_path / "results.zip", {"ali (1)": Detections()}, ["cat"], "2012", "test")
