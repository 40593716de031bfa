"""The benchmark of a step: its parts are the step that training makes, and its table comes out."""

from __future__ import annotations

import csv
import re
import shutil

import pytest
from narrow_network import NAME
from tiny_training import SETTINGS, STARTED, assert_same_arrays, tiny_run

from aploss_mx.checkpoint import parameters_of
from scripts.benchmarks import step as benchmark_step

PARTS = ("forward", "class loss", "box loss", "backward", "update")


@pytest.mark.parametrize("loss", ["ap", "ohem"])
def test_the_parts_make_the_step_that_training_makes(shapes, tmp_path, loss):
    weights = []
    for name in ("whole", "parts"):
        run = tiny_run(shapes, tmp_path / name, loss=loss)
        timed = benchmark_step.Stopwatch()
        for batch in run.loader:
            if name == "whole":
                run.update(batch, 0.01)
            else:
                benchmark_step.step_in_parts(run, batch, 0.01, timed)
        run.log.close()
        weights.append(parameters_of(run.network))
    assert tuple(timed.laps) == PARTS
    assert {len(laps) for laps in timed.laps.values()} == {2}
    assert_same_arrays(*weights)


def test_table_and_csv(shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", STARTED)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    flags += ["--dataset-root", str(shapes), "--losses", "ap", "focal", "--steps", "1", "--images", "1"]
    benchmark_step.main([*flags, "--output", str(tmp_path / "new" / "step.csv")])
    printed = capsys.readouterr().out
    assert f"{NAME}, 4 images of 64x64 a step, tested at 64/64; cpu(0)" in printed
    assert "| part | unit | ap | focal |" in printed
    with (tmp_path / "new" / "step.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("loss") for row in rows] == ["ap", "focal"]
    for row in rows:
        figures = {name: float(value) for name, value in row.items()}
        assert all(f"| {name} |" in printed for name in figures)
        assert min(figures.values()) > 0
        assert figures["class loss"] == pytest.approx(figures["class loss, share of a step"] * figures["whole step"])
        assert 0.1 < figures["peak memory"] < 20


@pytest.mark.parametrize("empty, steps", [(0, 2), (4, 1)])
def test_too_few_images_are_told(shapes, tmp_path, monkeypatch, empty, steps):
    """Those without objects do not count: no step is made of them."""
    monkeypatch.setenv("PYTHONPATH", STARTED)
    data = shutil.copytree(shapes, tmp_path / "data")
    for file in sorted((data / "VOC2007" / "Annotations").glob("train_*.xml"))[:empty]:
        file.write_text(re.sub("<object>.*</object>", "", file.read_text(), flags=re.DOTALL))
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    with pytest.raises(SystemExit, match=f"{8 - empty} images with objects, too few for {steps + 1} steps of 4"):
        benchmark_step.main([*flags, "--dataset-root", str(data), "--steps", str(steps)])
