"""Labels to look at: what was planted stands among the first ten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import detect, paint

from aploss_mx.data.dataset import open_dataset
from aploss_mx.evaluation.errors import BACKGROUND
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.geometry.detections import Detections
from aploss_mx.inspection.findings import find
from aploss_mx.inspection.suspects import contradictions, double_labels, unfound

FIRST = 10


def plant(samples, detections, classes: int, seed: int):
    """Return a copy of samples without three of their labels and with two of another class, and these images' ids.

    They are objects that the detector is sure of and that overlap no other label, of different images.
    """
    generator = np.random.default_rng(seed)
    before = find(samples, detections, [str(number) for number in range(classes)])
    objects = before.objects
    alone = [(pairwise_iou(sample.boxes, sample.boxes) > BACKGROUND).sum(axis=1) == 1 for sample in samples]
    sure = objects.counted & (objects.confidence >= np.quantile(objects.confidence, 0.7))
    sure = np.flatnonzero(sure & np.concatenate(alone))
    images, chosen = np.unique(objects.image[sure], return_index=True)
    picked = generator.choice(len(images), 5, replace=False)
    starts = np.concatenate([[0], np.cumsum([len(sample.boxes) for sample in samples])])
    changed = list(samples)
    for turn, pick in enumerate(picked):
        image, place = images[pick], sure[chosen[pick]] - starts[images[pick]]
        sample = samples[image]
        if turn < 3:
            kept = np.arange(len(sample.boxes)) != place
            changed[image] = replace(
                sample, boxes=sample.boxes[kept], labels=sample.labels[kept], difficult=sample.difficult[kept]
            )
        else:
            labels = sample.labels.copy()
            labels[place] = (labels[place] + 1) % classes
            changed[image] = replace(sample, labels=labels)
    return changed, images[picked]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_errors_planted_in_voc_are_among_the_first_ten(shared_data, seed):
    data = open_dataset(shared_data / "VOCdevkit", "2007_val", "voc")
    detections = detect(data.samples, len(data.classes), seed, confused=0)
    samples, planted = plant(data.samples, detections, len(data.classes), seed)
    findings = find(samples, detections, data.classes)
    first = contradictions(findings)[:FIRST]
    assert set(planted) <= {suspect.image for suspect in first}
    told = " ".join(suspect.why for suspect in first)
    assert told.count("no label fits") >= 3 and told.count("labelled ") >= 2


def test_errors_planted_in_generated_pictures_are_among_the_first_ten(tmp_path):
    samples = paint(tmp_path, 60, 3, objects=2)
    detections = detect(samples, 3, confused=0)
    changed, planted = plant(samples, detections, 3, 0)
    found = contradictions(find(changed, detections, "abc"))
    assert set(planted) <= {suspect.image for suspect in found[:FIRST]}
    doubts = [suspect.doubt for suspect in found]
    assert doubts == sorted(doubts, reverse=True)


def test_objects_that_nothing_finds_are_told_once_and_the_large_first(tmp_path):
    samples = paint(tmp_path, 20, 1)
    detections = detect(samples, 1, recall=0.8)
    findings = find(samples, detections, ["cat"])
    suspects = unfound(findings)
    objects = findings.objects
    places = [suspect.objects[0] for suspect in suspects]
    assert places and objects.missed[places].all() and (objects.confidence[places] == 0).all()
    areas = (objects.boxes[places, 2:] - objects.boxes[places, :2]).prod(1)
    assert (np.diff(areas) <= 0).all()
    assert not {*places[:3]} & {suspect.objects[0] for suspect in unfound(findings, suspects[:3])}


@pytest.mark.parametrize(
    ("difficult", "label", "right", "told"),
    [
        (False, 0, True, ["found as cat"]),  # a second box of a cat that is found
        (False, 0, False, []),  # the cat's own, off its place
        (True, 0, False, []),
        (True, 1, False, ["found as dog"]),
    ],
)
def test_what_a_label_may_mean_is_not_told_and_a_place_is_told_once(tmp_path, difficult, label, right, told):
    """Of two boxes a pixel apart that overlap the label by an IoU of about 0.3."""
    (sample,) = paint(tmp_path, 1, 1, objects=1)
    box = np.array([20.0, 20, 80, 80])
    sample = replace(sample, boxes=box[None], labels=np.zeros(1, np.int64), difficult=np.array([difficult]))
    aside = box + [30, 0, 30, 0]
    boxes, scores, labels = np.stack([aside, aside + 1, box]), np.array([0.9, 0.8, 0.95]), np.array([label, label, 0])
    found = Detections(boxes, scores, labels)[np.array([True, True, right])]
    suspects = contradictions(find([sample], {sample.image_id: found}, ["cat", "dog"]))
    assert [suspect.why.partition(" (")[0] for suspect in suspects] == told


@pytest.mark.parametrize("scores", [(7.5, 2.5), (0.5, 0)])
def test_what_the_lowest_score_of_all_finds_is_found(tmp_path, scores):
    (sample,) = paint(tmp_path, 1, 1)
    sample = replace(sample, difficult=np.zeros(4, bool), boxes=np.arange(4.0)[:, None] * 40 + [0, 0, 30, 30])
    found = Detections(sample.boxes[:2], np.array(scores), sample.labels[:2])
    suspects = unfound(find([sample], {sample.image_id: found}, ["cat"]))
    assert [suspect.why for suspect in suspects] == 2 * ["labelled cat, of which 50% are found at any score"]


def test_two_labels_in_one_place(tmp_path):
    (sample,) = paint(tmp_path, 1, 1, objects=1)
    box = sample.boxes[0]
    twice = replace(
        sample, boxes=np.stack([box, box, box + 1]), labels=np.array([0, 1, 1]), difficult=np.zeros(3, bool)
    )
    suspects = double_labels([sample, twice], ["cat", "dog"])
    assert [suspect.objects for suspect in suspects] == [(1, 2), (1, 3)] and suspects[0].doubt == 1
    assert suspects[0].why == "labelled cat and dog, IoU 1.00"
