"""One annotated image, the record that every data set of this package is a list of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """An image file and its objects.

    Attributes
    ----------
    image_id : str
        Name of the image in detections and reports: the file's stem on VOC data.
    image_path : Path
        The image file.
    width, height : int
        Size in pixels, as annotated.
    boxes : ndarray of float64, shape (M, 4)
        Corners [x1, y1, x2, y2] in continuous pixel coordinates: a box over the whole image is
        [0, 0, width, height]. A VOC box [xmin, ymin, xmax, ymax] enters as [xmin - 1, ymin - 1, xmax, ymax].
    labels : ndarray of int64, shape (M,)
        Index of each object's class in the data set's ``classes``, from 0.
    difficult : ndarray of bool, shape (M,)
        Objects that neither training nor the metrics count: VOC's ``difficult``, COCO's crowds.
    areas : ndarray of float64, shape (M,), or None
        Areas in pixels, by which COCO tells small from large: of the masks on COCO data; None for those of the boxes.
    tiny : ndarray of bool, shape (M,), or None
        Objects that the metrics count and training leaves out, as the authors' release does; None if there are none.
    coco_id : int, str or None
        The image's id as the JSON file has it, by which pycocotools sorts images; None on VOC data.
    """

    image_id: str
    image_path: Path
    width: int
    height: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    difficult: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    areas: np.ndarray | None = None
    tiny: np.ndarray | None = None
    coco_id: int | str | None = None

    @property
    def trained(self) -> np.ndarray:
        """Which objects training learns, bool (M,)."""
        return ~self.difficult if self.tiny is None else ~(self.difficult | self.tiny)
