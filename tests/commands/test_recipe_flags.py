"""Help tells the truth: what stands in brackets is what a run uses."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import chain

import pytest

from aploss_mx.commands import demo, evaluate, train_coco, train_voc
from aploss_mx.commands.recipe_flags import GROUPS
from aploss_mx.config import TEST_SETTINGS, Recipe, load_recipe, recipe_names

DEFAULTS = {train_voc: "voc07_resnet50", train_coco: "coco_resnet50"}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")


def help_of(main, flags, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        main([*flags, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def brackets(text: str) -> dict[str, str]:
    """Return by setting what stands in brackets at the end of its help; '' where nothing does."""
    flags = re.findall(r"^  --([a-z-]+) \[?…\]? +(.*)$", text, re.MULTILINE)
    return {flag.replace("-", "_"): (re.search(r" \[([^][]*)\]$", line) or ["", ""])[1] for flag, line in flags}


def test_every_setting_is_in_one_group():
    assert sorted(chain(*GROUPS.values())) == sorted(item.name for item in fields(Recipe))


@pytest.mark.parametrize("command", DEFAULTS)
@pytest.mark.parametrize("name", [None, *recipe_names()])
def test_brackets_typed_as_flags_are_the_recipe(command, name, capsys):
    printed = help_of(command.main, ["--recipe", name] if name else [], capsys)
    name = name or DEFAULTS[command]
    shown = brackets(printed)
    assert shown.keys() == {item.name for item in fields(Recipe)}
    assert Recipe.from_dict(shown) == load_recipe(name)
    assert f"In brackets: {name}'s." in printed
    titles = [f"\n{title}:\n" for title in ("recipe", *GROUPS)]
    assert [title for title in titles if title in printed] == titles


@pytest.mark.parametrize("command", [demo, evaluate])
def test_no_brackets_where_the_checkpoint_decides(command, capsys):
    shown = brackets(help_of(command.main, [], capsys))
    assert {name: shown[name] for name in TEST_SETTINGS} == dict.fromkeys(TEST_SETTINGS, "")


def test_a_recipe_of_ones_own(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("epochs: 7\nnew_conv_std: he\npretrained: 100%.npz\ntest_scales: [96, 128]\n")
    shown = brackets(help_of(train_voc.main, [f"--recipe={tmp_path / 'mine.yaml'}"], capsys))
    wanted = {"epochs": "7", "new_conv_std": "he", "pretrained": "100%.npz", "test_scales": "96,128"}
    assert {name: shown[name] for name in wanted} == wanted


def test_help_with_a_recipe_that_there_is_not():
    with pytest.raises(SystemExit, match="error: no recipe 'nowhere'"):
        train_voc.main(["--recipe", "nowhere", "--help"])


@pytest.mark.parametrize("flags", [["--help", "--recipe", "quickstart"], ["-h", "--recipe=quickstart"]], ids=str)
def test_the_order_does_not_matter(flags, capsys):
    with pytest.raises(SystemExit):
        train_voc.main(flags)
    assert brackets(capsys.readouterr().out)["data_shape"] == "128"
