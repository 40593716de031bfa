"""The list of the paper's figures: complete, and every command can be typed as printed."""

from __future__ import annotations

import shlex
from itertools import chain

import pytest

from aploss_mx.commands import evaluate, reproduce
from aploss_mx.commands.recipe_flags import recipe_from_flags
from aploss_mx.commands.training import training_parser
from aploss_mx.config import RANKING_LOSSES, TEST_SETTINGS, Recipe, load_recipe
from aploss_mx.report.paper import PUBLISHED

ROWS = list(chain(*PUBLISHED.values()))


def recipe_of(row) -> Recipe:
    command = row.train_command("data", "0,1")
    assert command[:2] in (["aploss-mx", "train-voc"], ["aploss-mx", "train-coco"])
    return recipe_from_flags(training_parser("", "voc07_resnet50", "").parse_args(command[2:]))


@pytest.mark.parametrize("table, row", [(table, row) for table in PUBLISHED for row in PUBLISHED[table]])
def test_commands_can_be_typed(table, row, monkeypatch):
    recipe = recipe_of(row)
    assert (recipe.ranking_batch > 0) == (recipe.loss in RANKING_LOSSES)
    changed = recipe.override(ranking_batch=0) != load_recipe(row.recipe)
    assert changed == bool(row.train.keys() - {"ranking_batch"})
    assert ("resnet101" in recipe.network) == (table == "3")
    assert recipe.batch_size == 16

    seen = {}
    monkeypatch.setattr(evaluate, "run", lambda arguments: seen.update(vars(arguments)))
    evaluate.main(row.test_command("data", "0")[2:])
    assert seen["params"] == f"runs/{row.run}/last.npz"
    assert seen["detect_only"] == (row.split in ("2012_test", "test-dev2017"))
    given = {name: seen[name] for name in TEST_SETTINGS if seen[name] is not None}
    assert bool(recipe.override(**given).test_scales) == ("multi" in row.name)


def test_runs_are_shared_by_equal_trainings_alone():
    trained = {}
    for row in ROWS:
        trained.setdefault(row.run, set()).add(recipe_of(row))
    assert all(len(recipes) == 1 for recipes in trained.values())
    assert len(trained) == len({recipe for recipes in trained.values() for recipe in recipes})


def test_no_two_tests_write_the_same_file_for_a_server():
    commands = {tuple(row.test_command("data", "0")) for row in ROWS}
    files = [command[-1] for command in commands if "--detect-only" in command]
    assert len(files) == len(set(files)) == 5


def test_the_tables_are_whole():
    assert {table: len(rows) for table, rows in PUBLISHED.items()} == {"1a": 4, "1b": 4, "1c": 2, "2": 8, "3": 7}
    # The setting that all ablations share.
    same = {table: [row.metrics for row in PUBLISHED[table] if row.run == "voc07_resnet50"] for table in PUBLISHED}
    metrics = [{"AP": 53.1, "AP50": 82.3, "AP75": 58.1}]
    assert same == {"1a": metrics, "1b": metrics, "1c": metrics, "2": metrics, "3": []}


def test_list(capsys):
    reproduce.main(["list", "--table", "2", "--coco-root", "/data/my coco"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 8
    assert lines[0] == "Table 2, ohem, VOC07: paper AP 49.1  AP50 81.5  AP75 51.5"
    coco = next(line for line in lines if "train-coco" in line)
    assert "/data/my coco" in shlex.split(coco)
    assert "--loss ohem" in coco
