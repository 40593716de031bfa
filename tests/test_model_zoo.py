"""The detectors that come with the package: found by name, as their card tells, ready to use and to fine-tune."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image
from tiny_training import REPOSITORY, tiny_run

from aploss_mx import Detector
from aploss_mx.checkpoint import Checkpoint, CheckpointError, parameters_of
from aploss_mx.commands import demo
from aploss_mx.data.voc import VOC_CLASSES
from aploss_mx.model_zoo import DEFAULT, model_names, model_path
from aploss_mx.training.pretrained import WeightsError, check_source

CARD = (REPOSITORY / "models" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", model_names())
def test_the_card_is_of_the_file(name):
    content = model_path(name).read_bytes()
    assert len(content) <= 26e6
    assert hashlib.sha256(content).hexdigest() in CARD
    checkpoint = Checkpoint.load(name)
    assert checkpoint.is_compact and checkpoint.calibration and checkpoint.best_f1_score
    assert "/" not in checkpoint.recipe.pretrained
    row = re.search(rf"\| `{name}` .*", CARD)[0]
    figures = [float(number) for number in re.findall(r"\d+\.\d+", row)]
    assert figures[:3] == [pytest.approx(100 * checkpoint.best[metric], abs=0.05) for metric in ("AP", "AP50", "AP75")]


@pytest.mark.parametrize("name", model_names())
def test_the_cards_figures_are_those_measured(name):
    metrics = json.loads((model_path(name).with_suffix(".json")).read_text(encoding="utf-8"))
    checkpoint = Checkpoint.load(name)
    assert checkpoint.best["AP"] == metrics["AP"] and checkpoint.calibration[0] == metrics["calibration"]["slope"]
    cells = re.findall(r"\| ([a-z]+) \| ([\d.]+) \| ([\d.]+) (?=\|)", CARD)
    shown = {label: (float(ap), float(ap50)) for label, ap, ap50 in cells}
    assert shown == {
        label: (pytest.approx(100 * of["AP"], abs=0.05), pytest.approx(100 * of["AP50"], abs=0.05))
        for label, of in metrics["per_class"].items()
    }


def test_a_file_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert model_path(DEFAULT).is_file() and model_path(DEFAULT).is_absolute()
    (tmp_path / DEFAULT).mkdir()
    assert str(model_path(DEFAULT)) == DEFAULT
    assert str(model_path("~/last.npz")) == "/home/somebody/last.npz"


def test_other_names_are_told_those_that_are_there():
    with pytest.raises(CheckpointError, match=f"no checkpoint coco-resnet50; by name: .*{DEFAULT}"):
        Detector.load("coco-resnet50")
    with pytest.raises(WeightsError, match=f"a detector by name: .*{DEFAULT}"):
        check_source("coco-resnet50")


def test_the_demo_takes_it_where_none_is_named(tmp_path, capsys):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "night.png")
    demo.main(["--input", str(tmp_path / "night.png"), "--output", str(tmp_path / "found")])
    assert f"detector: {DEFAULT}, of 20 class(es): aeroplane, bicycle" in capsys.readouterr().out
    assert (tmp_path / "found" / "night.png").is_file()


def test_it_is_fine_tuned(shapes, folder, capsys):
    run = tiny_run(shapes, folder, network="resnet18_v1b", channels=64, pretrained=DEFAULT)
    assert f"{DEFAULT} lacks 2 parameters, which start at random: class_head.4.bias" in capsys.readouterr().out
    given = Checkpoint.load(DEFAULT).parameters["backbone.layer4.1.conv2.weight"]
    np.testing.assert_array_equal(parameters_of(run.network)["backbone.layer4.1.conv2.weight"], given)


def test_it_names_what_photographs_show(shared_data):
    detector = Detector.load(DEFAULT)
    assert detector.classes == VOC_CLASSES
    for photograph, expected in (("biking", "bicycle"), ("eagle", "bird"), ("person", "person"), ("street", "car")):
        image = np.asarray(Image.open(shared_data / "demo" / f"{photograph}.jpg").convert("RGB"))
        found = detector.predict(image)
        shown = {detector.classes[label] for label in found.labels[found.scores >= detector.shown_score]}
        assert expected in shown
