"""The measure of score shifts: what it says of rankings that are known, and its program."""

from __future__ import annotations

import csv
from types import SimpleNamespace
from typing import Iterator

import mxnet as mx
import numpy as np
import pytest
from tiny_training import tiny_recipe

from aploss_mx.data.loader import EpochSampler, TrainingSet, training_loader
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.data.voc import VOCDetection
from aploss_mx.detection.detector import Detector
from scripts.benchmarks import score_shift


def targets_of(samples: list, images: int, seed: int) -> Iterator[np.ndarray]:
    """Class targets of the batches in the order of `seed`, (images, N)."""
    dataset = TrainingSet(samples, TrainTransform((64, 64), "none"), seed)
    loader = training_loader(dataset, EpochSampler(len(dataset), images, seed), LoaderProcesses(0))
    return (class_targets.asnumpy().astype(int) for _, class_targets, _ in loader)


def perfect_but_shifted(targets: Iterator[np.ndarray], shift: float):
    """A network that ranks each image perfectly, and scores each image of a batch higher than the last by `shift`."""

    def network(images: mx.nd.NDArray) -> tuple[mx.nd.NDArray, None]:
        of_batch = next(targets)
        logits = np.zeros((*of_batch.shape, len(SHAPES_CLASSES)), np.float32)
        image, anchor = np.nonzero(of_batch > 0)
        logits[image, anchor, of_batch[image, anchor] - 1] = np.linspace(1, 2, len(image))
        logits += shift * np.arange(len(images))[:, None, None]
        return mx.nd.array(logits), None

    return network


def losses_of(samples: list, shift: float, groups: list[int], seed: int = 3) -> list[float]:
    network = perfect_but_shifted(targets_of(samples, max(groups), seed), shift)
    detector = Detector(network, SHAPES_CLASSES, tiny_recipe(), mx.cpu())
    return score_shift.ap_losses(detector, samples, groups, seed, num_workers=0)


@pytest.fixture
def samples(shapes) -> list:
    return list(VOCDetection(shapes, "2007_train", SHAPES_CLASSES).samples)


def test_perfect_rankings_without_a_shift(samples):
    assert losses_of(samples, 0, [1, 2, 4]) == [0, 0, 0]


def test_shifted_pairs_equal_the_closed_form(samples):
    """Negatives of the image that scores higher stand between its positives and the other's."""
    expected = []
    for lower, higher in targets_of(samples, 2, seed=3):
        first, last = (higher > 0).sum(), (lower > 0).sum()
        negatives = (higher >= 0).sum() * len(SHAPES_CLASSES) - first
        places = np.arange(1, last + 1)
        average_precision = (first + ((first + places) / (first + negatives + places)).sum()) / (first + last)
        expected.append(1 - average_precision)
    alone, together = losses_of(samples, 4, [1, 2])
    assert alone == 0
    assert together == pytest.approx(np.mean(expected), rel=1e-6)
    assert together > 0.1


def test_program(trained, shapes, tmp_path, capsys):
    params = [str(trained / "last.npz"), str(trained / "best.npz")]
    flags = ["--params", *params, "--dataset-root", str(shapes), "--groups", "1", "2", "--num-workers", "0"]
    score_shift.main([*flags, "--output", str(tmp_path / "shift.csv")])
    with (tmp_path / "shift.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["checkpoint", "split", "1 together", "2 together"]] * 2
    assert [row["checkpoint"] for row in rows] == ["run/last.npz", "run/best.npz"]
    printed = capsys.readouterr().out
    for row in rows:
        assert row["split"] == "2007_val"
        assert 0 < float(row["1 together"]) < 1
        assert f"| {' | '.join(row.values())} |" in printed


def test_detectors_of_other_classes_are_refused(monkeypatch, shapes):
    monkeypatch.setattr(Detector, "load", lambda path, _: SimpleNamespace(classes=(str(path),), recipe=tiny_recipe()))
    with pytest.raises(SystemExit, match="b.npz has other classes than a.npz"):
        score_shift.main(["--params", "a.npz", "b.npz", "--dataset-root", str(shapes)])


def test_groups_that_do_not_fill_the_largest_are_refused(capsys):
    with pytest.raises(SystemExit):
        score_shift.main(["--params", "x", "--dataset-root", "x", "--groups", "2", "3"])
    assert "--groups must divide the largest, 3" in capsys.readouterr().err


def test_too_few_images_with_objects_are_told():
    detector = Detector(None, SHAPES_CLASSES, tiny_recipe(), mx.cpu())
    with pytest.raises(ValueError, match="0 image.* too few to rank 2 together"):
        score_shift.ap_losses(detector, [], [1, 2], 0, num_workers=0)
