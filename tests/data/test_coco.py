"""Reading COCO folders: what is exact, and what is left out, on files the tests write."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from coco_files import CAT, DOG, HEIGHT, WIDTH, image_of, object_of, read_objects, write_image, write_split

from aploss_mx.data.check import check_dataset
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.examples import Draw
from aploss_mx.data.loader import TrainingSet
from aploss_mx.data.problems import AREA_FROM_BOX, BOX_CLIPPED, BOX_LEFT_OUT, NOT_TRAINED, WARNING
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.evaluation.detections import Detections
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.targets import assign_targets

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
    assert types == (np.float64, np.int64, bool, np.float64)


def test_polygons_take_no_memory(tmp_path):
    objects = [object_of(segmentation=[[1.25] * 1000]) for _ in range(300)]
    path = write_split(tmp_path, "instances_train", [image_of(1)], objects)
    tracemalloc.start()
    try:
        assert len(COCODetection(tmp_path, "train")[0].boxes) == 300
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * path.stat().st_size  # its bytes and its text; with the polygons' numbers eight times as much


def test_reading_many_images_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aploss_mx.data.coco.PROGRESS_BAR_FROM", 0)
    monkeypatch.setattr("aploss_mx.progress.SECONDS_BETWEEN_LINES", 0)
    read_objects(tmp_path, object_of())
    assert capsys.readouterr().err == "reading annotations: 1 of 1 images\n"


def test_images_keep_the_files_order_and_those_without_boxes_stay(tmp_path):
    write_split(tmp_path, "instances_train", [image_of(9), image_of(2), image_of(5)], [object_of(2), object_of(9)])
    dataset = COCODetection(tmp_path, "train")
    assert [(sample.image_id, len(sample.boxes)) for sample in dataset] == [("9", 1), ("2", 1), ("5", 0)]
    empty = dataset[2]
    assert empty.boxes.shape == (0, 4) and empty.boxes.dtype == np.float64
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
    dataset = read_objects(tmp_path, object_of(bbox=[WIDTH - 1.5, HEIGHT - 1.5, 1.5, 1.5]))
    assert dataset.problems == [] and dataset[0].boxes.tolist() == [[38.5, 28.5, 40, 30]]


@pytest.mark.parametrize(
    ("bbox", "area", "kept"),
    [
        ([1, 2, 10, 20], 0, 200),
        ([1, 2, 10, 20], 0.0123, 200),  # in shares of the picture
        ([1, 2, 10, 20], 0.999, 200),
        ([1, 2, 10, 20], 1, 1),
        ([1, 2, 10, 20], 150.5, 150.5),
        ([1, 2, 0.5, 0.5], 0.2, 0.25),
        ([1, 2, 0.5, 0.5], 0.25, 0.25),
    ],
)
def test_area_that_cannot_be_the_masks_is_taken_from_the_box_and_counted(tmp_path, bbox, area, kept):
    dataset = read_objects(tmp_path, object_of(bbox=bbox, area=area), object_of(bbox=[0, 0, 5, 6]))
    assert dataset[0].areas.tolist() == [kept, 30]
    told = [problem.message for problem in dataset.problems if problem.kind == AREA_FROM_BOX]
    assert len(told) == (kept != area)
    assert all(f"has the area {area}, which cannot be its mask's" in message for message in told)


def test_the_area_of_a_clipped_box_is_that_inside(tmp_path):
    dataset = read_objects(tmp_path, object_of(bbox=[-980, -980, 1000, 1000]), object_of(bbox=[0, 0, 1e12, 9], area=0))
    assert dataset[0].areas.tolist() == [400, 360]


def test_objects_of_no_mask_count_under_a_least_area(tmp_path):
    """As small objects alone they vanished under it."""
    write_split(tmp_path, "instances_val", [image_of(1)], [object_of(bbox=[0, 0, 40, 30], area=0)])
    dataset = COCODetection(tmp_path, "val")
    found = {"1": Detections(dataset[0].boxes, np.ones(1), dataset[0].labels)}
    metrics = evaluate(dataset.samples, found, dataset.classes, min_area=1000)
    assert [metrics[name] for name in ("AP", "APs", "APm")] == pytest.approx([1, None, 1])


def test_what_the_release_leaves_out_of_training_is_left_out_and_measured(tmp_path):
    objects = [
        object_of(bbox=[0, 0, 1, 9], area=5),
        object_of(bbox=[0, 0, 9, 1], area=5),
        object_of(bbox=[0, 0, 9, 9], area=0),
        object_of(bbox=[0, 0, 1.25, 9], area=5),
        object_of(bbox=[0, 0, 9, 9], area=50, iscrowd=1),
    ]
    dataset = read_objects(tmp_path, *objects)
    assert dataset[0].trained.tolist() == [False, False, False, True, False]
    assert dataset[0].difficult.tolist() == [False] * 4 + [True]
    assert sum(problem.kind == NOT_TRAINED for problem in dataset.problems) == 3
    write_image(tmp_path / "train" / "1.jpg")
    _, class_targets, box_targets = TrainingSet(dataset.samples, TrainTransform((64, 64), "none"), 0)[Draw(0, 0, 0)]
    box = dataset[0].boxes[3] * np.tile([64 / WIDTH, 64 / HEIGHT], 2)
    expected = assign_targets(make_anchors(64, 64), box[None].astype(np.float32), dataset[0].labels[3:4])
    for ours, theirs in zip((class_targets, box_targets), expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_areas_of_0_in_a_file_without_areas_are_no_reason_to_leave_objects_out(tmp_path):
    dataset = read_objects(tmp_path, object_of(area=0), object_of(area=0))
    assert dataset[0].trained.all() and dataset[0].areas.tolist() == [200, 200]


def test_an_image_of_tiny_objects_alone_is_not_trained_on(tmp_path):
    dataset = read_objects(tmp_path, object_of(bbox=[0, 0, 1, 1]))
    assert len(TrainingSet(dataset.samples, TrainTransform((64, 64), "none"), 0)) == 0
    assert check_dataset(dataset, progress=False, data_shape=64).images_without_objects == 1


def test_tiny_objects_count_where_there_is_no_training(tmp_path):
    dataset = read_objects(tmp_path, *[object_of(bbox=[number, 0, 1, 1]) for number in range(20)])
    write_image(tmp_path / "train" / "1.jpg")
    assert check_dataset(dataset).ok
    assert [problem.kind for problem in check_dataset(dataset, data_shape=64).errors] == ["no objects"]
    dataset = read_objects(
        tmp_path, *[object_of(bbox=[number, 0, 1, 1]) for number in range(20)], object_of(category_id=DOG)
    )
    report = check_dataset(dataset, data_shape=64)
    assert (report.objects, report.uncovered) == ({"cat": 0, "dog": 1}, {"cat": 0, "dog": 0})
    assert [problem.kind for problem in report.warnings if problem.kind != NOT_TRAINED] == ["class without objects"]
