"""List the objects of a data set that count, as the network is shown them: in images warped to squares."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from aploss_mx.data.sample import Sample
from aploss_mx.geometry.anchors import PAPERS, AnchorShapes
from aploss_mx.geometry.coverage import best_anchor_overlaps


class Objects(NamedTuple):
    """The objects of a data set that training learns.

    Attributes
    ----------
    image : ndarray of int, shape (M,)
        Index of the sample.
    label : ndarray of int, shape (M,)
    boxes : ndarray of float64, shape (M, 4)
        As annotated.
    warped : ndarray of float64, shape (M, 4)
        In pixels of the square training images, without augmentation.
    overlap : ndarray of float64, shape (M,)
        The highest IoU of any anchor.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    warped: np.ndarray
    overlap: np.ndarray


def counted_objects(samples: Sequence[Sample], data_shape: int, anchors: AnchorShapes = PAPERS) -> Objects:
    """Return the objects that training learns, of training images whose side is `data_shape`."""
    counted = [sample.trained for sample in samples]
    image = np.repeat(np.arange(len(samples)), [kept.sum() for kept in counted])
    label = np.concatenate([np.zeros(0, np.int64), *(one.labels[kept] for one, kept in zip(samples, counted))])
    boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes[kept] for one, kept in zip(samples, counted))])
    sizes = np.array([[sample.width, sample.height] * 2 for sample in samples], np.float64).reshape(-1, 4)
    warped = boxes * (data_shape / sizes[image])
    return Objects(image, label, boxes, warped, best_anchor_overlaps(warped, data_shape, data_shape, anchors))
