"""Make thumbnails that stand in a page: small WebP pictures as data: URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

BUDGET = 5_500_000  # characters of all thumbnails of a page
SIDES = (640, 480, 400, 320, 256, 192, 128)  # px, of which the largest that the budget is likely to bear
CHARACTERS_PER_PIXEL = 0.22  # of photographs at QUALITY, boldly
QUALITY, LEAST_QUALITY = 60, 20


def side_for(count: int) -> int:
    """Return the longer side in pixels that `count` thumbnails may have together."""
    return next((side for side in SIDES if side * side * 0.75 * CHARACTERS_PER_PIXEL * count <= BUDGET), SIDES[-1])


def thumbnail(image: np.ndarray, side: int, limit: int | None = None) -> str:
    """Return a picture as a data: URI.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    side : int
        Longest that the longer side may be, in pixels; smaller pictures stay as they are.
    limit : int, optional
        Characters that the URI should not exceed: a picture with much detail loses quality first.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.BICUBIC, reducing_gap=2.0)
    uri = _uri(picture, QUALITY)
    for quality in range(QUALITY - 20, LEAST_QUALITY - 1, -20):
        if limit is None or len(uri) <= limit:
            break
        uri = _uri(picture, quality)
    return uri


def _uri(picture: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
