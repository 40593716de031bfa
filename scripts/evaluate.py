#!/usr/bin/env python
"""Score a detector, or detections saved as JSON, on data in PASCAL VOC layout.

python scripts/evaluate.py --params runs/voc07_resnet50/last.npz --dataset-root ~/data/VOCdevkit --split 2007_test
python scripts/evaluate.py --detections detections.json --dataset-root ~/data/VOCdevkit --split 2007_test
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aploss_mx.command import (
    add_gpus_flag,
    add_workers_flag,
    one_device,
    preflight,
    readable_errors,
    report_metrics,
    score,
)
from aploss_mx.config import add_test_flags, settings_given
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection, parse_classes
from aploss_mx.detector import Detector
from aploss_mx.evaluation.detections import load_detections

EPILOG = """\
layout of --detections, and of what --save-detections writes: a list of
  {"image_id": "000012", "category": "car", "bbox": [x, y, w, h], "score": 0.9}
with the image file's stem as image_id, and x = xmin - 1, y = ymin - 1, w = xmax - xmin + 1, h = ymax - ymin + 1 in
VOC's 1-based inclusive pixels."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--params", metavar="FILE", help="checkpoint of the detector")
    source.add_argument("--detections", metavar="FILE", help="detections to score without a network")
    parser.add_argument("--dataset-root", required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="splits to evaluate on, YEAR_NAME joined by +")
    parser.add_argument("--classes", help="names joined by commas, or a file (default: the checkpoint's, or VOC's 20)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument("--save-detections", type=Path, metavar="FILE", help="write the network's detections as JSON")
    add_gpus_flag(parser)
    add_workers_flag(parser)
    add_test_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.detections and arguments.save_detections:
        parser.error("--save-detections goes with --params")
    with readable_errors():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    sources = {Path(file).resolve() for file in (arguments.params, arguments.detections) if file}
    for target in (arguments.output, arguments.save_detections):
        if target and target.resolve() in sources:
            raise ValueError(f"{target} is read from: write elsewhere")
    detector = None
    classes = VOC_CLASSES
    if arguments.params:
        detector = Detector.load(arguments.params, one_device(arguments), **settings_given(arguments))
        classes = detector.classes
    if arguments.classes:
        classes = parse_classes(arguments.classes)
    dataset = VOCDetection(arguments.dataset_root, arguments.split, classes, strict=detector is None)
    if detector:
        preflight(dataset)
        score(detector, dataset, arguments.num_workers, arguments.save_detections, arguments.output)
    else:
        detections = load_detections(arguments.detections, classes, [sample.image_id for sample in dataset.samples])
        report_metrics(dataset, detections, arguments.output)


if __name__ == "__main__":
    main()
