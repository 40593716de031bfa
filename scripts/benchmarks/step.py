#!/usr/bin/env python
"""Show where the time of a training step and of a test image goes, and how much memory training takes.

Each loss trains the recipe's network in a process of its own for a few steps on real batches, with every part waited
for. The parts add up to a little more than a step whose parts may overlap, which is timed, too.

python scripts/benchmarks/step.py --recipe coco_resnet50 --dataset-root ~/data/coco --batch-size 2 --pretrained none
python scripts/benchmarks/step.py --recipe quickstart --dataset-root datasets/shapes --losses ap focal ohem

--torchvision names the Python of an environment for `torchvision_retinanet.py`: then torchvision's RetinaNet, with its
focal loss, makes steps, too, of VOC's classes, on the same images and from the same weights (--pretrained FILE.npz).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split
import mxnet as mx
from mxnet import autograd

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.atomic import write_csv
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import add_gpus_flag, one_device, positive_int
from aploss_mx.commands.recipe_flags import add_recipe_flags, recipe_from_flags
from aploss_mx.config import SETTINGS_OF_LOSSES, ConfigError, Recipe
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from aploss_mx.devices import count_cores
from aploss_mx.report.markdown import format_head, format_row
from aploss_mx.training.loop import TrainingRun
from aploss_mx.training.options import Options
from aploss_mx.training.setup import set_up
from symbols.arithmetic import multiply_adds

EPILOG = """\
rows
  load                read, augment, and assign targets to a batch, in one process; workers do it beside the training
  class loss, box loss
                      value and gradient with respect to the network's output
  backward            from there to the weights
  whole step          the same step as training makes it, all parts in a row; medians of --steps, after one unmeasured
  multiply-adds forward
                      of a batch in convolutions; backward takes up to twice as many
  operations a second, forward
                      two for each of these
  peak memory         the most that the process ever held in RAM, data and program included
  decoding and NMS    thresholds, decoding and NMS of a test image, from the network's output on
"""
TORCHVISION = Path(__file__).with_name("torchvision_retinanet.py")
RIVAL = "torchvision, focal"
OF_TORCHVISION = (
    "pretrained", "train_split", "data_shape", "augmentation", "channels", "batch_size", "optimizer", "lr",
    "backbone_lr_mult", "wd", "seed",
)  # fmt: skip


class Stopwatch:
    """Medians of the times that named pieces of work took, all of MXNet's work waited for."""

    def __init__(self) -> None:
        self.laps: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        mx.nd.waitall()
        start = time.perf_counter()
        yield
        mx.nd.waitall()
        self.laps.setdefault(name, []).append(time.perf_counter() - start)

    def forget(self) -> None:
        """Drop all that was measured so far."""
        self.laps.clear()

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(laps) for name, laps in self.laps.items()}


def step_in_parts(run: TrainingRun, batch: Sequence[mx.nd.NDArray], rate: float, timed: Stopwatch) -> None:
    """Make the step that `TrainingRun.update` makes on one device, cut where the network's output meets the losses."""
    images, class_targets, box_targets = (array.as_in_context(run.options.devices[0]) for array in batch)
    with timed("forward"), autograd.record():
        outputs = run.network(images)
    logits, deltas = (output.detach() for output in outputs)
    for output in (logits, deltas):
        output.attach_grad()
    with timed("class loss"):
        with autograd.record():
            loss = run.class_loss(logits, class_targets)
        loss.backward()
    with timed("box loss"):
        with autograd.record():
            loss = run.box_loss(deltas, box_targets, class_targets)
        loss.backward()
    with timed("backward"):
        autograd.backward(list(outputs), [logits.grad, deltas.grad])
    with timed("update"):
        run.trainer.set_learning_rate(rate)
        run.trainer.step(1)


def time_training(run: TrainingRun, steps: int) -> dict[str, float]:
    """Return seconds a step of each part, and of whole steps in turn with those in parts."""
    timed = Stopwatch()
    batches = iter(run.loader)
    rate = run.recipe.lr * run.recipe.warmup_factor
    for step in range(-1, steps):
        if step == 0:
            timed.forget()
        with timed("load"):
            batch = next(batches)
        step_in_parts(run, batch, rate, timed)
        with timed("whole step"):
            run.update(batch, rate)
    return timed.medians()


def time_test(detector: Detector, paths: Sequence[Path]) -> dict[str, float]:
    """Return seconds a test image of each part."""
    timed = Stopwatch()
    for number, path in enumerate([paths[0], *paths]):
        if number == 1:
            timed.forget()
        with timed("read"):
            image = read_image(path)
        with timed("resize"):
            inputs = [mx.nd.array(view(image)[None], detector.device) for view in detector.views]
        with timed("network"):
            outputs = [detector.forward(images) for images in inputs]
        with timed("decoding and NMS"):
            detector.decode(outputs, [image.shape[:2]])
    return timed.medians()


def measure(recipe: Recipe, root: str, device: mx.Context, steps: int, images: int) -> dict[str, float]:
    """Return the rows of the table for one loss."""
    train = open_dataset(root, recipe.train_split, recipe.classes)
    val = open_dataset(root, recipe.val_split, train.classes)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(Path(folder), [device], num_workers=0)
        run = set_up(recipe, train.classes, train.samples, val.samples, options)
        if len(run.sampler) <= steps:
            few = f"{run.sampler.size} images with objects, too few for {steps + 1} steps of {recipe.batch_size}"
            raise ConfigError(f"{train.name} has {few}")
        rows = time_training(run, steps)
        run.log.close()
    rows["class loss, share of a step"] = rows["class loss"] / rows["whole step"]
    shape = (recipe.batch_size, 3, recipe.data_shape, recipe.data_shape)
    rows["multiply-adds forward"] = multiply_adds(run.network, shape) / 1e9
    rows["operations a second, forward"] = 2 * rows["multiply-adds forward"] / rows["forward"]
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows["peak memory"] = kibibytes / (2**30 if sys.platform == "darwin" else 2**20)
    test = time_test(run.detector, [sample.image_path for sample in val.samples[:images]])
    seconds = sum(test.values())
    return {**rows, **test, "images a second": 1 / seconds, "NMS, share of a test": test["decoding and NMS"] / seconds}


def measure_torchvision(python: str, recipe: Recipe, root: str, steps: int) -> dict[str, float]:
    """Return the rows that torchvision's RetinaNet has."""
    flags = [f"--{name.replace('_', '-')}={getattr(recipe, name)}" for name in OF_TORCHVISION]
    command = [python, str(TORCHVISION), "--dataset-root", root, "--time-steps", str(steps), *flags]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        raise ConfigError(f"--torchvision {python}: torchvision's steps ended with exit code {ended.returncode}")
    return json.loads(ended.stdout)


UNITS = {
    "class loss, share of a step": "%",
    "multiply-adds forward": "10⁹",
    "operations a second, forward": "10⁹",
    "peak memory": "GiB",
    "images a second": "",
    "NMS, share of a test": "%",
}


def format_table(results: dict[str, dict[str, float]]) -> str:
    """Lay out the rows of all losses as Markdown."""
    lines = [format_head(["part", "unit", *results], texts=2)]
    for name in next(iter(results.values())):
        unit = UNITS.get(name, "s")
        factor = 100 if unit == "%" else 1
        values = (f"{factor * rows[name]:.3g}" if name in rows else "–" for rows in results.values())
        lines.append(format_row([name, unit, *values]))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-root", required=True, help="folder of a data set in VOC or COCO layout")
    parser.add_argument(
        "--losses", nargs="+", choices=SETTINGS_OF_LOSSES, metavar="LOSS", help="losses to compare (default: --loss)"
    )
    parser.add_argument("--steps", type=positive_int, default=5, help="steps to measure (default: %(default)s)")
    parser.add_argument("--images", type=positive_int, default=8, help="test images to measure (default: %(default)s)")
    parser.add_argument("--torchvision", metavar="PYTHON", help="Python of an environment with torchvision")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the unrounded figures as CSV, too")
    add_gpus_flag(parser)
    add_recipe_flags(parser, "quickstart")
    arguments = parser.parse_args(argv)
    with readable_errors():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    recipe = recipe_from_flags(arguments)
    device = one_device(arguments)
    recipes = [recipe.override(loss=loss) for loss in arguments.losses or [recipe.loss]]  # before any is measured
    results, theirs = {}, {}
    if arguments.torchvision:  # first, since its environment may not do
        root = os.path.expanduser(arguments.dataset_root)
        theirs[RIVAL] = measure_torchvision(arguments.torchvision, recipe, root, arguments.steps)
    for one in recipes:
        task = (one, arguments.dataset_root, device, arguments.steps, arguments.images)
        # A new process: the peak of memory is a process's own, and never falls.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            results[one.loss] = pool.submit(measure, *task).result()
    results.update(theirs)
    threads = os.environ.get("OMP_NUM_THREADS", count_cores())
    print(
        f"\n{recipe.network}, {recipe.batch_size} images of {recipe.data_shape}x{recipe.data_shape} a step, "
        f"tested at {recipe.test_short}/{recipe.test_long}; {device}, {threads} threads\n"
    )
    print(format_table(results))
    if arguments.output:
        write_csv(arguments.output, [{"loss": loss, **rows} for loss, rows in results.items()])
        print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
