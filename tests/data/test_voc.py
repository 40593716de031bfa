"""Reading VOC folders: what is exact, what is left out, class names, and the real data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from voc_files import HEIGHT, WIDTH, error_of, object_xml, read_one

from aploss_mx.data.problems import BOX_CLIPPED, BOX_LEFT_OUT
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection, parse_classes


def test_classes_are_the_twenty_in_order():
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_sample_is_exact(tmp_path):
    dataset = read_one(
        tmp_path,
        object_xml("dog", (1, 1, WIDTH, HEIGHT)),
        object_xml("cat", ("2.5", " 3 ", "9", "8"), "<difficult>1</difficult>"),
    )
    sample = dataset[0]
    assert dataset.classes == ("cat", "dog") and len(dataset) == 1 and dataset.problems == []
    assert dataset.name == f"{tmp_path.name} train"
    assert (sample.image_id, sample.image_path) == ("a", tmp_path / "JPEGImages" / "a.jpg")
    assert (sample.width, sample.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(sample.boxes, [[0, 0, WIDTH, HEIGHT], [1.5, 2, 9, 8]])
    np.testing.assert_array_equal(sample.labels, [1, 0])
    np.testing.assert_array_equal(sample.difficult, [False, True])
    assert (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype) == (np.float64, np.int64, bool)


def test_image_without_objects_stays_with_empty_arrays(tmp_path):
    sample = read_one(tmp_path)[0]
    assert sample.boxes.shape == (0, 4) and sample.labels.shape == (0,) and sample.difficult.shape == (0,)
    assert (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype) == (np.float64, np.int64, bool)


@pytest.mark.parametrize("tag", ["", "<difficult/>"])
def test_missing_difficult_is_not_difficult(tmp_path, tag):
    assert not read_one(tmp_path, object_xml("cat", (1, 1, 5, 5), tag))[0].difficult[0]


def test_parts_of_an_object_do_not_count(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    person = object_xml("cat", (3, 3, 9, 9)).replace("</object>", part + "</object>")
    np.testing.assert_array_equal(read_one(tmp_path, person)[0].boxes, [[2, 2, 9, 9]])


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", f"<size><width>{WIDTH}</width></size>"]
)
def test_missing_size_comes_from_the_image(tmp_path, size):
    sample = read_one(tmp_path, object_xml("cat", (30, 1, 99, 9)), size=size)[0]
    assert (sample.width, sample.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(sample.boxes, [[29, 0, WIDTH, 9]])


def test_size_that_nothing_tells_is_an_error(tmp_path):
    read_one(tmp_path, size="")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    message = error_of(tmp_path, "train")
    assert "unknown size" in message and "a.xml" in message


def test_missing_image_is_left_for_the_preflight(tmp_path):
    read_one(tmp_path)
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    assert VOCDetection(tmp_path, "train", ("cat",))[0].image_path == tmp_path / "JPEGImages" / "a.jpg"


# Boxes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, 5, 9), (5, 9, 9, 9), (9, 5, 5, 9)])
def test_box_without_area_is_left_out_and_named(tmp_path, box):
    dataset = read_one(tmp_path, object_xml("cat", box), object_xml("dog", (1, 1, 4, 4)))
    assert dataset[0].labels.tolist() == [1]
    (problem,) = dataset.problems
    assert (problem.kind, problem.severity) == (BOX_LEFT_OUT, "warning")
    assert problem.file.endswith("a.xml") and "no area" in problem.message
    assert ("ends before it begins" in problem.message) == (box[2] < box[0] or box[3] < box[1])


@pytest.mark.parametrize(
    "box", [(WIDTH + 1, 1, WIDTH + 9, 9), (-9, 1, 0, 9), (1, HEIGHT + 1, 9, HEIGHT + 5), (1, -5, 9, 0)]
)
def test_box_outside_is_left_out_and_named(tmp_path, box):
    dataset = read_one(tmp_path, object_xml("cat", box), object_xml("dog", (1, 1, 4, 4)))
    assert dataset[0].labels.tolist() == [1] and len(dataset[0].boxes) == 1
    (problem,) = dataset.problems
    assert problem.kind == BOX_LEFT_OUT and f"outside the {WIDTH}x{HEIGHT} image" in problem.message


def test_last_pixel_is_inside(tmp_path):
    dataset = read_one(tmp_path, object_xml("cat", (WIDTH, HEIGHT, WIDTH + 1, HEIGHT + 1)))
    np.testing.assert_array_equal(dataset[0].boxes, [[WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT]])


def test_box_over_the_edge_is_clipped_and_named(tmp_path):
    dataset = read_one(tmp_path, object_xml("cat", (-3, 0, 99, 10)))
    np.testing.assert_array_equal(dataset[0].boxes, [[0, 0, WIDTH, 10]])
    assert [problem.kind for problem in dataset.problems] == [BOX_CLIPPED]


@pytest.mark.parametrize("box, mostly_outside", [((21, 1, 60, 20), False), ((21, 1, 62, 20), True)])
def test_a_box_mostly_outside_is_told_with_the_likely_slip(tmp_path, box, mostly_outside):
    (problem,) = read_one(tmp_path, object_xml("cat", box)).problems
    told = "less than half of it is inside: is it of a picture of another size" in problem.message
    assert problem.kind == BOX_CLIPPED and told == mostly_outside


@pytest.fixture(scope="module")
def fuzzed_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


@given(st.lists(st.tuples(*[st.integers(-60, 120)] * 4), max_size=6))
def test_kept_boxes_are_the_intersections_with_the_image(fuzzed_folder, boxes):
    dataset = read_one(fuzzed_folder, *[object_xml("cat", box) for box in boxes])
    pixels = []
    for xmin, ymin, xmax, ymax in boxes:
        columns = [x for x in range(xmin, xmax + 1) if 1 <= x <= WIDTH]
        rows = [y for y in range(ymin, ymax + 1) if 1 <= y <= HEIGHT]
        if xmax > xmin and ymax > ymin and columns and rows:
            pixels.append((columns[0] - 1, rows[0] - 1, columns[-1], rows[-1]))
    assert dataset[0].boxes.tolist() == [list(map(float, box)) for box in pixels]
    left_out = sum(problem.kind == BOX_LEFT_OUT for problem in dataset.problems)
    assert left_out == len(boxes) - len(pixels)


# Class names -------------------------------------------------------------------------------------


def test_parse_classes_from_text_and_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbfRBC\r\nwhite cell \r\nPlatelets\r\n\r\n")
    assert parse_classes(str(path)) == ("RBC", "white cell", "Platelets")
    assert parse_classes("RBC, white cell,Platelets") == ("RBC", "white cell", "Platelets")
    assert parse_classes("person") == ("person",)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        ("a,,b", "class name 2 in 'a,,b' is empty"),
        ("a,b,", "empty"),
        ("a,b,a", "repeated class names in 'a,b,a': a"),
        ("nowhere.txt", "does not exist"),
        ("x" * 5000 + ",", "empty"),
    ],
)
def test_parse_classes_refuses(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_classes(text)


@pytest.mark.parametrize("content", [b"", b"a\n\nb\n", b"a\nb\na\n", b"\xff\xfe"])
def test_parse_classes_refuses_files(tmp_path, content):
    path = tmp_path / "names"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        parse_classes(str(path))


# Real data ---------------------------------------------------------------------------------------


def test_real_voc(shared_data):
    dataset = VOCDetection(shared_data / "VOCdevkit", "2007_val")
    assert len(dataset) == 500 and dataset.problems == []
    assert any(sample.difficult.any() for sample in dataset)
    for sample in dataset:
        assert (sample.boxes[:, :2] >= 0).all() and (sample.boxes[:, 2:] <= [sample.width, sample.height]).all()


def test_real_bccd(shared_data):
    dataset = VOCDetection(shared_data / "bccd", "trainval+test", ("RBC", "WBC", "Platelets"))
    labels = Counter(label for sample in dataset for label in sample.labels.tolist())
    assert len(dataset) == 364 and sum(labels.values()) == 4888 - 2 and set(labels) == {0, 1, 2}
    assert [Path(problem.file).stem for problem in dataset.problems if problem.kind == BOX_LEFT_OUT] == [
        "BloodImage_00338",
        "BloodImage_00343",
    ]
