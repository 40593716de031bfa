"""Proposition 1 and the bound on accumulated loss, on random problems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.theory.linear import (
    LinearProblem,
    accumulated_hinge,
    largest_accumulated_loss,
    learn,
    margin,
    most_steps,
    random_problem,
)

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(2, 6))
def test_separable_data_are_ranked_perfectly_within_the_bound(seed, dimensions):
    problem = random_problem(np.random.default_rng(seed), separable=True, dimensions=dimensions)
    learned = learn(problem, steps=100_000)
    assert learned.losses[-1] == 0
    assert (problem.differences @ learned.path[-1]).min() > 0
    assert 1 <= len(learned.losses) - 1 <= most_steps(problem)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.booleans(), st.floats(0.01, 100), st.integers(1, 150))
def test_the_accumulated_loss_is_bounded_by_any_vector(seed, separable, length, steps):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, separable)
    learned = learn(problem, steps)
    total = learned.losses[:-1].sum()
    for u in (learned.path[-1], rng.normal(size=3)):
        u = u / np.linalg.norm(u) * length
        hinge = accumulated_hinge(problem, learned, u)
        assert total <= hinge + np.linalg.norm(u) * problem.radius * np.sqrt(total) + 1e-9
        assert total <= largest_accumulated_loss(problem, learned, u) + 1e-9


def test_the_inequalities_of_the_proof():
    problems = (random_problem(np.random.default_rng(seed), separable=True) for seed in range(100))
    problem, learned = next((p, one) for p, one in ((p, learn(p, 100_000)) for p in problems) if len(one.losses) > 10)
    losses = learned.losses[:-1]
    weakest = 1 / (problem.positives * (problem.positives + 1))
    assert (losses >= weakest - 1e-12).all()
    assert losses.sum() * margin(problem) <= np.linalg.norm(learned.path[-1]) + 1e-9
    assert np.linalg.norm(learned.path[-1]) <= problem.radius * np.sqrt((losses**2).sum()) + 1e-9


def test_the_margin_in_closed_form():
    problem = LinearProblem(np.array([[3.0, 7.0], [3.0, -9.0], [1.0, 0.0]]), np.array([1, 1, 0]))
    assert margin(problem) == pytest.approx(2)  # along the first axis
    assert problem.radius == pytest.approx(np.hypot(2, 9))
    assert most_steps(problem) == pytest.approx(2 * 3 * 85 / 4)


def test_the_margin_of_what_cannot_be_separated_is_0():
    problem = LinearProblem(np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), np.array([1, 0, 0]))
    assert margin(problem) == 0


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_no_direction_has_a_larger_margin(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, separable=True, dimensions=2)
    angles = np.linspace(0, 2 * np.pi, 20_000)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    best = (problem.differences.reshape(-1, 2) @ directions).min(axis=0).max()
    assert margin(problem) == pytest.approx(best, rel=1e-3, abs=1e-3 * problem.radius)


def test_one_step_by_hand():
    # Both tie at 0: f = 1, L = 1 / 2, and theta moves by half the difference.
    problem = LinearProblem(np.array([[4.0], [1.0]]), np.array([1, 0]))
    learned = learn(problem, 10)
    np.testing.assert_allclose(learned.path, [[0], [1.5]])
    np.testing.assert_allclose(learned.losses, [0.5, 0])
    np.testing.assert_allclose(learned.errors, [[0.5]])


def test_learning_rate_and_weight_decay():
    problem = LinearProblem(np.array([[4.0], [1.0]]), np.array([1, 0]))
    learned = learn(problem, 1, theta=np.array([-2.0]), rate=0.5, wd=0.1)
    np.testing.assert_allclose(learned.path[-1], -2 + 0.5 * (0.5 * 3 + 0.1 * 2))


def test_the_length_of_the_weights_matters_to_no_step():
    # The Heaviside step knows signs alone: with theta = 0 at the start, any learning rate takes the same steps.
    problem = random_problem(np.random.default_rng(1), separable=True)
    np.testing.assert_array_equal(learn(problem, 1000).losses, learn(problem, 1000, rate=2.0**10).losses)
