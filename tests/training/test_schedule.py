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


@pytest.mark.parametrize(
    ("settings", "steps_per_epoch", "rates"),
    [
        ({"warmup_steps": 0, "warmup_factor": 0.0}, 10, {0: 1}),
        ({"warmup_steps": 10, "warmup_factor": 0.0}, 10, {0: 0, 5: 0.5, 10: 1}),
        ({"warmup_steps": 0, "lr_decay_epoch": ()}, 1, {10**6: 1}),
        ({"warmup_steps": 10, "warmup_factor": 0.5, "lr_decay_epoch": (1,)}, 4, {4: 0.1 * 0.7}),
    ],
    ids=["no warm-up", "from zero", "no decay", "a decay during a long warm-up"],
)
def test_ends_of_warm_up_and_decay(settings, steps_per_epoch, rates):
    recipe = Recipe(lr=1.0, **settings)
    assert {step: learning_rate(recipe, step, steps_per_epoch) for step in rates} == pytest.approx(rates)
