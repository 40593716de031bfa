"""Make a page of a training run, of up to four side by side, or of detections: one HTML file that needs no network.

%(prog)s runs/voc07_resnet50
%(prog)s runs/voc07_resnet50 --dataset-root ~/data/VOCdevkit --output report.html --png plots
%(prog)s runs/ap runs/focal --output ap_focal.html
%(prog)s --detections detections.json --dataset-root ~/data/VOCdevkit --split 2007_test
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Sequence

from aploss_mx.arguments import ArgumentParser, html_file, output_folder
from aploss_mx.atomic import check_target
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import command_line
from aploss_mx.data.check import Dataset
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.dataset import classes_of, is_coco, open_dataset
from aploss_mx.data.voc import VOCDetection
from aploss_mx.evaluation.detections import load_detections
from aploss_mx.inspection.comparison import MOST_RUNS, write_comparison_page
from aploss_mx.inspection.findings import find
from aploss_mx.inspection.page import REPORT, write_detections_page, write_run_page
from aploss_mx.inspection.plots import Plot
from aploss_mx.inspection.pngs import write_pngs
from aploss_mx.inspection.run_folder import RunFolder, read_run

LAYOUTS = {layout.__name__: layout for layout in (VOCDetection, COCODetection)}


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a training, or of up to four")
    parser.add_argument("--detections", metavar="FILE", help="detections to report without a run")
    parser.add_argument("--dataset-root", help="folder of the data set (default: where the run had it)")
    parser.add_argument("--split", help="splits that --detections are of, joined by +: 2007_test, val2017")
    parser.add_argument(
        "--classes", help="names joined by commas, or a file, for --detections (default: VOC's 20, COCO's own)"
    )
    parser.add_argument(
        "--output",
        type=html_file,
        metavar="FILE",
        help=f"the page (default: {REPORT}, of a single RUN in its folder, else here)",
    )
    parser.add_argument("--png", type=output_folder, metavar="FOLDER", help="write the charts as PNG, too")
    arguments = parser.parse_args(argv)
    if bool(arguments.runs) == bool(arguments.detections) or len(arguments.runs) > MOST_RUNS:
        parser.error(f"give up to {MOST_RUNS} folders of runs, or --detections")
    if arguments.detections and not (arguments.dataset_root and arguments.split):
        parser.error("--detections wants --dataset-root and --split")
    if arguments.runs and (arguments.split or arguments.classes):
        parser.error("--split and --classes go with --detections: a run knows its own")
    with readable_errors():
        run(arguments, shlex.join(command_line(parser, argv)))


def run(arguments: argparse.Namespace, command: str) -> None:
    """Write the page that the flags ask for; it shows the `command`, where no run has one of its own."""
    folders = [read_run(path) for path in arguments.runs]
    output = arguments.output or (folders[0].path / REPORT if len(folders) == 1 else Path(REPORT))
    check_target(output)
    if not folders:
        plots = _report_detections(arguments, output, command)
    elif len(folders) == 1:
        plots = write_run_page(folders[0], _dataset_of(folders[0], arguments.dataset_root), output)
    else:
        plots = write_comparison_page(output, folders, _dataset_of(folders[0], arguments.dataset_root))
    print(f"wrote {output}")
    if arguments.png:
        print("wrote " + ", ".join(map(str, write_pngs(arguments.png, plots))))


def _report_detections(arguments: argparse.Namespace, output: Path, command: str) -> list[Plot]:
    coco = is_coco(arguments.dataset_root, arguments.split)
    dataset = open_dataset(arguments.dataset_root, arguments.split, arguments.classes or ("data" if coco else "voc"))
    if not dataset.annotated:
        raise ValueError(f"{dataset.name} has no annotations to hold detections against")
    detections = load_detections(
        arguments.detections,
        dataset.classes,
        [sample.image_id for sample in dataset.samples],
        dataset.category_ids if coco else (),
    )
    findings = find(dataset.samples, detections, dataset.classes)
    return write_detections_page(output, findings, dataset.name, Path(arguments.detections).name, command)


def _dataset_of(folder: RunFolder, root: str | None) -> Dataset:
    """The data that a run was tested on, which lie at `root` or where they were."""
    noted = folder.note.get("dataset_root")
    root = root or noted
    if not root:
        raise ValueError(f"{folder.path} does not tell where its data are: give --dataset-root")
    layout = LAYOUTS.get(str(folder.note.get("layout")))  # which earlier versions did not note
    if layout is None or Path(root).resolve() != Path(noted or root).resolve():
        return open_dataset(root, folder.recipe.val_split, folder.recipe.classes, strict=False)
    return layout(root, folder.recipe.val_split, classes_of(folder.recipe.classes), strict=False)
