"""What to train for a table of the paper, at the scale that the machine allows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

from aploss_mx.config import Recipe, load_recipe
from aploss_mx.report.paper import PUBLISHED, Published, papers_ranking
from aploss_mx.theory.optimisers import CONTENDERS

TABLES = ("table1a", "table1b", "table1c", "table2", "table3")
# Not the paper's: the choice that goes before its tables at other scales, and the best of it trained longer.
LEARNING_RATES = ("learning_rates", "learning_rates_longer")
REPORTED = (*LEARNING_RATES, *TABLES)
FIGURE_5B = "figure5b"
RATE = ", lr "  # parts a row's name from its learning rate, where rows differ in that as well
LOSSES = ("ap", "auc", "focal", "ohem")
GRID = ("0.00003", "0.0001", "0.0003", "0.001")


@dataclass(frozen=True)
class Tuning:
    """The trainings that a setting is chosen by: flags of all, and by name the flags to choose from, for each loss."""

    flags: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]


def _rates(rates: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {f"lr {rate}": ("--lr", rate) for rate in rates}


def _optimisers() -> dict[str, tuple[str, ...]]:
    """Return two rates of Adam and of the paper's SGD, each with the same rate for the backbone and a tenth of it."""
    return {
        f"{optimizer}, lr {lr}, backbone x {factor}": (
            "--optimizer", optimizer, "--lr", lr, "--backbone-lr-mult", factor, "--wd", wd
        )
        for optimizer, wd, rates in (("adam", "0.00001", ("0.001", "0.0003")), ("sgd", "0.0001", ("0.01", "0.03")))
        for factor in ("0.1", "1") for lr in rates
    }  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How large to train.

    Attributes
    ----------
    name : str
    what : str
        What the figures are of, for readers of the results.
    what_else : dict of str to str
        The same of learning rates and Figure 5b, which are of other trainings.
    recipe : str
        That all rows share; '' for each published row's own.
    flags : tuple of str
        Changes to it.
    data : str
        The data set that rows may be of: 'voc', or 'voc coco'.
    multi_scale : tuple of str
        Flags of a multi-scale test.
    tuning : dict of str to Tuning
        By names of LEARNING_RATES.
    chosen : dict of str to tuple of str
        The flags chosen for each loss; the recipe's settings for one that is not here.
    optimisers : tuple of str
        Flags of the trainings of Figure 5b.
    optimisers_lr : tuple of str
        Learning rates that each of them is made with; () for the recipe's alone.
    """

    name: str
    what: str
    what_else: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    flags: tuple[str, ...] = ()
    data: str = "voc"
    multi_scale: tuple[str, ...] = ()
    tuning: Mapping[str, Tuning] = field(default_factory=dict)
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optimisers: tuple[str, ...] = ()
    optimisers_lr: tuple[str, ...] = ()

    def describe(self, name: str) -> str:
        """Return what the figures of a table or a figure are of."""
        return self.what_else.get(name, self.what)


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "paper",
            "the paper's recipes and data",
            {FIGURE_5B: "the paper's recipe on VOC2007 trainval without box regression: 160 epochs, or 50,000 steps; "
             "the axis of the paper's figure ends at 120,000, and its schedule is not given"},
            data="voc coco",
            optimisers=("--train-split", "2007_trainval", "--log-interval", "100"),
        ),
        Scale(
            "small",
            "ResNet-18 at 160 px, trained on VOC's split 2007_train and tested on 2007_val: not comparable with the "
            "published figures",
            {"learning_rates": "ResNet-18 at 160 px, trained for 3 epochs on four fifths of VOC's split 2007_train and "
             "tested on the rest, to choose two learning rates for each loss",
             "learning_rates_longer": "ResNet-18 at 160 px, trained for 8 epochs on four fifths of VOC's split "
             "2007_train and tested on the rest, to choose the learning rate of each loss in the other tables",
             FIGURE_5B: "ResNet-18 at 160 px without box regression, 3 epochs of VOC's split 2007_train, with three "
             "learning rates each: not comparable with the published figure"},
            "small_voc",
            ("--data-shape", "160", "--test-short", "160", "--test-long", "267", "--augmentation", "flip",
             "--epochs", "16", "--lr-decay-epoch", "12,15", "--val-interval", "2"),
            multi_scale=("--test-scales", "96,128,160,192,224", "--test-flip", "true"),
            tuning={
                "learning_rates": Tuning(("--epochs", "3", "--lr-decay-epoch", "2"), _rates(GRID)),
                "learning_rates_longer": Tuning(
                    ("--epochs", "8", "--lr-decay-epoch", "6", "--val-interval", "0"), _rates(GRID[1:3])
                ),
            },
            chosen={
                "ap": ("--lr", "0.0003"), "auc": ("--lr", "0.0003"), "focal": ("--lr", "0.0003"),
                "ohem": ("--lr", "0.0001"),
            },
            optimisers=("--epochs", "3", "--lr-decay-epoch", "", "--log-interval", "5"),
            optimisers_lr=GRID[1:],
        ),
        Scale(
            "whole",
            "whole ImageNet ResNet-18 at 160 px, trained on VOC's split 2007_train and tested on 2007_val: not "
            "comparable with the published figures",
            {"learning_rates": "whole ImageNet ResNet-18 at 160 px, trained for 3 epochs on four fifths of VOC's split "
             "2007_train and tested on the rest, to choose optimiser and learning rates for each loss"},
            "small_voc",
            ("--data-shape", "160", "--test-short", "160", "--test-long", "267", "--augmentation", "flip",
             "--epochs", "16", "--lr-decay-epoch", "12,15", "--val-interval", "2"),
            multi_scale=("--test-scales", "96,128,160,192,224", "--test-flip", "true"),
            tuning={
                "learning_rates": Tuning(
                    ("--epochs", "3", "--lr-decay-epoch", "2", "--val-interval", "0"), _optimisers()
                ),
            },
            optimisers=("--epochs", "3", "--lr-decay-epoch", "", "--log-interval", "5"),
            optimisers_lr=GRID[1:],
        ),
        Scale(
            "smoke",
            "a check of the machinery on generated shapes at 64 px, trained for three epochs: the figures mean nothing",
            {},
            "quickstart",
            ("--data-shape", "64", "--test-short", "64", "--test-long", "64", "--channels", "32", "--epochs", "3",
             "--lr-decay-epoch", "2", "--warmup-steps", "20", "--val-interval", "1"),
            multi_scale=("--test-scales", "48,64,96", "--test-flip", "true"),
            tuning={"learning_rates": Tuning(("--epochs", "1", "--lr-decay-epoch", ""), _rates(GRID))},
            optimisers=("--log-interval", "2"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A row of a table with one seed.

    Attributes
    ----------
    published : Published
        The row.
    seed : int
    run : str
        Name of the training's folder, which rows that differ in their test alone share.
    train : tuple of str
        The training script and its flags, but for folders, data and devices.
    test : tuple of str
        Flags of the test, () for that of the training.
    """

    published: Published
    seed: int
    run: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def row(self) -> str:
        """Name of the row."""
        return self.published.row

    @property
    def coco(self) -> bool:
        """Whether the data are COCO's."""
        return self.published.dataset == "coco"

    @property
    def scored_here(self) -> bool:
        """False where the objects of the test are secret and its server scores."""
        return self.published.split not in ("2012_test", "test-dev2017")

    def recipe(self) -> Recipe:
        """Return the recipe that it trains."""
        given = {flag[2:].replace("-", "_"): value for flag, value in zip(self.train[1::2], self.train[2::2])}
        recipe = load_recipe(given.pop("recipe"))
        return recipe.override(**{name: value for name, value in given.items() if name in recipe.to_dict()})

    def train_command(
        self, python: str, scripts: Path, dataset_root: str, folder: Path, more: Sequence[str]
    ) -> list[str]:
        """Return the command that trains it, or goes on."""
        script, *flags = self.train
        where = ["--dataset-root", dataset_root, "--save-prefix", str(folder), "--resume", "auto"]
        return [python, str(scripts / script), *flags, *where, *more]


def rows_of(table: str, scale: Scale) -> list[Published]:
    """Return the rows of a table that a scale has: published ones, or those of its learning rates or Figure 5b."""
    if table in LEARNING_RATES:
        if table not in scale.tuning:
            raise ValueError(f"scale {scale.name} has no {table}: there are {', '.join(scale.tuning) or 'none'}")
        tuning = scale.tuning[table]
        grid = itertools.product(LOSSES, tuning.choices.items())
        return [
            Published("", f"{loss}, {name}", scale.recipe, "held-out part of train", {},
                      ("--loss", loss, *choice, *tuning.flags))
            for loss, (name, choice) in grid
        ]  # fmt: skip
    if table == FIGURE_5B:
        flags = ("--box-loss-weight", "0", "--val-interval", "0", *scale.optimisers)
        return [
            Published("", f"{name}{RATE}{lr}" if lr else name, scale.recipe or "voc07_resnet50", "training images", {},
                      ("--loss", loss, *(("--lr", lr) if lr else ()), *flags))
            for name, loss in CONTENDERS.items() for lr in scale.optimisers_lr or ("",)
        ]  # fmt: skip
    rows = [row for row in PUBLISHED if f"table{row.table}" == table and row.dataset in scale.data.split()]
    return rows if scale.name == "paper" else [row for row in rows if row.split == "2007_test"]


def trials_of(table: str, scale: Scale, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Trial]:
    """Return the trials of a table, seed by seed.

    Parameters
    ----------
    table : str
        One of REPORTED, or FIGURE_5B.
    scale : Scale
    seeds : sequence of int
    only : sequence of str
        Parts of rows' names; () for all rows.

    Raises
    ------
    ValueError
        If a part is in no row's name.
    """
    rows = rows_of(table, scale)
    strangers = [part for part in only if not any(part in row.row for row in rows)]
    if strangers:
        raise ValueError(
            f"no row of {table} at scale {scale.name} is named {', '.join(strangers)}; "
            f"there are: {'; '.join(row.row for row in rows)}"
        )
    rows = [row for row in rows if not only or any(part in row.row for part in only)]
    return [_trial(row, scale, seed) for seed in dict.fromkeys(seeds) for row in rows]


def _trial(row: Published, scale: Scale, seed: int) -> Trial:
    settings = dict(zip(row.train_flags[::2], row.train_flags[1::2]))
    chosen = scale.chosen.get(settings.get("--loss", "ap"), ())
    flags = ("--recipe", scale.recipe or row.recipe, *scale.flags, *chosen, *row.train_flags, "--seed", str(seed))
    if scale.name == "paper":
        flags += papers_ranking(row.train_flags)
    changed = "_".join(word.replace("--", "").replace(",", "-") for word in row.train_flags) or "ap"
    return Trial(
        published=row,
        seed=seed,
        run=f"{scale.recipe or row.recipe}_{changed}_seed{seed}",
        train=(f"train_{row.dataset}.py", *flags),
        test=(scale.multi_scale or row.test_flags) if row.test_flags else (),
    )
