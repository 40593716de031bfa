"""Draw detections into pictures, and gather pictures on one sheet."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from aploss_mx.atomic import replacing
from aploss_mx.data.pixels import Picture, as_array
from aploss_mx.fonts import font_of
from aploss_mx.geometry.detections import Detections
from aploss_mx.palette import BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION, YELLOW
from aploss_mx.text import visible

Color = Tuple[int, int, int]
Rectangle = Tuple[int, int, int, int]

_STRONG = (ORANGE, SKY_BLUE, GREEN, YELLOW, VERMILION, PURPLE, BLUE)  # the palette without black, the strongest first
TILE = 400  # longer side in pixels of a picture on a sheet, of which ten as PNG stay below 3 MB
LEGIBLE = 320  # longer side in pixels below which pictures are enlarged for drawing
_MIN_FONT_SIZE = 5  # px; smaller text cannot be read


def class_color(label: int) -> Color:
    """RGB colour of a class index: seven that colour-blind readers can tell apart, then ever finer differences.

    Each further colour is the one farthest from all before it in CIELAB; after several hundred they repeat.
    """
    palette = _palette()
    return palette[label % len(palette)]


@lru_cache(maxsize=1)
def _palette() -> list[Color]:
    levels = np.linspace(0, 255, 9).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness = _cielab(candidates)[:, 0]
    # Neither near black, where text and shadows are, nor near white, where skies are.
    candidates = candidates[(lightness > 30) & (lightness < 92)]
    points = _cielab(candidates)
    palette = [ImageColor.getrgb(color) for color in _STRONG]
    distances = np.linalg.norm(points[:, None] - _cielab(np.array(palette)), axis=2).min(axis=1)
    while distances.max() > 0:
        farthest = distances.argmax()
        red, green, blue = candidates[farthest].astype(int).tolist()
        palette.append((red, green, blue))
        distances = np.minimum(distances, np.linalg.norm(points - points[farthest], axis=1))
    return palette


def _cielab(colors: np.ndarray) -> np.ndarray:
    """CIELAB coordinates of RGB colours (N, 3) from 0 to 255."""
    return cv2.cvtColor(colors[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[str],
) -> np.ndarray:
    """Draw boxes with class names and scores into a copy of a picture; the highest score lies on top.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB picture; left as it is.
    boxes : ndarray, shape (M, 4)
        Corners [x1, y1, x2, y2] in continuous pixel coordinates. What lies outside the picture is cut off.
    labels : ndarray of int, shape (M,)
        Index of each box's class in ``classes``.
    scores : ndarray of float, shape (M,), or None
        Scores to write and to sort by; None for annotations, which have none.
    classes : sequence of str
        Class names.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The annotated picture.

    Raises
    ------
    ValueError
        If a label has no name.
    """
    if len(labels) and not 0 <= np.min(labels) <= np.max(labels) < len(classes):
        raise ValueError(f"labels must lie in 0..{len(classes) - 1}, got {np.min(labels)}..{np.max(labels)}")
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    height, width = image.shape[:2]
    corners = np.clip(np.rint(boxes), 0, [width - 1, height - 1, width, height]).astype(int)
    # Zero area is drawn where it stands, as a stroke; what lies wholly outside is not.
    seen = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    order = np.arange(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    order = order[seen[order]]

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    thickness = max(1, round(min(height, width) / 150))
    for index in order:
        color = class_color(labels[index])
        x1, y1, x2, y2 = corners[index].tolist()
        # Pillow's far corner is the last pixel, ours the first beyond it.
        x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
        draw.rectangle([x1 - 1, y1 - 1, x2 + 1, y2 + 1], outline=_text_color(color))
        draw.rectangle([x1, y1, x2, y2], outline=color, width=thickness)

    # Captions in a second round, lest a box strikes through another's. The highest score takes its place first.
    captions: list[tuple[Rectangle, str, ImageFont.FreeTypeFont, Color]] = []
    for index in order[::-1]:
        name = visible(classes[labels[index]])
        text = name if scores is None else f"{name} {scores[index]:.2f}"
        font = _fit_font(text, width, height)
        place = _free_place(corners[index], _caption_size(font, text), width, height, [other for other, *_ in captions])
        captions.append((place, text, font, class_color(labels[index])))
    for (left, top, right, bottom), text, font, color in reversed(captions):
        draw.rectangle([left, top, right - 1, bottom - 1], fill=color)
        draw.text((left + _padding(font.size), top), text, font=font, fill=_text_color(color))
    return np.array(canvas)


def _fit_font(text: str, width: int, height: int) -> ImageFont.FreeTypeFont:
    """Font in proportion to the picture, but small enough for the text's caption to fit into it."""
    size = max(10, round(min(width, height) / 28))
    while size > _MIN_FONT_SIZE and np.any(np.greater(_caption_size(font_of(text, size), text), (width, height))):
        size -= 1
    return font_of(text, size)


def _caption_size(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    """Width and height of a caption in pixels."""
    return int(np.ceil(font.getlength(text))) + 2 * _padding(font.size), sum(font.getmetrics())


def _free_place(
    box: np.ndarray, caption_size: tuple[int, int], width: int, height: int, taken: Sequence[Rectangle]
) -> Rectangle:
    """Place of a caption: above the box, else within, else below, wherever it covers no other caption."""
    x1, y1, x2, y2 = box.tolist()
    caption_width, caption_height = caption_size
    lefts = [max(0, min(left, width - caption_width)) for left in (x1, x2 - caption_width)]
    tops = [max(0, min(top, height - caption_height)) for top in (y1 - caption_height, y1, y2)]
    places = [(left, top, left + caption_width, top + caption_height) for top in tops for left in lefts]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _padding(font_size: int) -> int:
    return max(1, round(font_size / 5))


def _text_color(background: Color) -> Color:
    """Black or white, whichever contrasts more by WCAG 2.1, "contrast ratio" over "relative luminance"."""
    channels = np.asarray(background) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    black_contrast, white_contrast = (luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)
    return (0, 0, 0) if black_contrast > white_contrast else (255, 255, 255)


def contact_sheet(images: Sequence[np.ndarray], columns: int, captions: Sequence[str] = ()) -> np.ndarray:
    """Arrange pictures in a grid, row by row, on white.

    All cells are as wide as the widest and as high as the highest picture. A picture is scaled to fill its cell as
    far as its aspect ratio allows, and centred.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H_i, W_i, 3)
        RGB pictures, at least one.
    columns : int
        Pictures in a row, at least one; fewer where there are not so many pictures.
    captions : sequence of str
        Text above each row; () for none.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The sheet, with a narrow white gap round every cell.

    Raises
    ------
    ValueError
        If there is no picture or no column, or there are not as many captions as rows.
    """
    if not len(images) or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns, got {len(images)} and {columns}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_height = max(image.shape[0] for image in images)
    cell_width = max(image.shape[1] for image in images)
    gap = max(2, min(cell_height, cell_width) // 40)
    width = columns * (cell_width + gap) + gap
    if captions and len(captions) != rows:
        raise ValueError(f"{rows} rows need as many captions, got {len(captions)}")
    fonts = [_fit_font(text, width, cell_height) for text in captions]
    band = max((sum(font.getmetrics()) for font in fonts), default=0)
    sheet = Image.new("RGB", (width, rows * (band + cell_height + gap) + gap), (255, 255, 255))
    for row, (font, text) in enumerate(zip(fonts, captions)):
        ImageDraw.Draw(sheet).text((gap, row * (band + cell_height + gap)), text, font=font, fill=(0, 0, 0))
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        height, width = image.shape[:2]
        scale = min(cell_height / height, cell_width / width)
        picture = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.BICUBIC)
        left = gap + column * (cell_width + gap) + (cell_width - picture.width) // 2
        top = gap + band + row * (band + cell_height + gap) + (cell_height - picture.height) // 2
        sheet.paste(picture, (left, top))
    return np.array(sheet)


def annotate(image: Picture, found: Detections, classes: Sequence[str], min_score: float = 0) -> np.ndarray:
    """Draw detections of `min_score` or more; small pictures are enlarged, so that captions leave something to see.

    Captions have the confidence, of a calibrated detector, or else the score. The image is what `Detector.predict`
    took: an array, Pillow's image or a file's path.
    """
    image = as_array(image)
    factor = max(1, LEGIBLE // max(image.shape[:2]))
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    kept = found.scores >= min_score
    shown = found.scores if found.confidence is None else found.confidence
    return draw_detections(image, found.boxes[kept] * factor, found.labels[kept], shown[kept], classes)


def tile(picture: np.ndarray) -> np.ndarray:
    """Return a picture small enough for a contact sheet."""
    height, width = picture.shape[:2]
    factor = TILE / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def has_format(suffix: str) -> bool:
    """Return whether `write_picture` has a format for a suffix, such as ``.png``; OpenCV names some without colours."""
    try:
        return cv2.imencode(suffix, np.zeros((64, 64, 3), np.uint8))[0]
    except cv2.error:
        return False


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write a picture, whatever `annotate` takes and gives, in the format of the path's suffix."""
    path = Path(path)
    picture = as_array(picture)
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        raise OSError(f"cannot write {path}: no picture format has this suffix") from None
    if not done:
        height, width = picture.shape[:2]
        raise OSError(f"cannot write {path}: {width} × {height} pixels are too many for its format; try .png")
    with replacing(path) as temporary:
        temporary.write_bytes(data)
