"""Opening image files so that damage shows."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageFile


def open_image(path: str | Path) -> Image.Image:
    """Open an image file with Pillow, set to refuse files that are cut off."""
    # gluoncv.data.mhp turns this on for the whole process when it is imported; half an image would pass as whole.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return Image.open(path)
