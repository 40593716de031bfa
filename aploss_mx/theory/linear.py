"""A linear ranker under the error-driven update: what Proposition 1 says of it, proved and watched.

Scores are s = phi · theta, and every step adds to theta the errors of all pairs, l_ij = L_ij / |P| (Eq. 9), along the
differences of their features, d_ij = phi_i - phi_j. With the Heaviside step l_ij > 0 only where d_ij · theta <= 0, and
A_t, the sum of the l_ij at step t, is the AP-loss. R is the length of the longest d_ij. Start at theta = 0.

**Separable data are ranked perfectly in finitely many steps.** Let a unit vector u have d_ij · u >= gamma > 0 for all
pairs. A step moves theta by sum l_ij d_ij, of which u sees at least gamma A_t, and whose length is at most R A_t. The
scores of the pairs that take part are in the wrong order, so that the square of theta's length grows by
2 sum l_ij d_ij · theta + |sum l_ij d_ij|² <= R² A_t². Over T steps therefore

    gamma · sum A_t  <=  theta · u  <=  |theta|  <=  R · sqrt(sum A_t²).

As A_t <= 1, sum A_t² <= sum A_t, and hence sum A_t <= R² / gamma². While the ranking is not perfect, some positive i
has n >= 1 negatives above it and a rank of at most |P| + n, so that A_t >= n / (|P| + n) / |P| >= 1 / (|P| (|P| +
1)):

    T  <=  |P| (|P| + 1) R² / gamma².

**On any data the accumulated loss is bounded by the hinge loss of any other ranker.** For a vector u let H(u) be the
sum over all steps and pairs of l_ij · max(0, 1 - d_ij · u): what u would have paid for the pairs that the learner had
wrong. As d_ij · u >= 1 - max(0, 1 - d_ij · u), theta · u >= A - H(u) with A = sum A_t, and the bound on theta's length
above gives

    A  <=  H(u) + |u| R sqrt(A).

Where the data cannot be separated, both sides grow with the steps: the mean loss a step is in the long run no more than
the mean hinge loss of the best u.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from aploss_mx.ranking.error_driven import Activation, ap_terms, pair_errors


class LinearProblem(NamedTuple):
    """Samples to be ranked: features (n, d) in float64, and labels (n,), 1 positive, 0 negative."""

    features: np.ndarray
    labels: np.ndarray

    @property
    def positives(self) -> int:
        """|P|."""
        return int((self.labels == 1).sum())

    @property
    def differences(self) -> np.ndarray:
        """d_ij = phi_i - phi_j of each positive i and negative j, shape (P, N, d)."""
        return self.features[self.labels == 1][:, None] - self.features[self.labels == 0][None]

    @property
    def radius(self) -> float:
        """R, the length of the longest difference."""
        return float(np.linalg.norm(self.differences, axis=2).max())


class Learned(NamedTuple):
    """What a learner did.

    Attributes
    ----------
    path : ndarray of float64, shape (steps + 1, d)
        Its weights before each step, and at the end.
    losses : ndarray of float64, shape (steps + 1,)
        Loss at each of them.
    errors : ndarray of float64, shape (P, N)
        Errors l_ij of each pair, summed over the steps.
    """

    path: np.ndarray
    losses: np.ndarray
    errors: np.ndarray


def learn(
    problem: LinearProblem,
    steps: int,
    activation: Activation | None = None,
    theta: np.ndarray | None = None,
    rate: float = 1.0,
    wd: float = 0.0,
) -> Learned:
    """Train a linear ranker by error-driven updates, until its loss is 0 or the steps are used up.

    Parameters
    ----------
    problem : LinearProblem
    steps : int
        The most steps to make.
    activation : callable, optional
        As `aploss_mx.ranking.error_driven` takes it; by default that of the AP-loss with the Heaviside step.
    theta : ndarray, shape (d,), optional
        Where to start; by default at 0.
    rate, wd : float
        Learning rate, and weight decay: a step is theta - rate · (gradient + wd · theta).
    """
    activation = ap_terms() if activation is None else activation
    theta = np.zeros(problem.features.shape[1]) if theta is None else np.asarray(theta, np.float64)
    differences = problem.differences
    total = np.zeros(differences.shape[:2])
    path, losses = [], []
    for step in range(steps + 1):
        path.append(theta)
        errors = pair_errors(problem.features @ theta, problem.labels, activation)
        losses.append(errors.sum())
        if losses[-1] == 0 or step == steps:
            break
        total += errors
        theta = theta + rate * (np.tensordot(errors, differences) - wd * theta)
    return Learned(np.array(path), np.array(losses), total)


def margin(problem: LinearProblem) -> float:
    """Return gamma, the largest margin d_ij · u of any unit vector u; 0 where the data are not separable.

    The shortest w with d_ij · w >= 1 points along u (the support vector machine's quadratic program).
    """
    differences = problem.differences.reshape(-1, problem.features.shape[1]) / problem.radius
    shortest = minimize(
        lambda w: (w @ w / 2, w),
        differences.mean(axis=0),
        jac=True,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: differences @ w - 1, "jac": lambda w: differences},
    ).x
    length = np.linalg.norm(shortest)
    return max(0.0, float((differences @ shortest).min() / length * problem.radius)) if length else 0.0


def most_steps(problem: LinearProblem) -> float:
    """Return the bound |P| (|P| + 1) R² / gamma² on the steps that separable data take."""
    return problem.positives * (problem.positives + 1) * (problem.radius / margin(problem)) ** 2


def accumulated_hinge(problem: LinearProblem, learned: Learned, u: np.ndarray) -> float:
    """Return H(u), the hinge losses of the pairs under `u`, weighted by the errors that the learner made on them."""
    return float((learned.errors * np.maximum(0, 1 - problem.differences @ u)).sum())


def largest_accumulated_loss(problem: LinearProblem, learned: Learned, u: np.ndarray) -> float:
    """Return the largest A that A <= H(u) + |u| R sqrt(A) admits."""
    reach = np.linalg.norm(u) * problem.radius
    return ((reach + np.sqrt(reach**2 + 4 * accumulated_hinge(problem, learned, u))) / 2) ** 2


def random_problem(rng: np.random.Generator, separable: bool, size: int = 40, dimensions: int = 3) -> LinearProblem:
    """Draw a problem with a handful of positives among `size` samples, with a gap between them or without.

    The features differ in scale, so that the mean difference is not the answer already.
    """
    while True:
        problem = _draw(rng, separable, size, dimensions)
        if separable or margin(problem) == 0:
            return problem


def _draw(rng: np.random.Generator, separable: bool, size: int, dimensions: int) -> LinearProblem:
    direction = rng.normal(size=dimensions)
    direction /= np.linalg.norm(direction)
    features = rng.normal(size=(size, dimensions)) * np.geomspace(1, 0.1, dimensions)
    count = int(rng.integers(2, 7))
    labels = np.zeros(size, np.int64)
    noise = 0.0 if separable else rng.normal(scale=0.3, size=size)
    labels[np.argsort(features @ direction + noise)[-count:]] = 1
    if separable:
        features[labels == 1] += rng.uniform(0.02, 0.2) * direction
    return LinearProblem(features, labels)
