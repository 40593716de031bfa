"""The learning rate at each step, by hand."""

from __future__ import annotations

import pytest

from aploss_mx.config import Recipe
from aploss_mx.training.schedule import learning_rate


def test_warm_up_and_decays_by_hand():
    recipe = Recipe(lr=0.8, lr_decay=0.5, lr_decay_epoch=(2, 3), warmup_steps=4, warmup_factor=0.25)
    rates = [learning_rate(recipe, step, steps_per_epoch=5) for step in range(17)]
    assert rates == pytest.approx([0.2, 0.35, 0.5, 0.65] + 6 * [0.8] + 5 * [0.4] + 2 * [0.2])


def test_paper_on_pascal_voc():
    steps_per_epoch = 1035  # 16551 images, 16 a step
    rates = {
        step: learning_rate(Recipe(), step, steps_per_epoch)
        for step in (0, 250, 499, 500, 110 * 1035 - 1, 110 * 1035, 140 * 1035 - 1, 140 * 1035, 160 * 1035 - 1)
    }
    assert list(rates.values()) == pytest.approx(
        [0.001 / 3, 0.002 / 3, 0.001 * (1 - 2 / 3 / 500), 0.001, 0.001, 1e-4, 1e-4, 1e-5, 1e-5]
    )


def test_no_warm_up():
    assert learning_rate(Recipe(lr=0.1, warmup_steps=0, warmup_factor=0.0), 0, 10) == 0.1


def test_warm_up_from_zero():
    recipe = Recipe(lr=1.0, warmup_steps=10, warmup_factor=0.0)
    assert [learning_rate(recipe, step, 10) for step in (0, 5, 10)] == [0, 0.5, 1]


def test_no_decay():
    recipe = Recipe(lr=0.1, lr_decay_epoch=(), warmup_steps=0)
    assert learning_rate(recipe, 10**6, 1) == 0.1


def test_decay_during_a_long_warm_up_counts_too():
    recipe = Recipe(lr=1.0, lr_decay=0.1, lr_decay_epoch=(1,), warmup_steps=10, warmup_factor=0.5)
    assert learning_rate(recipe, 4, steps_per_epoch=4) == pytest.approx(0.1 * 0.7)
