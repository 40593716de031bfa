"""COCO files and folders as real tools write them, and hostile ones, which end in an error."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from coco_files import BOX, CAT, CATEGORIES, DOG, error_of, image_of, object_of, read_objects, write_image, write_split
from coco_files import write_text as write_json

from aploss_mx.data.check import check_images
from aploss_mx.data.coco import ABSENT, COCODetection
from aploss_mx.data.dataset import is_coco, open_dataset
from aploss_mx.data.problems import BOX_BELOW_PIXEL

ROBOFLOW = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "dog", "supercategory": "pets"},
]


def write_roboflow(root: Path, split: str, *objects: dict, categories=ROBOFLOW) -> None:
    content = {"info": {"description": "Exported from roboflow.com"}, "licenses": [], "categories": categories}
    content["images"] = [{**image_of(0, "a_jpg.rf.0f.jpg"), "license": 1}]
    content["annotations"] = [{"id": number, "segmentation": [], **item} for number, item in enumerate(objects)]
    write_image(root / split / "a_jpg.rf.0f.jpg")
    (root / split / "_annotations.coco.json").write_text(json.dumps(content))


def test_roboflow(tmp_path):
    write_roboflow(tmp_path, "train", object_of(0, category_id=2), object_of(0, category_id=1))
    write_roboflow(tmp_path, "valid", object_of(0, category_id=1))
    assert is_coco(tmp_path, "train") and is_coco(tmp_path, "test")
    train = open_dataset(tmp_path, "train", "data")
    val = open_dataset(tmp_path, "valid", train.classes)
    assert train.classes == ("cat", "dog") and train.category_ids == (1, 2)
    assert train[0].labels.tolist() == [1, 0] and val[0].labels.tolist() == [0]
    assert check_images(train) == check_images(val) == []
    (problem,) = train.problems
    assert problem.kind == "category left out" and "'pets', id 0, has no objects and groups others" in problem.message
    message = error_of(tmp_path, "val")
    assert str(tmp_path / "val" / "_annotations.coco.json") in message
    assert str(Path("train", "_annotations.coco.json")) in message and str(Path("valid", "_annotations")) in message


@pytest.mark.parametrize(
    "categories, kind", [(ROBOFLOW, "repeated image id"), ([{"id": 1, "name": "cow"}], "other categories")]
)
@pytest.mark.parametrize("by_path", [False, True])
def test_files_that_roboflow_names_alike_are_told_apart(tmp_path, categories, kind, by_path):
    write_roboflow(tmp_path, "train", object_of(0, category_id=1))
    write_roboflow(tmp_path, "valid", object_of(0, category_id=1), categories=categories)
    splits = "+".join(f"{tmp_path}/{split}/_annotations.coco.json" for split in ("train", "valid"))
    message = error_of(tmp_path, splits if by_path else "train+valid")
    assert kind in message
    assert str(Path("valid", "_annotations.coco.json")) in message
    assert f" {Path('train', '_annotations.coco.json')}" in message


def test_a_file_elsewhere_is_told_by_its_whole_path(tmp_path):
    path = write_split(tmp_path / "elsewhere", "train", [image_of(1)])
    write_split(tmp_path / "here", "val", [image_of(1)])
    assert f"is in {path}, too" in error_of(tmp_path / "here", f"{path}+val")


def test_an_id_list_tells_which_of_roboflows_files_lacks_an_image(tmp_path):
    write_roboflow(tmp_path, "train", object_of(0, category_id=1))
    (tmp_path / "ids.txt").write_text("7")
    message = error_of(tmp_path, f"train:{tmp_path / 'ids.txt'}")
    assert f"image ids that {Path('train', '_annotations.coco.json')} lacks: 7" in message


@pytest.mark.parametrize("classes", ["data", "cat"])
def test_roboflows_root_may_be_named_like_a_class(tmp_path, classes):
    categories = [{"id": 0, "name": "cat", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "cat"}]
    write_roboflow(tmp_path, "train", object_of(0, category_id=1), categories=categories)
    dataset = open_dataset(tmp_path, "train", classes)
    assert dataset.classes == ("cat",) and dataset.category_ids == (1,) and dataset[0].labels.tolist() == [0]


@pytest.mark.parametrize("root_id", [0, 1])
def test_a_root_that_has_objects_is_a_class(tmp_path, root_id):
    write_roboflow(tmp_path, "train", object_of(0, category_id=0), object_of(0, category_id=1))
    assert open_dataset(tmp_path, "train", "data").classes == ("pets", "cat", "dog")
    write_roboflow(tmp_path, "train", object_of(0, category_id=1))
    assert open_dataset(tmp_path, "train", "pets,cat,dog").classes == ("pets", "cat", "dog")


def test_a_category_of_its_own_supercategory_is_a_class(tmp_path):
    categories = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "cat"}]
    write_split(tmp_path, "train", [image_of(1)], [object_of(category_id=2)], categories)
    assert COCODetection(tmp_path, "train").classes == ("person", "cat")


def test_pictures_beside_a_file_given_by_its_path(tmp_path):
    file = write_split(tmp_path, "train", [image_of(1)], [object_of()])
    (tmp_path / "photographs").mkdir()
    file = file.rename(tmp_path / "photographs" / "labels.json")
    path = write_image(tmp_path / "photographs" / "1.jpg")
    assert COCODetection(tmp_path, str(file))[0].image_path == path
    assert COCODetection(tmp_path, "photographs/labels.json")[0].image_path == path


@pytest.mark.parametrize("split", ["train_v1.1", "annotations/instances_train_v1.1.json"])
def test_names_of_splits_may_have_dots(tmp_path, split):
    write_split(tmp_path, "instances_train_v1.1", [image_of(0, "a.jpg")], [object_of(0, category_id=CAT)])
    write_image(tmp_path / "train_v1.1" / "a.jpg")
    assert open_dataset(tmp_path, split, "data")[0].image_path == tmp_path / "train_v1.1" / "a.jpg"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_marks_of_byte_order_do_no_harm(tmp_path, encoding):
    path = write_split(tmp_path, "train", [image_of(1, "ä.jpg")], [object_of()])
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert path.read_bytes()[:2] in (codecs.BOM_UTF8[:2], codecs.BOM_UTF16)
    (tmp_path / "annotations" / "ids.txt").write_text("1", encoding="utf-8-sig")
    assert len(COCODetection(tmp_path, "train:ids.txt")[0].boxes) == 1


def test_splits_with_fewer_categories_join(tmp_path):
    write_split(tmp_path, "train", [image_of(1)], [object_of(category_id=DOG)])
    write_split(tmp_path, "val", [image_of(2)], [object_of(2)], [{"id": CAT, "name": "cat"}])
    for splits in ("train+val", "val+train"):
        dataset = COCODetection(tmp_path, splits)
        assert dataset.classes == ("cat", "dog") and dataset.category_ids == (CAT, DOG)
        assert {sample.image_id: sample.labels.tolist() for sample in dataset} == {"1": [1], "2": [0]}


def test_a_val_file_with_fewer_categories_and_other_ids(tmp_path):
    write_split(tmp_path, "train", [image_of(1)], [object_of(category_id=DOG)])
    write_split(tmp_path, "val", [image_of(2)], [object_of(2, category_id=1)], [{"id": 1, "name": "dog"}])
    train = COCODetection(tmp_path, "train")
    val = COCODetection(tmp_path, "val", train.classes)
    assert val.classes == train.classes and val.category_ids == (ABSENT, 1)
    assert val[0].labels.tolist() == [1]


def test_a_class_that_the_data_lack_takes_no_objects_whatever_their_category_id(tmp_path):
    categories = [{"id": -1, "name": "cat"}, {"id": 0, "name": "dog"}]
    dataset = [object_of(category_id=number) for number in (-1, 0)]
    write_split(tmp_path, "train", [image_of(1)], dataset, categories)
    assert COCODetection(tmp_path, "train", ("cat", "dog", "cow"))[0].labels.tolist() == [0, 1]


# Boxes and fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("bbox", [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 1, 1], [0.25, 0.5, 1, 1.0]])
def test_fractions_of_the_image_are_an_error_that_says_so(tmp_path, bbox):
    read_objects(tmp_path, object_of(bbox=bbox), object_of(bbox=bbox), object_of(), strict=False)
    message = error_of(tmp_path)
    assert f"{BOX_BELOW_PIXEL} (1)" in message and "image id 1: 2 of 3 boxes" in message
    assert "fractions of the image; multiply x by its width" in message


@pytest.mark.parametrize("boxes", [[[0, 0, 1, 1]], [[0.5, 0, 0.4, 0.9], BOX, BOX], [[7.1, 7.1, 0.4, 0.3]]])
def test_specks_in_pixels_are_none_of_fractions(tmp_path, boxes):
    assert len(read_objects(tmp_path, *[object_of(bbox=box) for box in boxes])[0].boxes) == len(boxes)


@pytest.mark.parametrize(
    "more, told",
    [
        ({"ignore": 1}, "'ignore', in 2 annotation(s), looks like 'iscrowd'"),
        ({"isCrowd": 1}, "'isCrowd', in 2"),
        ({"difficult": 1}, "'difficult', in 2"),
        ({"attributes": {"iscrowd": True, "occluded": False}}, "'iscrowd', in 2"),
        ({"Area": 5}, "'Area', in 2 annotation(s), looks like 'area'"),
    ],
)
def test_a_field_that_looks_like_a_known_one_is_reported_once(tmp_path, more, told):
    dataset = read_objects(tmp_path, object_of(**more), object_of(**more), object_of())
    (problem,) = dataset.problems
    assert problem.kind == "field that is not read" and told in problem.message


def test_fields_of_known_tools_are_not_reported(tmp_path):
    more = {"segmentation": [], "area": 200.0, "iscrowd": 0, "keypoints": [], "num_keypoints": 0, "score": 1}
    more["attributes"] = {"occluded": False, "rotation": 0.0, "area": "north"}
    assert read_objects(tmp_path, object_of(**more)).problems == []


def test_a_missing_key_is_told_with_what_is_there_instead(tmp_path):
    annotation = {"imageId": 1, "category_id": CAT, "bbox": BOX}
    write_split(tmp_path, "train", [image_of(1)], [annotation])
    assert "lacks image_id; it has 'imageId', which looks like it" in error_of(tmp_path)


# Hostile files -----------------------------------------------------------------------------------


HUGE = "9" * 5000
DEEP = "[" * 700 + "]" * 700
WHOLE = json.dumps({"images": [image_of(1)], "annotations": [object_of(id=5)], "categories": CATEGORIES})


@pytest.mark.parametrize(
    "value", [HUGE, "1" + "0" * 400, "-" + HUGE, DEEP, '"' + "x" * 100_000 + '"', r'"\ud800"', "1e999"]
)
@pytest.mark.parametrize(
    "place",
    [
        '"id": 1', '"width": 40', '"file_name": "1.jpg"', '"image_id": 1', f'"category_id": {CAT}',
        '"bbox": [1, 2, 10, 20]', "[1, 2, 10", f'"id": {CAT}', '"name": "cat"', '"id": 5',
    ],
)  # fmt: skip
def test_hostile_values_are_read_or_told_with_the_file(tmp_path, place, value):
    assert place in WHOLE
    write_json(
        tmp_path,
        "train",
        WHOLE.replace(place, place[: place.index(":") + 1] + value if ":" in place else f"[{value}, 2, 10"),
    )
    try:
        str(COCODetection(tmp_path, "train", strict=False).problems).encode("utf-8", "backslashreplace")
        COCODetection(tmp_path, "train", strict=True)
    except Exception as error:
        assert type(error).__name__ == "DataError", error
        assert "train.json" in str(error) and len(str(error)) < 2000


@pytest.mark.parametrize(
    "text", ["[" * 1_000_000, '{"a":' * 300_000, '{"images": ' + "[" * 200_000 + "]" * 200_000 + "}"]
)
def test_deep_files_are_told(tmp_path, text):
    write_json(tmp_path, "train", text)
    message = error_of(tmp_path)
    assert "train.json: not readable as JSON" in message and len(message) < 1000
