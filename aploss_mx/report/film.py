"""Write a film whose pictures stand as long as those that they were made of."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

FORMAT = "mp4v"  # what OpenCV's wheels write without a codec of the system
MOST_TICKS = 65535  # of a second that MPEG-4 counts
LONGEST_STILL = 60.0  # seconds, lest one wrong time stamp fills the disk
RESTART = 1.0  # seconds that a clock goes back by where it starts anew


def no_url(path: Path) -> str:
    """Return a path as FFmpeg takes it for one: ``12:30.mp4`` would be of the protocol 12."""
    return os.path.join(os.curdir, path)


class Film:
    """A film at a constant rate: a picture is repeated until the next one's time, and left out if that has passed.

    Parameters
    ----------
    path : Path
    rate : float
        Pictures a second; of fewer than one, each is repeated once a second.
    size : tuple of int
        Width and height.

    Raises
    ------
    OSError
        If OpenCV cannot write there.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self._longest = max(LONGEST_STILL, 2 / rate)
        rate = max(rate, 1.0)
        digits = next(digits for digits in (3, 2, 1, 0) if rate * 10**digits <= MOST_TICKS or not digits)
        self._rate = round(rate, digits)
        self._writer = cv2.VideoWriter(no_url(path), cv2.VideoWriter_fourcc(*FORMAT), self._rate, size)
        if not self._writer.isOpened():
            raise OSError(f"{path}: OpenCV cannot write a film of {self._rate:g} frames a second there")
        self._frames = 0
        self._cut = 0.0
        self._last = np.empty(0)

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Add an RGB picture that is to be seen so many seconds after the first."""
        still = seconds - self._cut - self._frames / self._rate
        limited = min(still, self._longest) if still > -RESTART else 0.0
        self._cut += still - limited
        repeated = round(limited * self._rate)
        if repeated < 0:
            return
        for _ in range(repeated):
            self._writer.write(self._last)
        self._last = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        self._writer.write(self._last)
        self._frames += repeated + 1

    def close(self) -> None:
        """Write the end, without which no program plays it."""
        self._writer.release()
