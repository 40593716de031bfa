"""Transform an image into the network's input: augmentation for training, resizing for testing.

Images are uint8 arrays (H, W, 3) in RGB until they are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from aploss_mx.data.pixels import normalize
from aploss_mx.data.ssd import expand, photometric_distort, random_interpolation, sample_crop
from aploss_mx.data.windows import Window, clip_to_window, resize_window

AUGMENTATIONS = ("ssd", "flip", "none")


def mirror(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (H, W, 3) and its boxes (M, 4) with left and right exchanged."""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return cv2.flip(image, 1), mirrored


@dataclass(frozen=True)
class TrainTransform:
    """Augment an image, warp it to a fixed size and normalise it.

    Attributes
    ----------
    size : tuple of int
        Height and width of the network's input in pixels. The aspect ratio is not kept.
    augmentation : str
        'ssd': colours, expansion, crop, mirroring and a random interpolation, as in the paper;
        'flip': mirroring with probability one half; 'none': nothing but the new size.
    pixels : str
        A key of PIXELS.
    """

    size: tuple[int, int]
    augmentation: str = "ssd"
    pixels: str = "torchvision"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be a height and a width of at least 1 pixel, got {self.size}")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}, got {self.augmentation!r}")

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the network's input and its objects.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
        boxes, labels : ndarray of float32, shape (M, 4), and of int64, shape (M,)
            Parts of boxes beyond the image are cut off; boxes whose centres are outside it, or without an area, are
            left out.
        rng : Generator

        Returns
        -------
        tuple of ndarray
            Input, float32 (3, *size); boxes in its coordinates, float32 (M', 4); labels, int64 (M',).
            M' is at least 1 if any box was valid.
        """
        window = Window(0, 0, image.shape[1], image.shape[0])
        boxes, labels = clip_to_window(boxes, labels, window)
        interpolation = cv2.INTER_LINEAR
        if self.augmentation == "ssd":
            image = photometric_distort(image, rng)
            window, boxes, labels = sample_crop(expand(window, rng), boxes, labels, rng)
            interpolation = random_interpolation(rng)
        image, boxes = resize_window(image, boxes, window, self.size, interpolation)
        if self.augmentation != "none" and rng.random() < 0.5:
            image, boxes = mirror(image, boxes)
        return normalize(image, self.pixels), boxes, labels


@dataclass(frozen=True)
class EvalTransform:
    """Resize an image, its aspect ratio kept or not, normalise it and pad it.

    Attributes
    ----------
    shorter, longest : int
        Length in pixels to give the shorter side, unless the other one would then exceed `longest`.
    multiple : int
        The input's sides are filled up on the right and at the bottom to multiples of this.
    pixels : str
        A key of PIXELS.
    warp : bool
        Give both sides the length `shorter`, as in training.
    """

    shorter: int
    longest: int
    multiple: int = 32
    pixels: str = "torchvision"
    warp: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.shorter <= self.longest or self.multiple < 1:
            raise ValueError(f"need 1 <= shorter <= longest and 1 <= multiple, got {self}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the network's input for an image of uint8, shape (H, W, 3).

        It is float32 (3, H', W'), with 0, the mean colour, where it is padded.
        """
        height, width = image.shape[:2]
        new_height, new_width = self._resized_shape(height, width)
        resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        padded = np.zeros((3, *self.input_shape(height, width)), np.float32)
        padded[:, :new_height, :new_width] = normalize(resized, self.pixels)
        return padded

    def scale(self, height: int, width: int) -> np.ndarray:
        """Return resized width and height over those of an image, float32 (2,): a corner's x in it is x' / scale[0]."""
        new_height, new_width = self._resized_shape(height, width)
        return np.array([new_width / width, new_height / height], np.float32)

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the network's input for an image of this height and width."""
        new_height, new_width = self._resized_shape(height, width)
        return _round_up(new_height, self.multiple), _round_up(new_width, self.multiple)

    def _resized_shape(self, height: int, width: int) -> tuple[int, int]:
        if self.warp:
            return self.shorter, self.shorter
        scale = min(self.shorter / min(height, width), self.longest / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))


class View(NamedTuple):
    """One way to show an image to the network at test: resized, and mirrored left to right or not."""

    transform: EvalTransform
    mirrored: bool = False

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the network's input as `EvalTransform` does."""
        return self.transform(image[:, ::-1] if self.mirrored else image)


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
