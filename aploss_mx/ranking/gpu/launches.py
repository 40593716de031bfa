"""Solve AP-loss and AUC-loss on a GPU: which kernels of kernels.cu run in which order, whoever runs them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from aploss_mx.ranking.exact import Objective

SOURCE = Path(__file__).with_name("kernels.cu")
COMPILER_OPTIONS = ("--std=c++11",)
THREADS = 256  # of a block; kernels.cu counts on it
SCORES_OF_THREAD = 4
STREAM_BLOCKS = 512  # enough to keep any GPU's memory busy; more would only merge more partial sums
MAX_SCORES = 1 << 30  # places and their steps are 32-bit numbers


class Device(Protocol):
    """What runs kernels: a GPU under MXNet or CuPy, or a stand-in. Its arrays are its own."""

    def zeros(self, size: int, dtype: str) -> Any:
        """Return a new array of zeros: 'int32', 'int64', 'float32' or 'float64'."""

    def empty(self, size: int, dtype: str) -> Any:
        """Return a new array of any content."""

    def read(self, array: Any) -> np.ndarray:
        """Return an array's values, once all work on it is done."""

    def launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        """Run a kernel of kernels.cu in so many blocks of `THREADS`, after all that was launched before."""


class Kernel(NamedTuple):
    """A kernel's name and parameters, C type and name each."""

    name: str
    parameters: tuple[tuple[str, str], ...]


@lru_cache(maxsize=None)
def read_source() -> str:
    """Return the kernels' source text."""
    return SOURCE.read_text(encoding="utf-8")


@lru_cache(maxsize=None)
def read_kernels() -> dict[str, Kernel]:
    """Return the kernels that the source defines, by name."""
    kernels = {}
    for name, parameters in re.findall(r"^KERNEL (\w+)\(([^)]*)\)", read_source(), re.MULTILINE):
        split = re.findall(r"\s*([^,]*?)\s*(\w+)\s*(?:,|$)", parameters)
        kernels[name] = Kernel(name, tuple((" ".join(kind.split()), parameter) for kind, parameter in split))
    return kernels


def solve_group(
    device: Device,
    logits: Any,
    class_targets: Any,
    shape: tuple[int, int],
    objective: Objective,
    delta: float,
    weight: float,
    loss: Any,
    gradient: Any,
) -> None:
    """Rank the scores of a group of images: write their gradient, and add to the loss.

    Both are those of `problem.solve` with `exact.ap_loss` or `exact.auc_loss`, times `weight`.

    Parameters
    ----------
    device : Device
    logits, gradient : arrays of float32, `shape` in C order
        The gradient is overwritten.
    class_targets : array of float32, one for each row
        As in `problem.RankingProblem.from_class_targets`.
    shape : tuple of int
        Rows (anchors of all images) and columns (classes).
    objective : Objective
    delta : float
        Half the width of the ramp (Eq. 14).
    weight : float
    loss : array of float32, shape (1,)

    Raises
    ------
    ValueError
        If a class target is not a whole number of -1 … K, or there are more than 2^30 scores.
    """
    rows, classes = shape
    size = rows * classes
    if size > MAX_SCORES:
        raise ValueError(f"{size} scores are more than the GPU kernels can number; rank fewer images together")
    counters = device.zeros(4, "int32")
    places, scores = device.empty(rows, "int32"), device.empty(rows, "float32")
    found = (counters, places, scores)
    device.launch("find_positives", _stream_blocks(rows), logits, class_targets, rows, classes, *found)
    count, _, invalid, _ = device.read(counters).tolist()
    if invalid:
        raise ValueError(f"class targets must be whole numbers of -1 … {classes}, and {invalid} are not")

    places, scores = _sort(device, count, places, scores)
    bins = 2 * count
    values, squeeze, gaps, positions, beyond, hinge, slopes, pulls = (device.empty(bins, "float64") for _ in range(8))
    ramps, ranks, errors = (device.empty(count, "float64") for _ in range(3))
    lower, upper = device.empty(count, "int32"), device.empty(count, "int32")
    thresholds = device.empty(bins, "float32")
    counts, sums, own_counts, own_sums = (device.zeros(bins, "int64") for _ in range(4))
    # Heights are at most 2 delta, and all of them add up to less than 2^62. A height is known to 2^-39 of the ramp
    # with 8 million scores, so that soft counts below 1e-6 lose digits.
    scale = min(2.0 ** (62 - size.bit_length()) / (2 * delta), 1e300)

    per_positive = -(-count // THREADS)
    if count:
        ends = (lower, upper, values, thresholds)
        device.launch("place_breakpoints", per_positive, count, delta, scores, *ends)
        device.launch("measure_gaps", 1, count, delta, values, lower, upper, gaps, squeeze, positions, ramps)
    stream = -(-size // SCORES_OF_THREAD)
    batch = (logits, class_targets, size, classes, bins)
    device.launch(
        "bin_scores", _stream_blocks(stream), *batch, values, thresholds, squeeze, scale, counts, sums, counters
    )
    device.launch(
        "solve", 1, count, int(objective), weight, rows, classes, scores, values, thresholds, squeeze, gaps, ramps,
        lower, upper, scale, counts, sums, own_counts, own_sums, counters, beyond, hinge, ranks, errors, slopes, pulls,
        loss,
    )  # fmt: skip
    ranking = (values, thresholds, squeeze, slopes, pulls, counters, gradient)
    device.launch("write_gradient", _stream_blocks(stream), *batch, weight, *ranking)
    if count:
        device.launch("write_positives", per_positive, count, weight, places, errors, counters, gradient)


def _sort(device: Device, count: int, places: Any, scores: Any) -> tuple[Any, Any]:
    """Return the places and scores of the positives in ascending order of their scores, then places."""
    if count == 0:
        return places, scores
    other_places, other_scores = device.empty(count, "int32"), device.empty(count, "float32")
    blocks = -(-count // THREADS)
    device.launch("sort_runs", blocks, count, places, scores, other_places, other_scores)
    sorted_arrays, spare = (other_places, other_scores), (places, scores)
    width = THREADS
    while width < count:
        device.launch("merge_runs", blocks, count, width, *sorted_arrays, *spare)
        sorted_arrays, spare = spare, sorted_arrays
        width *= 2
    return sorted_arrays


def _stream_blocks(threads: int) -> int:
    return max(1, min(STREAM_BLOCKS, -(-threads // THREADS)))
