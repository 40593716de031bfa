"""Pose a ranking loss's problem: the scores of a batch, which of them are positive, and which are left out."""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple

import numpy as np

from aploss_mx.ranking.checks import check_class_targets, check_grouping, check_labels, within_range

CHUNK = 1 << 15  # scores at a time: the working arrays of one chunk stay in the processor's cache


class Negatives(NamedTuple):
    """The negatives of one chunk: their flat places among all scores, and their scores in float64."""

    where: np.ndarray
    scores: np.ndarray


class RankingProblem(NamedTuple):
    """One ranking.

    Attributes
    ----------
    scores : ndarray of float, shape (rows, columns)
        A row is an anchor with a score for each class, or a single score.
    ignored : ndarray of bool, shape (rows,), or None
        Rows that take no part; None if all do.
    positives : ndarray of int, shape (P,)
        Flat places of the positives, ascending. All other scores of valid rows are negatives.
    """

    scores: np.ndarray
    ignored: np.ndarray | None
    positives: np.ndarray

    @classmethod
    def from_labels(cls, scores: np.ndarray, labels: np.ndarray) -> RankingProblem:
        """Take scores and labels of one shape, labels in {-1, 0, 1}; errors as `check_labels`."""
        scores, labels = check_labels(scores, labels)
        labels = labels.reshape(-1)
        return cls(scores.reshape(-1, 1), _any(labels < 0), np.flatnonzero(labels == 1))

    @classmethod
    def from_class_targets(cls, logits: np.ndarray, class_targets: np.ndarray) -> RankingProblem:
        """Take a detector's output, each anchor standing K times, once a class, without making the copies.

        Parameters
        ----------
        logits : ndarray of float, shape (B, N, K)
        class_targets : ndarray, shape (B, N)
            1 … K: positive of that class and negative of the others; 0: background; -1: ignored. See
            `check_class_targets`.
        """
        classes = logits.shape[-1]
        targets = class_targets.reshape(-1)
        anchors = np.flatnonzero(targets > 0)
        positives = anchors * classes + targets[anchors].astype(np.int64) - 1
        return cls(logits.reshape(-1, classes), _any(targets < 0), positives)

    @property
    def positive_scores(self) -> np.ndarray:
        """Scores of the positives in float64, shape (P,)."""
        return self.scores.reshape(-1)[self.positives].astype(np.float64)

    @property
    def negative_count(self) -> int:
        """Number of negatives."""
        ignored = 0 if self.ignored is None else int(self.ignored.sum())
        return (len(self.scores) - ignored) * self.scores.shape[1] - len(self.positives)

    def by_class(self) -> Iterator[tuple[int, RankingProblem]]:
        """Yield each column that has a positive, and the ranking of it alone."""
        rows, columns = np.divmod(self.positives, self.scores.shape[1])
        for column in np.unique(columns):
            scores = np.ascontiguousarray(self.scores[:, column : column + 1])
            yield column, RankingProblem(scores, self.ignored, rows[columns == column])

    def is_finite(self) -> bool:
        """Return whether all scores of valid rows are finite, and float64 ones within ±1e150."""
        for rows in self._chunks_of_rows():
            finite = within_range(self.scores[rows])
            if not finite.all() and (self.ignored is None or not finite[~self.ignored[rows]].all()):
                return False
        return True

    def negatives(self, lowest: float | np.floating = -np.inf) -> Iterator[Negatives]:
        """Yield, chunk by chunk, the negatives that are not below `lowest`, a number of the scores' dtype."""
        columns = self.scores.shape[1]
        for rows in self._chunks_of_rows():
            block = self.scores[rows].reshape(-1)
            start = rows.start * columns
            keep = block >= lowest
            first, last = np.searchsorted(self.positives, [start, start + len(block)])
            keep[self.positives[first:last] - start] = False
            if self.ignored is not None:
                keep.reshape(-1, columns)[self.ignored[rows]] = False
            kept = np.flatnonzero(keep)
            yield Negatives(start + kept, block[kept].astype(np.float64))

    def _chunks_of_rows(self) -> Iterator[slice]:
        step = max(1, CHUNK // max(1, self.scores.shape[1]))
        return (slice(start, start + step) for start in range(0, len(self.scores), step))


Method = Callable[[RankingProblem, np.ndarray], float]
"""Takes a problem of finite scores with a positive, and zeros (rows, columns) of float32 to write the gradient into;
returns the loss."""


def solve(method: Method, problem: RankingProblem, grad: np.ndarray) -> float:
    """Write the gradient of a ranking into `grad`, zeros of its scores' shape, and return the loss.

    Without a positive both are 0. A score that is not finite makes both NaN, but for the gradient of ignored rows.
    """
    if not problem.is_finite():
        grad[slice(None) if problem.ignored is None else ~problem.ignored] = np.nan
        return float("nan")
    return method(problem, grad) if len(problem.positives) else 0.0


def solve_labels(method: Method, scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Return loss and gradient, float32 of the scores' shape, of one ranking of labelled scores."""
    problem = RankingProblem.from_labels(scores, labels)
    grad = np.zeros(problem.scores.shape, np.float32)
    return solve(method, problem, grad), grad.reshape(np.shape(scores))


def solve_anchors(
    method: Method, logits: np.ndarray, class_targets: np.ndarray, ranking_batch: int = 0, ranking_scope: str = "all"
) -> tuple[float, np.ndarray]:
    """Return loss and gradient of a detector's output, averaged over its rankings.

    Parameters
    ----------
    method : callable
        What computes one ranking.
    logits : ndarray of float, shape (B, N, K)
    class_targets : ndarray, shape (B, N)
        As in `RankingProblem.from_class_targets`.
    ranking_batch : int
        Images that are ranked together (Table 1a varies it), a divisor of B; 0 for all B.
    ranking_scope : str
        'all' ranks the classes' scores together, as the paper does; 'class' ranks each class of a group of images
        for itself (§3.1.1) and averages over those that have a positive.

    Returns
    -------
    loss : float
        A group of images without a positive counts as 0.
    grad : ndarray of float32, shape (B, N, K)

    Raises
    ------
    ValueError
        As `check_class_targets` and `check_grouping`, and if `ranking_batch` does not divide B.
    """
    check_grouping(ranking_batch, ranking_scope)
    check_class_targets(logits, class_targets)
    batch = len(logits)
    images = images_of_group(batch, ranking_batch)
    grad = np.zeros(logits.shape, np.float32)
    losses = []
    for start in range(0, batch, images):
        group = slice(start, start + images)
        problem = RankingProblem.from_class_targets(logits[group], class_targets[group])
        group_grad = grad[group].reshape(problem.scores.shape)
        solve_group = solve if ranking_scope == "all" else _solve_by_class
        losses.append(solve_group(method, problem, group_grad))
    if len(losses) > 1:
        grad /= len(losses)
    return float(np.mean(losses)) if losses else 0.0, grad


def images_of_group(batch: int, ranking_batch: int) -> int:
    """Return how many of a batch's images are ranked together; raises ValueError where they do not divide it."""
    images = ranking_batch or max(1, batch)
    if batch % images:
        raise ValueError(f"a batch of {batch} images cannot be ranked in groups of {images}")
    return images


def _solve_by_class(method: Method, problem: RankingProblem, grad: np.ndarray) -> float:
    def mean_of_classes(problem: RankingProblem, grad: np.ndarray) -> float:
        losses = []
        for column, of_class in problem.by_class():
            class_grad = np.zeros(of_class.scores.shape, np.float32)
            losses.append(method(of_class, class_grad))
            grad[:, column] = class_grad[:, 0]
        grad /= len(losses)
        return float(np.mean(losses))

    return solve(mean_of_classes, problem, grad)


def _any(mask: np.ndarray) -> np.ndarray | None:
    return mask if mask.any() else None
