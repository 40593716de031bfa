"""What a page says first: how far a training came, and what limits its figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from aploss_mx.config import Recipe
from aploss_mx.data.sample import Sample
from aploss_mx.geometry.detections import Detections
from aploss_mx.inspection.advice import advice_on_findings, advice_on_run
from aploss_mx.inspection.findings import find
from aploss_mx.training.metrics_log import COLUMNS


def told(advice, about: str) -> list[str]:
    return [one.text for one in advice if one.about == about]


@pytest.mark.parametrize(("step", "done"), [(30, 3), (31, 3), (39, 3), (110, 11), (119, 11), (120, 12)])
def test_an_epoch_at_work_is_not_done(step, done):
    rows = [{"epoch": (one - 1) // 10 + 1, "step": one, "loss": 1.0} for one in range(1, step + 1)]
    rows += [{"epoch": epoch, "step": 10 * epoch, "AP": 0.5} for epoch in range(3, done + 1, 3)]
    log = pd.DataFrame(rows, columns=COLUMNS).sort_values("step", kind="stable")
    run = SimpleNamespace(log=log, recipe=Recipe(epochs=12), note={})
    text = told(advice_on_run(run), "Not finished")
    assert text == ([f"{done} of 12 epochs are done; --resume auto goes on."] if done < 12 else [])


@pytest.mark.parametrize(
    ("decays", "precisions", "said"),
    [
        ((), {3: 0.1, 6: 0.2, 9: 0.3, 12: 0.4}, "AP rose by 10.0 points from epoch 9 on"),
        ((), {6: 0.1, 12: 0.4}, ""),
        ((9,), {6: 0.1, 9: 0.2, 12: 0.4}, "AP rose by 20.0 points from epoch 9 on"),
        ((10,), {6: 0.1, 9: 0.2, 12: 0.4}, ""),
        ((9, 11), {9: 0.2, 10: 0.3, 11: 0.39, 12: 0.395}, ""),
        ((), {9: 0.41, 12: 0.4}, ""),
    ],
)
def test_what_a_decay_of_the_rate_gains_is_no_sign_of_too_few_epochs(decays, precisions, said):
    rows = [{"epoch": epoch, "step": 10 * epoch, "AP": ap} for epoch, ap in precisions.items()]
    log = pd.DataFrame(rows, columns=COLUMNS)
    run = SimpleNamespace(log=log, recipe=Recipe(epochs=12, lr_decay_epoch=decays), note={})
    text = told(advice_on_run(run), "Still improving")
    assert text == ([f"{said}: more would help."] if said else [])


@pytest.mark.parametrize(("last", "said"), [(0.43, "AP was 45.0 % after epoch 6 and 43.0 % at the end"), (0.445, "")])
def test_a_run_whose_best_evaluation_was_not_the_last(last, said):
    rows = [{"epoch": epoch, "step": 10 * epoch, "AP": ap} for epoch, ap in ((3, 0.4), (6, 0.45), (12, last))]
    run = SimpleNamespace(log=pd.DataFrame(rows, columns=COLUMNS), recipe=Recipe(epochs=12), note={})
    assert [text.startswith(said) for text in told(advice_on_run(run), "Past its best")] == [True] * bool(said)


@pytest.mark.parametrize(
    ("last", "decays", "said"), [(0.9, (), "from 1 to 0.9"), (0.96, (), ""), (1.1, (), ""), (0.9, (11,), "")]
)
def test_a_loss_that_still_falls_where_there_are_no_two_evaluations(last, decays, said):
    """In its last tenth of a training; what a decay of the rate gains does not count."""
    rows = [{"epoch": 1, "step": step, "loss": 1 if step < 19 else last} for step in range(1, 21)]
    run = SimpleNamespace(
        log=pd.DataFrame(rows, columns=COLUMNS), recipe=Recipe(epochs=12, lr_decay_epoch=decays), note={}
    )
    text = told(advice_on_run(run), "Still improving")
    assert text == ([f"The loss fell {said} in the last tenth of the training."] if said else [])


@pytest.mark.parametrize(
    ("per_class", "max_detections", "message"),
    [
        ((50, 50, 50), None, ""),
        ((50, 50, 50), 150, ""),
        ((50, 50, 50), 149, "150 objects, and at most 149 boxes"),
        ((101, 1), None, "101 objects of one class"),
        ((101, 1), 300, "101 objects of one class"),
    ],
)
def test_more_objects_than_boxes_that_count(per_class, max_detections, message):
    labels = np.repeat(np.arange(len(per_class)), per_class)
    corners = 9.0 * np.array(list(np.ndindex(15, 15)))[: len(labels)]
    boxes = np.hstack([corners, corners + 8])
    sample = Sample("crowd", Path("crowd.jpg"), 150, 150, boxes, labels, np.zeros(len(labels), bool))
    found = find([sample], {"crowd": Detections(boxes, np.full(len(labels), 0.9), labels)}, ("cat", "dog", "owl"))
    text = told(advice_on_findings(found, max_detections), "More objects than detections")
    assert [message in one for one in text] == [True] * bool(message)
    if not max_detections:
        assert bool(text) == (found.metrics["AP"] < 1)


def test_few_objects_and_no_detection():
    labels = np.repeat([0, 1], [19, 20])
    boxes = np.tile([0.0, 0, 8, 8], (39, 1))
    sample = Sample("a", Path("a.jpg"), 90, 90, boxes, labels, np.zeros(39, bool))
    found = find([sample], {"a": Detections(boxes[:1], np.ones(1), labels[:1])}, ("cat", "dog"))
    (text,) = told(advice_on_findings(found), "Few objects to test on")
    assert text.startswith("cat (19). ")
    assert [one.about for one in advice_on_findings(find([sample], {}, ("cat", "dog")))] == ["Nothing was found"]


@pytest.mark.parametrize("score", [0.5, 0.0004])
def test_the_threshold_that_is_told_is_that_of_the_best_f1(score):
    boxes, labels = np.array([(0, 0, 30, 30), (40, 40, 80, 80.0)]), np.zeros(2, np.int64)
    sample = Sample("a", Path("a.jpg"), 90, 90, boxes, labels, np.zeros(2, bool))
    found = find([sample], {"a": Detections(boxes, np.full(2, score), labels)}, ("cat",))
    assert told(advice_on_findings(found), "Score threshold")[0].startswith(f"Shown is what scores {score} or more")


def test_scores_that_are_no_probabilities_are_said():
    boxes, labels = np.array([(0, 0, 30, 30), (40, 40, 80, 80.0)]), np.zeros(2, np.int64)
    sample = Sample("a", Path("a.jpg"), 90, 90, boxes[:1], labels[:1], np.zeros(1, bool))
    for scores, said in (([87.5, -3.25], "Scores from -3.25 to 87.5 are no probabilities"), ([0.9, 0], "Too few")):
        found = find([sample], {"a": Detections(boxes, np.array(scores), labels)}, ("cat",))
        assert told(advice_on_findings(found), "Not calibrated")[0].startswith(said)
