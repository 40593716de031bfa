"""Batches of images and targets, made in worker processes; what an epoch holds depends on the seed alone."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

import cv2
import numpy as np
from mxnet.gluon.data import DataLoader

from aploss_mx.data.pixels import read_image
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform, View
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.targets import assign_targets

# Apart, so that no two uses of one seed share a stream.
ORDER, AUGMENTATION = 1, 2

# Workers are parallel already, and OpenCV's threads do not survive a fork.
cv2.setNumThreads(0)


class Draw(NamedTuple):
    """One image of one epoch: enough to seed its augmentation wherever it is made."""

    epoch: int
    position: int
    index: int


class TrainingSet:
    """Images with their targets, indexed by `Draw`.

    Parameters
    ----------
    samples : sequence of Sample
        Difficult objects, and images that have no others, are left out.
    transform : TrainTransform
        Augmentation and resizing.
    seed : int
        The augmentation of a draw depends on (seed, epoch, position).
    """

    def __init__(self, samples: Sequence[Sample], transform: TrainTransform, seed: int):
        self.samples = [sample for sample in samples if not sample.difficult.all()]
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image (3, H, W), class targets (N,) and box targets (N, 4), all float32."""
        sample = self.samples[draw.index]
        keep = ~sample.difficult
        rng = np.random.default_rng((AUGMENTATION, self.seed, draw.epoch, draw.position))
        image, boxes, labels = self.transform(
            read_image(sample.image_path), sample.boxes[keep], sample.labels[keep], rng
        )
        return (image, *assign_targets(make_anchors(*image.shape[1:]), boxes, labels))


class EpochSampler:
    """Batches of draws for one epoch at a time; the last batch is filled up by wrapping round.

    Attributes
    ----------
    epoch : int
        The epoch that the next iteration draws; the order depends on (seed, epoch).
    part, parts : int
        Which part of each batch to yield: the `part`-th of `parts` equal ones.
    """

    def __init__(self, size: int, batch_size: int, seed: int):
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.part, self.parts = 0, 1

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = np.random.default_rng((ORDER, self.seed, self.epoch)).permutation(self.size)
        order = np.resize(order, len(self) * self.batch_size)
        draws = [Draw(self.epoch, position, int(index)) for position, index in enumerate(order)]
        share = self.batch_size // self.parts
        first = self.part * share
        return iter([draws[start : start + share] for start in range(first, len(draws), self.batch_size)])


class EvaluationSet:
    """Images as the network takes them at test, with the scales that lead back to their own pixels."""

    def __init__(self, samples: Sequence[Sample], views: Sequence[View]):
        self.samples = samples
        self.views = views

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple:
        """Return the index, and image (3, H, W) and scale (2,), float32, of the first view, the second …"""
        image = read_image(self.samples[index].image_path)
        return (index, *(array for view in self.views for array in view(image)))

    def input_shapes(self, sample: Sample) -> tuple[tuple[int, int], ...]:
        """Return height and width of the network's input in each view."""
        return tuple(view.transform.input_shape(sample.height, sample.width) for view in self.views)


def training_loader(dataset: TrainingSet, sampler: EpochSampler, workers: int) -> DataLoader:
    """Return a loader of (images, class targets, box targets); set `sampler.epoch` before each iteration."""
    return DataLoader(dataset, batch_sampler=sampler, num_workers=workers)


def evaluation_loader(dataset: EvaluationSet, workers: int, images: int = 8) -> DataLoader:
    """Return a loader of (indices, images, scales, images, scales …), images of one size in each batch and view.

    `images` bounds what a batch holds, counted in each view: batches wait in shared memory, which may be scarce.
    """
    batch_size = max(1, images // len(dataset.views))
    by_shape: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for index, sample in enumerate(dataset.samples):
        by_shape.setdefault(dataset.input_shapes(sample), []).append(index)
    batches = [
        indices[start : start + batch_size]
        for _, indices in sorted(by_shape.items())
        for start in range(0, len(indices), batch_size)
    ]
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers)
