"""Paint pictures of shapes, some hidden in part, on busy ground; each by its number, the same on every machine."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np

SHAPES_CLASSES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross")
SPLITS: tuple[str, ...] = ("train", "val")

_MIN_SIDE = 24.0  # px, the smallest shape's sqrt(width * height); the five classes can still be told apart
_MAX_SIDE = 0.65  # of the picture's side, likewise
_MIN_VISIBLE = 0.45  # of a shape's area; a shape may not be hidden further
_EASY_VISIBLE = 0.6  # of a shape's area; below it the shape is marked difficult
_SUPERSAMPLING = 4  # samples a pixel along x and along y


class PaintedShape(NamedTuple):
    """One object of a picture.

    Attributes
    ----------
    label : int
        Index into :data:`SHAPES_CLASSES`.
    outline : ndarray of float64, shape (V, 2)
        Corners x, y of the whole shape's polygon, in continuous pixel coordinates.
    visible : ndarray of bool, shape (size, size)
        Pixels of which it covers at least half, and which no later shape covers.
    """

    label: int
    outline: np.ndarray
    visible: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box around the visible pixels: xmin, ymin, xmax, ymax, 1-based and inclusive as in VOC files."""
        columns = np.flatnonzero(self.visible.any(axis=0))
        rows = np.flatnonzero(self.visible.any(axis=1))
        return int(columns[0]) + 1, int(rows[0]) + 1, int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def visible_fraction(self) -> float:
        """Visible part of the shape's whole area, what lies outside the picture included."""
        x, y = self.outline.T
        area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))  # the shoelace formula
        return float(np.count_nonzero(self.visible) / area)

    @property
    def truncated(self) -> bool:
        """Whether the box falls short of the whole shape by more than a pixel, as VOC defines the flag."""
        xmin, ymin, xmax, ymax = self.box
        whole = np.concatenate([self.outline.min(axis=0), self.outline.max(axis=0)])
        return bool(np.abs(whole - [xmin - 1, ymin - 1, xmax, ymax]).max() > 1.0)

    @property
    def difficult(self) -> bool:
        """Whether too little of the shape is seen to ask a detector for it."""
        return self.visible_fraction < _EASY_VISIBLE


def paint_picture(seed: int, split: str, index: int, size: int = 128) -> tuple[np.ndarray, list[PaintedShape]]:
    """Paint one picture of the data set; it depends on nothing but the arguments.

    Parameters
    ----------
    seed : int
        Seed of the data set, from 0.
    split : str
        One of :data:`SPLITS`.
    index : int
        Number of the picture in its split, from 0.
    size : int
        Width and height in pixels.

    Returns
    -------
    image : ndarray of uint8, shape (size, size, 3)
        RGB picture.
    shapes : list of PaintedShape
        Its one to four objects, from the one at the back to the one in front.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    backdrop = _background(rng, size)
    _scatter_distractors(rng, backdrop)
    image = backdrop.astype(np.float32)
    shapes: list[PaintedShape] = []
    for _ in range(rng.integers(1, 5)):
        shapes = _add_shape(rng, image, shapes)
    image += rng.uniform(1, 8) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 255).round().astype(np.uint8), shapes


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Colour ramp, noise from coarse to fine, and stripes in half of the pictures; uint8 (size, size, 3)."""
    image = np.empty((size, size, 3), np.float32)
    image[:] = rng.uniform(70, 185) + rng.uniform(-35, 35, 3)
    image += _along(rng, size)[..., None] * rng.normal(0, 30, 3).astype(np.float32)
    for cells in (4, 8, 16, 32):
        noise = rng.standard_normal((cells, cells, 3), dtype=np.float32)
        image += rng.uniform(0, 14) * cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        waves = np.sin(rng.uniform(6, 40) * _along(rng, size) + rng.uniform(0, 2 * np.pi))
        image += waves[..., None] * rng.normal(0, 16, 3).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _along(rng: np.random.Generator, size: int) -> np.ndarray:
    """Position of each pixel along a random direction, within about -1.4 to 1.4; float32 (size, size)."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return np.float32(np.cos(angle)) * axis + np.float32(np.sin(angle)) * axis[:, None]


def _scatter_distractors(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw lines, open arcs and small blobs, which are of no class, into the image."""
    size = len(image)
    for _ in range(rng.integers(0, 4)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(image, start, end, rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(rng.integers(0, 3)):
        center, axes = rng.integers(0, size, 2).tolist(), rng.integers(8, size // 4, 2).tolist()
        turn, sweep = rng.uniform(0, 360), rng.uniform(60, 200)
        color = rng.uniform(0, 255, 3).tolist()
        cv2.ellipse(image, center, axes, turn, 0, sweep, color, int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(rng.integers(0, 8)):
        center, axes = rng.integers(0, size, 2).tolist(), rng.integers(1, 5, 2).tolist()
        cv2.ellipse(image, center, axes, rng.uniform(0, 180), 0, 360, rng.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)


def _add_shape(rng: np.random.Generator, image: np.ndarray, shapes: list[PaintedShape]) -> list[PaintedShape]:
    """Paint one more shape over the image, or none where no place is found; return all shapes as now visible."""
    size = len(image)
    label = int(rng.integers(len(SHAPES_CLASSES)))
    side = np.exp(rng.uniform(np.log(_MIN_SIDE), np.log(_MAX_SIDE * size)))
    for _ in range(20):
        outline = _random_outline(rng, label, side, size)
        coverage = _coverage(outline, size)
        solid = coverage >= 0.5
        candidates = [shape._replace(visible=shape.visible & ~solid) for shape in shapes]
        candidates.append(PaintedShape(label, outline, solid))
        if min(shape.visible_fraction for shape in candidates) >= _MIN_VISIBLE:
            _paint(rng, image, coverage)
            return candidates
    return shapes


def _random_outline(rng: np.random.Generator, label: int, side: float, size: int) -> np.ndarray:
    """Polygon (V, 2) of a class, turned, slightly stretched, of sqrt(width * height) = side, placed at random."""
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    outline = _UNIT_OUTLINES[SHAPES_CLASSES[label]] @ rotation * [stretch, 1 / stretch]
    low, high = outline.min(axis=0), outline.max(axis=0)
    outline = (outline - (low + high) / 2) * side / np.sqrt(np.prod(high - low))
    # A tenth of its width and height may leave the picture.
    margin = 0.4 * (outline.max(axis=0) - outline.min(axis=0))
    return outline + rng.uniform(margin, size - margin)


def _spokes(count: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """Polygon (count, 2) with corners at equal angles round the origin, at the given distances in turn."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.resize(radii, count)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _plus(arm: float) -> np.ndarray:
    """Polygon (12, 2) of two crossing bars of length 2 and width 2 * arm."""
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    return np.concatenate([quarter @ np.linalg.matrix_power([[0, 1], [-1, 0]], turns) for turns in range(4)])


_UNIT_OUTLINES = {
    "circle": _spokes(64),
    "square": _spokes(4),
    "triangle": _spokes(3),
    "star": _spokes(10, (1.0, 0.42)),
    "cross": _plus(0.3),
}


def _coverage(outline: np.ndarray, size: int) -> np.ndarray:
    """Covered part of each pixel, from 0 to 1; float32 (size, size)."""
    fixed_point_bits = 4
    samples = np.zeros((size * _SUPERSAMPLING, size * _SUPERSAMPLING), np.uint8)
    # OpenCV counts from the centre of the first sample, the outline from its corner.
    corners = np.rint((outline * _SUPERSAMPLING - 0.5) * 2**fixed_point_bits).astype(np.int32)
    cv2.fillPoly(samples, [corners], 255, shift=fixed_point_bits)
    return cv2.resize(samples, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _paint(rng: np.random.Generator, image: np.ndarray, coverage: np.ndarray) -> None:
    """Blend a shaded colour that stands out from what it covers into the image."""
    covered = image[coverage >= 0.5][::8]
    colors = rng.uniform(0, 255, (6, 3)).astype(np.float32)
    alike = np.linalg.norm(covered - colors[:, None], axis=2) < 80
    color = colors[alike.mean(axis=1).argmin()]
    shade = rng.uniform(0, 40) * _along(rng, len(image))[..., None]
    image += coverage[..., None] * (np.clip(color + shade, 0, 255) - image)
