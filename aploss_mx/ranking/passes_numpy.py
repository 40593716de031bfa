"""Make the two passes over the negatives that an exact ranking loss takes, in NumPy."""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.breakpoints import Breakpoints
from aploss_mx.ranking.problem import RankingProblem


class NumPyPasses:
    """The passes over a problem's negatives, chunk by chunk; those below all breakpoints take no part.

    Parameters
    ----------
    breakpoints : Breakpoints
    problem : RankingProblem
    """

    def __init__(self, breakpoints: Breakpoints, problem: RankingProblem):
        self.breakpoints = breakpoints
        self.problem = problem
        self.lowest = breakpoints.lowest(problem.scores.dtype)
        self.kept_bins: list[np.ndarray] = []

    def statistics(self) -> np.ndarray:
        """Return count and sum of heights of each bin, float64 (2, 2P); the first pass."""
        size = len(self.breakpoints.values)
        bin_type = np.uint16 if size < 1 << 16 else np.int32
        statistics = np.zeros((2, size))
        for _, scores in self.problem.negatives(self.lowest):
            bins = self.breakpoints.bins_of(scores)
            statistics += self.breakpoints.accumulate(scores, bins)
            self.kept_bins.append(bins.astype(bin_type))
        return statistics

    def write(self, values: np.ndarray, slopes: np.ndarray, grad: np.ndarray) -> None:
        """Write the pulls on the negatives into a flat gradient; the second pass, after the first.

        `values` and `slopes` are those of `Breakpoints.pulls`.
        """
        for (where, scores), bins in zip(self.problem.negatives(self.lowest), self.kept_bins):
            grad[where] = values[bins] + slopes[bins] * self.breakpoints.heights(scores, bins)
