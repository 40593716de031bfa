"""How COCO's files and images are found: names of splits, the paper's own, lists of image ids, folders."""

from __future__ import annotations

import json
import os

import pytest
from coco_files import (
    CAT,
    CATEGORIES,
    DOG,
    error_of,
    ids,
    image_of,
    object_of,
    read_objects,
    write_2014,
    write_image,
    write_split,
)
from voc_files import object_xml, read_one
from voc_files import write_split as write_vocs_list

from aploss_mx.commands import check
from aploss_mx.data.check import check_images
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.dataset import is_coco, open_dataset
from aploss_mx.data.problems import DataError
from aploss_mx.data.voc import VOCDetection


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


@pytest.mark.parametrize(
    "image, item",
    [
        ({}, {"bbox": []}),
        ({}, {"category_id": 99}),
        ({}, {"category_id": DOG}),
        ({"width": None}, {}),
        ({"file_name": None}, {}),
        ({}, {"isCrowd": 1}),
    ],
    ids=str,
)
def test_an_id_list_keeps_out_what_is_broken_elsewhere(tmp_path, image, item):
    write_split(tmp_path, "val", [image_of(1), {**image_of(2), **image}], [object_of(1), {**object_of(2), **item}])
    (tmp_path / "annotations" / "ids.txt").write_text("1")
    dataset = COCODetection(tmp_path, "val:ids.txt", ("cat",))
    assert [len(sample.boxes) for sample in dataset] == [1] and dataset.problems == []
    if "isCrowd" in item:
        assert COCODetection(tmp_path, "val", ("cat",)).problems
    else:
        error_of(tmp_path, "val", classes=("cat",))


@pytest.mark.parametrize("table, key", [("images", "height"), ("annotations", "bbox")])
def test_an_id_list_keeps_out_entries_that_lack_a_key(tmp_path, table, key):
    path = write_split(tmp_path, "val", [image_of(1), image_of(2)], [object_of(1), object_of(2)])
    content = json.loads(path.read_text())
    del content[table][1][key]
    path.write_text(json.dumps(content))
    (tmp_path / "annotations" / "ids.txt").write_text("1")
    assert ids(tmp_path, "val:ids.txt") == ["1"]
    (tmp_path / "annotations" / "ids.txt").write_text("2")
    assert f" of '{table}' lacks {key}" in error_of(tmp_path, "val:ids.txt")


def test_an_id_list_hides_no_annotation_without_an_image(tmp_path):
    write_split(tmp_path, "val", [image_of(1), image_of(2)], [object_of(1), object_of(2), object_of(9)])
    (tmp_path / "annotations" / "ids.txt").write_text("1")
    message = error_of(tmp_path, "val:ids.txt")
    assert "annotation without an image" in message and "image id 9" in message


def test_an_area_of_0_is_told_by_the_whole_file(tmp_path):
    write_split(tmp_path, "val", [image_of(1), image_of(2)], [object_of(1, area=0), object_of(2, area=50)])
    (tmp_path / "annotations" / "ids.txt").write_text("1")
    assert COCODetection(tmp_path, "val:ids.txt")[0].tiny.tolist() == [True]


def test_two_id_lists_share_a_file(tmp_path):
    write_split(tmp_path, "instances_val", [image_of(1), image_of(2), image_of(3)], [object_of(2)])
    (tmp_path / "annotations" / "a.txt").write_text("3")
    (tmp_path / "annotations" / "b.txt").write_text("2")
    assert ids(tmp_path, "val:a.txt+val:b.txt") == ["3", "2"]


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
        # As other tools leave them.
        ("Train", "5.jpg", "images/Train", {}),
        ("train2017", "5.jpg", "images/train2017", {}),
        ("default", "5.jpg", "images/default", {}),
        ("default", "5.jpg", "images", {}),
        ("Train", "Train/5.jpg", "images", {}),
        ("train", "5.jpg", "images/Train", {}),
        ("train", "5.jpg", "Train", {}),
        ("default", r"Train\5.jpg", "images", {}),
        ("mine", "COCO_val2014_000000000005.jpg", "images/val2014", {}),
    ],
)
def test_where_images_are(tmp_path, split, file_name, place, more):
    write_split(tmp_path, f"instances_{split}", [image_of(5, file_name, **more)])
    path = write_image(tmp_path / place / file_name.replace("\\", "/"))
    assert COCODetection(tmp_path, split)[0].image_path == path


@pytest.mark.parametrize("place", ["train", "Train", "images", "URL"])
def test_folders_are_listed_once_however_many_the_urls_name(tmp_path, monkeypatch, place):
    """Storage in the cloud gives each picture a folder of its own."""
    images = [image_of(number, coco_url=f"https://a.b/url{number}/{number}.jpg") for number in range(20)]
    write_split(tmp_path, "instances_train", images)
    places = [tmp_path / (f"URL{number}" if place == "URL" else place) for number in range(20)]
    for number, folder in enumerate(places):
        write_image(folder / f"{number}.jpg")
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    assert [sample.image_path.parent for sample in COCODetection(tmp_path, "train")] == places
    assert len(listed) == len(set(listed)) <= 2 * (place != "train")


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
    assert is_coco(tmp_path / "coco", "val") and not is_coco(tmp_path / "voc", "val")
    dataset = open_dataset(tmp_path / "coco", "train", "dog,cat")
    assert isinstance(dataset, COCODetection) and dataset.category_ids == (DOG, CAT)
    assert open_dataset(tmp_path / "coco", "train", "data").classes == ("cat", "dog")
    # As on file systems without case, where VOC's Annotations answers to annotations.
    (tmp_path / "voc" / "annotations").mkdir(exist_ok=True)
    assert isinstance(open_dataset(tmp_path / "voc", "train", "voc", strict=False), VOCDetection)


def test_the_path_of_a_json_file_makes_it_coco(tmp_path):
    """As Label Studio exports it: result.json beside images/."""
    file = write_split(tmp_path / "made", "result", [image_of(1, "images/1.jpg")], [object_of()])
    file.rename(tmp_path / "result.json")
    path = write_image(tmp_path / "images" / "1.jpg")
    (tmp_path / "ids.txt").write_text("1")
    for split in ("result.json", str(tmp_path / "result.json"), f"result.json:{tmp_path / 'ids.txt'}"):
        assert [sample.image_path for sample in open_dataset(tmp_path, split, "data")] == [path]
    assert check.main(["--dataset-root", str(tmp_path), "--split", "result.json"]) == 0


@pytest.mark.parametrize("split", ["2007_train", "train", "train+2007_val"])
def test_a_list_of_vocs_beside_json_files_is_vocs(tmp_path, split):
    """As a conversion from VOC to COCO leaves them, by whose name its file is still found."""
    read_one(tmp_path / "VOC2007", object_xml("cat", (1, 1, 5, 5)))
    write_vocs_list(tmp_path / "VOC2007", "val", "a")
    write_split(tmp_path, "voc07_train", [image_of(1)], [object_of()])
    assert isinstance(open_dataset(tmp_path, split, "data"), VOCDetection)
    assert isinstance(open_dataset(tmp_path, "voc07_train", "data"), COCODetection)
    assert check.main(["--dataset-root", str(tmp_path), "--split", split]) == 0


def test_a_list_of_vocs_in_two_years_is_vocs(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        write_vocs_list(tmp_path / year, "train", "a")
    write_split(tmp_path, "voc07_train", [image_of(1)])
    with pytest.raises(DataError, match="ambiguous split"):
        open_dataset(tmp_path, "train", "data")
