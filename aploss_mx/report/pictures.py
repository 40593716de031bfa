"""Pictures of detections, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from aploss_mx.atomic import replacing
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.draw import draw_detections

LEGIBLE = 320  # longer side in pixels below which pictures are enlarged for drawing


def annotate(image: np.ndarray, found: Detections, classes: Sequence[str], min_score: float) -> np.ndarray:
    """Draw detections; small pictures are enlarged first, so that captions leave something to see."""
    factor = max(1, LEGIBLE // max(image.shape[:2]))
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return draw_detections(image, found.boxes * factor, found.labels, found.scores, classes, min_score=min_score)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture, in the format of the path's suffix."""
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"cannot write {path}")
    with replacing(path) as temporary:
        temporary.write_bytes(data)
