"""Open image files so that damage shows, and tell how their pixels are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

# Meant formats alone: Pillow would start Ghostscript for an EPS, whatever its suffix.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000")  # JPEG includes MPO
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2")
EXIF_ORIENTATION = 0x0112
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
UPRIGHT = 1
QUARTER_TURNS = (5, 6, 7, 8)
_TURNED_BACK = {6: 8, 8: 6}  # the other orientations undo themselves


def open_image(path: str | Path) -> Image.Image:
    """Open an image file of one of FORMATS with Pillow, set to refuse files that are cut off."""
    # gluoncv.data.mhp turns this on for the whole process when it is imported; half an image would pass as whole.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    image = Image.open(path, formats=FORMATS)
    if image.format == "TIFF":
        image.filename = ""  # else newer Pillows map the file to memory, in the size that it has when turned
    return image


def reason_of(error: Exception) -> str:
    """Return why an image file could not be opened or decoded, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return str(error) or type(error).__name__


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height as stored, of an image that was opened and not yet loaded."""
    if image.format == "TIFF":  # which Pillow turns by its orientation, in newer versions before it is loaded
        return int(image.tag_v2[TIFF_WIDTH]), int(image.tag_v2[TIFF_HEIGHT])
    return image.size


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of an image opened and not yet loaded; 1 where it makes no sense."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, UPRIGHT)
    except Exception:  # the tags may be damaged, which the pixels need not mind
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels (H, W, C) as their EXIF orientation says that they are to be seen."""
    if orientation in QUARTER_TURNS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def turned_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return the stored pixels of those that are to be seen: what `turned` is undone by."""
    return turned(pixels, _TURNED_BACK.get(orientation, orientation))
