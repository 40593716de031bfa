"""Make the two passes over the negatives, compiled by numba: the same bits as in NumPy, several times as fast.

Needs the extra ``fast``. Threads of this module's own share the chunks, without Python's lock, so that several devices'
operators may be at work at once.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, Callable, Sequence

import numpy as np
from numba import float32, float64, int32, int64, njit, types, void

from aploss_mx.ranking.breakpoints import Breakpoints
from aploss_mx.ranking.problem import CHUNK, RankingProblem
from symbols.mxnet_setup import count_threads

STATISTICS_BYTES = 1 << 25  # of the chunks at work together
STEPS_DOWN = 8  # among a cell's breakpoints, before a binary search takes over


class CompiledPasses:
    """As `passes_numpy.NumPyPasses`."""

    def __init__(self, breakpoints: Breakpoints, problem: RankingProblem):
        self.size = len(breakpoints.values)
        self.scores = np.ascontiguousarray(problem.scores.reshape(-1))
        columns = problem.scores.shape[1]
        # The chunks of NumPy's passes: a sum's bits depend on them.
        step = max(1, CHUNK // columns) * columns
        self.ranges = [(start, min(len(self.scores), start + step)) for start in range(0, len(self.scores), step)]
        ignored = np.zeros(0, bool) if problem.ignored is None else problem.ignored
        self.data = (self.scores, columns, ignored, problem.positives, breakpoints.lowest(self.scores.dtype))
        # A bin, or its complement where a breakpoint stands in the cell: that is the last bin it may be.
        bins = np.where(breakpoints.cell_is_shared, ~breakpoints.bin_of_cell, breakpoints.bin_of_cell)
        self.search = (
            breakpoints.values, breakpoints.squeeze, bins.astype(np.int32), breakpoints.cells_per_unit,
            np.int32(breakpoints.cell_count),
        )  # fmt: skip

    def statistics(self) -> np.ndarray:
        """Return count and sum of heights of each bin, float64 (2, 2P); the first pass."""
        total = np.zeros((self.size, 2))
        at_once = max(1, STATISTICS_BYTES // total.nbytes)
        for first in range(0, len(self.ranges), at_once):
            for statistics in _in_threads(self._accumulate, self.ranges[first : first + at_once]):
                total += statistics
        return np.ascontiguousarray(total.T)

    def write(self, values: np.ndarray, slopes: np.ndarray, grad: np.ndarray) -> None:
        """Write the pulls on the negatives into a flat gradient, which is zero elsewhere; the second pass."""

        def write(limits: tuple[int, int]) -> None:
            _write(*self.data, *self.search, values, slopes, *limits, grad)

        _in_threads(write, self.ranges)

    def _accumulate(self, limits: tuple[int, int]) -> np.ndarray:
        statistics = np.zeros((self.size, 2))
        _accumulate(*self.data, *self.search, *limits, statistics)
        return statistics


@lru_cache(maxsize=None)
def _threads() -> Any:
    """Return the pool that all rankings of this process share."""
    return ThreadPoolExecutor(count_threads(), "ranking")


# A fork has the pool, but not its threads.
os.register_at_fork(after_in_child=_threads.cache_clear)


def _in_threads(work: Callable[[tuple[int, int]], Any], ranges: Sequence[tuple[int, int]]) -> list[Any]:
    """Return the results of some work on all ranges, in their order."""
    tasks = []
    with suppress(RuntimeError):  # the interpreter ends while MXNet still computes, and takes no more tasks
        for limits in ranges:
            tasks.append(_threads().submit(work, limits))
    return [task.result() for task in tasks] + [work(limits) for limits in ranges[len(tasks) :]]


def _signatures(*rest: types.Type) -> list[Any]:
    """Return the types of both passes' arguments, for either type of scores.

    Declared, so that processes that compile at the same time agree on what stands where in numba's cache.
    """

    def read(kind: types.Type) -> types.Array:
        return types.Array(kind, 1, "C", readonly=True)

    search = (read(float64), read(float64), read(int32), float64, int32)
    return [
        void(read(score), int64, read(types.boolean), read(int64), score, *search, *rest)
        for score in (float32, float64)
    ]


@njit(nogil=True, cache=True)
def _bin_of(score, values, bin_of_cell, cells_per_unit, cell_count):
    """`Breakpoints.bins_of` for one score, which is not below the lowest breakpoint."""
    position = (score - values[0]) * cells_per_unit
    chosen = bin_of_cell[np.int32(position) if position < cell_count else cell_count]
    if chosen >= 0:
        return chosen
    chosen = ~chosen
    for _ in range(STEPS_DOWN):
        if values[chosen] <= score:
            return chosen
        chosen -= 1
    return np.searchsorted(values, score, side="right") - 1


@njit(nogil=True, cache=True)
def _next_run(place, stop, columns, ignored, positives, upcoming):
    """Return begin and end of the next run of negatives among places … stop, and the number of positives before it."""
    while place < stop:
        if upcoming < len(positives) and positives[upcoming] == place:
            upcoming += 1
            place += 1
        elif len(ignored) > 0 and ignored[place // columns]:
            place = (place // columns + 1) * columns
        else:
            break
    end = min(stop, positives[upcoming]) if upcoming < len(positives) else stop
    row = place // columns + 1
    if len(ignored) > 0:
        while row * columns < end and not ignored[row]:
            row += 1
        end = min(end, row * columns)
    return place, end, upcoming


@njit(_signatures(int64, int64, float64[:, ::1]), nogil=True, cache=True)
def _accumulate(
    scores, columns, ignored, positives, lowest, values, squeeze, bin_of_cell, cells_per_unit, cell_count, start, stop,
    statistics,
):  # fmt: skip
    """Add count and heights of the negatives at places start … stop to the statistics (2P, 2)."""
    end, upcoming = start, np.searchsorted(positives, start)
    while end < stop:
        begin, end, upcoming = _next_run(end, stop, columns, ignored, positives, upcoming)
        for place in range(begin, end):
            if scores[place] >= lowest:
                score = np.float64(scores[place])
                chosen = _bin_of(score, values, bin_of_cell, cells_per_unit, cell_count)
                statistics[chosen, 0] += 1
                statistics[chosen, 1] += (score - values[chosen]) * squeeze[chosen]


@njit(_signatures(float64[::1], float64[::1], int64, int64, float32[::1]), nogil=True, cache=True)
def _write(
    scores, columns, ignored, positives, lowest, values, squeeze, bin_of_cell, cells_per_unit, cell_count, pulls,
    slopes, start, stop, grad,
):  # fmt: skip
    """Write the gradient of the negatives at places start … stop."""
    end, upcoming = start, np.searchsorted(positives, start)
    while end < stop:
        begin, end, upcoming = _next_run(end, stop, columns, ignored, positives, upcoming)
        for place in range(begin, end):
            if scores[place] >= lowest:
                score = np.float64(scores[place])
                chosen = _bin_of(score, values, bin_of_cell, cells_per_unit, cell_count)
                grad[place] = pulls[chosen] + slopes[chosen] * ((score - values[chosen]) * squeeze[chosen])
