"""The benchmark of a step: its parts are the step that training makes, and its table comes out."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import mxnet as mx
import pytest
from narrow_network import NAME
from tiny_training import SETTINGS, STARTED, assert_same_arrays, tiny_recipe, tiny_run

from aploss_mx.checkpoint import parameters_of
from aploss_mx.config import ConfigError
from scripts.benchmarks import step as benchmark_step

PARTS = ("forward", "class loss", "box loss", "backward", "update")
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]


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
    monkeypatch.setattr(benchmark_step, "ProcessPoolExecutor", ThreadPoolExecutor)  # processes: see the next test
    flags = ["--dataset-root", str(shapes), "--losses", "ap", "focal", "--steps", "1", "--images", "1"]
    benchmark_step.main([*FLAGS, *flags, "--output", str(tmp_path / "new" / "step.csv")])
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


@pytest.fixture
def torchvision(tmp_path, shapes, monkeypatch):
    """Flags of the benchmark beside a script in the rival's place, whose environment is no part of the tests'."""
    monkeypatch.setattr(benchmark_step, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(benchmark_step, "TORCHVISION", tmp_path / "rival.py")
    return [*FLAGS, f"--dataset-root={shapes}", "--steps=1", "--images=1", f"--torchvision={sys.executable}"]


def test_torchvision_makes_its_steps_beside(torchvision, tmp_path, capfd):
    (tmp_path / "rival.py").write_text("import sys; print(sys.argv, file=sys.stderr); print('{\"whole step\": 7.5}')")
    benchmark_step.main([*torchvision, "--output", str(tmp_path / "step.csv")])
    printed, asked = capfd.readouterr()
    assert "| part | unit | ap | torchvision, focal |" in printed
    assert re.search(r"\| whole step \| s \| [\d.]+ \| 7.5 \|", printed) and re.search(r"\| load .* \| – \|", printed)
    assert "'--time-steps', '1'" in asked and f"'--data-shape={SETTINGS['data_shape']}'" in asked
    with (tmp_path / "step.csv").open(newline="") as file:
        assert [row["whole step"] for row in csv.DictReader(file)][1] == "7.5"


def test_torchvision_that_fails_is_told(torchvision, tmp_path):
    (tmp_path / "rival.py").write_text("exit(3)")
    with pytest.raises(SystemExit, match="torchvision's steps ended with exit code 3"):
        benchmark_step.main(torchvision)


def test_a_loss_that_the_recipe_does_not_fit_is_told_before_another_is_measured(shapes, monkeypatch):
    monkeypatch.setattr(benchmark_step, "ProcessPoolExecutor", None)
    flags = ["--dataset-root", str(shapes), "--losses", "ap", "focal", "--delta", "0.5"]
    with pytest.raises(SystemExit, match="error: .*delta = 0.5: of no use to loss = 'focal'"):
        benchmark_step.main([*FLAGS, *flags])


def test_too_few_images_are_told(shapes, tmp_path, monkeypatch):
    """Those without objects do not count: no step is made of them."""
    with pytest.raises(ConfigError, match="8 images with objects, too few for 3 steps of 4"):
        benchmark_step.measure(tiny_recipe(), str(shapes), mx.cpu(), 2, 1)
    monkeypatch.setenv("PYTHONPATH", STARTED)
    data = shutil.copytree(shapes, tmp_path / "data")
    for file in sorted((data / "VOC2007" / "Annotations").glob("train_*.xml"))[:4]:
        file.write_text(re.sub("<object>.*</object>", "", file.read_text(), flags=re.DOTALL))
    with pytest.raises(SystemExit, match="4 images with objects, too few for 2 steps of 4"):
        benchmark_step.main([*FLAGS, "--dataset-root", str(data), "--steps", "1"])
