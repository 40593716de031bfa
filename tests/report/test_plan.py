"""What is trained for each row: the recipes, the learning rates, and that equal trainings are shared."""

from __future__ import annotations

import csv
from dataclasses import replace
from statistics import mean

import pytest

from aploss_mx.commands import reproduce
from aploss_mx.commands.recipe_flags import recipe_from_flags
from aploss_mx.commands.training import training_parser
from aploss_mx.config import RANKING_LOSSES
from aploss_mx.report.paper import to_flags
from aploss_mx.report.plan import GRID, LOSSES, SCALES, TABLES, trials_of
from aploss_mx.report.runner import check_gpus
from aploss_mx.report.tables import read_rows
from aploss_mx.theory.optimisers import CONTENDERS

RESULTS = reproduce.REPOSITORY / "results"
LEVEL = 0.1  # AP: closer than that to the best, the choice of the round before stays


def recipe_of(trial):
    return recipe_from_flags(training_parser("", "voc07_resnet50", "").parse_args(to_flags(trial.train)))


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_its_recipe(table, scale):
    trials = trials_of(table, scale, [0, 3])
    assert {trial.seed for trial in trials} == {0, 3}
    by_run = {}
    for trial in trials:
        recipe = recipe_of(trial)
        assert recipe == trial.recipe()
        assert recipe.seed == trial.seed
        by_run.setdefault(trial.run, set()).add(recipe)
        assert (recipe.batch_size % (recipe.ranking_batch or 1)) == 0
    assert all(len(recipes) == 1 for recipes in by_run.values())
    assert len({recipe for recipes in by_run.values() for recipe in recipes}) == len(by_run)


def test_what_the_rows_vary():
    whole = SCALES["whole"]
    assert [recipe_of(trial).ranking_batch for trial in trials_of("table1a", whole, [0])] == [1, 2, 4, 0]
    assert [recipe_of(trial).delta for trial in trials_of("table1b", whole, [0])] == [0.25, 0.5, 1, 2]
    assert [recipe_of(trial).interpolated for trial in trials_of("table1c", whole, [0])] == [False, True]
    assert [recipe_of(trial).loss for trial in trials_of("table2", whole, [0])] == ["ohem", "focal", "auc", "ap"]
    single, multi = trials_of("table3", whole, [0])
    assert single.run == multi.run
    assert single.test == {} and multi.test["test_flip"]
    assert len(trials_of("table2", SCALES["paper"], [0])) == 8
    assert [trial.scored_here for trial in trials_of("table3", SCALES["paper"], [0])].count(False) == 5


def test_each_loss_has_the_same_learning_rates_to_choose_from():
    recipes = [recipe_of(trial) for trial in trials_of("learning_rates", SCALES["smoke"], [0])]
    choices = {loss: [recipe.lr for recipe in recipes if recipe.loss == loss] for loss in LOSSES}
    assert len(recipes) == len(LOSSES) * len(GRID)
    assert all(rates == [0.00003, 0.0001, 0.0003, 0.001] for rates in choices.values())
    assert len({replace(recipe, loss="ap", lr=1) for recipe in recipes}) == 1
    with pytest.raises(ValueError, match="scale paper has no learning_rates: there are none"):
        trials_of("learning_rates", SCALES["paper"], [0])


def test_each_loss_has_the_same_optimisers_and_rates_of_the_backbone_to_choose_from():
    scale = SCALES["whole"]
    recipes = [recipe_of(trial) for trial in trials_of("learning_rates", scale, [0])]
    choices = [
        {(one.optimizer, one.lr, one.backbone_lr_mult) for one in recipes if one.loss == loss} for loss in LOSSES
    ]
    assert len(choices[0]) == 8 and choices == 4 * [choices[0]]
    assert {one.wd for one in recipes if one.optimizer == "sgd"} == {0.0001}
    epochs = [recipe_of(trials_of(name, scale, [0])[0]).epochs for name in (*scale.tuning, "table2")]
    assert epochs == sorted(epochs)
    assert len({replace(one, loss="ap", optimizer="sgd", lr=1, backbone_lr_mult=1, wd=0) for one in recipes}) == 1


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_optimisers_train_the_classes_alone_from_the_same_start(scale):
    trials = trials_of("figure5b", scale, [0])
    recipes = [recipe_of(trial) for trial in trials]
    assert {recipe.loss for recipe in recipes} == {"ap", "hinge-ap", "smooth-ap"}
    assert {recipe.box_loss_weight for recipe in recipes} == {0}
    assert len({replace(recipe, loss="ap", lr=1, epochs=1) for recipe in recipes}) == 1
    by_loss = [{recipe.lr for recipe in recipes if recipe.loss == loss} for loss in CONTENDERS.values()]
    assert by_loss == 3 * [by_loss[0]]
    assert len({trial.run for trial in trials}) == len(trials)


def test_the_chosen_learning_rate_is_used_by_all_rows_of_its_loss():
    scale = replace(SCALES["whole"], chosen={"ap": {"lr": 0.0007}, "focal": {"lr": 0.0002}})
    assert [recipe_of(trial).lr for trial in trials_of("table2", scale, [0])] == [0.0003, 0.0002, 0.0003, 0.0007]
    assert {recipe_of(trial).lr for trial in trials_of("table1a", scale, [0])} == {0.0007}
    tuned, untouched = (trials_of("learning_rates", one, [0]) for one in (scale, SCALES["whole"]))
    assert [recipe_of(trial) for trial in tuned] == [recipe_of(trial) for trial in untouched]


def test_the_best_rate_of_each_optimiser_is_trained_for_longer():
    """Best in the steps that all rates were trained for."""
    recipes = {trial.name: recipe_of(trial) for trial in trials_of("figure5b", SCALES["whole"], [0])}
    curves = {name: [] for name in recipes}
    with (RESULTS / "whole" / "figure5b.csv").open(newline="") as file:
        for point in csv.DictReader(file):
            if 1655 <= int(point["step"]) <= 2000 and point["seed"] == "0":
                curves[point["row"]].append(float(point["value"]))
    for name in CONTENDERS:
        of_one = sorted((mean(curve), row) for row, curve in curves.items() if row.startswith(name))
        assert [recipes[row].epochs for _, row in of_one] == [24, 8, 8, 8]


@pytest.mark.parametrize("scale", [scale for scale in SCALES.values() if scale.chosen], ids=lambda scale: scale.name)
def test_the_chosen_settings_are_the_best_measured_and_of_one_setting_in_the_longest_trainings(scale):
    tables = {name: RESULTS / scale.name / f"{name}.csv" for name in scale.tuning}
    measured = {name: read_rows(path) for name, path in tables.items() if path.exists()}
    for loss in LOSSES:
        expected = {}
        for name, rows in measured.items():
            choices = scale.tuning[name].choices
            by_ap = sorted(rows_of(loss, rows), key=lambda row: -float(row["AP"]))
            best = [row["row"].split(", ", 1)[1] for row in by_ap]
            assert set(best) <= set(choices)  # a training that diverged, or is not made yet, has no row
            level = [one for one, row in zip(best, by_ap) if float(by_ap[0]["AP"]) - float(row["AP"]) < LEVEL]
            best.sort(key=lambda one: one not in level or not choices[one].items() <= expected.items())
            if name == "learning_rates" and "learning_rates_longer" in scale.tuning:
                assert best[0] in scale.tuning["learning_rates_longer"].choices
            expected.update(choices[best[0]] if best else {})
        assert {**scale.settings, **scale.chosen[loss]} == {**scale.settings, **expected}


def rows_of(loss, rows):
    return [row for row in rows if row["row"].startswith(f"{loss},")]


def test_the_paper_ranks_eight_images_on_one_device_or_two():
    for table in (*TABLES, "figure5b"):
        trials = trials_of(table, SCALES["paper"], [0])
        check_gpus(trials, ["", "0", "0,1"])
        for trial in trials:
            recipe = trial.recipe()
            assert (recipe.ranking_batch in (1, 2, 4, 8)) == (recipe.loss in RANKING_LOSSES)


def test_only_some_rows():
    trials = trials_of("table2", SCALES["whole"], [0, 1], ["ap", "focal"])
    named = [(trial.name.split(",")[0], trial.seed) for trial in trials]
    assert named == [("focal", 0), ("ap", 0), ("focal", 1), ("ap", 1)]
    with pytest.raises(ValueError, match="named svm; there are: ohem, VOC07; focal"):
        trials_of("table2", SCALES["whole"], [0], ["ap", "svm"])
