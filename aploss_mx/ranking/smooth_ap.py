"""The "approximate gradient" of Figure 5b: average precision over sigmoids, and gradient descent on -log(AP + epsilon).

With the Heaviside step of Eq. 3 replaced by a sigmoid of temperature tau, precision is differentiable:

    R_i = 1 + sum over positives k other than i of sigma((s_k - s_i) / tau)
    A_i = sum over negatives j of sigma((s_j - s_i) / tau)
    AP = mean over positives of R_i / (R_i + A_i)

A_i asks for the sum of a smooth function over all negatives, and a negative's gradient for another one over all
positives. Instead of visiting P·N pairs, the negatives are gathered in cells a quarter of tau wide, in each of which a
sigmoid is a polynomial to within float32's rounding: a cell's moments stand for its negatives, as if they sat at its
Chebyshev nodes, and a polynomial for the pull on them. Neighbouring positives visit the nodes where a sigmoid of theirs
is neither 0 nor 1, and count those above. That takes O(N + P²), and O(N log N + P²) where the scores are spread so
widely that most cells hold few negatives or none.
"""

from __future__ import annotations

from functools import partial
from typing import Iterator

import numpy as np
from scipy.special import expit

from aploss_mx.ranking.checks import LEAST_TEMPERATURE, check_width
from aploss_mx.ranking.problem import CHUNK, Method, RankingProblem, solve_labels

# A sigmoid's poles lie pi from the real axis: on a cell of this width, polynomials through n Chebyshev nodes err by
# about (4 pi / CELL) ** -n, 6e-11 here.
CELL = 0.25
NODES = 6
REACH = 45.0  # from where on a sigmoid is 0 or 1 to within 3e-20
PAIRS = 1 << 20  # pairs at a time

CHEBYSHEV = -np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
TO_COEFFICIENTS = np.linalg.inv(np.vander(CHEBYSHEV, increasing=True))  # values at the nodes → polynomial


def smooth_ap_loss_and_grad(
    scores: np.ndarray, labels: np.ndarray, temperature: float = 0.5, epsilon: float = 1e-6
) -> tuple[float, np.ndarray]:
    """-log(AP + epsilon) of the average precision smoothed by sigmoids, and its true gradient.

    Parameters
    ----------
    scores : ndarray of float, any shape
    labels : ndarray, shape of `scores`
        1 positive, 0 negative, -1 ignored.
    temperature : float
        Of the sigmoid, in units of the scores; 0.5 makes it as steep as the paper's step function with delta = 1.
    epsilon : float
        Bounds the gradient where AP is near 0.

    Returns
    -------
    loss : float
        0 without a positive, NaN where a valid score is not finite.
    grad : ndarray of float32, shape of `scores`

    Raises
    ------
    ValueError
        As `checks.check_labels`, and if `temperature` is not in 1e-28 … 1e100 or `epsilon` not in 1e-100 … 1e100.
    """
    return solve_labels(smooth_ap_loss(temperature, epsilon), scores, labels)


def smooth_ap_loss(temperature: float = 0.5, epsilon: float = 1e-6) -> Method:
    """Return the method of `smooth_ap_loss_and_grad`, for `problem.solve`; raises its ValueError for both arguments."""
    check_width("temperature", temperature, LEAST_TEMPERATURE)
    check_width("epsilon", epsilon)
    return partial(_solve, temperature, epsilon)


def _solve(temperature: float, epsilon: float, problem: RankingProblem, grad: np.ndarray) -> float:
    order = np.argsort(problem.positive_scores)
    positives = problem.positive_scores[order] / temperature
    count = len(positives)
    negatives = _negatives(problem, temperature)
    meetings = list(_meetings(positives, negatives.points))

    rank, own_slopes = np.ones(count), np.zeros(count)
    for part in _parts(slice(0, count), count):
        steps, slopes = _sigmoid(positives[:, None] - positives[part])
        rank[part] += steps.sum(axis=0) - 0.5
        own_slopes[part] = slopes.sum(axis=0)
    above, negative_slopes = np.zeros(count), np.zeros(count)
    beyond = np.append(negatives.weights[::-1].cumsum()[::-1], 0)
    for part, near in meetings:
        steps, slopes = _sigmoid(negatives.points[near, None] - positives[part])
        above[part] = beyond[near.stop] + negatives.weights[near] @ steps
        negative_slopes[part] = negatives.weights[near] @ slopes

    precision = rank / (rank + above)
    ap = precision.mean()
    scale = 1 / ((ap + epsilon) * count * temperature * (rank + above) ** 2)
    by_rank, by_above = scale * above, scale * rank  # how the loss falls with rank_i, and rises with above_i
    positive_grad = by_rank * own_slopes - by_above * negative_slopes
    for part in _parts(slice(0, count), count):
        positive_grad[part] -= _sigmoid(positives[part, None] - positives)[1] @ by_rank
    pulls = np.zeros(len(negatives.points))
    for part, near in meetings:
        pulls[near] += _sigmoid(negatives.points[near, None] - positives[part])[1] @ by_above[part]

    flat_grad = grad.reshape(-1)
    for where, pull in negatives.spread(pulls):
        flat_grad[where] = pull
    flat_grad[problem.positives[order]] = positive_grad
    return float(-np.log(ap + epsilon))


def _meetings(positives: np.ndarray, points: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield neighbouring positives, and the points within REACH of any of them; both arrays ascend."""
    stretch = np.floor(positives / REACH)
    first = np.flatnonzero(np.append(True, np.diff(stretch) > 0))
    for start, stop in zip(first, [*first[1:], len(positives)]):
        first_near = np.searchsorted(points, positives[start] - REACH)
        near = slice(first_near, np.searchsorted(points, positives[stop - 1] + REACH, "right"))  # ties are near
        for part in _parts(slice(start, stop), near.stop - near.start):
            yield part, near


def _negatives(problem: RankingProblem, temperature: float) -> _Gathered | _Scattered:
    """Return the negatives' scores / temperature as few weighted points."""
    low, high = np.inf, -np.inf
    for _, scores in problem.negatives():
        if len(scores):
            low, high = min(low, scores.min() / temperature), max(high, scores.max() / temperature)
    cells = (high - low) // CELL + 1 if high >= low else 0
    if cells * NODES < min(problem.negative_count, CHUNK):  # each chunk adds to all cells
        return _Gathered(problem, temperature, low, int(cells))
    return _Scattered(problem, temperature)


class _Gathered:
    """Negatives of neighbouring cells, as the nodes of those that hold some.

    Parameters
    ----------
    problem : RankingProblem
    temperature : float
        Scores are divided by it.
    low : float
        The lowest of them.
    cells : int

    Attributes
    ----------
    points, weights : ndarray of float64, shape (M,)
        Ascending points, and how many negatives each of them stands for.
    """

    def __init__(self, problem: RankingProblem, temperature: float, low: float, cells: int):
        self.problem, self.temperature, self.low = problem, temperature, low
        moments = np.zeros((cells, NODES))
        for _, scores in problem.negatives():
            cell, x = self._place(scores)
            power = np.ones_like(x)
            for order in range(NODES):
                moments[:, order] += np.bincount(cell, power, cells)
                power *= x
        self.occupied = moments[:, 0] > 0
        centres = low + (np.flatnonzero(self.occupied) + 0.5) * CELL
        self.points = (centres[:, None] + CHEBYSHEV * (CELL / 2)).reshape(-1)
        self.weights = (moments[self.occupied] @ TO_COEFFICIENTS).reshape(-1)

    def _place(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores' cells, and where in them they stand, -1 … 1."""
        position = (scores / self.temperature - self.low) / CELL
        cell = position.astype(np.int64)
        return cell, 2 * (position - cell) - 1

    def spread(self, values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield flat places of negatives, and what a smooth function of `values` at the points comes to there."""
        coefficients = np.zeros((NODES, len(self.occupied)))
        coefficients[:, self.occupied] = TO_COEFFICIENTS @ values.reshape(-1, NODES).T
        for where, scores in self.problem.negatives():
            yield where, _polynomial(coefficients, *self._place(scores))


class _Scattered:
    """As `_Gathered`, of negatives anywhere: those of a cell that holds few stand for themselves."""

    def __init__(self, problem: RankingProblem, temperature: float):
        self.problem = problem
        scores = np.concatenate([np.empty(0), *(scores for _, scores in problem.negatives())]) / temperature
        self.ascending = np.argsort(scores)
        scores = scores[self.ascending]
        cell = np.floor(scores / CELL)
        first = np.flatnonzero(np.append(True, np.diff(cell) > 0))[: len(scores)]
        sizes = np.diff(np.append(first, len(scores)))
        crowded = sizes > NODES
        self.gathered = np.repeat(crowded, sizes)
        first, sizes = first[crowded], sizes[crowded]
        self.group = np.repeat(np.arange(len(sizes)), sizes)
        lowest, highest = scores[first], scores[first + sizes - 1]
        centres, halves = (lowest + highest) / 2, (highest - lowest) / 2
        distances = scores[self.gathered] - centres[self.group]
        self.x = np.divide(distances, halves[self.group], out=np.zeros_like(distances), where=distances != 0)
        moments = np.stack([np.bincount(self.group, self.x**order, len(sizes)) for order in range(NODES)], axis=1)

        nodes = (centres[:, None] + CHEBYSHEV * halves[:, None]).reshape(-1)
        weights = (moments @ TO_COEFFICIENTS).reshape(-1)
        alone = scores[~self.gathered]
        points = np.concatenate([nodes, alone])
        self.order = np.argsort(points)
        self.points = points[self.order]
        self.weights = np.concatenate([weights, np.ones(len(alone))])[self.order]

    def spread(self, values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `_Gathered.spread`."""
        unordered = np.empty_like(values)
        unordered[self.order] = values
        of_nodes, of_alone = np.split(unordered, [NODES * (self.group[-1] + 1) if len(self.group) else 0])
        coefficients = TO_COEFFICIENTS @ of_nodes.reshape(-1, NODES).T
        of_ascending, of_negatives = np.empty((2, len(self.ascending)))
        of_ascending[self.gathered] = _polynomial(coefficients, self.group, self.x)
        of_ascending[~self.gathered] = of_alone
        of_negatives[self.ascending] = of_ascending
        start = 0
        for where, _ in self.problem.negatives():
            yield where, of_negatives[start : start + len(where)]
            start += len(where)


def _polynomial(coefficients: np.ndarray, cell: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the values at `x` of the polynomials of `cell`; `coefficients` has a row for each power, from 0 on."""
    value = coefficients[-1][cell]
    for row in coefficients[-2::-1]:
        value = value * x + row[cell]
    return value


def _sigmoid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sigmoid and its slope."""
    value = expit(x)
    return value, value * expit(-x)


def _parts(whole: slice, width: int) -> Iterator[slice]:
    """Yield slices of `whole`, so short that each makes PAIRS pairs with `width` others."""
    step = max(1, PAIRS // max(1, width))
    ends = range(whole.start, whole.stop, step)
    return (slice(start, min(start + step, whole.stop)) for start in ends)
