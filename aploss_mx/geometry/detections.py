"""Hold the detections of one image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Detections:
    """The detections of one image, in any order; ``Detections()`` holds none, ``found[found.scores > 0.5]`` some.

    What they are made of may be lists, too, and becomes arrays. Those of equal fields are equal.

    Attributes
    ----------
    boxes : ndarray of float32 or float64, shape (D, 4)
        Corners [x1, y1, x2, y2] in continuous pixel coordinates of the original image.
    scores : ndarray of float32 or float64, shape (D,)
        Higher is surer; only their order counts.
    labels : ndarray of int64, shape (D,)
        Index of each detection's class, from 0.
    confidence : ndarray of float32, shape (D,), or None
        How likely each detection is right, in [0, 1] and in the order of the scores; None where the detector is not
        calibrated, see `aploss_mx.evaluation.calibration`.

    Raises
    ------
    ValueError
        If the shapes disagree, a label is negative or no integer, a number is not finite or a box has x2 < x1 or
        y2 < y1.
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    confidence: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if isinstance(value, list) and not value and name != "confidence":
                value = getattr(Detections(), name)  # an empty list tells neither shape nor type
            object.__setattr__(self, name, value if value is None else np.asarray(value))
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(
                f"detections need boxes (D, 4), scores (D,) and labels (D,), got {self.boxes.shape}, "
                f"{self.scores.shape} and {self.labels.shape}"
            )
        if self.confidence is not None and self.confidence.shape != (count,):
            raise ValueError(f"detections need confidence (D,), got {self.confidence.shape} for {count} boxes")
        if not np.issubdtype(self.labels.dtype, np.integer) or (self.labels < 0).any():
            raise ValueError(
                f"detections need integer labels from 0, got {self.labels.dtype} labels {np.unique(self.labels)[:5]}"
            )
        numbers = (self.boxes, self.scores, () if self.confidence is None else self.confidence)
        if not all(np.isfinite(array).all() for array in numbers):
            raise ValueError("detections hold a box, score or confidence that is not finite: has the network diverged?")
        if (self.boxes[:, 2:] < self.boxes[:, :2]).any():
            raise ValueError("detections hold a box with x2 < x1 or y2 < y1: boxes are corners [x1, y1, x2, y2]")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Detections) and all(map(np.array_equal, vars(self).values(), vars(other).values()))

    def __len__(self) -> int:
        return len(self.boxes)

    __iter__ = None  # they are no sequence: their fields are

    def __getitem__(self, rows: np.ndarray | slice) -> Detections:
        """Return those that a mask, a slice or an array of indices names."""
        if np.ndim(rows) == 0 and not isinstance(rows, slice):  # type: ignore[arg-type]
            raise TypeError("detections take a mask, a slice or indices, such as found[:1]")
        confidence = None if self.confidence is None else self.confidence[rows]
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], confidence)
