"""Read image files as arrays, and normalise arrays as a network wants its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Union

import cv2
import numpy as np
from PIL import Image

from aploss_mx.data.images import open_image, orientation_of, reason_of, turned, turned_back

if TYPE_CHECKING:
    import mxnet as mx

Picture = Union[np.ndarray, "mx.nd.NDArray", Image.Image, str, Path]


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
TIFF_SAMPLE_FORMAT, UNSIGNED = 339, 1
AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits of a grey or a colour that cameras and scanners deliver


def as_array(image: Picture) -> np.ndarray:
    """Return a picture as a uint8 array (H, W, 3) in RGB.

    Parameters
    ----------
    image : ndarray or NDArray of uint8, shape (H, W, 3), in RGB, Pillow's image of any mode, or a file's path
        Of a file the pixels are those of the picture as it is shown, turned as its orientation tag says.

    Raises
    ------
    ValueError
        If it has another shape or type.
    OSError
        If a file cannot be read as an image.
    """
    if isinstance(image, (str, Path)):
        return read_image(image, exif_orientation=True)
    if isinstance(image, Image.Image):
        array = to_rgb(image)
    else:
        array = image.asnumpy() if hasattr(image, "asnumpy") else np.asarray(image)
    if array.dtype != np.uint8 or array.shape[2:] != (3,) or not array.size:
        raise ValueError(
            f"images must be RGB, uint8 of shape (H, W, 3), not a {type(image).__name__} of {array.dtype} {array.shape}"
        )
    return array


def read_image(path: str | Path, exif_orientation: bool = False) -> np.ndarray:
    """Return an image file as a uint8 array (H, W, 3) in RGB; without transparency; see `to_rgb`.

    Parameters
    ----------
    path : str or Path
        A file in one of `images.FORMATS`.
    exif_orientation : bool
        Turn the image as its orientation tag says, that of EXIF or TIFF. Annotations refer to the pixels as they are
        stored, so training and evaluation leave it off; photographs to be shown want it on.

    Raises
    ------
    OSError
        If the file is missing, is no image, or is cut off (OpenCV would pad such a JPEG with grey).
    """
    try:
        with open_image(path) as image:
            turns_itself, deep = image.format == "TIFF", _has_deep_colours(image)
            orientation = orientation_of(image)
            pixels = to_rgb(image)  # in any case, since OpenCV takes files that are cut off
            if deep:
                pixels = _read_deep_colours(path, pixels)
            if exif_orientation == turns_itself:
                return pixels
            return turned(pixels, orientation) if exif_orientation else turned_back(pixels, orientation)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such image") from error
    except Exception as error:  # Pillow's decoders raise almost anything on a broken file
        raise OSError(
            f"{path}: cannot read the image ({reason_of(error)}); restore the file or leave it out"
        ) from error


def to_rgb(image: Image.Image) -> np.ndarray:
    """Return an image of any of Pillow's modes as a uint8 array (H, W, 3) in RGB.

    Modes of 8 bits become RGB as Pillow does it, without what is transparent, and LAB by OpenCV. Integers of more bits
    and floats become 8 bits by `to_8_bits`, whatever mode a version of Pillow has for them.
    """
    if image.mode[0] in "IF":
        values = np.asarray(image)
        unsigned = image.format == "TIFF" and image.tag_v2.get(TIFF_SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED
        if values.dtype == np.int32 and unsigned:  # which Pillow reads as signed
            values = values.view(np.uint32)
        return np.repeat(to_8_bits(values)[..., None], 3, axis=2)
    if image.mode == "LAB":
        planes = [np.asarray(plane) for plane in image.split()]
        return cv2.cvtColor(np.stack(planes, axis=-1), cv2.COLOR_LAB2RGB)
    if image.mode in ("La", "RGBa"):  # whose colours are multiplied by their opacity
        image = image.convert(image.mode.upper())
    elif image.mode == "P" and isinstance(image.info.get("transparency"), bytes):  # of which Pillow would warn
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Return numbers of any range as uint8 of the same shape, by one rule for all types: their range decides.

    - Whole numbers, and floats from 2 on: the smallest of DEPTHS that holds the largest one is their depth, and its
      upper 8 bits remain. Up to 255 they stay as they are; of a camera's 12 bits, 4095 becomes 255.
    - Floats below 2 are fractions of white, 1, and what is above 1 is white.
    - Where one is negative, or too large for 32 bits: the lowest becomes 0, the highest 255, and others lie between.

    Numbers that are not finite become 0.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    depth = next((bits for bits in DEPTHS if high < 2**bits), None)
    if low < 0 or depth is None:
        scaled = (values.astype(np.float64) - low) * (255 / max(float(high) - low, 1e-38))
    elif values.dtype.kind == "f" and high < 2:
        scaled = np.minimum(values, 1) * 255 + 0.5
    elif values.dtype.kind == "f":
        scaled = values / 2.0 ** (depth - 8)
    else:
        scaled = values >> (depth - 8)
    return np.where(finite, scaled, 0).astype(np.uint8)


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether an image, opened and not yet loaded, has colours of 16 bits, of which Pillow would keep the upper 8."""
    return image.mode in ("LA", "RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile)


def _read_deep_colours(path: str | Path, pixels: np.ndarray) -> np.ndarray:
    """Pixels, uint8 (H, W, 3) in RGB, of a file with colours of 16 bits, whose upper 8 are `pixels`.

    Those remain where OpenCV reads other colours, or, as it depends on its version, in another orientation.
    """
    stored = cv2.imdecode(np.fromfile(path, np.uint8), AS_STORED)
    if stored is None or stored.dtype != np.uint16 or not np.array_equal(stored[..., ::-1] >> 8, pixels):
        return pixels
    return to_8_bits(stored[..., ::-1])


def denormalize(planes: np.ndarray, pixels: str = "torchvision") -> np.ndarray:
    """Return the RGB image, uint8 (H, W, 3), that `normalize` has made the network's input, float32 (3, H, W), of."""
    channels, mean, std = PIXELS[pixels]
    image = (planes * std[:, None, None] + mean[:, None, None])[list(np.argsort(channels))]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def normalize(image: np.ndarray, pixels: str = "torchvision") -> np.ndarray:
    """Return the network's input, float32 (3, H, W), of an RGB image, uint8 (H, W, 3); `pixels` is a key of PIXELS."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    channels, mean, std = PIXELS[pixels]
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[list(channels)])
    return (planes - mean[:, None, None]) / std[:, None, None]
