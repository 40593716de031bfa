"""Images with boxes that tests draw."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from PIL import Image

SEEDS = st.integers(0, 2**32 - 1)


def noise_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def image_of_box(height, width, box):
    """A dark image whose red channel alone is lit inside a box with integer corners."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2, 0] = 255
    return image, np.array([box], np.float32)


def lit_box(image):
    """The corners of what `image_of_box` lit; the mean colour's red of 124 stays below the threshold."""
    rows, columns = np.nonzero(image[..., 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@st.composite
def annotated_images(draw, min_boxes=0):
    """A noise image of 1 to 60 pixels a side, valid boxes in it and labels that number them."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    fractions = st.floats(0, 1, width=32)
    boxes = []
    for _ in range(draw(st.integers(min_boxes, 5))):
        sides = 0.5 + draw(fractions) * (width - 0.5), 0.5 + draw(fractions) * (height - 0.5)
        x1, y1 = draw(fractions) * (width - sides[0]), draw(fractions) * (height - sides[1])
        boxes.append([x1, y1, x1 + sides[0], y1 + sides[1]])
    return (
        noise_image(height, width),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(len(boxes), dtype=np.int64),
    )
