#!/usr/bin/env python
r"""Measure what say the classification loss has beside box regression: the size of both gradients on shared layers.

For each checkpoint, the mean Euclidean norm of either loss's gradient by the parameters of the backbone and the pyramid
that learn, over the first steps of an epoch of its training, weighed as there and without augmentation; and the share
of the classification loss in the sum of the two norms. --start measures each recipe before its first step, too.

python scripts/benchmarks/gradient_share.py --params runs/ap/last.npz runs/auc/last.npz --start \
    --dataset-root ~/data/VOCdevkit
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Sequence

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split

import mxnet as mx
import numpy as np
from mxnet import autograd

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import add_gpus_flag, add_workers_flag, one_device, positive_int
from aploss_mx.commands.scoring import preflight
from aploss_mx.config import Recipe
from aploss_mx.data.check import check_dataset
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.loader import EpochSampler, TrainingSet, training_loader
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.losses import BoxLoss
from aploss_mx.losses.from_recipe import make_class_loss
from aploss_mx.report.markdown import show_table
from aploss_mx.training.resume import new_network
from symbols.retinanet import RetinaNet


class Norms(NamedTuple):
    """Mean norms of the gradients by the shared parameters."""

    class_loss: float
    box_loss: float

    @property
    def share(self) -> float:
        """Of the classification loss in the sum; 0 where both are 0."""
        total = sum(self)
        return self.class_loss / total if total else 0.0


def gradient_norms(
    network: RetinaNet, recipe: Recipe, samples: Sequence[Sample], steps: int, num_workers: int
) -> Norms:
    """Return the norms over the first `steps` batches of an epoch."""
    shared = [*network.backbone.collect_params().values(), *network.fpn.collect_params().values()]
    shared = [param for param in shared if param.grad_req != "null"]
    class_loss, box_loss = make_class_loss(recipe), BoxLoss(recipe.box_loss_weight, recipe.ranking_batch)
    transform = TrainTransform((recipe.data_shape,) * 2, "none", recipe.pixels)
    dataset = TrainingSet(samples, transform, recipe.seed, recipe.anchors)
    sampler = EpochSampler(len(dataset), recipe.batch_size, recipe.seed)
    norms = []
    for batch in islice(training_loader(dataset, sampler, LoaderProcesses(num_workers)), steps):
        images, class_targets, box_targets = (array.as_in_context(shared[0].list_ctx()[0]) for array in batch)
        of_batch = []
        for box in (False, True):
            with autograd.record():
                logits, deltas = network(images)
                loss = box_loss(deltas, box_targets, class_targets) if box else class_loss(logits, class_targets)
            loss.backward()
            squares = sum(float((param.list_grad()[0] ** 2).sum().asscalar()) for param in shared)
            of_batch.append(squares**0.5)
        norms.append(of_batch)
    return Norms(*np.mean(norms, axis=0).tolist())


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", nargs="+", type=Path, required=True, metavar="FILE", help="checkpoints")
    parser.add_argument("--dataset-root", required=True, help="folder of a data set in VOC or COCO layout")
    parser.add_argument("--split", help="images (default: each checkpoint's --train-split)")
    parser.add_argument("--steps", type=positive_int, default=20, metavar="N", help="batches (default: %(default)s)")
    parser.add_argument("--start", action="store_true", help="measure each recipe before its first step, too")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the figures as CSV, too")
    add_gpus_flag(parser)
    add_workers_flag(parser)
    with readable_errors():
        run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    device = one_device(arguments)
    rows = []
    for path in arguments.params:
        checkpoint = Checkpoint.load(path)
        recipe = checkpoint.recipe
        dataset = open_dataset(arguments.dataset_root, arguments.split or recipe.train_split, checkpoint.classes)
        preflight(check_dataset(dataset))
        networks = {checkpoint.step: checkpoint.network([device])}
        if arguments.start:
            mx.random.seed(recipe.seed)
            networks = {0: new_network(recipe, checkpoint.classes, [device])[0], **networks}
        for step, network in networks.items():
            norms = gradient_norms(network, recipe, dataset.samples, arguments.steps, arguments.num_workers)
            rows.append({
                "checkpoint": str(Path(path.resolve().parent.name, path.name)),
                "loss": recipe.loss,
                "step": step,
                "class loss": f"{norms.class_loss:.4g}",
                "box loss": f"{norms.box_loss:.4g}",
                "share": f"{norms.share:.3f}",
            })  # fmt: skip
    show_table(rows, 2, arguments.output)


if __name__ == "__main__":
    main()
