"""`aploss-mx report`, and the page that a training makes by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_training import tiny_flags

from aploss_mx import cli
from aploss_mx.commands import report, train_voc

SHAPES = "circle,square,triangle,star,cross"


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory) -> Path:
    """A run whose training made its page."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    flags = [flag for flag in tiny_flags(shapes, folder) if flag != "--no-report"]
    train_voc.main(flags, prog="aploss-mx train-voc")
    yield folder
    shutil.rmtree(folder)


def test_a_training_makes_its_page_and_notes_its_command(run, shapes):
    note = json.loads((run / "run.json").read_text())
    assert note["command"][:4] == ["aploss-mx", "train-voc", "--dataset-root", str(shapes)]
    assert note["train_images"] == 8 and sum(note["train_objects"].values()) > 8
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "aploss-mx train-voc --dataset-root" in html and "AP-loss of the ranking" in html
    assert len(list((run / "tensorboard").iterdir())) == 2


@pytest.mark.parametrize("flags", [["{run}"], ["{run}", "--dataset-root", "{shapes}", "--png", "{out}/png"]])
def test_of_a_run(run, shapes, tmp_path, flags, capsys):
    flags = [flag.format(run=run, shapes=shapes, out=tmp_path) for flag in flags]
    cli.main(["report", *flags, "--output", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").read_bytes() == (run / "report.html").read_bytes()
    assert f"wrote {tmp_path / 'page.html'}" in capsys.readouterr().out
    assert len(list((tmp_path / "png").glob("*.png"))) == (9 if "--png" in flags else 0)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of the run, of the same name."""
    return shutil.copytree(run, tmp_path / run.name)


@pytest.mark.parametrize("flags", [[], ["--dataset-root", "../{here}/{shapes}"]])
def test_in_a_folder_with_both_layouts_a_page_is_of_the_one_that_was_trained_on(
    run, copy, shapes, coco, tmp_path, monkeypatch, flags
):
    monkeypatch.chdir(tmp_path)
    both = shutil.copytree(shapes, tmp_path / shapes.name)
    (both / "annotations").mkdir()
    shutil.copy(coco / "annotations" / "instances_val.json", both / "annotations" / "instances_2007_val.json")
    note = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**note, "dataset_root": str(both)}))
    report.main([str(copy), *(flag.format(shapes=shapes.name, here=tmp_path.name) for flag in flags)])
    assert (copy / "report.html").read_bytes() == (run / "report.html").read_bytes()


def test_a_note_of_an_earlier_version_has_no_layout(run, copy):
    note = json.loads((copy / "run.json").read_text())
    del note["layout"]
    (copy / "run.json").write_text(json.dumps(note))
    report.main([str(copy)])
    assert (copy / "report.html").read_bytes() == (run / "report.html").read_bytes()


def test_of_detections(run, shapes, tmp_path):
    page = tmp_path / "page.html"
    flags = ["--detections", str(run / "detections.json"), "--dataset-root", str(shapes), "--split", "2007_val"]
    cli.main(["report", *flags, "--classes", SHAPES, "--output", str(page)])
    assert "aploss-mx report --detections" in page.read_text(encoding="utf-8")


def test_no_file_of_another_kind_is_overwritten(run, shapes, capsys):
    found = str(run / "detections.json")
    before = Path(found).read_bytes()
    with pytest.raises(SystemExit):
        cli.main(["report", "--detections", found, "--dataset-root", str(shapes), "--split", "v", "--output", found])
    assert "must end in .html" in capsys.readouterr().err
    assert Path(found).read_bytes() == before


def test_of_two_runs(run, copy, tmp_path):
    cli.main(["report", str(run), str(copy), "--output", str(tmp_path / "two.html")])
    assert "They differ in no setting." in (tmp_path / "two.html").read_text(encoding="utf-8")


def test_of_detections_on_coco(coco, trained_on_coco, tmp_path):
    flags = ["--detections", str(trained_on_coco / "detections.json"), "--dataset-root", str(coco), "--split", "val"]
    report.main([*flags, "--output", str(tmp_path / "page.html")])
    report.main([str(trained_on_coco), "--output", str(tmp_path / "run.html")])
    assert (tmp_path / "page.html").is_file() and (tmp_path / "run.html").is_file()


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "up to 4 folders"),
        (["a", "b", "c", "d", "e"], "up to 4 folders"),
        (["a", "--detections", "b"], "up to 4 folders"),
        (["--detections", "b"], "wants --dataset-root and --split"),
        (["a", "--split", "b"], "go with --detections"),
        (["nowhere"], "nowhere lacks recipe.yaml"),
    ],
)
def test_what_cannot_be_is_told(flags, message, capsys):
    with pytest.raises(SystemExit) as error:
        report.main(flags)
    assert message in f"{error.value.code} {capsys.readouterr().err}"


def test_a_page_that_cannot_be_written_is_not_made(copy, monkeypatch):
    (copy / "report.html").unlink()
    (copy / "report.html").mkdir()
    monkeypatch.setattr(report, "write_run_page", None)
    with pytest.raises(SystemExit, match="Is a directory"):
        report.main([str(copy)])


def test_a_run_without_a_note_wants_the_data_set(copy):
    (copy / "run.json").unlink()
    with pytest.raises(SystemExit, match="give --dataset-root"):
        report.main([str(copy)])


def test_a_page_that_fails_costs_the_training_nothing(shapes, folder, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no room for a page")

    monkeypatch.setattr("aploss_mx.commands.training.write_run_page", fail)
    flags = [flag for flag in tiny_flags(shapes, folder) if flag != "--no-report"]
    metrics = train_voc.main(flags)
    assert metrics == {k: v for k, v in json.loads((folder / "metrics.json").read_text()).items() if k != "epoch"}
    assert "warning: the run is whole, but its page is not (no room for a page)" in capsys.readouterr().err


def test_no_report(trained):
    assert not (trained / "report.html").exists()
