"""Augment images as SSD's training does (Liu et al., 2016).

Images are uint8 arrays (H, W, 3) in RGB. Every random function draws from the generator it is given, so results depend
on its seed alone. Expansion and cropping only move a `Window` over the image: no enlarged canvas is ever built.
"""

from __future__ import annotations

import cv2
import numpy as np

from aploss_mx.data.windows import Window, centres_inside, clip_to_window
from aploss_mx.geometry.boxes import pairwise_iou

# Principal components of ImageNet's RGB pixel values 0..255 (Krizhevsky et al., 2012), one a column.
PCA_EIGENVALUES = np.array([55.46, 4.794, 1.148])
PCA_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

WHOLE_IMAGE = None
CROP_MIN_IOUS = (WHOLE_IMAGE, 0.1, 0.3, 0.7, 0.9, 0.0)
CROP_TRIES = 50
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST_EXACT, cv2.INTER_LANCZOS4)


def photometric_distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image in other colours, as SSD does (Liu et al., 2016), and with AlexNet's lighting noise.

    Brightness moves by up to 32 levels; contrast, before or after the rest, is scaled by 0.5 to 1.5, so is
    saturation, hue turns by up to 18 degrees, and noise of deviation 0.1 along the principal components of colour is
    added, each with probability one half. Values are rounded, and saturate at 0 and 255, three times: after brightness
    and an early contrast, after saturation and hue, and after a late contrast and the noise.
    """
    brightness = rng.uniform(-32, 32) if _heads(rng) else 0.0
    contrast = rng.uniform(0.5, 1.5) if _heads(rng) else 1.0
    early, late = (contrast, 1.0) if _heads(rng) else (1.0, contrast)
    saturation = rng.uniform(0.5, 1.5) if _heads(rng) else 1.0
    hue = rng.uniform(-18, 18) if _heads(rng) else 0.0
    lighting = PCA_EIGENVECTORS @ (PCA_EIGENVALUES * rng.normal(0, 0.1, 3)) if _heads(rng) else np.zeros(3)

    levels = np.arange(256.0)[:, None]
    image = _map_levels(image, early * (levels + brightness))
    if saturation != 1 or hue != 0:
        image = adjust_saturation_and_hue(image, saturation, hue)
    return _map_levels(image, late * levels + lighting)


def adjust_saturation_and_hue(image: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """Return an image with its HSV saturation scaled, up to full saturation, and its hue turned by degrees."""
    # OpenCV's 8-bit HSV has steps of 2 degrees: a round trip through it alone changes values by up to 6 levels.
    hsv = cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] += hue % 360  # the way back wraps hues above 360, but not all those below 0
    hsv[..., 1] = np.minimum(hsv[..., 1] * saturation, 1)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def expand(window: Window, rng: np.random.Generator) -> Window:
    """Return, with probability one half, a window 1 to 4 times as wide and high somewhere around the given one."""
    if not _heads(rng):
        return window
    ratio = rng.uniform(1, 4)
    width, height = int(window.width * ratio), int(window.height * ratio)
    x1 = window.x1 - int(rng.uniform(0, width - window.width))
    y1 = window.y1 - int(rng.uniform(0, height - window.height))
    return Window(x1, y1, x1 + width, y1 + height)


def sample_crop(
    window: Window, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[Window, np.ndarray, np.ndarray]:
    """Return a random part of a window and the objects in it, as SSD does (Liu et al., 2016).

    One of `CROP_MIN_IOUS` is drawn; if no crop meets it, another one, and so on: the whole window,
    which is among them, always does.

    Parameters
    ----------
    window : Window
        The part of the canvas to crop from.
    boxes, labels : ndarray of float32, shape (M, 4), and of int64, shape (M,)
        Objects in image coordinates, their centres inside the window.

    Returns
    -------
    tuple of Window, ndarray and ndarray
        The crop, and what `clip_to_window` leaves in it: at least one object unless M is 0.
    """
    crop = window
    if len(boxes):
        for choice in rng.permutation(len(CROP_MIN_IOUS)):
            min_iou = CROP_MIN_IOUS[choice]
            crop = window if min_iou is WHOLE_IMAGE else crop_with_min_iou(window, boxes, min_iou, rng)
            if crop is not None:
                break
    return (crop, *clip_to_window(boxes, labels, crop))


def crop_with_min_iou(window: Window, boxes: np.ndarray, min_iou: float, rng: np.random.Generator) -> Window | None:
    """Return a crop of a window that overlaps a box well enough and holds a box's centre; None after 50 tries.

    A crop's sides are 0.3 to 1 of the window's, its aspect ratio 0.5 to 2. Its IoU with at least one of the
    boxes (M, 4), M > 0, must reach `min_iou`: the rule of the original SSD code; ports that ask it of every box
    fall back to the whole image on most pictures with several objects.
    """
    window_sides = np.array([window.width, window.height])
    sides = rng.uniform(0.3, 1, (CROP_TRIES, 2)) * window_sides
    starts = rng.uniform(0, 1, (CROP_TRIES, 2)) * (window_sides - sides)
    crops = np.hstack([starts, starts + sides]).astype(int) + np.tile(window[:2], 2)

    aspect = sides[:, 0] / sides[:, 1]
    valid = (aspect >= 0.5) & (aspect <= 2)
    valid &= pairwise_iou(crops, boxes).max(axis=1) >= min_iou
    valid &= centres_inside(crops, boxes).any(axis=1)
    return Window(*crops[valid.argmax()].tolist()) if valid.any() else None


def random_interpolation(rng: np.random.Generator) -> int:
    """Return one of OpenCV's five methods of resizing, each as likely as the others."""
    return INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))]


def _heads(rng: np.random.Generator) -> bool:
    return rng.random() < 0.5


def _map_levels(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace level v of a uint8 image by table[v], rounded; the table is (256, 1) or, for each channel, (256, 3)."""
    return cv2.LUT(image, np.rint(table.clip(0, 255)).astype(np.uint8)[None])
