#!/usr/bin/env python
"""Train RetinaNet with AP-loss on data in PASCAL VOC layout, evaluate it, and draw its curves.

    python scripts/train_voc.py --dataset-root ~/data/VOCdevkit --gpus 0,1
    python scripts/train_voc.py --dataset-root my_data --classes cat,dog --train-split train --val-split val
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aploss_mx.command import readable_errors, run_training, training_parser
from aploss_mx.config import Recipe
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection, parse_classes


def open_voc(arguments: argparse.Namespace, recipe: Recipe, splits: str) -> VOCDetection:
    classes = VOC_CLASSES if recipe.classes == "voc" else parse_classes(recipe.classes)
    return VOCDetection(arguments.dataset_root, splits, classes)


def main(argv: list[str] | None = None) -> None:
    parser = training_parser(__doc__, default_recipe="voc07_resnet50", default_root="datasets/VOCdevkit")
    with readable_errors():
        run_training(parser.parse_args(argv), open_voc)


if __name__ == "__main__":
    main()
