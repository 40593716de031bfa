"""Figures on real COCO images against pycocotools reading the same files by itself."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aploss_mx.data.check import check_dataset
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.coco import METRICS, coco_average_precision
from aploss_mx.evaluation.detections import save_coco_results
from aploss_mx.geometry.detections import Detections


@pytest.fixture(scope="module")
def root(shared_data) -> Path:
    return shared_data / "coco"


@pytest.fixture(scope="module")
def dataset(root) -> COCODetection:
    return COCODetection(root, "train2017")


def detections_near(dataset: Sequence[Sample], seed: int) -> dict[str, Detections]:
    """What a fair detector may find: objects missed, shifted, found twice or as another class, and some that are not.

    No two scores are equal: what a tie is worth depends on the order of the images.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for sample in dataset:
        rows = np.flatnonzero(rng.random(len(sample.boxes)) < 0.8)
        rows = np.concatenate([rows, rows[rng.random(len(rows)) < 0.3]])
        corners = sample.boxes[rows].astype(np.float64)
        sides = np.tile(corners[:, 2:] - corners[:, :2], 2)
        corners += rng.normal(0, 0.08, sides.shape) * sides
        corners = np.concatenate([corners, rng.uniform(0, 1, (5, 4)) * ([sample.width, sample.height] * 2)])
        boxes = np.hstack([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])])
        labels = np.concatenate([sample.labels[rows], rng.integers(0, 80, 5)])
        labels = np.where(rng.random(len(labels)) < 0.1, rng.integers(0, 80, len(labels)), labels)
        found[sample.image_id] = [boxes.astype(np.float32), np.zeros(len(labels), np.float32), labels]
    total = sum(len(labels) for *_, labels in found.values())
    scores = rng.permutation(total).astype(np.float32) / total
    assert len(set(scores.tolist())) == total
    ends = np.cumsum([len(labels) for *_, labels in found.values()])
    return {
        image_id: Detections(boxes, part, labels)
        for (image_id, (boxes, _, labels)), part in zip(found.items(), np.split(scores, ends[:-1]))
    }


def official(annotations: Path, results: Path, image_ids=None) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.params.imgIds = image_ids or evaluation.params.imgIds
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_as_official(metric, evaluation: COCOeval) -> None:
    assert len(evaluation.stats) == len(METRICS) == 12
    for name, expected in zip(METRICS, evaluation.stats):
        assert metric.metrics[name] == pytest.approx(expected, rel=0, abs=1e-12), name
    by_class = evaluation.eval["precision"][..., 0, -1].mean(axis=1)  # (IoUs, classes)
    for ours, theirs in ((metric.ap, by_class.mean(axis=0)), (metric.ap50, by_class[0])):
        np.testing.assert_allclose(ours, np.where(theirs == -1, np.nan, theirs), rtol=0, atol=1e-12)


def test_what_the_data_hold(dataset):
    assert len(dataset) == 294 and len(dataset.classes) == len(dataset.category_ids) == 80
    assert (dataset.classes[0], dataset.classes[-1]) == ("person", "toothbrush")
    assert list(dataset.category_ids) == sorted(dataset.category_ids)
    assert (dataset.category_ids[0], dataset.category_ids[-1]) == (1, 90)
    assert dataset.annotated
    assert sum(len(sample.boxes) for sample in dataset) == 2519
    assert sum(int(sample.difficult.sum()) for sample in dataset) == 25
    # Masks are smaller than their boxes; without them "small" would mean something else.
    boxes = np.concatenate([sample.boxes for sample in dataset]).astype(np.float64)
    areas = np.concatenate([sample.areas for sample in dataset])
    assert 0.4 < (areas / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)).mean() < 0.9


def test_the_data_are_fit_for_training(dataset):
    report = check_dataset(dataset, progress=False)
    assert report.ok, str(report)
    assert (sum(report.objects.values()), sum(report.difficult.values())) == (2494, 25)
    assert report.boxes_left_out == 0


def test_figures_are_pycocotools_own(root, dataset, tmp_path):
    found = detections_near(dataset, 0)
    save_coco_results(tmp_path / "results.json", found, dataset.samples, dataset.category_ids)
    metric = coco_average_precision(dataset, found, dataset.classes)
    assert 0.2 < metric.metrics["AP"] < 0.8  # a test of figures that are all 0 or 1 would show nothing
    assert_as_official(metric, official(root / "annotations" / "instances_train2017.json", tmp_path / "results.json"))


def test_figures_do_not_depend_on_the_order_of_classes_and_images(root, dataset):
    backwards = COCODetection(root, "train2017", dataset.classes[::-1])
    found = detections_near(dataset[::4], 2)
    turned = {key: Detections(item.boxes, item.scores, 79 - item.labels) for key, item in found.items()}
    one = coco_average_precision(dataset[::4], found, dataset.classes)
    other = coco_average_precision(backwards[::4][::-1], turned, backwards.classes)
    assert other.metrics == pytest.approx(one.metrics, rel=0, abs=1e-12)
    np.testing.assert_allclose(other.ap[::-1], one.ap, rtol=0, atol=1e-12)


def test_figures_of_the_images_that_an_id_list_names(root, dataset, tmp_path):
    image_ids = [sample.image_id for sample in dataset][::3]
    (tmp_path / "ids.txt").write_text("\n".join(image_ids))
    third = COCODetection(root, f"train2017:{tmp_path / 'ids.txt'}")
    assert [sample.image_id for sample in third] == image_ids
    found = {key: item for key, item in detections_near(dataset, 3).items() if key in image_ids}
    save_coco_results(tmp_path / "results.json", found, third.samples, third.category_ids)
    assert_as_official(
        coco_average_precision(third, found, third.classes),
        official(
            root / "annotations" / "instances_train2017.json", tmp_path / "results.json", list(map(int, image_ids))
        ),
    )
