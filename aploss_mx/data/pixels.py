"""Image files as arrays, and arrays as a network wants its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

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
