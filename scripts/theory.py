#!/usr/bin/env python
"""Watch what the paper states of its method: convergence, its failures elsewhere, score shift, step functions.

Each experiment prints a line and leaves a PNG file. All take seconds but 'optimisers' (Figure 5b on 32 images), which
trains a small network three times: on the data of --dataset-root, or on generated shapes.

python scripts/theory.py --output runs/theory
python scripts/theory.py --only optimisers --dataset-root ~/data/VOCdevkit --split 2007_train --steps 300
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np
from matplotlib.figure import Figure

from aploss_mx.arguments import ArgumentParser, output_folder
from aploss_mx.atomic import replacing
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import count, positive_int
from aploss_mx.data.shapes import SHAPES_CLASSES, generate
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection, parse_classes
from aploss_mx.theory import figures
from aploss_mx.theory.linear import random_problem
from aploss_mx.theory.optimisers import compare, make_batches

PROBLEMS = 200
IMAGES = 32


def experiments(arguments: argparse.Namespace) -> dict[str, Callable[[], tuple[Figure, str]]]:
    """Return each experiment by the name of its figure."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(arguments.seed)

    def separable() -> list:
        generator = rng()
        return [random_problem(generator, separable=True) for _ in range(PROBLEMS)]

    return {
        "accuracy_and_ap": figures.accuracy_and_ap,
        "step_functions": figures.step_functions,
        "observation_1": lambda: figures.observation_1(rng()),
        "convergence": lambda: figures.convergence(separable()),
        "accumulated_loss": lambda: figures.accumulated_loss(random_problem(rng(), separable=False)),
        "stuck_descent": figures.stuck_descent,
        "score_shift": figures.score_shift,
        "ramps": lambda: figures.ramps(random_problem(rng(), separable=False)),
        "optimisers": lambda: figures.optimisers(training_curves(arguments)),
    }


def training_curves(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Train the three contenders of Figure 5b on the first images of the data."""
    with tempfile.TemporaryDirectory() as folder:
        root, classes, split = arguments.dataset_root, VOC_CLASSES, arguments.split or "2007_train"
        if root is None:
            root = generate(Path(folder), num_train=IMAGES, num_val=1, progress=False)
            classes = SHAPES_CLASSES
        if arguments.classes:
            classes = parse_classes(arguments.classes)
        samples = VOCDetection(root, split, classes).samples[:IMAGES]
        batches = make_batches(samples, size=128, batch_size=8, seed=arguments.seed)
    return compare(batches, len(classes), arguments.steps, seed=arguments.seed)


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(experiments(argparse.Namespace(seed=0)))
    parser.add_argument(
        "--output", type=output_folder, default="runs/theory", help="folder of the figures (default: %(default)s)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", default=names, help=f"of {', '.join(names)} (default: all)"
    )
    parser.add_argument(
        "--seed", type=count, default=0, help="of random problems and of the network (default: %(default)s)"
    )
    data = parser.add_argument_group("data of 'optimisers'")
    data.add_argument("--dataset-root", help="data in VOC layout (default: generated shapes)")
    data.add_argument("--split", help="images of --dataset-root, of which the first 32 are taken (default: 2007_train)")
    data.add_argument("--classes", help="names joined by commas (default: VOC's, or the shapes')")
    data.add_argument("--steps", type=positive_int, default=100, help="training steps of each (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.split and not arguments.dataset_root:
        parser.error("--split goes with --dataset-root")
    with readable_errors():
        for name, run in experiments(arguments).items():
            if name in arguments.only:
                figure, text = run()
                path = arguments.output / f"{name}.png"
                with replacing(path) as temporary:
                    figure.savefig(temporary, dpi=150)
                print(f"{name}: {text}\nwrote {path}")


if __name__ == "__main__":
    main()
