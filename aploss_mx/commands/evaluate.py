"""Score a detector, or detections saved as JSON, on data in PASCAL VOC or COCO layout; write files for the servers.

%(prog)s --params runs/voc07_resnet50/last.npz --dataset-root ~/data/VOCdevkit --split 2007_test
%(prog)s --detections detections.json --dataset-root ~/data/VOCdevkit --split 2007_test
%(prog)s --params runs/voc12_resnet101/last.npz --dataset-root ~/data/VOCdevkit --split 2012_test \\
    --detect-only --voc-results results.zip
%(prog)s --params runs/coco_resnet50/last.npz --dataset-root ~/data/coco --split test-dev2017 \\
    --detect-only --coco-results detections_test-dev2017_aploss_results.json
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Sequence

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.atomic import check_target
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import add_gpus_flag, add_workers_flag, nonnegative, one_device
from aploss_mx.commands.recipe_flags import add_test_flags, settings_of_test
from aploss_mx.commands.scoring import detect, preflight, report_metrics, report_reliability
from aploss_mx.config import TEST_SETTINGS
from aploss_mx.console import complain
from aploss_mx.data.check import Dataset, check_dataset, check_images
from aploss_mx.data.coco import ABSENT
from aploss_mx.data.dataset import is_coco, open_dataset
from aploss_mx.data.problems import raise_if_errors
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.detections import (
    check_voc_names,
    load_detections,
    save_coco_results,
    save_detections,
    save_voc_results,
)
from aploss_mx.geometry.detections import Detections
from aploss_mx.model_zoo import model_names

MOST_BEYOND = 0.2  # share of detections that may end beyond their image; decoded boxes are clipped

EPILOG = """\
layout of --detections: what --coco-results writes, or what --save-detections writes, a list of
  {"image_id": "000012", "category": "car", "bbox": [x, y, w, h], "score": 0.9}
with the image file's stem as image_id (COCO: the id as text), and x = xmin - 1, y = ymin - 1, w = xmax - xmin + 1,
h = ymax - ymin + 1 in VOC's 1-based inclusive pixels."""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(
        prog, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--params",
        metavar="FILE|NAME",
        help=f"checkpoint, export, or a detector that comes with the package: {', '.join(model_names())}",
    )
    source.add_argument("--detections", metavar="FILE", help="detections to score without a network")
    parser.add_argument("--dataset-root", required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="splits to evaluate on, joined by +: 2007_test, val2017")
    parser.add_argument(
        "--classes", help="names joined by commas, or a file (default: the checkpoint's; else VOC's 20, COCO's own)"
    )
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument(
        "--min-area",
        type=nonnegative,
        default=0,
        metavar="PIXELS",
        help="leave out objects of less area, and what is found of them: 1024 keeps medium and large ones (default: 0)",
    )
    parser.add_argument(
        "--reliability",
        type=output_file,
        metavar="PNG",
        help="draw how often detections are right by what scores and confidences say, and write the numbers as CSV",
    )
    parser.add_argument("--detect-only", action="store_true", help="do not score: the split has no annotations")
    parser.add_argument(
        "--save-detections", type=output_file, metavar="FILE", help="write the network's detections as JSON"
    )
    parser.add_argument("--voc-results", type=output_file, metavar="ZIP", help="write them for PASCAL's server (comp4)")
    parser.add_argument("--coco-results", type=output_file, metavar="FILE", help="write them for COCO's server")
    add_gpus_flag(parser)
    add_workers_flag(parser)
    add_test_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.detections and arguments.save_detections:
        parser.error("--save-detections goes with --params")
    given = [name for name in TEST_SETTINGS if getattr(arguments, name) is not None]
    if arguments.detections and given:
        parser.error(f"{', '.join(given)}: test settings go with --params")
    if arguments.detections and arguments.gpus:
        parser.error("--gpus goes with --params")
    if arguments.detect_only and (arguments.output or arguments.reliability or arguments.min_area):
        parser.error("--output, --reliability and --min-area are of metrics, and --detect-only measures none")
    if arguments.reliability and arguments.reliability.suffix != ".png":
        parser.error(f"--reliability {arguments.reliability}: the picture's name ends in .png")
    if arguments.detect_only and not (arguments.save_detections or arguments.voc_results or arguments.coco_results):
        parser.error("--detect-only wants --save-detections, --voc-results or --coco-results")
    with readable_errors():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    taken = {Path(file).resolve(): "is read from" for file in (arguments.params, arguments.detections) if file}
    targets = [arguments.output, arguments.save_detections, arguments.voc_results, arguments.coco_results]
    if arguments.reliability:
        beside = arguments.reliability.with_suffix(".csv")
        check_target(beside)
        targets += [arguments.reliability, beside]
    for target in filter(None, targets):
        if target.resolve() in taken:
            raise ValueError(f"{target} {taken[target.resolve()]}: write elsewhere")
        taken[target.resolve()] = "would be written twice"
    voc_split = re.fullmatch(r"(\d{4})_(\w+)", arguments.split)
    coco = is_coco(arguments.dataset_root, arguments.split)
    if arguments.voc_results and (coco or not voc_split):
        raise ValueError("--voc-results wants data in VOC layout and one --split YEAR_NAME")
    if arguments.coco_results and not coco:
        raise ValueError("--coco-results wants data in COCO layout, whose category ids it writes")

    detector = None
    classes = "data" if coco else "voc"
    if arguments.params:
        detector = Detector.load(arguments.params, one_device(arguments), **settings_of_test(arguments))
        classes = detector.classes
    dataset = open_dataset(
        arguments.dataset_root,
        arguments.split,
        classes if arguments.classes is None else arguments.classes,
        strict=detector is None,
        annotated=not arguments.detect_only,
    )
    if not (dataset.annotated or arguments.detect_only):
        raise ValueError(f"{dataset.name} has no annotations to score against: give --detect-only")
    if arguments.voc_results:
        check_voc_names([sample.image_id for sample in dataset.samples], dataset.classes)
    if arguments.coco_results and ABSENT in dataset.category_ids:
        lacking = [name for name, known in zip(dataset.classes, dataset.category_ids) if known == ABSENT]
        raise ValueError(f"--coco-results wants an id for each class: {dataset.name} lacks {', '.join(lacking)}")
    if detector:
        if arguments.detect_only:
            raise_if_errors([*dataset.problems, *check_images(dataset)])
        else:
            preflight(check_dataset(dataset, max_detections=detector.recipe.max_detections))
        detections = detect(detector, dataset, arguments.num_workers)
    else:
        image_ids = [sample.image_id for sample in dataset.samples]
        category_ids = dataset.category_ids if coco else ()
        detections = load_detections(arguments.detections, dataset.classes, image_ids, category_ids)
        _tell_what_was_read(dataset, detections)

    if arguments.save_detections:
        save_detections(arguments.save_detections, detections, dataset.classes)
    if arguments.voc_results:
        save_voc_results(arguments.voc_results, detections, dataset.classes, *voc_split.groups())
    if arguments.coco_results:
        save_coco_results(arguments.coco_results, detections, dataset.samples, dataset.category_ids)
    written = [path for path in (arguments.save_detections, arguments.voc_results, arguments.coco_results) if path]
    if written:
        print("wrote " + ", ".join(map(str, written)))
    if not arguments.detect_only:
        report_metrics(dataset, detections, arguments.output, arguments.min_area)
    if arguments.reliability:
        report_reliability(dataset, detections, arguments.reliability, arguments.min_area)


def _tell_what_was_read(dataset: Dataset, detections: dict[str, Detections]) -> None:
    """Print how many detections there are; complain where they lie as if corners were taken for widths."""
    boxes = sum(map(len, detections.values()))
    print(f"{boxes} detection(s) in {sum(len(found) > 0 for found in detections.values())} of {len(detections)} images")
    beyond = sum(
        int((detections[sample.image_id].boxes[:, 2:] > (sample.width + 1, sample.height + 1)).any(axis=1).sum())
        for sample in dataset.samples
    )
    if beyond > MOST_BEYOND * boxes:
        complain(
            f"warning: {beyond} of them end beyond their image: is each bbox [x, y, width, height], of its pixels?"
        )
