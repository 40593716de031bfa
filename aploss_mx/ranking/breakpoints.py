"""Find the 2P points where the ramps of all positives begin and end: what falls between two of them is alike."""

from __future__ import annotations

import numpy as np

COARSE = 2.0**20  # gaps between float64 in a delta, from which on its rounding does not matter
CELLS_PER_BREAKPOINT = 32  # of the grid that finds bins: about 1 score in 32 shares its cell with a breakpoint


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
        # A delta near the gaps between float64 is rounded to them, on both sides alike: f(0) = 0.5 at equal scores.
        sizes = np.abs(positives)
        spacing = np.spacing(sizes)
        half = np.where(delta < COARSE * spacing, (sizes + np.maximum(delta, spacing)) - sizes, delta)
        ends = np.concatenate([positives - half, positives + half])
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
