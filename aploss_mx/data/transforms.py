"""From an image file to the network's input: reading, SSD augmentation for training, resizing for testing.

Images are uint8 arrays (H, W, 3) in RGB until `normalize`. Every random function draws from the generator it
is given, so results depend on its seed alone. Expansion and cropping only move a `Window` over the image, and
`resize_window` renders the last one at the final size: no enlarged canvas is ever built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from aploss_mx.boxes import pairwise_iou
from aploss_mx.data.images import open_image


class Pixels(NamedTuple):
    """How weights want their pixels: channels in an order, minus a mean, over a deviation, of values 0..255."""

    channels: tuple[int, int, int]
    mean: np.ndarray
    std: np.ndarray


PIXELS = {
    # RGB; the constants of torchvision and GluonCV times 255.
    "torchvision": Pixels(
        (0, 1, 2),
        np.array([123.675, 116.28, 103.53], np.float32),
        np.array([58.395, 57.12, 57.375], np.float32),
    ),
    # BGR, for ResNets that came from Caffe (He et al.); those of the authors' own release.
    "caffe": Pixels((2, 1, 0), np.array([102.9801, 115.9465, 122.7717], np.float32), np.ones(3, np.float32)),
}
MEAN_COLOUR = (124, 116, 104)

# Principal components of ImageNet's RGB pixel values 0..255 (Krizhevsky et al., 2012), one a column.
PCA_EIGENVALUES = np.array([55.46, 4.794, 1.148])
PCA_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

AUGMENTATIONS = ("ssd", "flip", "none")
WHOLE_IMAGE = None
CROP_MIN_IOUS = (WHOLE_IMAGE, 0.1, 0.3, 0.7, 0.9, 0.0)
CROP_TRIES = 50
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST_EXACT, cv2.INTER_LANCZOS4)


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


def read_image(path: str | Path, exif_orientation: bool = False) -> np.ndarray:
    """Return an image file as a uint8 array (H, W, 3) in RGB; transparency is dropped, 16 bits become 8.

    Parameters
    ----------
    path : str or Path
        A file in any format Pillow decodes.
    exif_orientation : bool
        Turn the image as its EXIF tag says. Annotations refer to the pixels as they are stored, so
        training and evaluation leave it off; photographs to be shown want it on.

    Raises
    ------
    OSError
        If the file is missing, is no image, or is cut off (OpenCV would pad such a JPEG with grey).
    """
    try:
        with open_image(path) as image:
            upright = ImageOps.exif_transpose(image) if exif_orientation else image
            if upright.mode.startswith("I"):  # 16-bit grey, which convert() would saturate at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.array(upright.convert("RGB"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such image; check the data set's folder") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot read the image ({error}); restore the file or leave it out") from error


def normalize(image: np.ndarray, pixels: str = "torchvision") -> np.ndarray:
    """Return the network's input, float32 (3, H, W), of an RGB image, uint8 (H, W, 3); `pixels` is a key of PIXELS."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    channels, mean, std = PIXELS[pixels]
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[list(channels)])
    return (planes - mean[:, None, None]) / std[:, None, None]


def photometric_distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image in other colours, as SSD does (Liu et al., 2016), and with AlexNet's lighting noise.

    Brightness moves by up to 32 levels; contrast, before or after the rest, is scaled by 0.5 to 1.5, so is
    saturation, and hue turns by up to 18 degrees, each with probability one half. The noise along the
    principal components of colour has deviation 0.1. Values saturate at 0 and 255 after every stage.
    """
    brightness = rng.uniform(-32, 32) if _heads(rng) else 0.0
    contrast = rng.uniform(0.5, 1.5) if _heads(rng) else 1.0
    early, late = (contrast, 1.0) if _heads(rng) else (1.0, contrast)
    saturation = rng.uniform(0.5, 1.5) if _heads(rng) else 1.0
    hue = rng.uniform(-18, 18) if _heads(rng) else 0.0
    lighting = PCA_EIGENVECTORS @ (PCA_EIGENVALUES * rng.normal(0, 0.1, 3))

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
    valid &= _centres_inside(crops, boxes).any(axis=1)
    return Window(*crops[valid.argmax()].tolist()) if valid.any() else None


def clip_to_window(boxes: np.ndarray, labels: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (M', 4) whose centres lie inside a window, cut off at its borders, and their labels (M',).

    Boxes without an area are left out: they have no logarithm to regress.
    """
    kept = _centres_inside(np.array([window]), boxes)[0] & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
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


def random_interpolation(rng: np.random.Generator) -> int:
    """Return one of OpenCV's five methods of resizing, each as likely as the others."""
    return INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))]


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
            Parts of boxes beyond the image are cut off; boxes outside it or without an area are left out.
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
        if self.augmentation != "none" and _heads(rng):
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

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's input and its scale.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)

        Returns
        -------
        tuple of ndarray
            Input, float32 (3, H', W'), with 0, the mean colour, where it is padded; and the scale, float32 (2,):
            resized width and height over the original ones. Corners x of a box in the image are x' / scale[0].
        """
        height, width = image.shape[:2]
        new_height, new_width = self._resized_shape(height, width)
        resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        padded = np.zeros((3, *self.input_shape(height, width)), np.float32)
        padded[:, :new_height, :new_width] = normalize(resized, self.pixels)
        return padded, np.array([new_width / width, new_height / height], np.float32)

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

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return input and scale as `EvalTransform` does."""
        return self.transform(image[:, ::-1] if self.mirrored else image)


def _heads(rng: np.random.Generator) -> bool:
    return rng.random() < 0.5


def _map_levels(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace level v of a uint8 image by table[v], rounded; the table is (256, 1) or, for each channel, (256, 3)."""
    return cv2.LUT(image, np.rint(table.clip(0, 255)).astype(np.uint8)[None])


def _centres_inside(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
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
    new_last = _ceil_div((last - start) * new_length, stop - start)
    return first, last, new_first, new_last


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _round_up(length: int, multiple: int) -> int:
    return _ceil_div(length, multiple) * multiple
