"""Plan what to train for a table of the paper, at the scale that the machine allows."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from aploss_mx.config import Recipe, load_recipe
from aploss_mx.report.paper import PUBLISHED, Row, papers_ranking, to_flags, to_text, to_words
from aploss_mx.theory.optimisers import CONTENDERS

PROGRAM = (sys.executable, "-m", "aploss_mx")
TABLES = ("table1a", "table1b", "table1c", "table2", "table3")
# Not the paper's: the choices that go before its tables at other scales; the second is of the first's best.
TUNINGS = ("learning_rates", "learning_rates_longer", "augmentations")
REPORTED = (*TUNINGS, *TABLES)
FIGURE_5B = "figure5b"
RATE = ", lr "  # parts a row's name from its learning rate, where rows differ in that as well
LOSSES = ("ap", "auc", "focal", "ohem")
GRID = (0.00003, 0.0001, 0.0003, 0.001)
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """The trainings that a setting is chosen by: settings of all, and by name those to choose from, for each loss."""

    settings: Settings
    choices: Mapping[str, Settings]


def _rates(rates: Sequence[float]) -> dict[str, Settings]:
    return {f"lr {to_text(rate)}": {"lr": rate} for rate in rates}


def _optimisers() -> dict[str, Settings]:
    """Return two rates of Adam and of the paper's SGD, each with the same rate for the backbone and a tenth of it."""
    return {
        f"{optimizer}, lr {lr}, backbone x {factor}":
            {"optimizer": optimizer, "lr": lr, "backbone_lr_mult": factor, "wd": wd}
        for optimizer, wd, rates in (("adam", 0.00001, (0.001, 0.0003)), ("sgd", 0.0001, (0.01, 0.03)))
        for factor in (0.1, 1) for lr in rates
    }  # fmt: skip


EIGHT_EPOCHS = {"epochs": 8, "lr_decay_epoch": (6,), "val_interval": 0}


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
    settings : dict of str to value
        Changes to it.
    data : str
        The data set that rows may be of: 'voc', or 'voc coco'.
    multi_scale : dict of str to value
        Settings of a multi-scale test.
    tuning : dict of str to Tuning
        By names of TUNINGS.
    chosen : dict of str to dict
        The settings chosen for each loss; the recipe's for one that is not here.
    optimisers : dict of str to value
        Settings of the trainings of Figure 5b.
    optimisers_lr : tuple of float
        Learning rates that each of them is made with; () for the recipe's alone.
    optimisers_longer : dict of str to dict
        By names of its rows, what else is set of those that are trained for longer.
    """

    name: str
    what: str
    what_else: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    settings: Settings = field(default_factory=dict)
    data: str = "voc"
    multi_scale: Settings = field(default_factory=dict)
    tuning: Mapping[str, Tuning] = field(default_factory=dict)
    chosen: Mapping[str, Settings] = field(default_factory=dict)
    optimisers: Settings = field(default_factory=dict)
    optimisers_lr: tuple[float, ...] = ()
    optimisers_longer: Mapping[str, Settings] = field(default_factory=dict)

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
            optimisers={"train_split": "2007_trainval", "log_interval": 100},
        ),
        Scale(
            "whole",
            "whole ImageNet ResNet-18 at 160 px, trained on VOC's split 2007_train and tested on 2007_val: not "
            "comparable with the published figures",
            {"learning_rates": "whole ImageNet ResNet-18 at 160 px, trained for 3 epochs on four fifths of VOC's split "
             "2007_train and tested on the rest, to choose optimiser and learning rates for each loss",
             "learning_rates_longer": "whole ImageNet ResNet-18 at 160 px, trained for 8 epochs on four fifths of "
             "VOC's split 2007_train and tested on the rest, to choose between Adam's two rates for each loss",
             "augmentations": "whole ImageNet ResNet-18 at 160 px, trained for 8 epochs on four fifths of VOC's split "
             "2007_train with the chosen optimiser and rates and tested on the rest, to choose the augmentation",
             FIGURE_5B: "whole ImageNet ResNet-18 at 160 px without box regression, 8 epochs or more of VOC's "
             "split 2007_train, with four learning rates each: not comparable with the published figure"},
            "small_voc",
            {"data_shape": 160, "test_short": 160, "test_long": 267, "augmentation": "flip", "epochs": 16,
             "lr_decay_epoch": (12, 15), "val_interval": 2},
            multi_scale={"test_scales": (96, 128, 160, 192, 224), "test_flip": True},
            tuning={
                "learning_rates": Tuning({"epochs": 3, "lr_decay_epoch": (2,), "val_interval": 0}, _optimisers()),
                "learning_rates_longer": Tuning(
                    EIGHT_EPOCHS,
                    {name: _optimisers()[name] for name in (f"adam, lr {lr}, backbone x 0.1" for lr in GRID[2:])},
                ),
                "augmentations": Tuning(
                    EIGHT_EPOCHS,
                    {name: {"augmentation": name} for name in ("flip", "ssd")},
                ),
            },
            chosen={
                loss: _optimisers()[f"adam, lr {lr}, backbone x 0.1"]
                for loss, lr in {"ap": 0.001, "auc": 0.0003, "focal": 0.001, "ohem": 0.001}.items()
            },
            optimisers={"epochs": 8, "lr_decay_epoch": (), "log_interval": 5, "backbone_lr_mult": 0.1},
            optimisers_lr=GRID,
            optimisers_longer={
                "error-driven update, lr 0.0003": {"epochs": 24},
                "structured hinge loss, lr 0.0001": {"epochs": 24},
                "approximate gradient, lr 0.0003": {"epochs": 24},
            },
        ),
        Scale(
            "smoke",
            "a check of the machinery on generated shapes at 64 px, trained for three epochs: the figures mean nothing",
            {},
            "quickstart",
            {"data_shape": 64, "test_short": 64, "test_long": 64, "channels": 32, "epochs": 3, "lr_decay_epoch": (2,),
             "warmup_steps": 20, "val_interval": 1},
            multi_scale={"test_scales": (48, 64, 96), "test_flip": True},
            tuning={"learning_rates": Tuning({"epochs": 1, "lr_decay_epoch": ()}, _rates(GRID))},
            optimisers={"log_interval": 2},
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A row of a table with one seed.

    Attributes
    ----------
    row : Row
    seed : int
    run : str
        Name of the training's folder, which rows that differ in their test alone share.
    train, test : dict of str to value
        Settings of the training, its recipe's name and log_interval among them, and of a test that is not the
        training's, or {}.
    """

    row: Row
    seed: int
    run: str
    train: Settings
    test: Settings

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.row.name

    @property
    def coco(self) -> bool:
        """Whether the data are COCO's."""
        return self.row.dataset == "coco"

    @property
    def scored_here(self) -> bool:
        """False where the objects of the test are secret and its server scores."""
        return self.row.split not in ("2012_test", "test-dev2017")

    def recipe(self) -> Recipe:
        """Return the recipe that it trains."""
        recipe = load_recipe(self.train["recipe"])
        return recipe.override(**{name: value for name, value in self.train.items() if name in recipe.to_dict()})

    def train_command(self, places: Settings) -> list[str]:
        """Return the command that trains it, or resumes; `places` are the flags on data and weights and folder."""
        return [*PROGRAM, f"train-{self.row.dataset}", *to_flags({**self.train, **places, "resume": "auto"})]


def rows_of(table: str, scale: Scale) -> list[Row]:
    """Return the rows of a table that a scale has: published ones, or those of its learning rates or Figure 5b."""
    if table in TUNINGS:
        if table not in scale.tuning:
            raise ValueError(f"scale {scale.name} has no {table}: there are {', '.join(scale.tuning) or 'none'}")
        tuning = scale.tuning[table]
        return [
            Row(f"{loss}, {name}", scale.recipe, train={"loss": loss, **choice, **tuning.settings})
            for loss in LOSSES for name, choice in tuning.choices.items()
        ]  # fmt: skip
    if table == FIGURE_5B:
        alone = {"box_loss_weight": 0, "val_interval": 0}
        rates = [(f"{RATE}{to_text(lr)}", {"lr": lr}) for lr in scale.optimisers_lr] or [("", {})]
        return [
            Row(name + at, scale.recipe or "voc07_resnet50", train={
                "loss": loss, **lr, **alone, **scale.optimisers,
                **scale.optimisers_longer.get(name + at, {}),
            })
            for name, loss in CONTENDERS.items() for at, lr in rates
        ]  # fmt: skip
    rows = [row for row in PUBLISHED[table.replace("table", "")] if row.dataset in scale.data.split()]
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
    strangers = [part for part in only if not any(part in row.name for row in rows)]
    if strangers:
        raise ValueError(
            f"no row of {table} at scale {scale.name} is named {', '.join(strangers)}; "
            f"there are: {'; '.join(row.name for row in rows)}"
        )
    rows = [row for row in rows if not only or any(part in row.name for part in only)]
    return [_trial(row, scale, seed) for seed in dict.fromkeys(seeds) for row in rows]


def _trial(row: Row, scale: Scale, seed: int) -> Trial:
    recipe = scale.recipe or row.recipe
    train = {"recipe": recipe, **scale.settings, **scale.chosen.get(row.train.get("loss", "ap"), {}), **row.train}
    changed = "_".join(word for pair in to_words(row.train) for word in pair).replace(",", "-") or "ap"
    return Trial(
        row=row,
        seed=seed,
        run=f"{recipe}_{changed}_seed{seed}",
        train={**train, "seed": seed, **(papers_ranking(row.train) if scale.name == "paper" else {})},
        test=row.test and (scale.multi_scale or row.test),
    )
