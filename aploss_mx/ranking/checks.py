"""Check the arguments that every ranking loss shares."""

from __future__ import annotations

import numpy as np

SCOPES = ("all", "class")
# Within these float64 has room for what rankings multiply and divide.
LARGEST_SCORE = 1e150
LEAST_WIDTH, LARGEST_WIDTH = 1e-100, 1e100
LEAST_TEMPERATURE = 1e-28  # float32 has no gradients of steeper sigmoids


def check_labels(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `scores`, in floating point, and `labels` as arrays, or say what is wrong with them.

    Raises
    ------
    ValueError
        If they are no numbers, the shapes differ, a label is not in {-1, 0, 1}, or a finite score that counts is beyond
        ±1e150.
    """
    # numpy would read MXNet's arrays number by number.
    scores, labels = (np.asarray(array.asnumpy() if hasattr(array, "asnumpy") else array) for array in (scores, labels))
    for name, array in (("scores", scores), ("labels", labels)):
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} must be real numbers, not {array.dtype}")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    if scores.shape != labels.shape:
        raise ValueError(f"scores and labels differ in shape: {scores.shape} and {labels.shape}")
    whole = labels.dtype.kind in "iub" or np.array_equal(labels, np.rint(labels))
    if labels.size and not (whole and labels.min() >= -1 and labels.max() <= 1):
        raise ValueError("labels must be -1 (ignored), 0 (negative) or 1 (positive)")
    if scores.dtype.itemsize > 4 and (np.isfinite(scores) & ~within_range(scores))[labels >= 0].any():
        raise ValueError(f"scores must lie within ±{LARGEST_SCORE:g}, or not be finite")
    return scores, labels


def check_class_targets(logits: np.ndarray, class_targets: np.ndarray) -> None:
    """Raise ValueError unless logits (B, N, K) and class targets (B, N) in -1 … K fit."""
    check_shapes(logits.shape, class_targets.shape)
    classes = logits.shape[-1]
    if class_targets.size and not (class_targets.min() >= -1 and class_targets.max() <= classes):
        raise ValueError(f"class targets must lie in -1 … {classes}, not {class_targets.min()} … {class_targets.max()}")
    if not (class_targets.dtype.kind in "iu" or np.array_equal(np.rint(class_targets), class_targets)):
        raise ValueError("class targets must be whole numbers")


def check_shapes(logits: tuple[int, ...], class_targets: tuple[int, ...]) -> None:
    """Raise ValueError unless the shapes are (B, N, K) and (B, N)."""
    if len(logits) != 3 or class_targets != logits[:2]:
        raise ValueError(f"logits (B, N, K) and class targets (B, N) do not fit: {logits} and {class_targets}")


def check_grouping(ranking_batch: int, ranking_scope: str) -> None:
    """Raise ValueError unless `ranking_batch` is a whole number from 0 on and `ranking_scope` one of SCOPES."""
    if ranking_batch != int(ranking_batch) or ranking_batch < 0:
        raise ValueError(f"ranking_batch must be a number of images, or 0 for all of them, not {ranking_batch}")
    if ranking_scope not in SCOPES:
        raise ValueError(f"ranking_scope must be one of {', '.join(SCOPES)}, not {ranking_scope!r}")


def check_floating_point(dtype: np.dtype | type | str) -> None:
    """Raise ValueError unless logits of this type are floating point numbers, as their gradient must be."""
    own = np.dtype(dtype)
    if own.names:  # as MXNet describes bfloat16
        raise ValueError(f"logits of {own.names[0]} must be cast to float32 first: numpy cannot compute with them")
    if own.kind != "f":
        raise ValueError(f"logits must be floating point numbers, not {own}")


def within_range(scores: np.ndarray) -> np.ndarray:
    """Return which scores are numbers that rankings can compute with."""
    return np.isfinite(scores) if scores.dtype.itemsize <= 4 else np.abs(scores) <= LARGEST_SCORE


def check_delta(delta: float) -> None:
    """Raise ValueError unless `delta` is a number from 1e-100 to 1e100."""
    check_width("delta, half the width of the step's ramp,", delta)


def check_width(name: str, value: float, least: float = LEAST_WIDTH) -> None:
    """Raise ValueError unless a number of the scores' unit is positive, neither too small nor too large."""
    if not least <= value <= LARGEST_WIDTH:
        raise ValueError(f"{name} must be a positive number, {least:g} to {LARGEST_WIDTH:g}, not {value}")
