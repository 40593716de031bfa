"""What the training scripts share: their flags, and the way from flags to a finished run."""
from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import mxnet as mx

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.config import Recipe, add_recipe_flags, recipe_from_flags
from aploss_mx.data.check import check_dataset
from aploss_mx.devices import parse_devices
from aploss_mx.evaluation.evaluate import format_table
from aploss_mx.report.figures import plot_training
from aploss_mx.training import Options, TrainingError, TrainingRun

Open = Callable[[argparse.Namespace, Recipe, str], Any]


def training_parser(description: str, default_recipe: str, default_root: str) -> argparse.ArgumentParser:
    """Return the parser of a training script."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-root", default=default_root, help="folder of the data set (default: %(default)s)")
    parser.add_argument("--save-prefix", help="folder of the run (default: runs/RECIPE)")
    parser.add_argument("--gpus", default="", metavar="0,1", help="GPUs to train on (default: the CPU)")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="CPU devices, to try data parallelism (default: 1)")
    parser.add_argument(
        "--kv-store", default="device", choices=["device", "local"], help="kvstore that sums gradients (default: device)"
    )
    parser.add_argument("--num-workers", type=int, default=2, help="processes that load data (default: %(default)s)")
    parser.add_argument(
        "--resume", default="", metavar="auto|FILE", help="go on from the run's last checkpoint, or from a file"
    )
    parser.add_argument(
        "--log-interval", type=int, default=20, metavar="STEPS", help="steps between metrics rows (default: %(default)s)"
    )
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate the checkpoint of --resume (default: auto) and train nothing"
    )
    add_recipe_flags(parser, default_recipe)
    return parser


def run_training(arguments: argparse.Namespace, open_dataset: Open) -> dict[str, Any]:
    """Check the data, train (or only evaluate), print the table and draw the curves; returns the metrics.

    `open_dataset(arguments, recipe, splits)` returns a data set with ``samples`` and ``classes``.
    """
    recipe = recipe_from_flags(arguments)
    options = Options(
        save_prefix=Path(arguments.save_prefix or Path("runs") / Path(arguments.recipe).stem),
        devices=parse_devices(arguments.gpus, arguments.cpus),
        kv_store=arguments.kv_store,
        num_workers=arguments.num_workers,
        resume=arguments.resume or ("auto" if arguments.eval_only else ""),
        log_interval=arguments.log_interval,
    )
    train, val = (open_dataset(arguments, recipe, splits) for splits in (recipe.train_split, recipe.val_split))
    for dataset in (val,) if arguments.eval_only else (train, val):
        report = check_dataset(dataset)
        print(report)
        report.raise_if_errors()
    run = TrainingRun(recipe, train.classes, train.samples, val.samples, options)
    metrics = run.evaluate() if arguments.eval_only else run.run()
    print(format_table(metrics))
    plot_training(run.log.path, options.save_prefix / "curves.png")
    print(f"checkpoints, metrics.csv, metrics.json, detections.json and curves.png are in {options.save_prefix}")
    return metrics


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the program with one message instead of a traceback where the user can mend what is wrong."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; a training run goes on from its last whole epoch with --resume auto")
    except (ValueError, OSError, TrainingError) as error:
        sys.exit(f"error: {error}")


def load_checkpoint(path: str, devices: Sequence[mx.Context]):
    """Return a checkpoint and its network, hybridized, on the devices."""
    checkpoint = Checkpoint.load(path)
    network = checkpoint.network(list(devices))
    network.hybridize(static_alloc=True)
    return checkpoint, network
