#!/usr/bin/env python
"""Measure what confidences are worth where pictures or settings change after they were fitted.

%(prog)s --params runs/quickstart/last.npz --dataset-root datasets/shapes --split 2007_val \\
    --output results/confidence_shift.csv

The confidences are fitted to every second picture as it is. Of the others, changed, it tells the calibration error, and
of the detections worth showing how many there are, their mean confidence, and the share that is right; AP is of all.
"""

from __future__ import annotations

import argparse
from typing import Any, Callable

import cv2
import numpy as np

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.commands.errors import readable_errors
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.calibration import fit_calibration, reliability
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.evaluation.voc import judge
from aploss_mx.report.markdown import show_table

NOISE = 25  # standard deviation, of 255


def noisy(image: np.ndarray) -> np.ndarray:
    return np.clip(image + np.random.default_rng(1).normal(0, NOISE, image.shape), 0, 255).astype(np.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(half, image.shape[1::-1])


CHANGES: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "nothing": ({}, lambda image: image),
    "NMS at IoU 0.8": ({"nms_threshold": 0.8}, lambda image: image),
    "NMS at IoU 0.3": ({"nms_threshold": 0.3}, lambda image: image),
    f"noise of {NOISE} levels": ({}, noisy),
    "half as bright": ({}, lambda image: image // 2),
    "half as sharp": ({}, blurred),
}
"""By name, other test settings, and what is done to the pictures."""


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", required=True, metavar="FILE", help="checkpoint of the detector")
    parser.add_argument("--dataset-root", required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="pictures, of which every second is fitted to")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the table as CSV")
    with readable_errors():
        run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    detector = Detector.load(arguments.params)
    dataset = open_dataset(arguments.dataset_root, arguments.split, detector.classes)
    images = [read_image(sample.image_path) for sample in dataset.samples]
    names = [sample.image_id for sample in dataset.samples]
    rows, fitted = [], None
    for name, (settings, change) in CHANGES.items():
        changed = Detector.load(arguments.params, **settings) if settings else detector
        found = dict(zip(names, changed.predict([change(image) for image in images])))
        if fitted is None:
            seen = judge(dataset.samples[::2], found)
            fitted = fit_calibration(seen.scores, seen.hits)
            if fitted is None:
                raise ValueError(f"{arguments.split} has too few right or wrong detections to fit confidences to")
        judged = judge(dataset.samples[1::2], found)
        confidence, shown = fitted.confidence(judged.scores), judged.scores >= detector.shown_score
        metrics = evaluate(dataset.samples, found, dataset.classes)
        rows.append(
            {
                "changed": name,
                "AP": f"{100 * metrics['AP']:.1f}",
                "ECE": f"{reliability(confidence, judged.hits).error:.3f}",
                "shown": int(shown.sum()),
                "said": f"{confidence[shown].mean():.2f}" if shown.any() else "",
                "right": f"{judged.hits[shown].mean():.2f}" if shown.any() else "",
            }
        )
    show_table(rows, 1, arguments.output)


if __name__ == "__main__":
    main()
