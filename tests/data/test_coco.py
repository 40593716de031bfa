"""Reading COCO folders: what is exact, what is left out, and what is refused, on files the tests write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aploss_mx.data.check import check_dataset, check_images, main
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.open import is_coco, open_dataset
from aploss_mx.data.pixels import read_image
from aploss_mx.data.problems import BOX_CLIPPED, BOX_LEFT_OUT, ERROR, WARNING, DataError
from aploss_mx.data.voc import VOCDetection

WIDTH, HEIGHT = 40, 30
CAT, DOG = 3, 18
# Not in the order of the ids, as which the labels go.
CATEGORIES = [{"id": DOG, "name": "dog", "supercategory": "animal"}, {"id": CAT, "name": "cat"}]
BOX = [1, 2, 10, 20]


def image_of(number, file_name: str = "", **more) -> dict:
    return {"id": number, "file_name": file_name or f"{number}.jpg", "width": WIDTH, "height": HEIGHT, **more}


def object_of(image_id=1, bbox=BOX, category_id=CAT, **more) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def write_split(root: Path, name: str, images, objects=(), categories=CATEGORIES) -> Path:
    """Write ``annotations/<name>.json``; without a list of annotations where `objects` is None."""
    content = {"info": {}, "images": list(images), "categories": list(categories)}
    if objects is not None:
        content["annotations"] = [{"id": number, **entry} for number, entry in enumerate(objects, start=1)]
    return write_text(root, name, json.dumps(content))


def write_text(root: Path, name: str, text: str) -> Path:
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_image(path: Path, size=(WIDTH, HEIGHT), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)
    return path


def read_objects(root: Path, *objects: dict, **options) -> COCODetection:
    """The data set of one image, id 1, with these objects."""
    write_split(root, "instances_train", [image_of(1)], objects)
    return COCODetection(root, "train", **options)


def error_of(root: Path, splits: str = "train", **options) -> str:
    with pytest.raises(DataError) as caught:
        COCODetection(root, splits, **options)
    return str(caught.value)


def ids(root: Path, splits: str) -> list[str]:
    return [sample.image_id for sample in COCODetection(root, splits)]


# What is read ------------------------------------------------------------------------------------


def test_sample_is_exact(tmp_path):
    crowd = object_of(1, [2.5, 3.25, 4, 5.5], DOG, iscrowd=1, area=7.75, segmentation={"counts": [], "size": [1, 1]})
    dataset = read_objects(
        tmp_path, object_of(1, [0, 0, WIDTH, HEIGHT], DOG, area=300.5, iscrowd=0), crowd, object_of()
    )
    (sample,) = dataset
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (CAT, DOG))
    assert dataset.annotated and dataset.problems == [] and len(dataset) == 1
    assert dataset.name == f"{tmp_path.name} train"
    assert (sample.image_id, sample.image_path) == ("1", tmp_path / "train" / "1.jpg")
    assert (sample.width, sample.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(sample.boxes, [[0, 0, WIDTH, HEIGHT], [2.5, 3.25, 6.5, 8.75], [1, 2, 11, 22]])
    np.testing.assert_array_equal(sample.labels, [1, 1, 0])
    np.testing.assert_array_equal(sample.difficult, [False, True, False])
    # The mask's, and of the box where the file gives none.
    np.testing.assert_array_equal(sample.areas, [300.5, 7.75, 200])
    types = (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype, sample.areas.dtype)
    assert types == (np.float32, np.int64, bool, np.float64)


def test_images_keep_the_files_order_and_those_without_boxes_stay(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(9), image_of(2), image_of(5)], [object_of(2), object_of(9)])
    dataset = COCODetection(tmp_path, "train")
    assert [(sample.image_id, len(sample.boxes)) for sample in dataset] == [("9", 1), ("2", 1), ("5", 0)]
    empty = dataset[2]
    assert empty.boxes.shape == (0, 4) and empty.boxes.dtype == np.float32
    assert empty.labels.shape == empty.difficult.shape == empty.areas.shape == (0,)
    assert (empty.labels.dtype, empty.difficult.dtype, empty.areas.dtype) == (np.int64, bool, np.float64)


@pytest.mark.parametrize(
    "classes, category_ids, labels",
    [(None, (CAT, DOG), [0, 1]), (("cat", "dog"), (CAT, DOG), [0, 1]), (("dog", "cat"), (DOG, CAT), [1, 0])],
)
def test_labels_go_by_category_id_or_by_the_given_classes(tmp_path, classes, category_ids, labels):
    dataset = read_objects(tmp_path, object_of(category_id=CAT), object_of(category_id=DOG), classes=classes)
    assert dataset.classes == (classes or ("cat", "dog"))
    assert dataset.category_ids == category_ids
    assert dataset[0].labels.tolist() == labels
    assert dict(zip(dataset.category_ids, dataset.classes)) == {CAT: "cat", DOG: "dog"}


def test_a_class_that_no_object_has_may_be_left_out(tmp_path):
    dataset = read_objects(tmp_path, object_of(category_id=DOG), classes=["dog"])
    assert (dataset.classes, dataset.category_ids, dataset[0].labels.tolist()) == (("dog",), (DOG,), [0])


# Files and folders -------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["instances_", ""])
def test_annotation_files_with_and_without_a_prefix(tmp_path, prefix):
    write_split(tmp_path, f"{prefix}train", [image_of(1)], [object_of()])
    dataset = COCODetection(tmp_path, "train")
    assert dataset.annotated and len(dataset[0].boxes) == 1


def test_test_images_have_no_annotations(tmp_path):
    write_split(tmp_path, "image_info_test", [image_of(1), image_of(2)], None)
    dataset = COCODetection(tmp_path, "test")
    assert not dataset.annotated and dataset.problems == []
    assert [len(sample.boxes) for sample in dataset] == [0, 0]
    assert dataset.category_ids == (CAT, DOG)


def test_objects_go_before_their_absence(tmp_path):
    write_split(tmp_path, "instances_val", [image_of(1)], [object_of()])
    write_split(tmp_path, "image_info_val", [image_of(1), image_of(2)], None)
    assert ids(tmp_path, "val") == ["1"]


@pytest.mark.parametrize("relative", [True, False])
def test_a_split_may_be_the_path_of_a_file(tmp_path, relative):
    path = write_split(tmp_path, "mine", [image_of(4)], [object_of(4)])
    assert ids(tmp_path, "annotations/mine.json" if relative else str(path)) == ["4"]


def test_root_may_be_relative(tmp_path, monkeypatch):
    read_objects(tmp_path, object_of())
    monkeypatch.chdir(tmp_path)
    assert COCODetection(".", "train")[0].image_path == tmp_path / "train" / "1.jpg"


@pytest.mark.parametrize("splits, expected", [("train+val", "12"), ("val+train", "21"), ("val", "2")])
def test_splits_join_in_order(tmp_path, splits, expected):
    write_split(tmp_path, "instances_train", [image_of(1)], [object_of(1)])
    # The same categories in another order are the same.
    write_split(tmp_path, "val", [image_of(2)], [object_of(2, category_id=DOG)], CATEGORIES[::-1])
    dataset = COCODetection(tmp_path, splits)
    assert [sample.image_id for sample in dataset] == list(expected)
    assert {sample.image_id: sample.labels.tolist() for sample in dataset}["2"] == [1]
    assert all(sample.image_path.parent.name == {"1": "train", "2": "val"}[sample.image_id] for sample in dataset)


def test_annotated_and_test_images_join(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(1)], [object_of(1)])
    write_split(tmp_path, "image_info_test", [image_of(2)], None)
    assert ids(tmp_path, "train+test") == ["1", "2"]


def test_a_split_named_twice(tmp_path):
    read_objects(tmp_path, object_of())
    assert "repeated split" in error_of(tmp_path, "train+train")


@pytest.mark.parametrize("place", ["annotations", "elsewhere"])
def test_an_id_list_chooses_images(tmp_path, place):
    images = [image_of(number) for number in (1, 2, 3)]
    write_split(tmp_path, "instances_val", images, [object_of(number) for number in (1, 2, 3)])
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "ids.txt").write_text("3\n\n 1\r\n")
    dataset = COCODetection(tmp_path, "val:ids.txt" if place == "annotations" else f"val:{tmp_path / place}/ids.txt")
    assert [(sample.image_id, len(sample.boxes)) for sample in dataset] == [("1", 1), ("3", 1)]
    assert dataset.problems == []
    assert dataset[0].image_path.parent.name == "val"


def test_two_id_lists_share_a_file(tmp_path):
    write_split(tmp_path, "instances_val", [image_of(1), image_of(2), image_of(3)], [object_of(2)])
    (tmp_path / "annotations" / "a.txt").write_text("3")
    (tmp_path / "annotations" / "b.txt").write_text("2")
    assert ids(tmp_path, "val:a.txt+val:b.txt") == ["3", "2"]


def write_2014(root: Path) -> None:
    for split, number, folder in (
        ("train2014", 1, "train2014"),
        ("valminusminival2014", 2, "val2014"),
        ("minival2014", 3, "val2014"),
    ):
        name = f"COCO_{folder}_{number:012d}.jpg"
        write_split(root, f"instances_{split}", [image_of(number, name)], [object_of(number)])
        write_image(root / folder / name)


@pytest.mark.parametrize("splits, expected", [("trainval35k", "12"), ("minival", "3"), ("minival+trainval35k", "312")])
def test_the_papers_splits_need_no_files_of_their_names(tmp_path, splits, expected):
    write_2014(tmp_path)
    dataset = COCODetection(tmp_path, splits)
    assert [sample.image_id for sample in dataset] == list(expected)
    folders = {"1": "train2014", "2": "val2014", "3": "val2014"}
    assert all(sample.image_path.parent == tmp_path / folders[sample.image_id] for sample in dataset)
    assert check_images(dataset) == []


@pytest.mark.parametrize("splits", ["trainval35k", "minival"])
def test_files_by_the_names_of_the_papers_splits_go_first(tmp_path, splits):
    write_2014(tmp_path)
    write_split(tmp_path, f"instances_{splits}", [image_of(7)])
    assert ids(tmp_path, splits) == ["7"]


def test_an_alias_is_not_read_twice(tmp_path):
    write_2014(tmp_path)
    assert "repeated split" in error_of(tmp_path, "trainval35k+train2014")


@pytest.mark.parametrize(
    "split, file_name, place, more",
    [
        ("train2017", "5.jpg", "train2017", {}),
        ("train2014", "COCO_train2014_000000000005.jpg", "train2014", {}),
        ("trainval2014", "COCO_val2014_000000000005.jpg", "val2014", {}),
        ("test-dev2015", "COCO_test2015_000000000005.jpg", "test2015", {}),
        ("test-dev2017", "5.jpg", "test2017", {"coco_url": "http://images.cocodataset.org/test2017/5.jpg"}),
        ("train", "5.jpg", "images", {}),
        ("train", "5.jpg", ".", {"coco_url": None}),
        ("train", "train2017/5.jpg", ".", {"coco_url": ""}),
        # A name by the year, in the folder of the split: as tools that split a data set leave it.
        ("mine", "COCO_val2014_000000000005.jpg", "mine", {}),
    ],
)
def test_where_images_are(tmp_path, split, file_name, place, more):
    write_split(tmp_path, f"instances_{split}", [image_of(5, file_name, **more)])
    path = write_image(tmp_path / place / file_name)
    assert COCODetection(tmp_path, split)[0].image_path == path


@pytest.mark.parametrize("prefix", ["instances_", "image_info_"])
def test_the_same_file_by_its_path_finds_the_same_images(tmp_path, prefix):
    file = write_split(tmp_path, f"{prefix}train", [image_of(1)])
    path = write_image(tmp_path / "train" / "1.jpg")
    assert COCODetection(tmp_path, "train")[0].image_path == path
    assert COCODetection(tmp_path, str(file))[0].image_path == path


def test_a_folder_of_annotations_makes_it_coco(tmp_path):
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / "voc" / name).mkdir(parents=True)
    (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").write_text("1\n")
    read_objects(tmp_path / "coco", object_of())
    assert is_coco(tmp_path / "coco") and not is_coco(tmp_path / "voc")
    dataset = open_dataset(tmp_path / "coco", "train", "dog,cat")
    assert isinstance(dataset, COCODetection) and dataset.category_ids == (DOG, CAT)
    assert open_dataset(tmp_path / "coco", "train", "data").classes == ("cat", "dog")
    # As on file systems without case, where VOC's Annotations answers to annotations.
    (tmp_path / "voc" / "annotations").mkdir(exist_ok=True)
    assert isinstance(open_dataset(tmp_path / "voc", "train", "voc", strict=False), VOCDetection)


# Boxes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bbox", [[5, 5, 0, 4], [5, 5, 4, 0], [5, 5, -3, 4], [5, 5, 4, -3], [5, 5, 0, 0]])
def test_box_without_area_is_left_out_and_named(tmp_path, bbox):
    dataset = read_objects(tmp_path, object_of(bbox=bbox), object_of(category_id=DOG, area=11))
    assert (dataset[0].labels.tolist(), dataset[0].areas.tolist(), len(dataset[0].boxes)) == ([1], [11], 1)
    (problem,) = dataset.problems
    assert (problem.severity, problem.kind) == (WARNING, BOX_LEFT_OUT)
    assert problem.file.endswith("instances_train.json")
    assert "no area" in problem.message and "image id 1" in problem.message
    assert check_dataset(dataset).boxes_left_out == 1


@pytest.mark.parametrize(
    "bbox", [[WIDTH, 1, 5, 5], [1, HEIGHT, 5, 5], [-9, 1, 9, 5], [1, -9, 5, 8.5], [1e300, 0, 1, 1]]
)
def test_box_outside_is_left_out_and_named(tmp_path, bbox):
    # 1e300 + 1 is 1e300: that box has no area before it is outside.
    dataset = read_objects(tmp_path, object_of(bbox=bbox), object_of(category_id=DOG))
    assert dataset[0].labels.tolist() == [1]
    (problem,) = dataset.problems
    assert problem.kind == BOX_LEFT_OUT
    assert f"outside the {WIDTH}x{HEIGHT} image" in problem.message or bbox[0] == 1e300


@pytest.mark.parametrize(
    "bbox, corners",
    [([-3, 2, 10, 4], [0, 2, 7, 6]), ([35, 25, 9, 9], [35, 25, 40, 30]), ([-1e9, -1, 2e9, 99], [0, 0, 40, 30])],
)
def test_box_over_the_edge_is_clipped_and_named(tmp_path, bbox, corners):
    dataset = read_objects(tmp_path, object_of(bbox=bbox))
    np.testing.assert_array_equal(dataset[0].boxes, [corners])
    assert [(problem.severity, problem.kind) for problem in dataset.problems] == [(WARNING, BOX_CLIPPED)]
    assert check_dataset(dataset).boxes_clipped == 1


def test_box_that_ends_at_the_edge_is_sound(tmp_path):
    dataset = read_objects(tmp_path, object_of(bbox=[WIDTH - 0.5, HEIGHT - 0.5, 0.5, 0.5]))
    assert dataset.problems == [] and dataset[0].boxes.tolist() == [[39.5, 29.5, 40, 30]]


# Files that cannot be used -----------------------------------------------------------------------

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
    number = len(content[table]) - 1
    assert f"entry {number} (from 0) of '{table}' lacks {key}" in error_of(tmp_path)


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
    assert "missing split" in message and "files there: none" in message


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
    [[{"id": CAT, "name": "cat"}], [{"id": CAT, "name": "dog"}, {"id": DOG, "name": "cat"}], []],
    ids=["fewer", "swapped", "none"],
)
def test_splits_with_different_categories(tmp_path, categories):
    write_split(tmp_path, "instances_train", [image_of(1)])
    write_split(tmp_path, "instances_val", [image_of(2)], [], categories)
    message = error_of(tmp_path, "train+val")
    assert "other categories" in message and "instances_val.json" in message and "instances_train.json" in message


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
    write_split(tmp_path, "instances_val", [image_of(1, "b.jpg"), image_of(2)], [])
    first, _ = assert_only_error(
        tmp_path, "repeated image id", "instances_val.json", "instances_train.json", splits="train+val"
    )
    assert first.image_path.name == "a.jpg" and len(first.boxes) == 1


def test_objects_of_a_repeated_image_are_not_said_to_have_none(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(1)], [object_of(1)])
    write_split(tmp_path, "instances_val", [image_of(1)], [object_of(1)])
    (sample,) = assert_only_error(tmp_path, "repeated image id", splits="train+val")
    assert len(sample.boxes) == 1


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


def test_classes_that_the_data_lack_are_named(tmp_path):
    read_objects(tmp_path, object_of(category_id=DOG))
    classes = ("cow", "cat", "dog")
    dataset = assert_only_error(tmp_path, "class that the data lack", "cow", "the data have cat, dog", classes=classes)
    assert dataset[0].labels.tolist() == [2]


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


# Preflight and pictures --------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two sound images, three cats, a crowd of dogs, one box without area and one over the edge."""
    objects = [object_of(1), object_of(1), object_of(1, [-1, 1, 9, 9]), object_of(1, [3, 3, 0, 4])]
    objects += [object_of(2, category_id=DOG, iscrowd=1)]
    write_split(tmp_path, "instances_train", [image_of(1), image_of(2)], objects)
    for number in (1, 2):
        write_image(tmp_path / "train" / f"{number}.jpg")
    return tmp_path


def test_preflight_counts(folder):
    report = check_dataset(COCODetection(folder, "train"))
    assert (report.images, report.images_without_objects) == (2, 1)
    assert (report.objects, report.difficult) == ({"cat": 3, "dog": 0}, {"cat": 0, "dog": 1})
    assert (report.boxes_left_out, report.boxes_clipped) == (1, 1)
    assert report.ok
    assert [problem.kind for problem in report.warnings].count("class without objects") == 1


def test_preflight_from_the_command_line(folder, capsys):
    flags = ["--dataset-root", str(folder), "--split"]
    assert main([*flags, "train"]) == 0
    assert "2 images, 3 objects and 1 difficult ones" in capsys.readouterr().out
    assert main([*flags, "train", "--classes", "cat,cow"]) == 1
    printed = capsys.readouterr().out
    assert all(kind in printed for kind in ("unknown class (1)", "class that the data lack (1)"))
    assert main([*flags, "val"]) == 1
    assert "files there: instances_train.json" in capsys.readouterr().err


def test_preflight_names_annotations_and_images_together(folder):
    (folder / "train" / "2.jpg").unlink()
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    content["annotations"][0]["bbox"] = []
    write_text(folder, "instances_train", json.dumps(content))
    report = check_dataset(COCODetection(folder, "train", strict=False))
    assert sorted(problem.kind for problem in report.errors) == ["broken annotation", "missing image"]
    assert str(folder / "train" / "2.jpg") in str(report)


@pytest.mark.parametrize(
    "mode, suffix",
    [
        ("1", "png"), ("L", "jpg"), ("L", "png"), ("LA", "png"), ("I;16", "png"), ("I;16", "tif"), ("P", "png"),
        ("RGBA", "png"), ("CMYK", "jpg"), ("CMYK", "tif"),
    ],
)  # fmt: skip
def test_pictures_of_all_modes_are_read(tmp_path, mode, suffix):
    name = f"1.{suffix}"
    write_split(tmp_path, "train", [image_of(1, name)], [object_of()])
    write_image(tmp_path / "train" / name, mode=mode)
    dataset = COCODetection(tmp_path, "train")
    assert check_images(dataset) == []
    pixels = read_image(dataset[0].image_path)
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)


def test_grey_of_16_bits_keeps_its_contrast(tmp_path):
    write_split(tmp_path, "train", [image_of(1, "1.png")])
    grey = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, axis=0)
    (tmp_path / "train").mkdir()
    Image.fromarray(grey).save(tmp_path / "train" / "1.png")
    pixels = read_image(COCODetection(tmp_path, "train")[0].image_path)
    np.testing.assert_array_equal(pixels, np.stack([grey >> 8] * 3, axis=-1))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_rotation_with_boxes_on_the_stored_pixels_is_a_warning(tmp_path, orientation):
    write_split(tmp_path, "train", [image_of(1)], [object_of()])
    path = write_image(tmp_path / "train" / "1.jpg", exif=exif(orientation))
    report = check_dataset(COCODetection(tmp_path, "train", ("cat",)))
    assert report.ok
    (problem,) = report.warnings
    assert problem.kind == "EXIF rotation" and problem.file == str(path)
    # The boxes refer to the pixels as stored, so those are what is read.
    assert read_image(path).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("orientation", [6, 8])
def test_exif_rotation_with_boxes_on_the_turned_picture_is_an_error(tmp_path, orientation):
    write_split(tmp_path, "train", [image_of(1)], [object_of()])
    path = write_image(tmp_path / "train" / "1.jpg", size=(HEIGHT, WIDTH), exif=exif(orientation))
    (problem,) = check_dataset(COCODetection(tmp_path, "train", ("cat",))).errors
    assert problem.kind == "size mismatch" and problem.file == str(path)
    assert f"EXIF orientation {orientation} explains it" in problem.message
