"""AP-loss and its gradient, exactly, in O((P + N) log P) instead of O(P (P + N)).

The loops of Algorithm 1 ask two things of the N negatives: the soft count F_i = sum_j f(s_j - s_i) that stands
above each positive i, and the pull sum_i w_i f(s_j - s_i) of all positives on each negative j. The step function f
of Eq. 14 is piecewise linear, so that

* F_i = (G(s_i - delta) - G(s_i + delta)) / (2 delta), with the hinge sum G(t) = sum_j max(s_j - t, 0);
* the pull is a continuous, piecewise linear function of s_j.

Both bend at the 2P breakpoints s_i ± delta only. One search puts each negative between two breakpoints; a count and
a sum per bin then give G at every breakpoint, and a value and a slope per bin give every negative's gradient. Neither
the negatives are sorted nor the positives looped over, and all sums run in float64. G adds up terms that are not
negative, and over gaps that no ramp crosses it is squeezed, so that its differences lose no digits.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

import numpy as np

from aploss_mx.ranking.labels import check_arguments, check_delta

CHUNK = 1 << 15  # scores at a time: the working arrays of one chunk stay in the processor's cache
CELLS_PER_BREAKPOINT = 32  # of the grid that finds bins: about 1 score in 32 shares its cell with a breakpoint


class Candidates(NamedTuple):
    """The negatives of one chunk that some positive can see: where they stand, their scores and their bins."""

    where: np.ndarray
    scores: np.ndarray
    bins: np.ndarray


class Breakpoints:
    """The 2P sorted scores s_i ± delta; bin k holds the scores from breakpoint k (included) up to the next.

    Parameters
    ----------
    positives : ndarray of float64, shape (P,)
        Scores s_i in ascending order.
    delta : float
        Half the width of a ramp.
    """

    def __init__(self, positives: np.ndarray, delta: float):
        # At least to the next float64: where delta is lost in rounding, the step is a jump, and 0.5 at equal scores.
        lower = np.minimum(positives - delta, np.nextafter(positives, -np.inf))
        upper = np.maximum(positives + delta, np.nextafter(positives, np.inf))
        ends = np.concatenate([lower, upper])
        order = np.argsort(ends, kind="stable")
        place = np.empty(len(ends), np.int64)
        place[order] = np.arange(len(ends))
        self.values = ends[order]
        self.lower, self.upper = np.split(place, 2)

        # No ramp crosses a gap wider than 2 delta: such gaps are squeezed, or far outliers would drown the sums.
        widths = np.append(np.diff(self.values), np.inf)
        squeezed = np.minimum(widths, 2 * delta)
        self.squeeze = np.divide(squeezed, widths, out=np.zeros_like(widths), where=widths > 0)
        self.gaps = squeezed[:-1]
        position = np.concatenate([[0.0], self.gaps.cumsum()])
        self.ramps = position[self.upper] - position[self.lower]

        self.cell_count = CELLS_PER_BREAKPOINT * len(ends)
        self.cells_per_unit = self.cell_count / (self.values[-1] - self.values[0])
        breakpoints_in_cell = np.bincount(self._cells(self.values), minlength=self.cell_count + 1)
        self.bin_of_cell = breakpoints_in_cell.cumsum() - 1
        self.cell_is_shared = breakpoints_in_cell > 0

    def bins_of(self, scores: np.ndarray) -> np.ndarray:
        """Return the bins, 0 … 2P - 1, of scores that are not below the lowest breakpoint.

        A uniform grid over the breakpoints tells the bin of a score in one look-up, unless a breakpoint stands in the
        score's own cell: only these few scores are searched for.
        """
        cells = self._cells(scores)
        bins = self.bin_of_cell[cells]
        unsure = np.flatnonzero(self.cell_is_shared[cells])
        bins[unsure] = np.searchsorted(self.values, scores[unsure], side="right") - 1
        return bins

    def _cells(self, scores: np.ndarray) -> np.ndarray:
        # Rounding keeps the order, so that scores and breakpoints in different cells compare as their cells do.
        return np.minimum((scores - self.values[0]) * self.cells_per_unit, self.cell_count).astype(np.int64)

    def heights(self, scores: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Return how far the scores stand above the lower ends of their bins, in squeezed gaps."""
        return (scores - self.values[bins]) * self.squeeze[bins]

    def lowest(self, dtype: np.dtype) -> np.floating:
        """Return the smallest number of `dtype` that is not below the lowest breakpoint."""
        with np.errstate(over="ignore"):
            rounded = self.values[0].astype(dtype)
        return rounded if rounded >= self.values[0] else np.nextafter(rounded, dtype.type(np.inf))

    def accumulate(self, scores: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Return, per bin, the count of `scores` and the sum of their heights."""
        size = len(self.values)
        return np.stack([np.bincount(bins, minlength=size), np.bincount(bins, self.heights(scores, bins), size)])

    def soft_counts(self, statistics: np.ndarray) -> np.ndarray:
        """Return sum_j f(s_j - s_i) for each positive i, of the scores that `accumulate` has summed up."""
        counts, heights = statistics
        beyond = counts[::-1].cumsum()[::-1]
        rises = heights + np.append(beyond[1:] * self.gaps, 0.0)
        hinge = rises[::-1].cumsum()[::-1]
        return (hinge[self.lower] - hinge[self.upper]) / self.ramps

    def pulls(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sum_i w_i f(s - s_i) per bin: its value at the bin's lower end, and its slope."""
        bends = np.zeros(len(self.values))
        bends[self.lower] = weights / self.ramps
        bends[self.upper] = -bends[self.lower]
        slopes = bends.cumsum()
        return np.concatenate([[0.0], (slopes[:-1] * self.gaps).cumsum()]), slopes


def ap_loss_and_grad(
    scores: np.ndarray, labels: np.ndarray, delta: float = 1.0, interpolated: bool = True
) -> tuple[float, np.ndarray]:
    """AP-loss and its error-driven gradient: the numbers of `reference.ap_loss_and_grad`, without its loops.

    Parameters
    ----------
    scores : ndarray of float, any shape
        Logits of the replicated anchors of a batch.
    labels : ndarray, shape of `scores`
        1 positive, 0 negative, -1 ignored.
    delta : float
        Half the width of the piecewise step function, in units of the scores (Eq. 14).
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
        As `aploss_mx.ranking.labels.check_arguments`.
    """
    scores, labels = check_arguments(scores, labels, delta)
    flat_labels = labels.reshape(-1)
    ignored = flat_labels < 0
    loss, grad = _solve(
        scores.reshape(-1, 1), ignored if ignored.any() else None, np.flatnonzero(flat_labels == 1), delta, interpolated
    )
    return loss, grad.reshape(scores.shape)


def ap_loss_and_grad_of_anchors(
    logits: np.ndarray, class_targets: np.ndarray, delta: float = 1.0, interpolated: bool = True
) -> tuple[float, np.ndarray]:
    """AP-loss of a detector's output, each anchor standing K times, once a class, without making the copies.

    Parameters
    ----------
    logits : ndarray of float, shape (B, N, K)
        Scores of N anchors a picture for K classes.
    class_targets : ndarray, shape (B, N)
        1 … K: positive of that class and negative of the others; 0: background; -1: ignored.
    delta, interpolated
        As in `ap_loss_and_grad`.

    Returns
    -------
    loss : float
        1 - average precision over the batch, one ranking of all pictures, anchors and classes.
    grad : ndarray of float32, shape (B, N, K)
        Its error-driven gradient.

    Raises
    ------
    ValueError
        If the shapes do not fit, a class target is not a whole number of -1 … K, or `delta` is not positive.
    """
    if logits.ndim != 3 or class_targets.shape != logits.shape[:2]:
        raise ValueError(
            f"logits (B, N, K) and class targets (B, N) do not fit: {logits.shape} and {class_targets.shape}"
        )
    check_delta(delta)
    classes = logits.shape[-1]
    targets = class_targets.reshape(-1)
    if targets.size and not (targets.min() >= -1 and targets.max() <= classes):
        raise ValueError(f"class targets must lie in -1 … {classes}, not {targets.min()} … {targets.max()}")
    if not (targets.dtype.kind in "iu" or np.array_equal(np.rint(targets), targets)):
        raise ValueError("class targets must be whole numbers")
    anchors = np.flatnonzero(targets > 0)
    columns = targets[anchors].astype(np.int64)
    ignored = targets < 0
    loss, grad = _solve(
        logits.reshape(-1, classes),
        ignored if ignored.any() else None,
        anchors * classes + columns - 1,
        delta,
        interpolated,
    )
    return loss, grad.reshape(logits.shape)


def _solve(
    scores: np.ndarray, ignored: np.ndarray | None, positives: np.ndarray, delta: float, interpolated: bool
) -> tuple[float, np.ndarray]:
    """Solve for scores (rows, columns), a mask of ignored rows, and the flat places of the positives, ascending."""
    grad = np.zeros(scores.shape, np.float32)
    if not _valid_scores_are_finite(scores, ignored):
        grad[slice(None) if ignored is None else ~ignored] = np.nan
        return float("nan"), grad
    if len(positives) == 0:
        return 0.0, grad

    ascending = positives[np.argsort(scores.reshape(-1)[positives], kind="stable")]
    positive_scores = scores.reshape(-1)[ascending].astype(np.float64)
    breakpoints = Breakpoints(positive_scores, delta)

    negatives = np.zeros((2, len(breakpoints.values)))
    bin_type = np.uint16 if len(breakpoints.values) < 1 << 16 else np.int32
    kept_bins = []
    for chunk in _candidates(scores, ignored, positives, breakpoints):
        negatives += breakpoints.accumulate(chunk.scores, chunk.bins)
        kept_bins.append(chunk.bins.astype(bin_type))

    own = breakpoints.accumulate(positive_scores, breakpoints.bins_of(positive_scores))
    # f(0) = 0.5 of a positive itself gives way to the 1 of its own rank.
    rank_among_positives = breakpoints.soft_counts(own) + 0.5
    above = breakpoints.soft_counts(negatives)
    errors = above / (rank_among_positives + above)
    if interpolated:
        errors = np.minimum.accumulate(errors)
    weights = np.divide(errors, above, out=np.zeros_like(errors), where=above > 0) / len(positives)

    values, slopes = breakpoints.pulls(weights)
    flat_grad = grad.reshape(-1)
    for chunk in _candidates(scores, ignored, positives, breakpoints, kept_bins):
        heights = breakpoints.heights(chunk.scores, chunk.bins)
        flat_grad[chunk.where] = values[chunk.bins] + slopes[chunk.bins] * heights
    flat_grad[ascending] = -errors / len(positives)
    return float(errors.mean()), grad


def _valid_scores_are_finite(scores: np.ndarray, ignored: np.ndarray | None) -> bool:
    for rows in _chunks_of_rows(scores):
        finite = np.isfinite(scores[rows])
        if not finite.all() and (ignored is None or not finite[~ignored[rows]].all()):
            return False
    return True


def _chunks_of_rows(scores: np.ndarray) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, scores.shape[1]))
    return (slice(start, start + step) for start in range(0, len(scores), step))


def _candidates(
    scores: np.ndarray,
    ignored: np.ndarray | None,
    positives: np.ndarray,
    breakpoints: Breakpoints,
    kept_bins: list[np.ndarray] | None = None,
) -> Iterator[Candidates]:
    """Yield each chunk's negatives that reach the lowest breakpoint: the others take no part (lossless).

    The first pass searches their bins, the second is handed them in `kept_bins`.
    """
    columns = scores.shape[1]
    lowest = breakpoints.lowest(scores.dtype)
    for number, rows in enumerate(_chunks_of_rows(scores)):
        block = scores[rows].reshape(-1)
        start = rows.start * columns
        keep = block >= lowest
        first, last = np.searchsorted(positives, [start, start + len(block)])
        keep[positives[first:last] - start] = False
        if ignored is not None:
            keep.reshape(-1, columns)[ignored[rows]] = False
        kept = np.flatnonzero(keep)
        candidates = block[kept].astype(np.float64)
        bins = breakpoints.bins_of(candidates) if kept_bins is None else kept_bins[number]
        yield Candidates(start + kept, candidates, bins)
