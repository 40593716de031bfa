"""Make one image and its targets, or one image to test on, as the network takes it; without MXNet."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np

from aploss_mx.data.pixels import read_image
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform, View
from aploss_mx.geometry.anchors import AnchorShapes, make_anchors
from aploss_mx.geometry.targets import assign_targets

AUGMENTATION = 2

cv2.setNumThreads(0)  # the processes that load images are parallel already


class Draw(NamedTuple):
    """One image of one epoch: enough to seed its augmentation wherever it is made."""

    epoch: int
    position: int
    index: int


def training_example(
    sample: Sample, transform: TrainTransform, seed: int, anchors: AnchorShapes, draw: Draw
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image (3, H, W), class targets (N,) and box targets (N, 4), all float32."""
    image, boxes, labels = augmented(sample, transform, seed, draw)
    return (image, *assign_targets(make_anchors(*image.shape[1:], anchors), boxes, labels))


def augmented(
    sample: Sample, transform: TrainTransform, seed: int, draw: Draw
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the image, its boxes and labels, as `TrainTransform` does, of which `training_example` makes targets."""
    keep = sample.trained
    rng = np.random.default_rng((AUGMENTATION, seed, draw.epoch, draw.position))
    boxes = sample.boxes[keep].astype(np.float32)
    return transform(read_image(sample.image_path), boxes, sample.labels[keep], rng)


def evaluation_example(sample: Sample, views: Sequence[View], index: int) -> tuple:
    """Return the index, and the image, float32 (3, H, W), of the first view, the second …"""
    image = read_image(sample.image_path)
    return (index, *(view(image) for view in views))
