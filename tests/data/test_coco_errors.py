"""What COCO's files may not hold: each error is named, with its file, and none hides another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_files import (
    CAT,
    CATEGORIES,
    DOG,
    error_of,
    image_of,
    object_of,
    read_objects,
    write_2014,
    write_image,
    write_split,
    write_text,
)

from aploss_mx.data.check import check_dataset
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.problems import ERROR, WARNING, DataError

WHOLE = json.dumps({"images": [image_of(1)], "annotations": [object_of()], "categories": CATEGORIES})


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "text, kind, reason",
    [
        ("", "broken annotation file", "not readable as JSON"),
        (WHOLE[: len(WHOLE) // 2], "broken annotation file", "not readable as JSON"),
        (WHOLE[:-1], "broken annotation file", "not readable as JSON"),
        ("\x89PNG\r\n", "broken annotation file", "not readable as JSON"),
        ("[" * 100_000, "broken annotation file", "not readable as JSON"),
        ("[]", "not in COCO's layout", "a list, not an object"),
        ("null", "not in COCO's layout", "a NoneType, not an object"),
        ('"images"', "not in COCO's layout", "a str, not an object"),
        ("{}", "not in COCO's layout", "no list of 'images'"),
        (WHOLE.replace('"images"', '"pictures"'), "not in COCO's layout", "no list of 'images'"),
        (WHOLE.replace('"categories"', '"classes"'), "not in COCO's layout", "no list of 'categories'"),
        ('{"images": {}, "categories": []}', "not in COCO's layout", "no list of 'images'"),
        ('{"images": [], "categories": [], "annotations": null}', "not in COCO's layout", "no list of 'annotations'"),
        ('{"images": [7], "categories": []}', "not in COCO's layout", "entry 0 (from 0) of 'images' lacks id"),
        ('{"images": [], "categories": []}', "empty split", "it lists no image"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_file_that_is_none_of_coco(tmp_path, text, kind, reason, strict):
    write_text(tmp_path, "instances_train", text)
    message = error_of(tmp_path, strict=strict)
    assert kind in message and reason in message and "instances_train.json" in message


def test_file_that_is_no_text(tmp_path):
    write_text(tmp_path, "train", "").write_bytes(b"\xff\xfe\x00")
    assert "broken annotation file" in error_of(tmp_path)


@pytest.mark.parametrize(
    "table, key",
    [
        *(("images", key) for key in ("id", "file_name", "width", "height")),
        *(("annotations", key) for key in ("image_id", "category_id", "bbox")),
        *(("categories", key) for key in ("id", "name")),
    ],
)
def test_missing_key(tmp_path, table, key):
    content = json.loads(WHOLE)
    content[table].append({name: value for name, value in content[table][0].items() if name != key})
    write_text(tmp_path, "instances_train", json.dumps(content))
    number, entry = len(content[table]) - 1, content[table][-1]
    known = next((f", {name} {entry[name]!r}," for name in ("file_name", "id") if name in entry), "")
    assert f"entry {number} (from 0){known} of '{table}' lacks {key}" in error_of(tmp_path)


def test_all_entries_that_lack_a_key_are_told(tmp_path):
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 9} for number in range(12)]
    write_split(tmp_path, "train", [image_of(99), *images])
    message = error_of(tmp_path)
    assert "COCO's layout (12)" in message and "file_name '9.jpg', of 'images' lacks width" in message
    assert "10.jpg" not in message and "... and 2 more" in message


def test_missing_file_lists_what_was_tried_and_what_is_there(tmp_path):
    write_split(tmp_path, "instances_train2017", [image_of(1)])
    write_split(tmp_path, "image_info_test2017", [image_of(1)], None)
    message = error_of(tmp_path, "val2017")
    for name in ("instances_val2017.json", "val2017.json", "image_info_val2017.json"):
        assert str(tmp_path / "annotations" / name) in message
    assert "missing split" in message and "image_info_test2017.json, instances_train2017.json" in message


@pytest.mark.parametrize("split", ["train", "other.json", "", "trainval35k", "../train"])
def test_missing_root(tmp_path, split):
    message = error_of(tmp_path / "nowhere", split)
    assert "no such folder" in message and message.count(str(tmp_path / "nowhere")) == 1


def test_a_folder_without_files_is_told_the_layout(tmp_path):
    message = error_of(tmp_path, "train")
    assert "missing split" in message and "files there: none. Wanted are Annotations/NAME.xml" in message


def test_the_part_of_an_alias_that_is_missing_is_named(tmp_path):
    write_2014(tmp_path)
    (tmp_path / "annotations" / "instances_valminusminival2014.json").unlink()
    assert "instances_valminusminival2014.json" in error_of(tmp_path, "trainval35k")


@pytest.mark.parametrize(
    "text, kind, told",
    [
        ("1\n77\n", "unknown image id", "77"),
        ("1\nCOCO_val2014_000000000001.jpg\n", "broken id list", "COCO_val2014_000000000001.jpg"),
        ("1.5", "broken id list", "1.5"),
        ("", "empty split", "lists no image"),
    ],
)
def test_id_list_that_cannot_be_used(tmp_path, text, kind, told):
    write_split(tmp_path, "instances_val", [image_of(1), image_of(2)], [object_of(1)])
    (tmp_path / "annotations" / "ids.txt").write_text(text)
    message = error_of(tmp_path, "val:ids.txt")
    assert kind in message and told in message


def test_id_list_that_is_missing_or_no_text(tmp_path):
    write_split(tmp_path, "instances_val", [image_of(1)])
    message = error_of(tmp_path, "val:ids.txt")
    assert "missing id list" in message and "ids.txt" in message
    (tmp_path / "annotations" / "ids.txt").write_bytes(b"\xff\xfe1")
    assert "broken id list" in error_of(tmp_path, "val:ids.txt")


def test_two_categories_of_one_name(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(1)], [], [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}])
    message = error_of(tmp_path, strict=False)
    assert "repeated category" in message and "cat" in message


def test_two_categories_of_one_id(tmp_path):
    # Nothing tells which of both names the objects have: they must not get the last one's silently.
    write_split(tmp_path, "train", [image_of(1)], [object_of()], [*CATEGORIES, {"id": CAT, "name": "cow"}])
    assert "cow" in error_of(tmp_path)


@pytest.mark.parametrize(
    "categories",
    [[{"id": CAT, "name": "dog"}, {"id": DOG, "name": "cat"}], [{"id": CAT, "name": "cow"}]],
    ids=["swapped", "another"],
)
def test_splits_with_different_categories(tmp_path, categories):
    write_split(tmp_path, "instances_train", [image_of(1)])
    write_split(tmp_path, "instances_val", [image_of(2)], [], categories)
    message = error_of(tmp_path, "train+val")
    assert "other categories" in message and "instances_val.json" in message and "instances_train.json" in message


def test_the_file_of_the_other_name_is_told(tmp_path):
    write_split(tmp_path, "instances_a", [image_of(1)], [], [{"id": CAT, "name": "cat"}])
    write_split(tmp_path, "instances_b", [image_of(2)], [], [{"id": DOG, "name": "dog"}])
    write_split(tmp_path, "instances_c", [image_of(3)], [], [{"id": DOG, "name": "cow"}])
    message = error_of(tmp_path, "a+b+c")
    assert "instances_c.json" in message and "not those of annotations/instances_b.json: id" in message


def test_a_file_whose_split_has_no_name(tmp_path):
    write_split(tmp_path, "instances_", [image_of(1)])
    report = check_dataset(COCODetection(tmp_path, "annotations/instances_.json", ("cat", "dog")))
    assert [Path(problem.file).parent for problem in report.errors if problem.kind == "missing image"] == [
        tmp_path / "images"
    ]


# Entries that cannot be used ---------------------------------------------------------------------


def assert_only_error(root: Path, kind: str, *told: str, splits: str = "train", classes=None) -> COCODetection:
    """Assert that strict reading stops with this error, and that otherwise it is kept; return what is read then."""
    message = error_of(root, splits, classes=classes)
    assert "errors in the data (1)" in message
    assert all(part in message for part in (kind, *told)), message
    dataset = COCODetection(root, splits, classes, strict=False)
    assert [problem.kind for problem in dataset.problems if problem.severity == ERROR] == [kind]
    return dataset


def test_an_image_id_twice_in_a_file(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(1, "a.jpg"), image_of(1, "b.jpg")], [object_of(1)])
    (sample,) = assert_only_error(tmp_path, "repeated image id", "image id 1", "instances_train.json")
    assert sample.image_path.name == "a.jpg" and len(sample.boxes) == 1


def test_an_image_id_in_two_splits(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(1, "a.jpg")], [object_of(1)])
    write_split(tmp_path, "instances_val", [image_of(1, "b.jpg"), image_of(2)], [object_of(1)])
    first, _ = assert_only_error(
        tmp_path, "repeated image id", "instances_val.json", "instances_train.json", splits="train+val"
    )
    assert first.image_path.name == "a.jpg" and len(first.boxes) == 1


@pytest.mark.parametrize("category_id", [99, 0, "3", None, [3], {}])
def test_unknown_category_id(tmp_path, category_id):
    read_objects(tmp_path, object_of(), object_of(category_id=category_id), strict=False)
    (sample,) = assert_only_error(tmp_path, "broken annotation", f"no category id {category_id!r}", "annotation 2")
    assert sample.labels.tolist() == [0]


@pytest.mark.parametrize("image_id", [2, "1", None, [1]])
def test_an_annotation_of_an_image_that_is_not_there(tmp_path, image_id):
    write_split(tmp_path, "instances_train", [image_of(1)], [object_of(1), object_of(image_id), object_of(image_id)])
    message = error_of(tmp_path)
    assert "instances_train.json" in message and f"image id {image_id}" in message
    (sample,) = COCODetection(tmp_path, "train", strict=False)
    assert len(sample.boxes) == 1


def test_annotations_without_an_image_are_counted(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(1)], [object_of(1), object_of(5), object_of(5)])
    assert_only_error(tmp_path, "annotation without an image", "2 annotation(s) of image id 5")


@pytest.mark.parametrize(
    "bbox",
    [
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [],
        "1234",
        None,
        {"x": 1},
        [1, 2, "3", 4],
        [1, 2, None, 4],
        [1, 2, True, 4],
        [1, 2, [3], 4],
        [1, 2, float("nan"), 4],
        [float("inf"), 2, 3, 4],
        [1, float("-inf"), 3, 4],
        [1, 2, 10**400, 4],
    ],
    ids=lambda value: repr(value)[:24],
)
def test_broken_bbox(tmp_path, bbox):
    write_split(tmp_path, "train", [image_of(1)], [object_of(1, bbox, DOG), object_of(1)])
    (sample,) = assert_only_error(tmp_path, "broken annotation", "annotation 1 of image id 1", "four finite numbers")
    assert sample.labels.tolist() == [0]


@pytest.mark.parametrize("bbox", [[1e308, 1, 1e308, 4], [-1e308, -1e308, 1.7e308, 1.7e308]])
def test_largest_numbers_make_no_infinite_box(tmp_path, bbox):
    dataset = read_objects(tmp_path, object_of(bbox=bbox), object_of(), strict=False)
    assert len(dataset[0].boxes) >= 1 and np.isfinite(dataset[0].boxes).all()
    assert len(dataset.problems) == 1


@pytest.mark.parametrize("iscrowd", [2, "1", None, [], 0.5])
def test_broken_iscrowd(tmp_path, iscrowd):
    read_objects(tmp_path, object_of(iscrowd=iscrowd), object_of(), strict=False)
    (sample,) = assert_only_error(tmp_path, "broken annotation", f"iscrowd is {iscrowd!r}")
    assert len(sample.boxes) == 1


@pytest.mark.parametrize("area", [None, "large", float("nan"), [1], -5], ids=repr)
def test_broken_area_is_told_or_made_good_by_the_boxes(tmp_path, area):
    """COCO's figures by size go by it: a NaN would drop the object from all of them unseen."""
    dataset = read_objects(tmp_path, object_of(bbox=[0, 0, 4, 5], area=area), strict=False)
    told = any(problem.kind == "broken annotation" for problem in dataset.problems)
    assert told or dataset[0].areas.tolist() == [20]


@pytest.mark.parametrize("key", ["width", "height"])
@pytest.mark.parametrize("value", [None, "wide", "40", 0, -40, float("nan"), [40]], ids=repr)
def test_broken_image_size_stops_no_later_than_the_preflight(tmp_path, key, value):
    write_split(tmp_path, "train", [image_of(1, **{key: value}), image_of(2)], [object_of(1), object_of(2)])
    for number in (1, 2):
        write_image(tmp_path / "train" / f"{number}.jpg")
    try:
        report = check_dataset(COCODetection(tmp_path, "train", strict=False))
    except DataError as error:
        assert "train.json" in str(error)
    else:
        assert not report.ok


@pytest.mark.parametrize("table", ["images", "categories"])
@pytest.mark.parametrize("value", [None, [1], {}], ids=repr)
def test_ids_that_are_no_ids_are_told(tmp_path, table, value):
    content = json.loads(WHOLE)
    content[table].append({**content[table][0], "id": value, "name": "cow"})
    write_text(tmp_path, "train", json.dumps(content))
    assert "train.json" in error_of(tmp_path)


def test_unknown_classes_are_named_and_their_objects_left_out(tmp_path):
    read_objects(tmp_path, object_of(category_id=DOG), object_of(category_id=CAT), object_of(category_id=DOG))
    (sample,) = assert_only_error(tmp_path, "unknown class", "dog", "the data have cat, dog", classes=("cat",))
    assert sample.labels.tolist() == [0]


def test_classes_that_the_data_lack_are_an_error_where_others_are_there(tmp_path):
    read_objects(tmp_path, object_of(category_id=DOG))
    dataset = assert_only_error(
        tmp_path, "class that the data lack", "cow", "the data have cat, dog", classes=("cow", "dog")
    )
    assert dataset[0].labels.tolist() == [1]


@pytest.mark.parametrize("classes", [("cow", "cat", "dog"), ("dog", "cat", "cow")])
def test_a_split_may_lack_classes_that_another_has(tmp_path, classes):
    dataset = read_objects(tmp_path, object_of(category_id=DOG), classes=classes)
    assert dataset[0].labels.tolist() == [classes.index("dog")]
    assert [(problem.severity, problem.kind) for problem in dataset.problems] == [(WARNING, "class that the data lack")]


def test_a_class_that_the_data_lack_takes_no_other_classs_objects(tmp_path):
    # Some tools number categories from 0.
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    write_split(tmp_path, "train", [image_of(1)], [object_of(category_id=0), object_of(category_id=1)], categories)
    dataset = COCODetection(tmp_path, "train", ("dog", "cow"), strict=False)
    assert dataset[0].labels.tolist() == [0]


def test_all_errors_come_at_once(tmp_path):
    objects = [object_of(bbox=[]), object_of(category_id=99), object_of(8), object_of(category_id=DOG)]
    write_split(tmp_path, "train", [image_of(1), image_of(1)], objects)
    with pytest.raises(DataError) as caught:
        COCODetection(tmp_path, "train", ("cat", "cow"))
    kinds = sorted(problem.kind for problem in caught.value.problems)
    assert kinds == sorted(
        ["broken annotation"] * 2
        + ["annotation without an image", "class that the data lack", "repeated image id", "unknown class"]
    )


def test_warnings_alone_stop_nothing(tmp_path):
    dataset = read_objects(tmp_path, object_of(bbox=[1, 1, 0, 0]), object_of(bbox=[-1, 1, 9, 9]))
    assert [problem.severity for problem in dataset.problems] == [WARNING, WARNING]
