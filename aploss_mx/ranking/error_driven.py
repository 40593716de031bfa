"""Follow the paper's general scheme, pair by pair: errors of any activation, carried back to the scores.

A loss is written with the terms L_ij of an activation of all differences x_ij = s_j - s_i (Eq. 1), of which the pairs
of a positive i and a negative j count (Eq. 2). Each such term ought to be 0, so that x_ij is updated by the error -L_ij
(Eq. 9), and the gradient that the scores receive is the update's, with its sign turned, by the chain rule (Eq. 13).
What the update minimises depends on the activation alone:

* `ap_terms`: average precision; not the gradient of anything (§3.3);
* `auc_terms`: the area under the ROC curve;
* `softmax_terms`: cross entropy, of which it is the gradient (Observation 1);
* `augmented_step`: the hinge loss, of which it is a subgradient (Observation 1).

O((P + N)²) in time and memory: made to be read, and to test what is fast.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from aploss_mx.ranking.checks import check_labels
from aploss_mx.ranking.steps import heaviside

Activation = Callable[[np.ndarray], np.ndarray]
"""Takes all differences x (n, n) of the valid scores, x_ij = s_j - s_i, and returns their terms L (n, n)."""


def pair_errors(scores: np.ndarray, labels: np.ndarray, activation: Activation) -> np.ndarray:
    """Return the terms of all pairs of a positive and a negative, divided by the number of positives.

    Parameters
    ----------
    scores : ndarray of float, any shape
    labels : ndarray, shape of `scores`
        1 positive, 0 negative, -1 ignored.
    activation : callable
        Differences (n, n) of the n scores that are not ignored → terms (n, n).

    Returns
    -------
    ndarray of float64, shape (P, N)
        Positives and negatives in their order among the flattened scores. The sum is the loss (Eq. 6).

    Raises
    ------
    ValueError
        As `checks.check_labels`.
    """
    scores, labels = check_labels(scores, labels)
    valid = labels >= 0
    s, t = scores[valid].astype(np.float64), labels[valid]
    terms = activation(s[None, :] - s[:, None])
    return terms[np.ix_(t == 1, t == 0)] / max(1, (t == 1).sum())


def error_driven_update(scores: np.ndarray, labels: np.ndarray, activation: Activation) -> tuple[float, np.ndarray]:
    """Return the loss of an activation, and the gradient that its error-driven update hands to the scores.

    Arguments and errors are those of `pair_errors`.

    Returns
    -------
    loss : float
        Sum of the errors of all pairs (Eq. 6); 0 without a positive. Not what the gradient is the gradient of: for
        `softmax_terms` it is 1 - the true class's probability, for `augmented_step` a number of pairs.
    grad : ndarray of float64, shape of `scores`
        Eq. 13, divided by the number of positives. A learner descends along it.
    """
    errors = pair_errors(scores, labels, activation)
    grad = np.zeros(np.shape(scores))
    grad[np.asarray(labels) == 1] = -errors.sum(axis=1)
    grad[np.asarray(labels) == 0] = errors.sum(axis=0)
    return float(errors.sum()), grad


def ap_terms(step: Callable[[np.ndarray], np.ndarray] = heaviside) -> Activation:
    """Return the activation of the AP-loss (Eq. 3): the share of each score above i in the rank of i."""

    def terms(x: np.ndarray) -> np.ndarray:
        above = step(x)
        others = above.sum(axis=1) - np.diagonal(above)
        return above / (1 + others)[:, None]

    return terms


def auc_terms(negatives: int, step: Callable[[np.ndarray], np.ndarray] = heaviside) -> Activation:
    """Return the activation of the AUC-loss (Eq. 7), given the number of negatives."""
    return lambda x: step(x) / max(1, negatives)


def softmax_terms(x: np.ndarray) -> np.ndarray:
    """Softmax of the scores as seen from each i: exp(x_ij) / sum_k exp(x_ik), the probability of j, whatever i is."""
    powers = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)


def augmented_step(x: np.ndarray) -> np.ndarray:
    """Loss-augmented step: 1 as soon as j comes within 1 of i."""
    return heaviside(x + 1)
