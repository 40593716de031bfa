"""Start a run from a network with a pretrained backbone, or resume it from a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Sequence

import mxnet as mx

from aploss_mx.checkpoint import Checkpoint, CheckpointError, is_checkpoint
from aploss_mx.checkpoint_fields import SHOWN
from aploss_mx.config import TEST_SETTINGS, ConfigError, Recipe
from aploss_mx.training.pretrained import load_pretrained
from symbols.retinanet import RetinaNet, get_network

# Settings that may change when a run resumes; any other would make it a different run.
MEASURED_WITH = {"val_split", *TEST_SETTINGS}
CHANGEABLE = MEASURED_WITH | {
    "epochs", "lr", "backbone_lr_mult", "lr_decay", "lr_decay_epoch", "warmup_steps", "warmup_factor", "val_interval",
    "pretrained",
}  # fmt: skip


def new_network(
    recipe: Recipe, classes: Sequence[str], devices: Sequence[mx.Context]
) -> tuple[RetinaNet, tuple[str, ...]]:
    """Return the network at its start, and the names of the backbone's parameters that are pretrained.

    Raises
    ------
    ConfigError
        If pretrained weights are of other pixels than the recipe's.
    WeightsError, CheckpointError
        If they cannot be read or used.
    """
    network = get_network(
        recipe.network, len(classes), recipe.channels, devices, recipe.new_conv_std, recipe.background,
        recipe.anchors.per_cell,
    )  # fmt: skip
    left_over: list[str] = []
    if is_checkpoint(recipe.pretrained):
        start = Checkpoint.load(recipe.pretrained)
        if start.recipe.pixels != recipe.pixels:
            raise ConfigError(f"{recipe.pretrained} was trained with --pixels {start.recipe.pixels}")
        pretrained, at_random = start.fine_tune(network, classes)
    else:
        at_random, left_over = load_pretrained(network.backbone, recipe.network, recipe.pretrained)
        pretrained = sorted(set(network.backbone._collect_params_with_prefix()) - set(at_random))
        if not at_random:
            print(f"{recipe.pretrained} fills all of {recipe.network}; a classifier is not needed")
    if recipe.pretrained != "none" and at_random:
        print(f"{recipe.pretrained} lacks {len(at_random)} parameters, which start at random: {', '.join(at_random)}")
    if left_over:
        print(f"{recipe.pretrained} holds {len(left_over)} arrays without a place: {', '.join(left_over)}")
    return network, tuple(pretrained)


def load_checkpoint(path: Path, recipe: Recipe, classes: Sequence[str], devices: int) -> Checkpoint:
    """Read the checkpoint to resume from, on so many devices, and say what has changed since.

    Raises
    ------
    CheckpointError
        If it cannot be read, is of other classes or settings, or has more epochs than the recipe.
    """
    checkpoint = Checkpoint.load(path)
    if checkpoint.is_compact:
        raise CheckpointError(f"{path} was exported for use, without its optimizer: fine-tune it with --pretrained")
    if recipe.epochs < checkpoint.epoch:
        raise CheckpointError(f"{path} has {checkpoint.epoch} epochs, more than --epochs {recipe.epochs}")
    if checkpoint.classes != tuple(classes):
        raise CheckpointError(f"the checkpoint's classes are {', '.join(checkpoint.classes)}")
    was, now = checkpoint.recipe.with_names(classes), recipe.with_names(classes)
    together = recipe.images_together(devices)
    alike = {"ranking_batch"} if checkpoint.images_together == together else set()
    other = differences(was, now, set(recipe.to_dict()) - CHANGEABLE - alike)
    if other:
        raise CheckpointError(f"a run cannot resume with other settings ({other})")
    changed = differences(checkpoint.recipe, recipe, CHANGEABLE)
    print(f"resuming from {path}, epoch {checkpoint.epoch}" + (f", with {changed}" if changed else ""))
    if checkpoint.images_together not in (None, together):
        print(
            f"{checkpoint.images_together} images were ranked and normalised together, and now {together}: another "
            "training. As many devices as before continue it, or with --loss ap and the like fewer devices and "
            f"--ranking-batch {checkpoint.images_together}"
        )
    threads, now = checkpoint.omp_num_threads, omp_num_threads()
    if threads not in (None, now):
        print(f"OMP_NUM_THREADS was {threads} and is {now}: the weights will not be the same to the last bit")
    return checkpoint


def omp_num_threads() -> str:
    """Return the environment's OMP_NUM_THREADS as a checkpoint notes it: without blanks, and short."""
    return "".join(os.environ["OMP_NUM_THREADS"].split())[: SHOWN - 1]


def differences(old: Recipe, new: Recipe, names: set[str]) -> str:
    """Return which of the named settings differ, for a message; '' if none does."""
    was, now = old.to_dict(), new.to_dict()
    return "; ".join(f"{name}: {was[name]} → {now[name]}" for name in now if name in names and was[name] != now[name])
