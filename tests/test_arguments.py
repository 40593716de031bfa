"""``~`` is the home folder in every flag of every program."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from aploss_mx import cli
from aploss_mx.arguments import ArgumentParser
from aploss_mx.config import load_recipe
from aploss_mx.data.voc import parse_classes

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = [*REPOSITORY.glob("aploss_mx/**/*.py"), *REPOSITORY.glob("scripts/**/*.py")]


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
