"""Structured hinge loss of average precision: an upper bound that is convex in the scores.

A ranking R says of each positive i and negative j which stands first: R_ij = 1 or -1. The loss takes the ranking that
is worst for it, wrong and yet well liked by the scores (Yue et al., SIGIR 2007; Eq. 5 is its first term):

    max over R of 1 - AP(R) - 1 / (|P||N|) · sum over i, j of (1 - R_ij) (s_i - s_j)

The ranking by the scores themselves is among them, and no pair of it counts against it: the loss is never below the
AP-loss. Within positives and within negatives the worst ranking goes by score, so that it remains to be said before
which positive each negative stands. Yue et al. show that each may choose for itself and that better negatives choose
no later places. Hence one negative's choice narrows that of all better and all worse ones: as in quicksort, the
median chooses and parts the others, until a group has a single place left (Mohapatra et al., CVPR 2018). Open groups
have different positives to choose from, so that there are at most P of them, and the parting costs O(N log P).
"""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.problem import RankingProblem, solve_labels


def structured_hinge_loss_and_grad(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Structured hinge loss of average precision, and a subgradient.

    Parameters
    ----------
    scores : ndarray of float, any shape
    labels : ndarray, shape of `scores`
        1 positive, 0 negative, -1 ignored.

    Returns
    -------
    loss : float
        At least 1 - average precision; 0 without a positive or a negative, NaN where a valid score is not finite.
    grad : ndarray of float32, shape of `scores`
        Negatives of equal scores share theirs.

    Raises
    ------
    ValueError
        As `checks.check_labels`.
    """
    return solve_labels(structured_hinge_loss, scores, labels)


def structured_hinge_loss(problem: RankingProblem, grad: np.ndarray) -> float:
    """Solve one ranking, for `problem.solve`."""
    # Ascending in what is negated: the best first, in the order of ranks.
    depths = np.concatenate([-scores for _, scores in problem.negatives()])
    if not len(depths):
        return 0.0
    descending = np.argsort(-problem.positive_scores, kind="stable")
    positives = problem.positives[descending]
    positive_scores = problem.positive_scores[descending]
    count = len(positives)
    pair = 2 / (count * len(depths))  # what a wrong pair costs a unit of its difference of scores

    negatives_before = worst_ranking(positive_scores, depths, pair)
    precision = np.arange(1, count + 1) / (np.arange(1, count + 1) + negatives_before)
    positive_grad = -pair * negatives_before
    below = _PositivesBelow(depths, negatives_before)
    score_term = positive_grad @ positive_scores

    flat_grad = grad.reshape(-1)
    for where, scores in problem.negatives():
        negative_grad = pair * below(-scores)
        score_term += negative_grad @ scores
        flat_grad[where] = negative_grad
    flat_grad[positives] = positive_grad
    return float(1 - precision.mean() + score_term)


def worst_ranking(positive_scores: np.ndarray, depths: np.ndarray, pair: float) -> np.ndarray:
    """Return how many negatives stand before each positive in the ranking that is worst for the loss.

    Parameters
    ----------
    positive_scores : ndarray of float64, shape (P,)
        In descending order.
    depths : ndarray of float64, shape (N,)
        Negatives' scores, negated; parted in place.
    pair : float
        2 / (P·N).

    Returns
    -------
    ndarray of int64, shape (P,)
    """
    count = len(positive_scores)
    chosen = np.zeros(count + 1, np.int64)  # negatives by the number of positives that stand before them
    groups = [(0, len(depths), 0, count)]
    while groups:
        first, last, low, high = groups.pop()
        if low == high or first == last:
            chosen[low] += last - first
            continue
        middle = (first + last) // 2
        depths[first:last].partition(middle - first)
        # What it brings to push positives low + 1 … high behind this negative, the rank-th best, one after the other.
        rank, place = middle + 1, np.arange(low + 1, high + 1)
        lost_precision = place / ((place + rank - 1.0) * (place + rank)) / count
        gain = lost_precision - pair * (positive_scores[low:high] + depths[middle])
        best = low + int(np.argmax(np.append(gain[::-1].cumsum()[::-1], 0.0)))
        chosen[best] += 1
        groups += [(first, middle, low, best), (middle + 1, last, best, high)]
    return chosen.cumsum()[:count]


class _PositivesBelow:
    """How many positives stand below a negative in the worst ranking, on average over negatives of the same score.

    Parameters
    ----------
    depths : ndarray of float64, shape (N,)
        Parted further in place.
    negatives_before : ndarray of int64, shape (P,)
        Ascending.
    """

    def __init__(self, depths: np.ndarray, negatives_before: np.ndarray):
        behind_some = negatives_before[negatives_before > 0]
        depths.partition(np.unique(behind_some) - 1)
        # A positive stands right behind a negative of this depth; some others of it may follow.
        self.borders, group = np.unique(depths[behind_some - 1], return_inverse=True)
        sizes = np.bincount(group, minlength=len(self.borders))
        self.between = np.append(sizes[::-1].cumsum()[::-1], 0.0)

        places, at_border = self._find(depths)
        ties = np.bincount(places[at_border], minlength=len(self.borders))
        up_to = np.bincount(places, minlength=len(self.borders) + 1).cumsum()[:-1]
        shares = np.bincount(group, behind_some - (up_to - ties)[group], len(self.borders)) / ties
        self.at = self.between[1:] + shares

    def __call__(self, depths: np.ndarray) -> np.ndarray:
        places, at_border = self._find(depths)
        below = self.between[places]
        below[at_border] = self.at[places[at_border]]
        return below

    def _find(self, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first border that is not shallower, and which depths stand at theirs."""
        places = np.searchsorted(self.borders, depths)
        at_border = np.append(self.borders, np.nan)[places] == depths
        return places, at_border
