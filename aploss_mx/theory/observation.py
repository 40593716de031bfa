"""Observation 1: with other activations the error-driven update is the gradient of a well-known loss.

One sample with scores of K classes is a ranking with the true class c as its only positive. With softmax as the
activation, L_ck = exp(s_k) / sum_l exp(s_l), the probability p_k: the update's gradient is p_k at every other class and
-(1 - p_c) at the true one, that of -log p_c. With the step augmented by a margin of 1, L_ck = 1 where s_k >= s_c - 1: a
subgradient of the hinge loss sum_k max(0, 1 + s_k - s_c).
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from aploss_mx.ranking.error_driven import augmented_step, error_driven_update, softmax_terms


def cross_entropy_gradient(scores: np.ndarray, true_class: int) -> np.ndarray:
    """Gradient of -log softmax(scores)[true_class], shape (K,)."""
    gradient = softmax(scores)
    gradient[true_class] -= 1
    return gradient


def hinge_gradient(scores: np.ndarray, true_class: int) -> np.ndarray:
    """Gradient of the sum over other classes k of max(0, 1 + s_k - s_true), shape (K,)."""
    gradient = (1 + scores - scores[true_class] > 0).astype(np.float64)
    gradient[true_class] = 0
    gradient[true_class] = -gradient.sum()
    return gradient


LOSSES = {
    "cross entropy": (softmax_terms, cross_entropy_gradient),
    "hinge loss": (augmented_step, hinge_gradient),
}


def largest_difference(name: str, rng: np.random.Generator, samples: int = 1000) -> float:
    """Return the largest difference between update and gradient of a loss of LOSSES, on random scores."""
    activation, gradient = LOSSES[name]
    worst = 0.0
    for _ in range(samples):
        scores = rng.normal(size=rng.integers(2, 21)) * rng.choice([0.1, 1, 10])
        true_class = int(rng.integers(len(scores)))
        _, update = error_driven_update(scores, np.arange(len(scores)) == true_class, activation)
        worst = max(worst, float(np.abs(update - gradient(scores, true_class)).max()))
    return worst
