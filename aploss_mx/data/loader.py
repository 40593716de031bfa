"""Load batches of images and targets, made in processes; what an epoch holds depends on the seed alone."""

from __future__ import annotations

from functools import partial
from typing import Iterator, Sequence

import mxnet as mx
import numpy as np

from aploss_mx.data.examples import Draw, evaluation_example, training_example
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform, View
from aploss_mx.data.worker import Item
from aploss_mx.geometry.anchors import PAPERS, AnchorShapes

ORDER = 1  # `examples.AUGMENTATION` is another: no two uses of one seed share a stream


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
    anchors : AnchorShapes
        Whose targets are made.
    """

    def __init__(self, samples: Sequence[Sample], transform: TrainTransform, seed: int, anchors: AnchorShapes = PAPERS):
        self.samples = [sample for sample in samples if sample.trained.any()]
        self.transform = transform
        self.seed = seed
        self.anchors = anchors

    def __len__(self) -> int:
        return len(self.samples)

    def item(self, draw: Draw) -> Item:
        """Return what makes the example of a draw, in whichever process."""
        return partial(training_example, self.samples[draw.index], self.transform, self.seed, self.anchors, draw)

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image (3, H, W), class targets (N,) and box targets (N, 4), all float32."""
        return self.item(draw)()


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
    """Images as the network takes them at test."""

    def __init__(self, samples: Sequence[Sample], views: Sequence[View]):
        self.samples = samples
        self.views = views

    def __len__(self) -> int:
        return len(self.samples)

    def item(self, index: int) -> Item:
        """Return what makes an image's example, in whichever process."""
        return partial(evaluation_example, self.samples[index], self.views, index)

    def __getitem__(self, index: int) -> tuple:
        """Return the index, and the image, float32 (3, H, W), of the first view, the second …"""
        return self.item(index)()

    def input_shapes(self, sample: Sample) -> tuple[tuple[int, int], ...]:
        """Return height and width of the network's input in each view."""
        return tuple(view.transform.input_shape(sample.height, sample.width) for view in self.views)


class Loader:
    """Batches of a data set's items, each a list of NDArrays, made ahead in processes.

    Loaders may share processes; of those that do, one is iterated over at a time.
    """

    def __init__(
        self,
        dataset: TrainingSet | EvaluationSet,
        batches: EpochSampler | Sequence[Sequence[int]],
        processes: LoaderProcesses,
    ):
        self.dataset = dataset
        self.batches = batches
        self.processes = processes

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[mx.nd.NDArray]]:
        return self.processes.batches([self.dataset.item(key) for key in keys] for keys in self.batches)


def training_loader(dataset: TrainingSet, sampler: EpochSampler, processes: LoaderProcesses) -> Loader:
    """Return a loader of (images, class targets, box targets); set `sampler.epoch` before each iteration."""
    return Loader(dataset, sampler, processes)


def evaluation_loader(dataset: EvaluationSet, processes: LoaderProcesses, images: int = 8) -> Loader:
    """Return a loader of (indices, images, images …), of one size in each batch and view.

    `images` bounds what a batch holds, counted in each view: batches wait in memory.
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
    return Loader(dataset, batches, processes)
