"""Scores that tie, or almost do: pycocotools' own figures of the same two files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_coco_official import assert_as_official, official

from aploss_mx.data.coco import COCODetection
from aploss_mx.evaluation.coco import coco_average_precision
from aploss_mx.evaluation.detections import load_detections, save_coco_results

CATEGORIES = [{"id": 2, "name": "cat"}, {"id": 7, "name": "dog"}]
IDS = {
    "numbers": lambda number: (7 * number) % 1000,  # of one to three digits: as text they have another order
    "text": lambda number: f"{(7 * number) % 1000}",
    "file names": lambda number: f"{(7 * number) % 1000:06d}",
}
SCORES = {
    "three decimals": lambda rng, hit: int(rng.integers(500, 504) + hit) / 1000,
    "near 1": lambda rng, hit: 1 - 1e-9 * (1 - float(rng.random())) - (0 if hit else 4e-10),
}


def write_scene(root: Path, make_id, make_score, seed: int) -> tuple[Path, Path]:
    """Write 90 images in an order that is not that of their ids, and detections of which some hit."""
    rng = np.random.default_rng(seed)
    images, objects, results = [], [], []
    for number in rng.permutation(90).tolist():
        image_id = make_id(number)
        images.append({"id": image_id, "file_name": f"{number}.jpg", "width": 400, "height": 400})
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = rng.integers(1, 130, 4).tolist()
            category = CATEGORIES[rng.integers(2)]["id"]
            entry = {"image_id": image_id, "category_id": category, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            objects.append({**entry, "id": len(objects) + 1})
            for _ in range(rng.integers(0, 3)):
                found = {"image_id": image_id, "category_id": category, "bbox": [x, y, w, h]}
                results.append({**found, "score": make_score(rng, True)})
            shifted = {"image_id": image_id, "category_id": category, "bbox": [x + w, y, w + 1, h]}
            results.append({**shifted, "score": make_score(rng, False)})
    annotations = root / "annotations" / "instances_val.json"
    annotations.parent.mkdir()
    annotations.write_text(json.dumps({"images": images, "categories": CATEGORIES, "annotations": objects}))
    (root / "results.json").write_text(json.dumps([results[place] for place in rng.permutation(len(results))]))
    return annotations, root / "results.json"


@pytest.mark.parametrize("make_score", SCORES.values(), ids=list(SCORES))
@pytest.mark.parametrize("make_id", IDS.values(), ids=list(IDS))
def test_figures_are_pycocotools_own(tmp_path, make_id, make_score):
    annotations, results = write_scene(tmp_path, make_id, make_score, seed=0)
    dataset = COCODetection(tmp_path, "val")
    found = load_detections(results, dataset.classes, [s.image_id for s in dataset], dataset.category_ids)
    metric = coco_average_precision(dataset.samples, found, dataset.classes)
    assert_as_official(metric, official(annotations, results))

    # The same figures from the file that we write, with the ids that the data have.
    again = tmp_path / "again.json"
    save_coco_results(again, found, dataset.samples, dataset.category_ids)
    assert_as_official(metric, official(annotations, again))


def test_the_order_of_images_is_worth_something_here(tmp_path):
    """Else the test above would show nothing."""
    _, results = write_scene(tmp_path, IDS["numbers"], SCORES["three decimals"], seed=0)
    dataset = COCODetection(tmp_path, "val")
    found = load_detections(results, dataset.classes, [s.image_id for s in dataset], dataset.category_ids)
    as_listed = [replace(sample, coco_id=None) for sample in dataset]
    one, other = (coco_average_precision(samples, found, dataset.classes) for samples in (dataset.samples, as_listed))
    assert abs(one.metrics["AP"] - other.metrics["AP"]) > 1e-4
