#!/usr/bin/env python
r"""Measure how scores shift between images: the AP-loss of a split's images ranked one by one, and more together.

Each checkpoint's AP-loss, 1 − AP with the Heaviside step and without interpolation, is a mean over groups of images,
which --seed draws; the images are shown as in training, without augmentation, and their objects are the same for every
size of group. What the loss grows by from one image to several is what comparing images with each other costs: §3.4 of
Chen et al. (CVPR 2019) calls it "score-shift", and ranks the images of a batch together against it.

python scripts/benchmarks/score_shift.py --params runs/a/last.npz runs/b/last.npz \
    --dataset-root ~/data/VOCdevkit --split 2007_val
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

import numpy as np

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import add_gpus_flag, add_workers_flag, count, one_device, positive_int
from aploss_mx.commands.scoring import preflight
from aploss_mx.data.check import check_dataset
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.loader import EpochSampler, TrainingSet, training_loader
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.postprocess import drop_background
from aploss_mx.progress import track
from aploss_mx.ranking.measure import measure_ap_loss
from aploss_mx.report.markdown import show_table


def ap_losses(
    detector: Detector, samples: Sequence[Sample], groups: Sequence[int], seed: int, num_workers: int
) -> list[float]:
    """Return the mean AP-loss of a detector's rankings of groups of images, the last filled up with the first images.

    Parameters
    ----------
    detector : Detector
    samples : sequence of Sample
        Of the detector's classes; those without an object that counts are left out.
    groups : sequence of int
        Images in a ranking; each a divisor of the largest.
    seed : int
        Of the images' order.
    num_workers : int
        Processes that load images.

    Returns
    -------
    list of float
        One for each of `groups`; in [0, 1].

    Raises
    ------
    ValueError
        If the images are fewer than the largest of `groups`.
    """
    recipe = detector.recipe
    transform = TrainTransform((recipe.data_shape,) * 2, "none", recipe.pixels)
    dataset = TrainingSet(samples, transform, seed, recipe.anchors)
    if len(dataset) < max(groups):
        raise ValueError(f"{len(dataset)} image(s) have an object that counts: too few to rank {max(groups)} together")
    losses = []
    loader = training_loader(dataset, EpochSampler(len(dataset), max(groups), seed), LoaderProcesses(num_workers))
    for images, class_targets, _ in track(loader, "ranking", unit="batches"):
        logits = detector.network(images.as_in_context(detector.device))[0].asnumpy()
        if recipe.background:
            logits = drop_background(logits)
        losses.append([measure_ap_loss(logits, class_targets.asnumpy(), group) for group in groups])
    return np.mean(losses, axis=0).tolist()


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", nargs="+", type=Path, required=True, metavar="FILE", help="checkpoints to compare")
    parser.add_argument("--dataset-root", required=True, help="folder of a data set in VOC or COCO layout")
    parser.add_argument("--split", help="images to rank (default: the first checkpoint's --val-split)")
    parser.add_argument(
        "--groups",
        nargs="+",
        type=positive_int,
        default=[1, 2, 4, 8],
        metavar="N",
        help="images in a ranking, each number a divisor of the largest (default: 1 2 4 8)",
    )
    parser.add_argument("--seed", type=count, default=0, help="of the groups (default: %(default)s)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the figures as CSV, too")
    add_gpus_flag(parser)
    add_workers_flag(parser)
    arguments = parser.parse_args(argv)
    if any(max(arguments.groups) % group for group in arguments.groups):
        parser.error(f"--groups must divide the largest, {max(arguments.groups)}: got {arguments.groups}")
    with readable_errors():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    device = one_device(arguments)
    detectors = [Detector.load(path, device) for path in arguments.params]
    classes, split = detectors[0].classes, arguments.split or detectors[0].recipe.val_split
    for path, detector in zip(arguments.params, detectors):
        if detector.classes != classes:
            raise ValueError(f"{path} has other classes than {arguments.params[0]}: {', '.join(detector.classes)}")
    dataset = open_dataset(arguments.dataset_root, split, classes, strict=False)
    preflight(check_dataset(dataset))

    rows = []
    for path, detector in zip(arguments.params, detectors):
        losses = ap_losses(detector, dataset.samples, arguments.groups, arguments.seed, arguments.num_workers)
        figures = {f"{group} together": f"{loss:.4f}" for group, loss in zip(arguments.groups, losses)}
        rows.append({"checkpoint": str(Path(path.resolve().parent.name, path.name)), "split": split, **figures})
    show_table(rows, 2, arguments.output)


if __name__ == "__main__":
    main()
