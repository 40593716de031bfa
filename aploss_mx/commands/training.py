"""What the training commands share: their flags, and the way from flags to a finished run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence, Type, Union

from aploss_mx.commands.flags import add_gpus_flag, add_workers_flag, positive_int
from aploss_mx.commands.recipe_flags import RecipeParser, add_recipe_flags, recipe_from_flags, settings_of_test
from aploss_mx.commands.scoring import detect, preflight, report_metrics
from aploss_mx.console import complain
from aploss_mx.data.check import Dataset, check_dataset
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.dataset import classes_of
from aploss_mx.data.problems import WARNING, Problem, raise_if_errors
from aploss_mx.data.voc import VOCDetection
from aploss_mx.detection.detector import Detector
from aploss_mx.devices import parse_devices
from aploss_mx.evaluation.evaluate import format_table
from aploss_mx.inspection.page import REPORT, write_run_page
from aploss_mx.inspection.pngs import log_images
from aploss_mx.inspection.run_folder import read_run, write_note
from aploss_mx.report.plots import plot_training
from aploss_mx.training.distributed import DISTRIBUTED, KV_STORES
from aploss_mx.training.options import Options
from aploss_mx.training.roll_call import add_timeout_flag, timeouts_of
from aploss_mx.training.setup import check_run, set_up

Layout = Union[Type[VOCDetection], Type[COCODetection]]


def training_parser(
    description: str | None, default_recipe: str, default_root: str, prog: str | None = None
) -> RecipeParser:
    """Return the parser of a training command."""
    parser = RecipeParser(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        "see launch-local (default: device)",
    )
    add_timeout_flag(parser)
    parser.add_argument(
        "--resume",
        default="",
        metavar="auto|FILE",
        help="resume from the run's last checkpoint, or from a file (default: a new run, in a folder that holds none)",
    )
    parser.add_argument(
        "--log-interval",
        type=positive_int,
        default=20,
        metavar="STEPS",
        help="steps between metrics rows (default: %(default)s)",
    )
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="only evaluate the checkpoint of --resume (default: the run's last), and write evaluation.json",
    )
    parser.add_argument("--no-report", action="store_true", help=f"make no {REPORT} at the end")
    add_recipe_flags(parser, default_recipe)
    return parser


def run_training(arguments: argparse.Namespace, layout: Layout, command: Sequence[str]) -> dict[str, Any]:
    """Check the data, train, print the table, draw the curves and make the page, or only evaluate; returns the metrics.

    `layout` is the class of the data set. The run's folder notes it and the words of the `command`.
    """

    def open_dataset(classes: str | Sequence[str], splits: str) -> Dataset:
        return layout(arguments.dataset_root, splits, classes_of(classes), False)  # what is wrong is told below

    recipe = recipe_from_flags(arguments)
    options = Options(
        save_prefix=arguments.save_prefix or Path("runs") / Path(arguments.recipe).stem,
        devices=parse_devices(arguments.gpus, arguments.cpus),
        kv_store=arguments.kv_store,
        num_workers=arguments.num_workers,
        resume=arguments.resume,
        log_interval=arguments.log_interval,
        timeouts=timeouts_of(arguments.timeout),
    )
    if arguments.eval_only:
        if options.kv_store in DISTRIBUTED:
            raise ValueError(f"--eval-only is the work of one process: leave out --kv-store {options.kv_store}")
        checkpoint = options.last if options.resume in ("", "auto") else Path(options.resume)
        folder = arguments.save_prefix or checkpoint.parent  # the recipe need not be the checkpoint's
        replace(options, save_prefix=folder).check_writable()
        detector = Detector.load(checkpoint, options.devices[0], **settings_of_test(arguments))
        dataset = open_dataset(detector.classes, arguments.val_split or detector.recipe.val_split)
        preflight(check_dataset(dataset, max_detections=detector.recipe.max_detections))
        detections = detect(detector, dataset, options.num_workers)
        return report_metrics(dataset, detections, folder / "evaluation.json")

    check_run(recipe, options)
    options.check_free()
    train = open_dataset(recipe.classes, recipe.train_split)
    reports = [check_dataset(train, data_shape=recipe.data_shape, anchors=recipe.anchors)]
    if not train.classes:
        preflight(*reports)  # which has errors, since there are no objects
    # By name, wherever they came from: a checkpoint must not depend on a file.
    recipe = recipe.override(classes=train.classes)
    val = open_dataset(train.classes, recipe.val_split)
    reports.append(check_dataset(val, max_detections=recipe.max_detections))
    reports[-1].problems.extend(_trained_on(train, val))
    alone = options.kv_store not in DISTRIBUTED
    if alone:
        preflight(*reports)
    else:
        raise_if_errors(problem for report in reports for problem in report.problems)
    run = set_up(recipe, train.classes, train.samples, val.samples, options)
    if run.workers.leads and not alone:  # which is known now that all have joined; the others' reports are the same
        preflight(*reports)
    if run.workers.leads:
        place = layout.__name__, Path(arguments.dataset_root)
        write_note(options.save_prefix, command, *place, train.samples, train.classes)
    try:
        metrics = run.run()
    except KeyboardInterrupt:
        kept = options.last.exists()
        told = "the run resumes from its last whole epoch with --resume auto" if kept else "no epoch was whole yet"
        raise KeyboardInterrupt(told) from None
    if run.workers.leads:
        with run.workers.alone():
            print(format_table(metrics))
            plot_training(run.log.path, options.save_prefix / "curves.png")
            print(
                f"checkpoints, metrics.csv, metrics.json, detections.json and curves.png are in {options.save_prefix}"
            )
            if not arguments.no_report:
                _report(options.save_prefix, val)
    run.workers.wait_for_all()  # who leaves before the leader would have only the timeout to end
    return metrics


def _trained_on(train: Dataset, val: Dataset) -> list[Problem]:
    """Return a warning where images that a run is tested on are trained on."""
    trained = {sample.image_path for sample in train.samples if sample.trained.any()}
    shared = [sample.image_id for sample in val.samples if sample.image_path in trained]
    message = f"{len(shared)} of {len(val.samples)} images, such as {min(shared, default='')}: all figures flatter"
    return [Problem(WARNING, "trained on", val.name, message)] if shared else []


def _report(folder: Path, val: Dataset) -> None:
    """Make the page of a finished run; whatever fails is told, and costs the run nothing."""
    try:
        run = read_run(folder)
        plots = write_run_page(run, val, folder / REPORT)
        print(f"wrote {folder / REPORT}")
        log_images(folder / "tensorboard", int(run.log["step"].max()), plots)
    except Exception as error:
        complain(f"warning: the run is whole, but its page is not ({error}); make it with aploss-mx report {folder}")
