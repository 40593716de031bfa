"""Describe a detector for programs in other languages: all that stands between an image and boxes but the weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from aploss_mx.checkpoint import parameters_of
from aploss_mx.config import TEST_SETTINGS
from aploss_mx.data.pixels import PIXELS
from aploss_mx.detection.detector import Detector, views_of
from aploss_mx.geometry.anchors import STRIDES, cell_anchors
from aploss_mx.geometry.coder import MAX_LOG_SCALE, STDS
from symbols.retinanet import RetinaNet

FORMAT = 3
MULTIPLE = 32


def describe(detector: Detector) -> str:
    """Return, as JSON, what a program needs besides the network; docs/deployment.md explains it.

    Lengths are pixels; boxes are corners [x1, y1, x2, y2] in continuous coordinates, [0, 0, width, height] for a whole
    image.
    """
    recipe = detector.recipe.to_dict()
    wanted, anchors = PIXELS[detector.recipe.pixels], detector.recipe.anchors
    levels = [
        {"name": f"P{number}", "stride": stride, "anchors": cell_anchors(stride, anchors).tolist()}
        for number, stride in enumerate(STRIDES, 3)
    ]
    about: dict[str, Any] = {
        "format": FORMAT,
        "parameters": _digest(detector.network),
        "classes": list(detector.classes),
        "background": detector.recipe.background,
        **{name: recipe[name] for name in ("pixels", *TEST_SETTINGS)},
        "shown_score": detector.shown_score,
        "calibration": detector.calibration and asdict(detector.calibration),
        "input": {
            "views": [
                {"shorter": shown.shorter, "longest": shown.longest, "mirrored": mirrored}
                for shown, mirrored in views_of(detector.recipe)
            ],
            "resize": (
                "both sides to the view's shorter"
                if detector.recipe.test_warp
                else "by min(the view's shorter / shorter side, its longest / longer side), rounded half to even, at "
                "least 1"
            ),
            "interpolation": "bilinear between pixel centres, without antialiasing, rounded to whole numbers",
            "channels": [("red", "green", "blue")[channel] for channel in wanted.channels],
            "mean": wanted.mean.tolist(),
            "deviation": wanted.std.tolist(),
            "normalisation": "(value of 0 to 255 - mean) / deviation",
            "padding": "zeros on the right and at the bottom, after normalisation, to multiples of pad_to",
            "pad_to": MULTIPLE,
            "layout": "(B, 3, H, W), float32",
        },
        "levels": levels,
        "anchors": {
            "order": "level by level; in a level rows from the top, in a row cells from the left; in a cell as listed "
            "under levels",
            "cells": "the padded input's sides over the stride from P3 to P5; half of the level before, rounded up, on "
            "P6 and P7",
            "centre": "((column + 0.5) * stride, (row + 0.5) * stride), to which a level's anchors are added",
            "size": anchors.size,
            "scales": list(anchors.scales),
            "ratios": list(anchors.ratios),
        },
        "outputs": {
            "logits": "(B, N, classes), or (B, N, 1 + classes) with background, whose logits come first",
            "deltas": "(B, N, 4): dx, dy, dw, dh of each anchor",
            "confidence": "1 / (1 + exp(-(calibration.slope * log(score / (1 - score)) + calibration.offset)))",
            "score": "softmax over 1 + classes" if detector.recipe.background else "1 / (1 + exp(-logit))",
            "delta_deviations": STDS.astype(float).round(6).tolist(),
            "largest_log_scale": MAX_LOG_SCALE,
            "centre": "anchor's centre + (dx, dy) * delta_deviations[:2] * anchor's size",
            "size": "anchor's size * exp(min((dw, dh) * delta_deviations[2:], largest_log_scale))",
        },
        "selection": [
            "on each level, the topk highest pairs of anchor and class whose score exceeds score_threshold, which does "
            "not hold on the last level",
            "boxes over the resized image's scale (resized side / side, by axis), cut off at the image, and of a view "
            "that is mirrored left to right, mirrored back; those without area are dropped",
            "of all views together, the topk times the number of levels that score highest",
            "within each class, from the highest score down, boxes whose IoU with one that was kept exceeds "
            "nms_threshold are dropped",
            "the max_detections highest scores of all classes",
        ],
    }
    return json.dumps(about, indent=1) + "\n"


def _digest(network: RetinaNet) -> str:
    """Return the SHA-256 of all parameters, by which a description knows its network."""
    digest = hashlib.sha256()
    for name, array in sorted(parameters_of(network).items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
