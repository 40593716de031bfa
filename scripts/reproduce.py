#!/usr/bin/env python
"""The paper's tables and figures: run what they need, and set paper and measured side by side.

python scripts/reproduce.py table2 --scale smoke
python scripts/reproduce.py table2 --scale small --dataset-root ~/data/VOCdevkit --seeds 0 1 --only ap focal
python scripts/reproduce.py table2 --scale paper --dataset-root ~/data/VOCdevkit --coco-root ~/data/coco --gpus 0,1 2,3
python scripts/reproduce.py report
python scripts/reproduce.py list --table 2

A finished run is not run again, an interrupted one goes on from its last epoch, and a second copy of this program that
wants a run at work waits for it. Runs are folders of --runs; CSV files, Markdown and pictures go to --results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, cycle, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Sequence

import numpy as np
from tqdm import tqdm

from aploss_mx.atomic import write_text
from aploss_mx.command import positive_int
from aploss_mx.config import load_recipe
from aploss_mx.data.open import open_dataset
from aploss_mx.data.pixels import read_image
from aploss_mx.data.shapes import generate
from aploss_mx.detector import Detector
from aploss_mx.report.curves import DRAWINGS, curve_of, draw_curves, write_curves
from aploss_mx.report.draw import contact_sheet
from aploss_mx.report.held_out import hold_out
from aploss_mx.report.pictures import annotate, write_picture
from aploss_mx.report.published import PUBLISHED
from aploss_mx.report.runs import LOG, RunError, Runner, about, commit_of, is_done
from aploss_mx.report.tables import format_table, measured_row, read_rows, update_rows
from aploss_mx.report.trials import LEARNING_RATES, OPTIMISERS, REPORTED, SCALES, TABLES, Scale, Trial, trials_of

SCRIPTS = Path(__file__).resolve().parent
SMOKE_IMAGES = (160, 40)  # to train and to evaluate on
FIGURES = ("figure5a", "figure5b", "figure6")
PICTURES = 6  # of Figure 6


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for name in (*TABLES, *FIGURES):
        _add_run_flags(commands.add_parser(name, help=f"train, test and report {name}"))
    help = "compare learning rates of each loss on a fifth of the training images, held out from the rest"
    _add_run_flags(commands.add_parser(LEARNING_RATES, help=help))
    report = commands.add_parser("report", help="make Markdown and pictures anew of the CSV files in --results")
    report.add_argument("--results", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    _add_list_flags(commands.add_parser("list", help="print the paper's figures and the commands for each"))
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "list":
            list_commands(arguments)
        elif arguments.command == "report":
            write_reports(arguments.results)
        else:
            reproduce(arguments)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command goes on")
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", choices=SCALES, default="smoke", help="; ".join(
        f"{scale.name}: {scale.what}" for scale in SCALES.values()) + " (default: %(default)s)")  # fmt: skip
    parser.add_argument("--dataset-root", help="folder of VOC (smoke: generated where this is left out)")
    parser.add_argument("--coco-root", default="datasets/coco", help="folder of COCO (default: %(default)s)")
    parser.add_argument("--pretrained", help="backbone weights (default: the recipe's)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows with one of these in their name")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="(default: 0)")
    parser.add_argument("--gpus", nargs="+", default=[""], metavar="0,1",
                        help="GPUs of a run; '0,1 2,3': of two at a time (default: the CPU)")  # fmt: skip
    parser.add_argument(
        "--jobs",
        type=positive_int,
        help="runs at a time, which share the CPU's cores (default: one for each of --gpus)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder (default: %(default)s)")


def _add_list_flags(parser: argparse.ArgumentParser) -> None:
    tables = sorted({row.table for row in PUBLISHED})
    parser.add_argument("--table", choices=tables, help="one table only (default: all)")
    parser.add_argument("--voc-root", default="datasets/VOCdevkit", help="folder of VOC (default: %(default)s)")
    parser.add_argument("--coco-root", default="datasets/coco", help="folder of COCO (default: %(default)s)")
    parser.add_argument("--gpus", default="0,1", help="GPUs to train on (default: %(default)s, as in the paper)")


def list_commands(arguments: argparse.Namespace) -> None:
    """Print each published row with its commands."""
    roots = {"voc": arguments.voc_root, "coco": arguments.coco_root}
    for row in PUBLISHED:
        if arguments.table in (None, row.table):
            figures = "  ".join(f"{name} {value:.1f}" for name, value in row.figures.items())
            print(f"Table {row.table}, {row.row}: paper {figures}")
            print("  " + shlex.join(row.train_command(roots[row.dataset], arguments.gpus)))
            print("  " + shlex.join(row.test_command(roots[row.dataset], arguments.gpus.split(",")[0])))


def reproduce(arguments: argparse.Namespace) -> None:
    """Finish all runs of a table or a figure, and write its results."""
    arguments.jobs = arguments.jobs or len(arguments.gpus)
    runner = Runner(arguments.jobs)
    try:
        _reproduce(arguments, runner)
    finally:
        runner.stop()


def _reproduce(arguments: argparse.Namespace, runner: Runner) -> None:
    scale, what = SCALES[arguments.scale], arguments.command
    results = arguments.results / scale.name
    only = arguments.only or (["ap,", "focal,"] if what == "figure6" else [])
    trials = trials_of(what if what in (*REPORTED, OPTIMISERS) else "table2", scale, arguments.seeds, only)
    if what not in REPORTED:
        trials = [trial for trial in trials if not trial.coco]  # as in the paper
    root = _dataset_root(arguments, runner)
    if what == LEARNING_RATES:
        root = _held_out(root, scale, arguments, runner)
    folder = arguments.runs / scale.name
    failed = _train(trials, root, folder, arguments, runner)
    finished = [trial for trial in trials if is_done(folder / trial.run) and trial.run not in failed]
    rows = []
    for trial in finished if what in REPORTED else ():
        if not trial.scored_here:
            gpu, data = _first_gpu(arguments), arguments.coco_root if trial.coco else root
            command = trial.published.test_command(data, gpu, str(folder / trial.run))
            print(f"{trial.row}: its server scores what this writes: {shlex.join(command)}")
            continue
        try:
            rows.append(_measure(trial, folder / trial.run, root, arguments, runner))
        except RunError as error:
            failed.append(trial.run)
            print(f"{trial.run}: {error}", file=sys.stderr)
    if finished:
        with runner.locked(results):
            if what == "figure6":
                write_picture(results / "figure6.jpg", draw_detectors(finished, folder, root))
                print(f"{results / 'figure6.jpg'}, row by row: {'; '.join(trial.row for trial in finished)}")
            elif what in DRAWINGS:
                curves = (curve_of(what, trial.row, trial.seed, folder / trial.run) for trial in finished)
                write_curves(results / f"{what}.csv", chain(*curves))
                print(write_report(results / f"{what}.csv", scale.name))
            else:
                update_rows(results / f"{what}.csv", rows)
                print(write_report(results / f"{what}.csv", scale.name))
    if failed:
        raise RunError(f"{len(failed)} run(s) failed: {', '.join(failed)}")


def _train(
    trials: Sequence[Trial], root: str, folder: Path, arguments: argparse.Namespace, runner: Runner
) -> list[str]:
    """Finish the runs of all trials; return those that failed."""
    commit = commit_of(SCRIPTS.parent)
    more = ["--pretrained", arguments.pretrained] if arguments.pretrained else []
    free: SimpleQueue[str] = SimpleQueue()
    for gpus in islice(cycle(arguments.gpus), arguments.jobs):
        free.put(gpus)

    def train(trial: Trial) -> None:
        data = arguments.coco_root if trial.coco else root
        command = trial.train_command(sys.executable, SCRIPTS, data, folder / trial.run, more)
        if not is_done(folder / trial.run):
            tqdm.write(f"{shlex.join(command)}  # log: {folder / trial.run / LOG}")
        gpus = free.get()
        try:
            runner.finish(command, folder / trial.run, commit, ["--gpus", gpus])
        finally:
            free.put(gpus)

    runs = list({trial.run: trial for trial in trials}.values())
    failed = []
    with ThreadPoolExecutor(arguments.jobs) as pool, tqdm(total=len(runs), unit="run", disable=None) as bar:
        outcomes = [(trial, pool.submit(train, trial)) for trial in runs]
        try:
            for trial, outcome in outcomes:
                try:
                    outcome.result()
                except RunError as error:
                    failed.append(trial.run)
                    tqdm.write(f"{trial.run}: {error}", file=sys.stderr)
                bar.update()
        except BaseException:
            runner.stop()  # or leaving the pool would wait for all runs
            raise
    return failed


def draw_detectors(trials: Sequence[Trial], folder: Path, root: str) -> np.ndarray:
    """Return Figure 6: a row for each detector, with what it finds in the first test images that have objects."""
    pictures = []
    for trial in trials:
        detector = Detector.load(folder / trial.run / "last.npz")
        samples = open_dataset(root, detector.recipe.val_split, detector.classes).samples
        for sample in [sample for sample in samples if not sample.difficult.all()][:PICTURES]:
            image = read_image(sample.image_path)
            pictures.append(annotate(image, detector.predict(image), detector.classes, detector.shown_score))
    return contact_sheet(pictures, len(pictures) // len(trials))


def _dataset_root(arguments: argparse.Namespace, runner: Runner) -> str:
    if arguments.dataset_root:
        return arguments.dataset_root
    if arguments.scale != "smoke":
        raise ValueError(f"scale {arguments.scale} wants --dataset-root, the folder of VOC")
    root = arguments.runs / "shapes"
    with runner.locked(arguments.runs):
        if not (root / "VOC2007").exists():
            generate(root, *SMOKE_IMAGES, size=64)
    return str(root)


def _first_gpu(arguments: argparse.Namespace) -> str:
    return arguments.gpus[0].split(",")[0]


def _held_out(root: str, scale: Scale, arguments: argparse.Namespace, runner: Runner) -> str:
    recipe, folder = load_recipe(scale.recipe), arguments.runs / scale.name / "held_out"
    with runner.locked(folder):
        hold_out(Path(root).expanduser(), folder, recipe.train_split, recipe.val_split)
    return str(folder)


def _measure(trial: Trial, folder: Path, root: str, arguments: argparse.Namespace, runner: Runner) -> dict[str, str]:
    """Return the CSV row of a finished run, tested anew where the row's test is not the training's."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if trial.test:
        output = folder / "test.json"
        if not output.exists():
            split = load_recipe(str(folder / "recipe.yaml")).val_split
            command = [sys.executable, str(SCRIPTS / "evaluate.py"), "--params", str(folder / "last.npz"), *trial.test,
                       "--dataset-root", arguments.coco_root if trial.coco else root, "--split", split,
                       "--gpus", _first_gpu(arguments), "--output", str(output)]  # fmt: skip
            with runner.locked(folder):
                runner.run(command, folder / LOG)
        metrics = {**json.loads(output.read_text(encoding="utf-8")), "epoch": metrics["epoch"]}
    return measured_row(trial.row, trial.seed, metrics, about(folder)["commit"])


def write_reports(results: Path) -> None:
    """Make all Markdown and pictures anew that have a CSV file."""
    names = {*REPORTED, *DRAWINGS}
    paths = [path for scale in SCALES for path in sorted((results / scale).glob("*.csv")) if path.stem in names]
    if not paths:
        raise ValueError(f"{results} holds no tables or figures of {', '.join(SCALES)}")
    for path in paths:
        write_report(path, path.parent.name)
        print(path.with_suffix(".md" if path.stem in REPORTED else ".png"))


def write_report(path: Path, scale: str) -> str:
    """Write the Markdown or the picture of a CSV file; return what to print."""
    if path.stem in DRAWINGS:
        draw_curves(path, SCALES[scale].what)
        return f"{path.with_suffix('.png')} is drawn of {path}"
    text = format_table(path.stem, scale, read_rows(path))
    write_text(path.with_suffix(".md"), text)
    return text


if __name__ == "__main__":
    main()
