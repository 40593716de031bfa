"""Reading VOC folders: what is exact, what is left out, and what is refused, on folders the tests write."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aploss_mx.data.problems import BOX_CLIPPED, BOX_LEFT_OUT, SHOWN_PER_KIND, DataError
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection, parse_classes
from aploss_mx.data.voc_annotations import VOCObject, parse_annotation
from aploss_mx.data.voc_splits import find_split

WIDTH, HEIGHT = 40, 30
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def object_xml(name: str, box, difficult: str = "<difficult>0</difficult>") -> str:
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{difficult}<bndbox>{sides}</bndbox></object>"


def write_image(folder: Path, stem: str, *objects: str, size: str = SIZE, filename: str = "", suffix: str = ".jpg"):
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    filename = f"<filename>{filename}</filename>"
    (folder / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{filename}{size}{''.join(objects)}</annotation>")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages" / f"{stem}{suffix}")


def write_split(folder: Path, name: str, text: str) -> None:
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def read_one(folder: Path, *objects: str, classes=("cat", "dog"), **image) -> VOCDetection:
    """The data set of one image `a` with these objects."""
    write_image(folder, "a", *objects, **image)
    write_split(folder, "train", "a\n")
    return VOCDetection(folder, "train", classes)


def error_of(folder: Path, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        VOCDetection(folder, *arguments, **options)
    return str(caught.value)


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
    assert (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype) == (np.float32, np.int64, bool)


def test_image_without_objects_stays_with_empty_arrays(tmp_path):
    sample = read_one(tmp_path)[0]
    assert sample.boxes.shape == (0, 4) and sample.labels.shape == (0,) and sample.difficult.shape == (0,)
    assert (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype) == (np.float32, np.int64, bool)


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


@pytest.mark.parametrize(
    "suffix, filename",
    [
        (".jpeg", ""),
        (".png", ""),
        (".JPG", ""),
        (".bmp", "a.bmp"),
        (".bmp", r"C:\photos\a.bmp"),
        (".bmp", "../elsewhere/a.bmp"),
    ],
)
def test_image_file_is_found_beside_the_usual_name(tmp_path, suffix, filename):
    path = read_one(tmp_path, suffix=suffix, filename=filename)[0].image_path
    assert path == tmp_path / "JPEGImages" / f"a{suffix}"


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


@pytest.fixture(scope="module")
def fuzzed_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


@settings(deadline=None)
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


# Splits ------------------------------------------------------------------------------------------


def devkit(root: Path) -> Path:
    """VOC2007 with train (a) and val (b); VOC2012 with train (c)."""
    for year, split, stem in (("2007", "train", "a"), ("2007", "val", "b"), ("2012", "train", "c")):
        write_image(root / f"VOC{year}", stem, object_xml("cat", (1, 1, 5, 5)))
        write_split(root / f"VOC{year}", split, stem)
    return root


def ids(root: Path, splits: str) -> list[str]:
    return [sample.image_id for sample in VOCDetection(root, splits)]


@pytest.mark.parametrize(
    "splits, expected",
    [("2007_train", "a"), ("2007_train+2012_train", "ac"), ("2012_train+2007_val+2007_train", "cba"), ("val", "b")],
)
def test_splits_join_in_order(tmp_path, splits, expected):
    assert ids(devkit(tmp_path), splits) == list(expected)


@pytest.mark.parametrize("split", ["train", "2007_train"])
def test_root_may_be_the_year_folder(tmp_path, split):
    assert ids(devkit(tmp_path) / "VOC2007", split) == ["a"]


def test_relative_root(tmp_path, monkeypatch):
    monkeypatch.chdir(devkit(tmp_path) / "VOC2007")
    assert ids(Path("."), "2007_train") == ["a"]
    assert "missing split" in error_of(Path("."), "2012_train")


def test_year_folder_does_not_answer_for_another_year(tmp_path):
    assert "missing split" in error_of(devkit(tmp_path) / "VOC2007", "2012_train")


@pytest.mark.parametrize("split", ["test", "2007_test"])
def test_bccd_layout_has_no_year_level(tmp_path, split):
    write_image(tmp_path, "a", object_xml("cat", (1, 1, 5, 5)))
    write_split(tmp_path, "test", "a")
    assert ids(tmp_path, split) == ["a"]


def test_list_named_with_a_year_in_a_folder_without_years(tmp_path):
    write_split(tmp_path, "2021_new", "a")
    assert find_split(tmp_path, "2021_new").name == "2021_new.txt"


def test_split_in_two_years_needs_its_year(tmp_path):
    message = error_of(devkit(tmp_path), "train")
    assert "ambiguous split" in message and "VOC2007" in message and "VOC2012" in message


def test_missing_split_lists_what_was_tried_and_what_exists(tmp_path):
    message = error_of(devkit(tmp_path), "2007_trainval")
    assert str(tmp_path / "VOC2007" / "ImageSets" / "Main" / "trainval.txt") in message
    assert "2007_train, 2007_val, 2012_train" in message


def test_missing_root(tmp_path):
    assert "splits there: none" in error_of(tmp_path / "nowhere", "2007_train")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_split(tmp_path, text):
    write_split(tmp_path, "train", text)
    message = error_of(tmp_path, "train")
    assert "empty split" in message and "train.txt" in message


def test_split_that_is_no_text(tmp_path):
    write_split(tmp_path, "train", "")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\x00")
    assert "unreadable split" in error_of(tmp_path, "train")


def test_columns_blank_lines_and_a_byte_order_mark(tmp_path):
    for stem in "abc":
        write_image(tmp_path, stem)
    write_split(tmp_path, "cat_train", "\ufeffa  1\n\nb -1\r\n  c 0\n")
    assert ids(tmp_path, "cat_train") == ["a", "b", "c"]


def test_image_listed_twice_is_read_once(tmp_path):
    write_image(tmp_path, "a")
    write_split(tmp_path, "train", "a\na\n")
    write_split(tmp_path, "trainval", "a\n")
    dataset = VOCDetection(tmp_path, "train+trainval")
    assert len(dataset) == 1
    assert [(problem.severity, problem.kind) for problem in dataset.problems] == [("warning", "repeated image")] * 2


def test_two_names_for_one_list(tmp_path):
    write_split(tmp_path, "train", "a")
    assert "both 2007_train and 2012_train lead to it" in error_of(tmp_path, "2007_train+2012_train")


def test_two_images_of_one_name(tmp_path):
    devkit(tmp_path)
    write_split(tmp_path / "VOC2012", "train", "a")
    message = error_of(tmp_path, "2007_train+2012_train")
    assert "repeated image name" in message and str(Path("VOC2012", "Annotations", "a.xml")) in message


# Hostile and broken annotations ------------------------------------------------------------------

ENTITY_BOMB = (
    '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefgh", "bcdefghi"))
    + "]><annotation><filename>&i;</filename></annotation>"
)


@pytest.mark.parametrize(
    "xml, reason",
    [
        ("", "not readable as XML"),
        ("\x89PNG\r\n", "not readable as XML"),
        ("<annotation><object>", "not readable as XML"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not readable as XML"),
        (ENTITY_BOMB, "refused as unsafe XML"),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hosts">]><annotation><filename>&x;</filename></annotation>',
            "refused as unsafe XML",
        ),
        ("<html></html>", "<html> is not an <annotation>"),
        ("<annotation><object><bndbox/></object></annotation>", "no <name>"),
        ("<annotation><object><name>cat</name></object></annotation>", "<bndbox/xmin> in <object> is ''"),
        (f"<annotation>{object_xml('cat', (1, 1, 'nan', 5))}</annotation>", "<bndbox/xmax> in <object> is 'nan'"),
        (f"<annotation>{object_xml('cat', (1, 1, 5, '1e999'))}</annotation>", "<bndbox/ymax> in <object> is '1e999'"),
        ("<annotation><size><width>wide</width></size></annotation>", "<size/width> in <annotation> is 'wide'"),
        (f"<annotation>{object_xml('cat', (1, 1, 5, 5), '<difficult>maybe</difficult>')}</annotation>", "'maybe'"),
    ],
)
def test_broken_annotation_is_named(tmp_path, xml, reason):
    read_one(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_text(xml)
    message = error_of(tmp_path, "train")
    assert "broken annotation" in message and "a.xml" in message and reason in message


def test_all_broken_annotations_are_counted_and_some_named(tmp_path):
    stems = [f"{number:03}" for number in range(SHOWN_PER_KIND + 5)]
    write_image(tmp_path, "fine")
    write_split(tmp_path, "train", "\n".join([*stems, "fine"]))
    with pytest.raises(DataError) as caught:
        VOCDetection(tmp_path, "train")
    assert len(caught.value.problems) == len(stems)
    message = str(caught.value)
    assert f"missing annotation ({len(stems)})" in message and "... and 5 more" in message
    assert message.count(".xml") == SHOWN_PER_KIND


def test_without_strict_the_rest_is_read(tmp_path):
    write_image(tmp_path, "fine", object_xml("cat", (1, 1, 5, 5)), object_xml("cow", (1, 1, 5, 5)))
    write_split(tmp_path, "train", "gone\nfine")
    dataset = VOCDetection(tmp_path, "train", ("cat",), strict=False)
    assert [sample.labels.tolist() for sample in dataset] == [[0]]
    assert [problem.kind for problem in dataset.problems] == ["missing annotation", "unknown class"]


def test_unknown_classes_are_named_with_a_way_out(tmp_path):
    write_image(tmp_path, "a", object_xml("cat", (1, 1, 5, 5)))
    write_image(tmp_path, "b", object_xml("Cat", (1, 1, 5, 5)), object_xml("RBC", (1, 1, 5, 5)))
    write_image(tmp_path, "c", object_xml("Cat", (1, 1, 5, 5), "<difficult>1</difficult>"))
    write_split(tmp_path, "train", "a\nb\nc")
    message = error_of(tmp_path, "train")
    assert "'Cat' (2 objects, first in b.xml), 'RBC' (1 objects, first in b.xml)" in message
    assert "The data have Cat, RBC, cat" in message and "--classes" in message
    assert len(VOCDetection(tmp_path, "train", ("cat", "Cat", "RBC"))) == 3


def test_parse_annotation_keeps_what_is_written(tmp_path):
    write_image(tmp_path, "a", object_xml(" Cat ", (9, 9, 1, 1)), size="", filename="b.jpg")
    annotation = parse_annotation(tmp_path / "Annotations" / "a.xml")
    assert (annotation.filename, annotation.width, annotation.height) == ("b.jpg", 0, 0)
    assert annotation.objects == (VOCObject("Cat", (9, 9, 1, 1), False),)


def test_data_error_survives_pickling(tmp_path):
    with pytest.raises(DataError) as caught:
        find_split(tmp_path, "train")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.problems == caught.value.problems


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


def test_real_bccd_with_the_wrong_classes(shared_data):
    assert "The data have Platelets, RBC, WBC" in error_of(shared_data / "bccd", "val")
