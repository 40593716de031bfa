"""The step function of §3.4: other monotonic, symmetric steps serve as well, and its width trades with weight decay.

Errors depend on scores / delta alone. A linear learner that starts at theta = 0 with half width delta, learning rate
eta and weight decay lambda therefore takes the same way as one with c·delta, c·eta and lambda / c, only c times as far
out: theta - c·eta (g + lambda / c · theta) is c times the other's step. At one weight decay, a smaller delta keeps the
weights shorter, and so does more weight decay at one delta.
"""

from __future__ import annotations

from functools import partial
from typing import Callable

import numpy as np

from aploss_mx.ranking.error_driven import ap_terms
from aploss_mx.ranking.steps import logistic, piecewise_step, smoothstep
from aploss_mx.theory.linear import Learned, LinearProblem, learn
from aploss_mx.theory.rankings import average_precision

STEPS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "piecewise linear (Eq. 14)": piecewise_step,
    "cubic smoothstep": smoothstep,
    "logistic": logistic,
}


def learn_with(
    problem: LinearProblem,
    step: Callable[[np.ndarray, float], np.ndarray],
    steps: int,
    delta: float = 1.0,
    rate: float = 0.1,
    wd: float = 0.0,
) -> Learned:
    """Train a linear ranker with a step function (differences, delta) → 0 … 1; see `linear.learn`."""
    return learn(problem, steps, ap_terms(partial(step, delta=delta)), rate=rate, wd=wd)


def ap_losses(problem: LinearProblem, learned: Learned) -> np.ndarray:
    """Return 1 - average precision, with the Heaviside step, at each step of a learner."""
    return np.array([1 - average_precision(problem.features @ theta, problem.labels) for theta in learned.path])
