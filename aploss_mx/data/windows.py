"""Cut windows out of an image, which may reach beyond it: the picture and the boxes that they show.

Boxes are float32 (M, 4), corners [x1, y1, x2, y2] in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from aploss_mx.data.pixels import MEAN_COLOUR


class Window(NamedTuple):
    """A rectangle of whole pixels in an image's coordinates; it may reach beyond the image's borders."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1


def clip_to_window(boxes: np.ndarray, labels: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (M', 4) whose centres lie inside a window, cut off at its borders, and their labels (M',).

    Boxes without an area are left out: they have no logarithm to regress.
    """
    kept = centres_inside(np.array([window]), boxes)[0] & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    corners = np.array(window, boxes.dtype)
    return np.clip(boxes[kept], np.tile(corners[:2], 2), np.tile(corners[2:], 2)), labels[kept]


def resize_window(
    image: np.ndarray, boxes: np.ndarray, window: Window, size: tuple[int, int], interpolation: int
) -> tuple[np.ndarray, np.ndarray]:
    """Render the part of the plane under a window, the mean colour outside the image, at a new size.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    boxes : ndarray of float32, shape (M, 4)
        In the coordinates of `image`.
    window : Window
        Must overlap the image.
    size : tuple of int
        Height and width of the result in pixels. The aspect ratio is not kept.
    interpolation : int
        One of OpenCV's ``INTER_`` flags.

    Returns
    -------
    tuple of ndarray
        The picture, uint8 (*size, 3), and the boxes in its coordinates, float32 (M, 4).
    """
    height, width = size
    left, right, new_left, new_right = _covered(window.x1, window.x2, image.shape[1], width)
    top, bottom, new_top, new_bottom = _covered(window.y1, window.y2, image.shape[0], height)
    resized = cv2.resize(
        image[top:bottom, left:right], (new_right - new_left, new_bottom - new_top), interpolation=interpolation
    )
    if resized.shape[:2] == (height, width):
        canvas = resized
    else:
        canvas = np.full((height, width, 3), MEAN_COLOUR, np.uint8)
        canvas[new_top:new_bottom, new_left:new_right] = resized

    # From the rounded rectangles, not from the window, so that boxes and pixels move alike.
    scale = np.array([new_right - new_left, new_bottom - new_top]) / [right - left, bottom - top]
    corners = (boxes.reshape(-1, 2, 2) - [left, top]) * scale + [new_left, new_top]
    return canvas, corners.reshape(-1, 4).astype(np.float32)


def centres_inside(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether the centres of boxes (M, 4) lie strictly inside windows (T, 4): bool (T, M)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > windows[:, None, :2]) & (centres < windows[:, None, 2:])).all(axis=2)


def _covered(start: int, stop: int, length: int, new_length: int) -> tuple[int, int, int, int]:
    """Along one axis, return which pixels of an image a window shows, and which pixels of its picture they become.

    The window [start, stop) over an image [0, length) becomes a picture [0, new_length). The pixels of the
    picture are rounded outwards, so that even a sliver of the image gets one.
    """
    first, last = max(start, 0), min(stop, length)
    new_first = (first - start) * new_length // (stop - start)
    new_last = -((start - last) * new_length // (stop - start))  # rounded up
    return first, last, new_first, new_last
