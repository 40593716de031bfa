"""Train one network in three ways to lower its AP-loss, from one start on the same batches: a small Figure 5b."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import Trainer

from aploss_mx.config import Recipe
from aploss_mx.data.loader import EpochSampler, TrainingSet
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.losses.from_recipe import make_class_loss
from aploss_mx.progress import track
from aploss_mx.ranking.measure import measure_ap_loss
from symbols.retinanet import RetinaNet, get_network

CONTENDERS = {"error-driven update": "ap", "structured hinge loss": "hinge-ap", "approximate gradient": "smooth-ap"}
"""The recipe's loss of each, by its name in the figure."""


class Batch(NamedTuple):
    """Images (B, 3, H, W) and class targets (B, N)."""

    images: mx.nd.NDArray
    class_targets: mx.nd.NDArray


def make_batches(samples: Sequence[Sample], size: int, batch_size: int, seed: int = 0) -> list[Batch]:
    """Return the samples as batches of square images, not augmented, the last one filled up by wrapping round.

    Raises
    ------
    ValueError
        If no sample has an object that training learns.
    """
    dataset = TrainingSet(samples, TrainTransform((size, size), "none"), seed)
    if not dataset:
        raise ValueError(f"not one object in the {len(samples)} images counts: there is nothing to train on")
    batches = []
    for draws in EpochSampler(len(dataset), batch_size, seed):
        images, class_targets, _ = zip(*(dataset[draw] for draw in draws))
        batches.append(Batch(mx.nd.array(np.stack(images)), mx.nd.array(np.stack(class_targets))))
    return batches


def compare(
    batches: Sequence[Batch], classes: int, steps: int, channels: int = 32, rate: float = 1e-3, seed: int = 0
) -> dict[str, np.ndarray]:
    """Train each contender without box regression; returns its AP-loss at each step, on the batch it is about to see.

    Parameters
    ----------
    batches : sequence of Batch
        Taken in turn.
    classes : int
    steps : int
    channels : int
        Width of the network's pyramid and heads, over a ResNet-18 from scratch.
    rate : float
        Learning rate of Adam.
    seed : int
        Of the start.

    Returns
    -------
    dict of str to ndarray of float, shape (steps,)
        1 - average precision with the Heaviside step, whatever is minimised.
    """
    mx.random.seed(seed)
    network = get_network("resnet18_v1b", classes, channels, std=None)
    network.hybridize(static_alloc=True)
    network(batches[0].images)
    start = {name: value.data().copy() for name, value in network.collect_params().items()}
    curves = {}
    with track(total=len(CONTENDERS) * steps, unit="steps", leave=False) as bar:
        for name, loss in CONTENDERS.items():
            for parameter, value in start.items():
                network.collect_params()[parameter].set_data(value)
            bar.set_description(name)
            curves[name] = _train(network, make_class_loss(Recipe(loss=loss)), batches, steps, rate, bar)
    return curves


def _train(
    network: RetinaNet, loss: mx.gluon.HybridBlock, batches: Sequence[Batch], steps: int, rate: float, bar: Any
) -> np.ndarray:
    parameters = {
        name: value for name, value in network._collect_params_with_prefix().items() if not name.startswith("box_head")
    }
    trainer = Trainer(parameters, "adam", {"learning_rate": rate}, kvstore=None)
    losses = []
    for step in range(steps):
        images, class_targets = batches[step % len(batches)]
        with autograd.record():
            logits, _ = network(images)
            value = loss(logits, class_targets)
        value.backward()
        trainer.step(1)
        losses.append(measure_ap_loss(logits.asnumpy(), class_targets.asnumpy()))
        bar.update()
    return np.array(losses)
