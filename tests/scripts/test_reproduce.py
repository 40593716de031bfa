"""The program that reproduces tables and figures, at the smoke scale, and what is committed of its results."""

from __future__ import annotations

import csv
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from narrow_network import NAME
from PIL import Image
from tiny_training import STARTED

from aploss_mx.commands import evaluate, reproduce
from aploss_mx.config import Recipe
from aploss_mx.data.check import check_dataset
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOCDetection
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.calibration import Calibration
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.plan import REPORTED, SCALES, trials_of
from aploss_mx.report.runner import Execution
from aploss_mx.report.runs import DONE, RunError, Runner
from aploss_mx.theory.optimisers import CONTENDERS

RESULTS = reproduce.REPOSITORY / "results"


def test_committed_markdown_is_made_of_committed_csv(tmp_path):
    """Pictures are compared by eye: their bytes depend on the version of matplotlib."""
    copied = [path for scale in SCALES for path in sorted((RESULTS / scale).glob("*.csv"))]
    for path in copied:
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name)
    reproduce.main(["report", "--results", str(tmp_path)])
    tables = [path.relative_to(RESULTS) for path in copied if path.stem in REPORTED]
    texts = [table.with_name(table.stem + end) for table in tables for end in (".md", "_summary.csv")]
    assert texts
    for text in texts:
        assert (tmp_path / text).read_bytes() == (RESULTS / text).read_bytes()


@pytest.mark.parametrize("scale, gpus", [("paper", "0,1,2,3"), ("paper", "0,1,2"), ("whole", "0,1")])
def test_gpus_that_would_change_what_is_ranked_are_refused_before_a_run(scale, gpus, tmp_path):
    flags = ["table2", "--scale", scale, "--dataset-root", "x", "--gpus", gpus, "--runs", str(tmp_path / "runs")]
    with pytest.raises(SystemExit, match="images a step, in groups of .*, cannot be shared out"):
        reproduce.main(flags)
    assert not (tmp_path / "runs").exists()


def test_figures_of_voc_have_no_rows_of_coco(tmp_path):
    with pytest.raises(SystemExit, match="figure5a is of VOC: none of its rows is named COCO"):
        reproduce.main(["figure5a", "--scale", "paper", "--only", "COCO", "--runs", str(tmp_path)])


@pytest.mark.parametrize(("only", "told"), [("COCO", r"4 run\(s\) failed"), ("ap,", "wants --dataset-root")])
def test_rows_of_coco_alone_want_no_voc(tmp_path, monkeypatch, only, told):
    monkeypatch.setattr(Execution, "finish", lambda *_: [])
    with pytest.raises(SystemExit, match=told):
        reproduce.main(["table2", "--scale", "paper", "--only", only, "--runs", str(tmp_path)])


def test_no_results_are_told(tmp_path):
    with pytest.raises(SystemExit, match="holds no tables"):
        reproduce.main(["report", "--results", str(tmp_path)])


@pytest.mark.parametrize("scale", ["smoke", "whole"])
def test_the_committed_results_are_left_alone(monkeypatch, scale):
    asked = []
    monkeypatch.setattr(reproduce, "_reproduce", lambda arguments, _: asked.append(arguments.results))
    reproduce.main(["table2", "--scale", scale])
    assert asked == [Path("runs/reproduce/results").absolute()]


def test_notes_of_runs_do_not_depend_on_the_folder_that_one_stands_in(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce, "_reproduce", lambda arguments, _: asked.append(vars(arguments)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.npz").touch()
    places = ["--dataset-root", "voc", "--coco-root", "../coco", "--runs", "runs"]
    for weights in ("weights.npz", "none"):
        reproduce.main(["table2", *places, "--pretrained", weights])
    first, second = asked
    names = ("dataset_root", "coco_root", "runs", "pretrained")
    assert [Path(first[name]) for name in names] == [
        tmp_path / "voc", tmp_path.parent / "coco", tmp_path / "runs", tmp_path / "weights.npz"]  # fmt: skip
    assert second["pretrained"] == "none"


@pytest.fixture
def tiny(monkeypatch) -> None:
    """A smoke scale for tests: a few pictures, a narrow network, one epoch."""
    monkeypatch.setattr(reproduce, "SMOKE_IMAGES", (8, 4))
    monkeypatch.setenv("PYTHONPATH", STARTED)
    smoke = SCALES["smoke"]
    changes = {"network": NAME, "epochs": 1, "lr_decay_epoch": (), "num_workers": 0, "log_interval": 1}
    settings = {**smoke.settings, **changes}
    monkeypatch.setitem(SCALES, "smoke", replace(smoke, settings=settings, optimisers={}))


def without_processes(trained: Path, monkeypatch, real: str = "") -> list[list[str]]:
    """Make trainings copies of `trained`, but for the run `real`, and evaluate here; returns the copies' commands."""
    commands, finish = [], Runner.finish

    def stand_in(self, command, folder, where):
        if folder.name == real:
            finish(self, command, folder, where)
        elif not (folder / DONE).exists():
            if "evaluate" in command:
                evaluate.main([*command[command.index("evaluate") + 1 :], *where, "--num-workers", "0"])
            else:
                commands.append(command)
                shutil.copytree(trained, folder, dirs_exist_ok=True)
            (folder / DONE).write_text(json.dumps({"commit": "", "command": command}), encoding="utf-8")

    monkeypatch.setattr(Runner, "finish", stand_in)
    return commands


def run(tmp_path: Path, *flags: str) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    reproduce.main([*flags, "--scale", "smoke", *folders])


def test_table_and_figure_of_the_same_runs(tmp_path, tiny, trained, capsys, monkeypatch):
    without_processes(trained, monkeypatch, real="quickstart_ap_seed0")
    run(tmp_path, "table2", "--only", "ap", "focal")
    printed = capsys.readouterr().out
    assert "# Table 2, scale `smoke`" in printed
    results, done = tmp_path / "results" / "smoke", tmp_path / "runs" / "smoke"
    assert (results / "table2.md").read_text(encoding="utf-8") + "\n" in printed
    folders = sorted(path.name for path in done.iterdir() if path.is_dir())
    assert folders == ["quickstart_ap_seed0", "quickstart_loss_focal_seed0"]
    with (tmp_path / "results" / "smoke" / "table2.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row, folder in zip(rows, folders):
        metrics = json.loads((tmp_path / "runs" / "smoke" / folder / "metrics.json").read_text(encoding="utf-8"))
        assert float(row["AP50"]) == pytest.approx(100 * metrics["AP50"], abs=0.005)
        assert row["epoch"] == "1"

    assert "<h1>focal, VOC07, seed 0 and ap, VOC07, seed 0</h1>" in (done / "table2.html").read_text(encoding="utf-8")

    notes = [(done / folder / "done.json").stat().st_mtime_ns for folder in folders]
    run(tmp_path, "figure5a", "--only", "ap", "focal")
    assert notes == [(done / folder / "done.json").stat().st_mtime_ns for folder in folders]
    assert (tmp_path / "results" / "smoke" / "figure5a.png").exists()

    run(tmp_path, "figure6")
    assert notes == [(done / folder / "done.json").stat().st_mtime_ns for folder in folders]
    sheet = Image.open(tmp_path / "results" / "smoke" / "figure6.jpg")
    assert sheet.width > sheet.height > 640  # two rows of three pictures
    assert "focal, VOC07; ap, VOC07 one under another" in capsys.readouterr().out
    page = (tmp_path / "runs" / "smoke" / "figure6.html").read_text(encoding="utf-8")
    assert "<h1>focal, VOC07, seed 0 and ap, VOC07, seed 0</h1>" in page


@pytest.mark.parametrize(
    ("calibration", "told"), [(None, "scores from 0.20"), (Calibration(1, 1), "confidences from 0.40")]
)
def test_figure_6_tells_the_threshold_in_the_units_of_its_boxes(shapes, monkeypatch, calibration, told):
    detector = Detector(None, SHAPES_CLASSES, Recipe(val_split="2007_val"), None, 0.2, calibration)
    monkeypatch.setattr(detector, "predict", lambda _: Detections(np.zeros((0, 4)), [], []))
    captions = []
    monkeypatch.setattr(reproduce.Detector, "load", lambda _: detector)
    monkeypatch.setattr(reproduce, "contact_sheet", lambda pictures, columns, texts: captions.extend(texts))
    trials = trials_of("table2", SCALES["whole"], [0], ["focal,"])
    reproduce.draw_detectors(trials, SimpleNamespace(folder_of=lambda _: Path(), voc_root=shapes))
    assert set(captions) == {f"focal, VOC07, seed 0: {told}"}


@pytest.mark.slow
def test_three_optimisers(tmp_path, tiny):
    run(tmp_path, "figure5b")
    with (tmp_path / "results" / "smoke" / "figure5b.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert {point["row"] for point in points} == set(CONTENDERS)
    assert all(0 < float(point["value"]) <= 1 for point in points)
    assert len({point["value"] for point in points if point["step"] == "1"}) == 1  # the same start
    assert (tmp_path / "results" / "smoke" / "figure5b.png").exists()


def test_multi_scale_tests_the_same_run_again(tmp_path, tiny, trained, monkeypatch):
    without_processes(trained, monkeypatch)
    run(tmp_path, "table3")
    assert [path.name for path in (tmp_path / "runs" / "smoke").iterdir()] == ["quickstart_ap_seed0"]
    with (tmp_path / "results" / "smoke" / "table3.csv").open(newline="") as file:
        rows = {row["row"].split(", ")[-1]: row for row in csv.DictReader(file)}
    assert set(rows) == {"single scale", "multi-scale"}
    folder = tmp_path / "runs" / "smoke" / "quickstart_ap_seed0"
    files = (folder / name for name in ("metrics.json", "test/metrics.json"))
    trained, tested = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert tested["AR100"] != trained["AR100"]
    assert float(rows["single scale"]["AP50"]) == pytest.approx(100 * trained["AP50"], abs=0.005)
    assert float(rows["multi-scale"]["AP50"]) == pytest.approx(100 * tested["AP50"], abs=0.005)


def test_learning_rates_are_compared_without_the_test_images(tmp_path, tiny, trained, monkeypatch):
    commands = without_processes(trained, monkeypatch)
    run(tmp_path, "learning_rates", "--only", "ohem, lr 0.001")
    text = (tmp_path / "results" / "smoke" / "learning_rates.md").read_text(encoding="utf-8")
    assert text.startswith("# Learning rates, scale `smoke`")
    assert "| row | seeds | AP | AP50 | AP75 |" in text
    (flags,) = (dict(zip(command, command[1:])) for command in commands)
    assert (flags["--loss"], flags["--lr"]) == ("ohem", "0.001")
    for split, numbers in (("2007_train", (1, 2, 3, 4, 6, 7)), ("2007_val", (0, 5))):
        dataset = VOCDetection(flags["--dataset-root"], split, SHAPES_CLASSES)
        assert [sample.image_id for sample in dataset.samples] == [f"train_{number:06d}" for number in numbers]
        assert check_dataset(dataset, progress=False).ok


def test_a_failed_run_does_not_stop_the_others(tmp_path, tiny, trained, monkeypatch):
    without_processes(trained, monkeypatch)
    finish, table = Runner.finish, tmp_path / "results" / "smoke" / "table2.csv"

    def fail_focal(self, command, folder, where):
        if "focal" in folder.name:
            raise RunError("it broke")
        if folder.name == "quickstart_ap_seed0":  # the last one: what is finished is told already
            end = time.monotonic() + 30
            while not table.exists() or "ohem, VOC07" not in table.read_text(encoding="utf-8"):
                assert time.monotonic() < end
                time.sleep(0.05)
        finish(self, command, folder, where)

    monkeypatch.setattr(Runner, "finish", fail_focal)
    with pytest.raises(SystemExit, match=r"1 run\(s\) failed: quickstart_loss_focal_seed0"):
        run(tmp_path, "table2", "--only", "ap", "focal", "ohem")
    text = table.with_suffix(".md").read_text(encoding="utf-8")
    assert "| ap, VOC07 | 1 |" in text and "| focal, VOC07 | 0 |" in text


def test_a_figure_of_runs_that_all_failed_is_not_drawn(tmp_path, tiny, capsys, monkeypatch):
    def fail(*_):
        raise RunError("it broke")

    monkeypatch.setattr(Runner, "finish", fail)
    with pytest.raises(SystemExit, match=r"1 run\(s\) failed"):
        run(tmp_path, "figure5a", "--only", "ap")
    assert not (tmp_path / "results").exists() and "drawn" not in capsys.readouterr().out


def test_each_job_has_its_gpus(tmp_path, tiny, monkeypatch):
    at_work, seen = [], []

    def pretend(self, command, folder, where):
        at_work.append(where[1])
        assert len(set(at_work)) == len(at_work) <= 2
        time.sleep(0.05)
        at_work.remove(where[1])
        seen.append(where)

    with pytest.raises(SystemExit, match="sees 0 GPU"):
        run(tmp_path, "table2", "--gpus", "0", "1")
    monkeypatch.setattr(Runner, "finish", pretend)
    monkeypatch.setattr(reproduce, "parse_devices", lambda _: [])
    with pytest.raises(SystemExit, match=r"4 run\(s\) failed"):  # for they left nothing to measure
        run(tmp_path, "table2", "--gpus", "0", "1")
    assert len(seen) == 4
    assert {tuple(where) for where in seen} == {("--gpus", "0", "--no-report"), ("--gpus", "1", "--no-report")}


def test_data_are_wanted_beyond_smoke(tmp_path):
    with pytest.raises(SystemExit, match="scale whole wants --dataset-root"):
        reproduce.main(["table2", "--scale", "whole", "--runs", str(tmp_path)])
