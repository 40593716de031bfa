"""In every program, ``~`` is the home folder and a flag of a file to write looks whether it can be written."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from tiny_training import tiny_flags

from aploss_mx import cli
from aploss_mx.arguments import ArgumentParser, html_file, output_file, output_folder
from aploss_mx.atomic import OF_A_TRAINING
from aploss_mx.commands import evaluate, train_voc
from aploss_mx.config import load_recipe
from aploss_mx.data.voc import parse_classes

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = [path for folder in ("aploss_mx", "scripts", "examples") for path in (REPOSITORY / folder).rglob("*.py")]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("flags", [["--output", "~/f", "~/g"], ["--output=~/f", "~/g"], ["~/g", "--out=~/f"]])
@pytest.mark.parametrize("command", [[], ["do"]])
def test_the_home_folder(home, flags, command):
    parser = target = ArgumentParser()
    if command:
        target = parser.add_subparsers().add_parser("do")
    target.add_argument("--output", type=Path)
    target.add_argument("input")
    arguments = parser.parse_args([*command, *flags])
    assert (arguments.output, arguments.input) == (home / "f", f"{home}/g")


def test_other_tildes_stay():
    parser = ArgumentParser()
    parser.add_argument("--name", nargs="+")
    assert parser.parse_args(["--name", "a~/b", "b=~"]).name == ["a~/b", "b=~"]


def test_every_program_reads_its_flags_so():
    own = {path.name for path in PROGRAMS if re.search(r"argparse\.ArgumentParser\(", path.read_text(encoding="utf-8"))}
    assert own == set()


@pytest.mark.parametrize(
    ("kind", "place", "at"),
    [
        (output_file, "file/a", "file"),
        (output_file, "file/new/a", "file"),
        (output_file, ".", "."),
        (html_file, "file/a.html", "file"),
        (output_folder, "file", "file"),
        (output_folder, "file/new", "file"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(home, capsys, kind, place, at):
    (home / "file").touch()
    parser = ArgumentParser()
    parser.add_argument("--to", type=kind, default=str(home / place))
    for flags in ([], ["--to", str(home / place)]):
        with pytest.raises(SystemExit):
            parser.parse_args(flags)
        told = capsys.readouterr().err
        assert "argument --to: cannot be written: " in told and told.endswith(f": {home / at}\n")


@pytest.mark.parametrize("name", OF_A_TRAINING)
def test_what_a_training_keeps_is_not_written_over(home, capsys, name):
    (home / name).touch()
    (home / "recipe.yaml").touch()
    with pytest.raises(SystemExit):
        evaluate.main(["--params", "voc-resnet18", "--save-detections", str(home / name)])
    assert capsys.readouterr().err.endswith(f"cannot be written: a training keeps its own here: {home / name}\n")


def test_these_are_all_the_files_that_a_training_keeps(shapes, home):
    train_voc.main(tiny_flags(shapes, home))
    files = {path.name for path in home.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert files == set(OF_A_TRAINING)


def test_nor_is_what_stands_beside_an_output(home):
    (home / "recipe.yaml").touch()
    (home / "metrics.csv").touch()
    flags = ["--detections", "x", "--dataset-root", ".", "--split", "x", "--reliability", str(home / "metrics.png")]
    with pytest.raises(SystemExit, match="a training keeps its own here: .*metrics.csv"):
        evaluate.main(flags)


@pytest.mark.parametrize("kind", [output_file, output_folder])
def test_looking_whether_it_can_be_written_makes_nothing(home, kind):
    assert kind(str(home / "new" / "a")) == home / "new" / "a"
    assert list(home.iterdir()) == []


def test_every_flag_of_something_to_write_looks_so():
    flag = re.compile(r'add_argument\(\s*"([a-z-]+)"(?:(?!add_argument).)*?type=Path', re.DOTALL)
    unchecked = {name for path in PROGRAMS for name in flag.findall(path.read_text(encoding="utf-8"))}
    assert unchecked == {"runs", "--params", "--save-prefix"}  # the last is a training's, which looks itself


@pytest.mark.parametrize("command", [[], ["shapes"]])
def test_help_can_be_printed_in_any_encoding(command, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr("aploss_mx.data.shapes.SHAPES_CLASSES", ["猫"])
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    sys.stdout.flush()
    assert end.value.code == 0 and b"\\u" in written.getvalue()


def test_the_home_folder_in_recipes(home):
    (home / "names.txt").write_text("cat\ndog\n")
    (home / "mine.yaml").write_text("epochs: 3\n")
    assert parse_classes("~/names.txt") == ("cat", "dog")
    assert load_recipe("~/mine.yaml").epochs == 3
