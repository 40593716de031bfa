"""A flag for each of the recipe's settings; help shows the values of the recipe that is chosen."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from typing import Any, Sequence

from aploss_mx.arguments import ArgumentParser
from aploss_mx.config import TEST_SETTINGS, ConfigError, Recipe, load_recipe, recipe_names
from aploss_mx.text import visible

GROUPS = {
    "data": ("train_split", "val_split", "classes", "data_shape", "augmentation"),
    "network": ("network", "channels", "new_conv_std", "pretrained", "pixels"),
    "anchors": ("anchor_size", "anchor_scales", "anchor_ratios"),
    "loss": (
        "loss", "delta", "interpolated", "temperature", "ranking_batch", "ranking_scope", "sync_ranking",
        "box_loss_weight",
    ),
    "optimiser": (
        "batch_size", "epochs", "optimizer", "lr", "backbone_lr_mult", "lr_decay", "lr_decay_epoch", "warmup_steps",
        "warmup_factor", "momentum", "wd", "seed",
    ),
    "test": ("val_interval", *TEST_SETTINGS),
}  # fmt: skip
"""All settings, as help groups them."""


class RecipeParser(ArgumentParser):
    """Reads ``--help`` last, so that it knows the recipe wherever that stands."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args(sorted(args, key=lambda text: text in ("-h", "--help")), namespace)


class _ChooseRecipe(argparse.Action):
    """Takes ``--recipe``, and shows its values in the help of the other flags."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, values)
        try:
            self.show(parser, values)
        except ConfigError as error:
            sys.exit(f"error: {visible(str(error), lines=True)}")

    def show(self, parser: argparse.ArgumentParser, name: str) -> None:
        settings = load_recipe(name).to_dict()
        self.container.description = f"Each flag below overrides a setting of the recipe. In brackets: {name}'s."
        for action in parser._actions:
            if action.dest in settings:
                action.help = _help(action.dest, settings[action.dest])


def add_recipe_flags(parser: RecipeParser, default: str) -> None:
    """Add ``--recipe`` and a flag for each setting; see `recipe_from_flags`."""
    group = parser.add_argument_group("recipe")
    recipe = group.add_argument(
        "--recipe",
        default=default,
        action=_ChooseRecipe,
        help=f"YAML file or one of {', '.join(recipe_names())} (default: %(default)s)",
    )
    for title, names in GROUPS.items():
        add_settings(parser.add_argument_group(title), names)
    recipe.show(parser, default)


def add_test_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each of TEST_SETTINGS."""
    group = parser.add_argument_group("test settings", "Without a flag, the checkpoint's recipe decides.")
    add_settings(group, TEST_SETTINGS, brackets=False)


def add_settings(group: argparse._ArgumentGroup, names: Sequence[str], brackets: bool = True) -> None:
    """Add a flag for each of the named settings, with the default recipe's values in brackets or without."""
    for name in names:
        default = Recipe.__dataclass_fields__[name].default
        # A flag that is true or false may stand alone for true.
        alone: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(default, bool) else {}
        help = _help(name, default if brackets else "")
        group.add_argument(f"--{name.replace('_', '-')}", metavar="…", help=help, **alone)


def _help(name: str, value: Any) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else "he" if value is None else str(value)
    shown = shown.lower() if isinstance(value, bool) else shown
    text = Recipe.__dataclass_fields__[name].metadata["help"]
    return f"{text} [{shown}]".replace("%", "%%") if shown else text


def recipe_from_flags(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe that the command line asks for.

    Raises
    ------
    ConfigError
        As `load_recipe`, and for values that cannot be used.
    """
    return load_recipe(arguments.recipe).override(**settings_given(arguments))


def settings_given(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the recipe's settings that the command line gives, as text."""
    given = {item.name: getattr(arguments, item.name, None) for item in fields(Recipe)}
    return {name: value for name, value in given.items() if value is not None}


def settings_of_test(arguments: argparse.Namespace) -> dict[str, str]:
    """Return those of them that a trained detector may be used with."""
    return {name: value for name, value in settings_given(arguments).items() if name in TEST_SETTINGS}
