#!/usr/bin/env python
"""The paper's tables and figures: run what they need, and set paper and measured side by side.

python scripts/reproduce.py table2 --scale smoke
python scripts/reproduce.py table2 --scale small --dataset-root ~/data/VOCdevkit --seeds 0 1 --only ap focal
python scripts/reproduce.py table2 --scale paper --dataset-root ~/data/VOCdevkit --coco-root ~/data/coco --gpus 0,1
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
from pathlib import Path

from tqdm import tqdm

from aploss_mx.atomic import write_text
from aploss_mx.command import positive_int
from aploss_mx.config import load_recipe
from aploss_mx.data.shapes import generate
from aploss_mx.report.curves import draw_curves, write_curves
from aploss_mx.report.published import PUBLISHED
from aploss_mx.report.runs import RunError, about, commit_of, finish, is_done, locked, run_logged
from aploss_mx.report.tables import format_table, measured_row, read_rows, update_rows
from aploss_mx.report.trials import SCALES, TABLES, Trial, trials_of

SCRIPTS = Path(__file__).resolve().parent
SMOKE_IMAGES = (160, 40)  # to train and to evaluate on
CURVES = {"figure5a": "table2"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for name in (*TABLES, *CURVES):
        _add_run_flags(commands.add_parser(name, help=f"train, test and report {name}"))
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
    parser.add_argument("--jobs", type=positive_int, default=1, help="runs at a time (default: %(default)s)")
    parser.add_argument("--gpus", default="", metavar="0,1", help="GPUs of each run (default: the CPU)")
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
    scale = SCALES[arguments.scale]
    table = CURVES.get(arguments.command, arguments.command)
    trials = trials_of(table, scale, arguments.seeds, arguments.only)
    root = _dataset_root(arguments)
    folder = arguments.runs / scale.name
    commit = commit_of(SCRIPTS.parent)

    def train(trial: Trial) -> None:
        more = [*(["--gpus", arguments.gpus] if arguments.gpus else [])]
        more += ["--pretrained", arguments.pretrained] if arguments.pretrained else []
        data = arguments.coco_root if trial.coco else root
        command = trial.train_command(sys.executable, SCRIPTS, data, folder / trial.run, more)
        if not is_done(folder / trial.run):
            tqdm.write(shlex.join(command) + f"  # log: {folder / trial.run / 'train.log'}")
        finish(command, folder / trial.run, commit)

    runs = list({trial.run: trial for trial in trials}.values())
    failed = []
    with ThreadPoolExecutor(arguments.jobs) as pool, tqdm(total=len(runs), unit="run", disable=None) as bar:
        for trial, outcome in [(trial, pool.submit(train, trial)) for trial in runs]:
            try:
                outcome.result()
            except RunError as error:
                failed.append(trial.run)
                tqdm.write(f"{trial.run}: {error}", file=sys.stderr)
            bar.update()

    results = arguments.results / scale.name
    finished = [trial for trial in trials if is_done(folder / trial.run)]
    if arguments.command in CURVES:
        curves = [(trial.row, trial.seed, folder / trial.run / "metrics.csv") for trial in finished]
        write_curves(results / f"{arguments.command}.csv", curves)
    else:
        rows = [_measure(trial, folder / trial.run, root, arguments) for trial in finished if trial.scored_here]
        update_rows(results / f"{table}.csv", rows)
    print(write_report(results / f"{arguments.command}.csv", scale.name))
    for trial in finished:
        if not trial.scored_here:
            print(f"{trial.row}: scored by its server, see `reproduce.py list` for the command that writes its file")
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")


def _dataset_root(arguments: argparse.Namespace) -> str:
    if arguments.dataset_root:
        return arguments.dataset_root
    if arguments.scale != "smoke":
        raise ValueError(f"scale {arguments.scale} wants --dataset-root, the folder of VOC")
    root = arguments.runs / "shapes"
    with locked(arguments.runs):
        if not (root / "VOC2007").exists():
            generate(root, *SMOKE_IMAGES, size=64)
    return str(root)


def _measure(trial: Trial, folder: Path, root: str, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the CSV row of a finished run, tested anew where the row's test is not the training's."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if trial.test:
        output = folder / "test.json"
        if not output.exists():
            split = load_recipe(str(folder / "recipe.yaml")).val_split
            command = [sys.executable, str(SCRIPTS / "evaluate.py"), "--params", str(folder / "last.npz"), *trial.test,
                       "--dataset-root", arguments.coco_root if trial.coco else root, "--split", split,
                       "--gpus", arguments.gpus.split(",")[0], "--output", str(output)]  # fmt: skip
            with locked(folder):
                run_logged(command, folder / "train.log")
        metrics = {**json.loads(output.read_text(encoding="utf-8")), "epoch": metrics["epoch"]}
    return measured_row(trial.row, trial.seed, metrics, about(folder)["commit"])


def write_reports(results: Path) -> None:
    """Make all Markdown and pictures anew that have a CSV file."""
    names = {*TABLES, *CURVES}
    paths = [path for scale in SCALES for path in sorted((results / scale).glob("*.csv")) if path.stem in names]
    if not paths:
        raise ValueError(f"{results} holds no tables or figures of {', '.join(SCALES)}")
    for path in paths:
        write_report(path, path.parent.name)
        print(path.with_suffix(".md" if path.stem in TABLES else ".png"))


def write_report(path: Path, scale: str) -> str:
    """Write the Markdown or the picture of a CSV file; return what to print."""
    if path.stem in CURVES:
        draw_curves(path, SCALES[scale].what)
        return f"{path.with_suffix('.png')} is drawn of {path}"
    text = format_table(path.stem, scale, read_rows(path))
    write_text(path.with_suffix(".md"), text)
    return text


if __name__ == "__main__":
    main()
