"""Compute AP-loss and AUC-loss with their gradients, exactly, in O((P + N) log P) instead of O(P (P + N)).

The loops of Algorithm 1 ask two things of the N negatives: the soft count F_i = sum_j f(s_j - s_i) that stands
above each positive i, and the pull sum_i w_i f(s_j - s_i) of all positives on each negative j. The step function f
of Eq. 14 is piecewise linear, so that

* F_i = (G(s_i - delta) - G(s_i + delta)) / (2 delta), with the hinge sum G(t) = sum_j max(s_j - t, 0);
* the pull is a continuous, piecewise linear function of s_j.

Both bend at the 2P breakpoints s_i ± delta only. One search puts each negative between two breakpoints; a count and
a sum per bin then give G at every breakpoint, and a value and a slope per bin give every negative's gradient. Neither
the negatives are sorted nor the positives looped over, and all sums run in float64. G adds up terms that are not
negative, and over gaps that no ramp crosses it is squeezed, so that its differences lose no digits.

AP-loss and AUC-loss differ in the error e_i of a positive alone: F_i / rank_i, of which interpolation takes the running
minimum from the worst positive up, or F_i / |N|. The rest follows from it, w_i = e_i / F_i / |P|.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from aploss_mx.ranking.breakpoints import Breakpoints
from aploss_mx.ranking.checks import check_delta
from aploss_mx.ranking.passes_numpy import NumPyPasses
from aploss_mx.ranking.problem import RankingProblem, solve_labels

if TYPE_CHECKING:
    from aploss_mx.ranking.passes_numba import CompiledPasses


def ap_loss_and_grad(
    scores: np.ndarray, labels: np.ndarray, delta: float = 1.0, interpolated: bool = True
) -> tuple[float, np.ndarray]:
    """AP-loss and its error-driven gradient: the numbers of `reference.ap_loss_and_grad`, without its loops.

    Parameters
    ----------
    scores : ndarray of float, any shape
        Logits of the replicated anchors of a batch, all of them one ranking whatever the shape. (To rank each query by
        itself, call it for each.) In float64, differences of a few last places, and a `delta` as small, are rounded.
    labels : ndarray, shape of `scores`
        1 positive, 0 negative, -1 ignored.
    delta : float
        Half the width of the piecewise step function, in units of the scores (Eq. 14); 1e-100 to 1e100.
    interpolated : bool
        Whether the precision is interpolated: made non-decreasing in the positives' scores (§3.4).

    Returns
    -------
    loss : float
        1 - average precision; 0 without a positive; NaN where a valid score is not finite.
    grad : ndarray of float32, shape of `scores`
        The update's negative (Eq. 13): positives at most 0, negatives at least 0, sum 0.

    Raises
    ------
    ValueError
        If scores or labels are no numbers, the shapes differ, a label is not in {-1, 0, 1}, a finite score that counts
        is beyond ±1e150, `delta` is outside of its range, or `interpolated` is neither True nor False.
    """
    return solve_labels(ap_loss(delta, interpolated), scores, labels)


def auc_loss_and_grad(scores: np.ndarray, labels: np.ndarray, delta: float = 1.0) -> tuple[float, np.ndarray]:
    """AUC-loss and its error-driven gradient (Eq. 7).

    Arguments and errors are those of `ap_loss_and_grad`, and so is the gradient's form. The loss is the mean of the
    step function over all pairs: 1 - area under the ROC curve as `delta` goes to 0.
    """
    return solve_labels(auc_loss(delta), scores, labels)


def ap_loss(delta: float = 1.0, interpolated: bool = True) -> PiecewiseRanking:
    """Return the method of `ap_loss_and_grad`, for `problem.solve`; raises its ValueError for them."""
    if interpolated not in (True, False):
        raise ValueError(f"interpolated must be True or False, not {interpolated!r}")
    return PiecewiseRanking(Objective.INTERPOLATED_AP if interpolated else Objective.AP, delta)


def auc_loss(delta: float = 1.0) -> PiecewiseRanking:
    """Return the method of `auc_loss_and_grad`, for `problem.solve`; raises its ValueError for `delta`."""
    return PiecewiseRanking(Objective.AUC, delta)


@lru_cache(maxsize=None)
def fastest_passes() -> type[NumPyPasses] | type[CompiledPasses]:
    """Return `passes_numba.CompiledPasses` where numba is there, or else `passes_numpy.NumPyPasses`."""
    try:
        from aploss_mx.ranking.passes_numba import CompiledPasses  # here, since numba takes a second to be ready
    except (ImportError, RuntimeError):  # without the extra `fast`, or without a folder for what numba compiles
        return NumPyPasses
    return CompiledPasses


class Objective(IntEnum):
    """What a positive's error is, numbered as in kernels.cu."""

    AP = 0
    INTERPOLATED_AP = 1
    AUC = 2


@dataclass(frozen=True)
class PiecewiseRanking:
    """What AP-loss and AUC-loss make of a ranking; see `problem.Method`.

    Attributes
    ----------
    objective : Objective
    delta : float
        Half the width of the ramp (Eq. 14).
    compiled : bool
        Whether the passes may be numba's; the bits are the same.
    """

    objective: Objective
    delta: float
    compiled: bool = True

    def __post_init__(self) -> None:
        check_delta(self.delta)

    def __call__(self, problem: RankingProblem, grad: np.ndarray) -> float:
        positive_scores = problem.positive_scores
        ascending = np.argsort(positive_scores, kind="stable")
        positive_scores = positive_scores[ascending]
        breakpoints = Breakpoints(positive_scores, self.delta)
        compiled = self.compiled and problem.scores.dtype in (np.float32, np.float64)  # which numba knows
        passes = (fastest_passes() if compiled else NumPyPasses)(breakpoints, problem)

        own = breakpoints.accumulate(positive_scores, breakpoints.bins_of(positive_scores))
        # f(0) = 0.5 of a positive itself gives way to the 1 of its own rank.
        rank_among_positives = breakpoints.soft_counts(own) + 0.5
        above = breakpoints.soft_counts(passes.statistics())
        errors = self._errors(problem.negative_count, above, rank_among_positives)
        weights = np.divide(errors, above, out=np.zeros_like(errors), where=above > 0) / len(errors)

        flat_grad = grad.reshape(-1)
        passes.write(*breakpoints.pulls(weights), flat_grad)
        flat_grad[problem.positives[ascending]] = -errors / len(errors)
        return float(errors.mean())

    def _errors(self, negatives: int, above: np.ndarray, rank_among_positives: np.ndarray) -> np.ndarray:
        """Return the errors (P,) of the positives, in ascending order of their scores as the arguments are."""
        if self.objective is Objective.AUC:
            return above / max(1, negatives)
        errors = above / (rank_among_positives + above)
        return np.minimum.accumulate(errors) if self.objective is Objective.INTERPOLATED_AP else errors
