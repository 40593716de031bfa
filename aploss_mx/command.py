"""What the scripts share: their flags, and the way from flags to a finished run."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence, Union

import mxnet as mx

from aploss_mx.atomic import write_text
from aploss_mx.config import add_recipe_flags, recipe_from_flags, settings_given
from aploss_mx.cores import count_cores
from aploss_mx.data.check import Dataset, check_dataset
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import ExportError
from aploss_mx.devices import parse_devices
from aploss_mx.evaluation.evaluate import evaluate, format_table
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.figures import plot_training
from aploss_mx.training.distributed import DISTRIBUTED, KV_STORES, leave_workers
from aploss_mx.training.loop import TrainingError, TrainingRun
from aploss_mx.training.options import Options

INTERRUPTED = 130  # exit status of a program that Ctrl-C ends
OpenDataset = Callable[[Union[str, Sequence[str]], str], Dataset]


def positive_int(text: str) -> int:
    """Return a number for argparse, which reports others."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def add_gpus_flag(parser: argparse.ArgumentParser, example: str = "0") -> None:
    """Add ``--gpus``."""
    parser.add_argument("--gpus", default="", metavar=example, help="GPUs to use (default: the CPU)")


def add_workers_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-workers``."""
    parser.add_argument(
        "--num-workers",
        type=int,
        default=min(8, count_cores()),
        metavar="N",
        help="processes that load images (default: %(default)s)",
    )


def one_device(arguments: argparse.Namespace) -> mx.Context:
    """Return the device that ``--gpus`` names.

    Raises
    ------
    ValueError
        If it names several, or as `parse_devices`.
    """
    devices = parse_devices(arguments.gpus)
    if len(devices) > 1:
        raise ValueError(f"--gpus {arguments.gpus}: detection runs on one device")
    return devices[0]


def training_parser(description: str | None, default_recipe: str, default_root: str) -> argparse.ArgumentParser:
    """Return the parser of a training script."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-root", default=default_root, help="folder of the data set (default: %(default)s)")
    parser.add_argument("--save-prefix", type=Path, help="folder of the run (default: runs/RECIPE)")
    add_gpus_flag(parser, "0,1")
    add_workers_flag(parser)
    parser.add_argument(
        "--cpus", type=positive_int, default=1, metavar="N", help="CPU devices, to try data parallelism (default: 1)"
    )
    parser.add_argument(
        "--kv-store",
        default="device",
        choices=KV_STORES,
        metavar="STORE",
        help="kvstore that sums gradients: device or local on this machine; dist_sync over several, "
        "see scripts/launch_local.py (default: device)",
    )
    parser.add_argument(
        "--resume", default="", metavar="auto|FILE", help="go on from the run's last checkpoint, or from a file"
    )
    parser.add_argument(
        "--log-interval",
        type=positive_int,
        default=20,
        metavar="STEPS",
        help="steps between metrics rows (default: %(default)s)",
    )
    parser.add_argument(
        "--eval-only", action="store_true", help="only evaluate the checkpoint of --resume (default: the run's last)"
    )
    add_recipe_flags(parser, default_recipe)
    return parser


def run_training(arguments: argparse.Namespace, open_dataset: OpenDataset) -> dict[str, Any]:
    """Check the data, train, print the table and draw the curves, or only evaluate; returns the metrics.

    `open_dataset(classes, splits)` returns a data set whose broken files are among its ``problems``; `classes` are
    names, or what the recipe says of them.
    """
    recipe = recipe_from_flags(arguments)
    options = Options(
        save_prefix=arguments.save_prefix or Path("runs") / Path(arguments.recipe).stem,
        devices=parse_devices(arguments.gpus, arguments.cpus),
        kv_store=arguments.kv_store,
        num_workers=arguments.num_workers,
        resume=arguments.resume,
        log_interval=arguments.log_interval,
    )
    if arguments.eval_only:
        if options.kv_store in DISTRIBUTED:
            raise ValueError(f"--eval-only is the work of one process: leave out --kv-store {options.kv_store}")
        checkpoint = options.last if options.resume in ("", "auto") else Path(options.resume)
        detector = Detector.load(checkpoint, options.devices[0], **settings_given(arguments))
        dataset = open_dataset(detector.classes, detector.recipe.val_split)
        preflight(dataset, detector.recipe.max_detections)
        detections = detect(detector, dataset, options.num_workers)
        return report_metrics(dataset, detections, options.save_prefix / "evaluation.json")

    options.checkpoint()
    train = open_dataset(recipe.classes, recipe.train_split)
    val = open_dataset(train.classes, recipe.val_split)
    # By name, wherever they came from: a checkpoint must not depend on a file.
    recipe = recipe.override(classes=train.classes)
    preflight(train)
    preflight(val, recipe.max_detections)
    run = TrainingRun(recipe, train.classes, train.samples, val.samples, options)
    metrics = run.run()
    if not run.workers.leads:
        return metrics
    print(format_table(metrics))
    plot_training(run.log.path, options.save_prefix / "curves.png")
    print(f"checkpoints, metrics.csv, metrics.json, detections.json and curves.png are in {options.save_prefix}")
    return metrics


def preflight(dataset: Dataset, max_detections: int | None = None) -> None:
    """Print the report on a data set and raise DataError where it holds errors; arguments as `check_dataset`."""
    report = check_dataset(dataset, max_detections=max_detections)
    print(report)
    report.raise_if_errors()


def detect(detector: Detector, dataset: Dataset, num_workers: int) -> dict[str, Detections]:
    """Return a detector's detections on a data set, by image id.

    Raises
    ------
    ValueError
        If the detector's classes are not the data set's, in the same order.
    """
    if tuple(dataset.classes) != detector.classes:
        raise ValueError(
            f"the detector's classes are {', '.join(detector.classes)}; the data set's are "
            f"{', '.join(dataset.classes)}: give the detector's, in the same order, with --classes"
        )
    return detector.detect(dataset.samples, detector.loader(dataset.samples, num_workers))


def report_metrics(
    dataset: Dataset, detections: dict[str, Detections], output: Path | None, min_area: float = 0
) -> dict[str, Any]:
    """Evaluate detections, print the table, and write the metrics as JSON where `output` names a file."""
    metrics = evaluate(dataset.samples, detections, dataset.classes, min_area)
    print(format_table(metrics))
    if output:
        write_text(output, json.dumps(metrics, indent=1) + "\n")
    return metrics


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the program with one message instead of a traceback where the user can mend what is wrong.

    The environment variable APLOSS_MX_TRACEBACK brings the traceback back.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\ninterrupted; a training run goes on from its last whole epoch with --resume auto", file=sys.stderr)
        leave_workers(INTERRUPTED)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, TrainingError, ExportError, mx.MXNetError) as error:
        if os.environ.get("APLOSS_MX_TRACEBACK"):
            leave_workers(1, traceback.format_exc())
            raise
        message = str(error)
        if isinstance(error, mx.MXNetError):
            message = message.strip().splitlines()[-1]  # MXNet puts its own stack above
        leave_workers(1, f"error: {message}")
        sys.exit(f"error: {message}")
    except Exception:
        leave_workers(1, traceback.format_exc())
        raise
