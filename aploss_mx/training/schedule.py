"""Compute the learning rate from the step alone, so that a resumed run needs no memory of it."""

from __future__ import annotations

from aploss_mx.config import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then a factor at each decay epoch."""
    decays = sum(step >= epoch * steps_per_epoch for epoch in recipe.lr_decay_epoch)
    rate = recipe.lr * recipe.lr_decay**decays
    if step < recipe.warmup_steps:
        rate *= recipe.warmup_factor + (1 - recipe.warmup_factor) * step / recipe.warmup_steps
    return rate
