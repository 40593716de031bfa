"""Reproduce the paper's tables and figures: run what they need, and set paper and measured side by side.

%(prog)s table2 --scale smoke
%(prog)s table2 --scale whole --dataset-root ~/data/VOCdevkit --seeds 0 1 --only ap focal
%(prog)s table2 --scale paper --dataset-root ~/data/VOCdevkit --coco-root ~/data/coco --gpus 0,1 2,3
%(prog)s report
%(prog)s list --table 2

Once a run is finished, its row is in the table, and it is not run again. An interrupted one resumes from its last
epoch, and a second copy of this program that wants a run at work waits for it. Runs are folders of --runs; CSV files,
Markdown and pictures go to --results.
"""

from __future__ import annotations

import argparse
import os
import shlex
from itertools import chain
from pathlib import Path
from typing import Sequence

import numpy as np

from aploss_mx.arguments import ArgumentParser, output_folder
from aploss_mx.atomic import write_text
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import count, positive_int
from aploss_mx.config import load_recipe
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.pixels import read_image
from aploss_mx.data.shapes import generate
from aploss_mx.detection.detector import Detector
from aploss_mx.devices import parse_devices
from aploss_mx.inspection.comparison import MOST_RUNS, write_comparison_page
from aploss_mx.inspection.run_folder import read_run
from aploss_mx.report.draw import annotate, contact_sheet, write_picture
from aploss_mx.report.held_out import hold_out
from aploss_mx.report.paper import PUBLISHED
from aploss_mx.report.plan import FIGURE_5B, REPORTED, SCALES, TABLES, TUNINGS, Scale, Trial, trials_of
from aploss_mx.report.plots import DRAWINGS, curve_of, draw_curves, write_curves
from aploss_mx.report.runner import Execution, check_gpus
from aploss_mx.report.runs import RunError, Runner, about
from aploss_mx.report.tables import format_table, read_rows, summarise, update_rows, write_summary

REPOSITORY = Path(__file__).resolve().parents[2]
SMOKE_IMAGES = (160, 40)  # to train and to evaluate on
FIGURES = ("figure5a", FIGURE_5B, "figure6")
PICTURES, COLUMNS = 6, 3  # of Figure 6


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for name in (*TABLES, *FIGURES):
        _add_run_flags(commands.add_parser(name, help=f"train, test and report {name}"))
    for name in TUNINGS:
        what = {"learning_rates_longer": "the two best of these in longer trainings"}.get(name, name.replace("_", " "))
        help = f"compare {what} for each loss on a fifth of the training images, held out of the rest"
        _add_run_flags(commands.add_parser(name, help=help))
    report = commands.add_parser("report", help="make Markdown and pictures of the CSV files again in --results")
    help = "folder (default: %(default)s, those of a checkout; runs of your own have theirs in RUNS/results)"
    report.add_argument("--results", type=output_folder, default="results", help=help)
    _add_list_flags(commands.add_parser("list", help="print the paper's figures and the commands for each"))
    arguments = parser.parse_args(argv)
    with readable_errors():
        if arguments.command == "list":
            list_commands(arguments)
        elif arguments.command == "report":
            write_reports(arguments.results)
        else:
            reproduce(arguments)


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = "Trains what is not trained yet, tests it, and writes tables and pictures into --results."
    parser.add_argument("--scale", choices=SCALES, default="smoke", help="; ".join(
        f"{scale.name}: {scale.what}" for scale in SCALES.values()) + " (default: %(default)s)")  # fmt: skip
    parser.add_argument("--dataset-root", help="folder of VOC; smoke alone does without, and generates shapes")
    parser.add_argument("--coco-root", default="datasets/coco", help="folder of COCO (default: %(default)s)")
    parser.add_argument("--pretrained", help="backbone weights (default: the recipe's)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME",
        help="rows with one of these in their name (default: all; figure6: ap and focal)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=count, default=[0], metavar="N", help="each trains every row (default: 0)"
    )
    parser.add_argument("--gpus", nargs="+", default=[""], metavar="0,1",
                        help="GPUs of a run; '0,1 2,3': of two at a time (default: the CPU)")  # fmt: skip
    parser.add_argument(
        "--jobs",
        type=positive_int,
        help="runs at a time, which share the CPU's cores (default: one for each of --gpus)",
    )
    parser.add_argument(
        "--runs", type=output_folder, default="runs/reproduce", help="folder of the trainings (default: %(default)s)"
    )
    parser.add_argument(
        "--results", type=output_folder, help="folder of tables and figures (default: results in that of --runs)"
    )


def _add_list_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", choices=PUBLISHED, help="one table only (default: all)")
    parser.add_argument("--voc-root", default="datasets/VOCdevkit", help="folder of VOC (default: %(default)s)")
    parser.add_argument("--coco-root", default="datasets/coco", help="folder of COCO (default: %(default)s)")
    parser.add_argument("--gpus", default="0,1", help="GPUs to train on (default: %(default)s, as in the paper)")


def list_commands(arguments: argparse.Namespace) -> None:
    """Print each published row with its commands."""
    roots = {"voc": arguments.voc_root, "coco": arguments.coco_root}
    for table in [arguments.table] if arguments.table else PUBLISHED:
        for row in PUBLISHED[table]:
            metrics = "  ".join(f"{name} {value:.1f}" for name, value in row.metrics.items())
            print(f"Table {table}, {row.name}: paper {metrics}")
            print("  " + shlex.join(row.train_command(roots[row.dataset], arguments.gpus)))
            print("  " + shlex.join(row.test_command(roots[row.dataset], arguments.gpus.split(",")[0])))


def reproduce(arguments: argparse.Namespace) -> None:
    """Finish all runs of a table or a figure, and write its results."""
    arguments.jobs = arguments.jobs or len(arguments.gpus)
    for name in ("dataset_root", "coco_root", "pretrained"):  # the notes of runs outlive the folder that one stands in
        value = getattr(arguments, name)
        if value and (name != "pretrained" or os.path.isfile(value)):  # weights may be a name
            setattr(arguments, name, os.path.abspath(value))
    arguments.runs = arguments.runs.absolute()
    arguments.results = arguments.results or arguments.runs / "results"  # the committed ones are of other data
    runner = Runner(REPOSITORY, arguments.jobs)
    try:
        _reproduce(arguments, runner)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes") from None
    finally:
        runner.stop()


def _reproduce(arguments: argparse.Namespace, runner: Runner) -> None:
    scale, what = SCALES[arguments.scale], arguments.command
    trials = _trials(what, scale, arguments)
    check_gpus(trials, arguments.gpus)
    for gpus in arguments.gpus:
        parse_devices(gpus)
    root = "" if all(trial.coco for trial in trials) else _dataset_root(arguments, runner)
    if what in TUNINGS:
        root = _held_out(root, scale, arguments, runner)
    execution = Execution(
        runner, arguments.runs / scale.name, root, arguments.coco_root, arguments.pretrained or "",
        arguments.gpus, arguments.jobs,
    )  # fmt: skip
    results = arguments.results / scale.name
    table = results / f"{what}.csv"

    def record(trial: Trial) -> None:
        if what in REPORTED and trial.scored_here:
            with runner.locked(results):
                update_rows(table, [execution.measure(trial)])
                write_report(table, scale)

    finished = execution.finish(trials, record)
    failed = {trial.run for trial in trials} - {trial.run for trial in finished}
    if what in REPORTED:
        for trial in finished:
            if not trial.scored_here:
                gpu, folder = arguments.gpus[0].split(",")[0], str(execution.folder_of(trial))
                command = trial.row.test_command(execution.root_of(trial), gpu, folder)
                print(f"{trial.name}: its server scores what this writes: {shlex.join(command)}")
        with runner.locked(results):
            print(write_report(table, scale))
        if what == "table2":
            compare(what, [trial for trial in finished if trial.scored_here and not trial.coco], execution)
    elif what in DRAWINGS and finished:
        folders = ((trial, execution.folder_of(trial)) for trial in finished)
        curves = (curve_of(what, trial.name, trial.seed, folder, about(folder)["commit"]) for trial, folder in folders)
        with runner.locked(results):
            write_curves(table, chain(*curves))
            print(write_report(table, scale))
    elif not failed:
        path = results / f"{what}.jpg"
        write_picture(path, draw_detectors(finished, execution))
        print(f"{path} is drawn, with {'; '.join(trial.name for trial in finished)} one under another")
        compare(what, finished, execution)
    if failed:
        raise RunError(f"{len(failed)} run(s) failed: {', '.join(sorted(failed))}")


def _trials(what: str, scale: Scale, arguments: argparse.Namespace) -> list[Trial]:
    """Return what to train: of Figures 5a and 6 the rows of Table 2 that are on VOC."""
    if what in (*REPORTED, FIGURE_5B):
        return trials_of(what, scale, arguments.seeds, arguments.only)
    only = arguments.only or (["ap,", "focal,"] if what == "figure6" else [])
    trials = [trial for trial in trials_of("table2", scale, arguments.seeds, only) if not trial.coco]
    if not trials:
        raise ValueError(f"{what} is of VOC: none of its rows is named {' or '.join(only)}")
    return trials


def draw_detectors(trials: Sequence[Trial], execution: Execution) -> np.ndarray:
    """Return Figure 6: what each detector finds in the first test images that have objects, one row under another."""
    captions, drawn = [], []
    for trial in trials:
        detector = Detector.load(execution.folder_of(trial) / "last.npz")
        samples = open_dataset(execution.voc_root, detector.recipe.val_split, detector.classes).samples
        shown = [sample for sample in samples if not sample.difficult.all()][:PICTURES]
        if not shown:
            raise ValueError(f"{detector.recipe.val_split} has no object that counts: there is nothing to draw")
        images = [read_image(sample.image_path) for sample in shown]
        unit, least = detector.as_drawn(detector.shown_score)
        captions.append(f"{trial.name}, seed {trial.seed}: {unit}s from {least:.2f}")
        drawn.append([annotate(one, detector.predict(one), detector.classes, detector.shown_score) for one in images])
    columns = min(COLUMNS, len(drawn[0]))
    starts = range(0, len(drawn[0]) - columns + 1, columns)  # of whole rows
    pictures = [picture for start in starts for of_one in drawn for picture in of_one[start : start + columns]]
    return contact_sheet(pictures, columns, captions * len(starts))


def compare(what: str, trials: Sequence[Trial], execution: Execution) -> None:
    """Write the page of the trials side by side, of the first seed of each, as far as a page shows several."""
    firsts: dict[str, Trial] = {}
    for trial in trials:
        firsts.setdefault(trial.name, trial)
    if not 1 < len(firsts) <= MOST_RUNS:
        return
    page = execution.runs / f"{what}.html"
    runs = [read_run(execution.folder_of(trial)) for trial in firsts.values()]
    dataset = open_dataset(execution.voc_root, runs[0].recipe.val_split, runs[0].recipe.classes)
    write_comparison_page(page, runs, dataset, [f"{trial.name}, seed {trial.seed}" for trial in firsts.values()])
    print(f"{page} has all test pictures, and what one finds and another does not")


def _dataset_root(arguments: argparse.Namespace, runner: Runner) -> str:
    if arguments.dataset_root:
        return arguments.dataset_root
    if arguments.scale != "smoke":
        raise ValueError(f"scale {arguments.scale} wants --dataset-root, the folder of VOC")
    with runner.locked(arguments.runs):
        return str(generate(arguments.runs / "shapes", *SMOKE_IMAGES, size=64))


def _held_out(root: str, scale: Scale, arguments: argparse.Namespace, runner: Runner) -> str:
    recipe, folder = load_recipe(scale.recipe), arguments.runs / scale.name / "held_out"
    with runner.locked(folder):
        hold_out(Path(os.path.expanduser(root)), folder, recipe.train_split, recipe.val_split)
    return str(folder)


def write_reports(results: Path) -> None:
    """Make all Markdown, summaries and pictures again that have a CSV file."""
    names = {*REPORTED, *DRAWINGS}
    paths = [
        (path, scale)
        for scale in SCALES.values() for path in sorted((results / scale.name).glob("*.csv")) if path.stem in names
    ]  # fmt: skip
    if not paths:
        raise ValueError(f"{results} holds no tables or figures of {', '.join(SCALES)}")
    for path, scale in paths:
        write_report(path, scale)
        print(path.with_suffix(".md" if path.stem in REPORTED else ".png"))


def write_report(path: Path, scale: Scale) -> str:
    """Write Markdown and summary, or the picture, of a CSV file; return what to print."""
    if path.stem in DRAWINGS:
        draw_curves(path, scale.describe(path.stem))
        return f"{path.with_suffix('.png')} is drawn of {path}"
    rows = read_rows(path)
    write_summary(path.with_name(f"{path.stem}_summary.csv"), summarise(path.stem, scale.name, rows))
    text = format_table(path.stem, scale.name, rows)
    write_text(path.with_suffix(".md"), text)
    return text
