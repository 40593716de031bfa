"""Reliability curves: the CSV holds the bins, the picture is one, and what cannot be drawn is told."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from script_output import message_of
from tiny_training import SHAPES_CLASSES

from aploss_mx.commands import evaluate
from aploss_mx.data.voc import VOCDetection
from aploss_mx.evaluation import calibration
from aploss_mx.evaluation.calibration import reliability, try_calibration
from aploss_mx.evaluation.detections import save_detections
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.reliability import write_reliability


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_holds_the_bins(tmp_path):
    curve = reliability(np.array([0.05, 0.15, 0.25, 0.25]), np.array([False, True, False, True]))
    picture, table = write_reliability({"score": curve, "confidence": curve}, tmp_path / "new" / "curve.png")
    with Image.open(picture) as image:
        assert min(image.size) > 400
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    rows = rows_of(table)
    assert [row["what"] for row in rows] == ["score"] * 10 + ["confidence"] * 10
    assert [row["count"] for row in rows[:4]] == ["1", "1", "2", "0"]
    assert [float(row["right"]) for row in rows[:3]] == [0, 1, 0.5]
    assert [float(row["said"]) for row in rows[:3]] == pytest.approx([0.05, 0.15, 0.25])
    assert (rows[3]["said"], rows[3]["right"]) == ("", "")


def test_evaluate_draws_them(shapes, tmp_path, monkeypatch):
    """Of each picture, the objects and as many wrong boxes with lower scores."""
    dataset = VOCDetection(shapes, "2007_train", SHAPES_CLASSES)
    rng = np.random.default_rng(0)
    detections = {}
    for sample in dataset.samples:
        scores = np.concatenate([rng.uniform(0.2, 0.4, len(sample.boxes)), rng.uniform(0.1, 0.3, len(sample.boxes))])
        boxes = np.concatenate([sample.boxes, np.tile([0.0, 0.0, 1.0, 1.0], (len(sample.boxes), 1))])
        detections[sample.image_id] = Detections(boxes, scores, np.tile(sample.labels, 2).astype(np.int64))
    save_detections(tmp_path / "found.json", detections, SHAPES_CLASSES)
    flags = ["--detections", str(tmp_path / "found.json"), "--dataset-root", str(shapes), "--split", "2007_train"]
    flags += ["--classes", ",".join(SHAPES_CLASSES), "--reliability", str(tmp_path / "curve.png")]
    assert "too few right or wrong detections" in message_of(evaluate.main, flags)
    assert not (tmp_path / "curve.png").exists()
    monkeypatch.setattr(calibration, "LEAST", 5)
    evaluate.main(flags)
    rows = rows_of(tmp_path / "curve.csv")
    curves = try_calibration(dataset.samples, detections)
    for name, curve in curves.items():
        assert [int(row["count"]) for row in rows if row["what"] == name] == curve.counts.tolist()
    assert curves["confidence"].error < curves["score"].error


def test_a_name_that_is_no_picture_is_refused(capsys):
    flags = ["--detections", "a", "--dataset-root", "b", "--split", "c", "--reliability", "curve.jpg"]
    with pytest.raises(SystemExit):
        evaluate.main(flags)
    assert "ends in .png" in capsys.readouterr().err
