#!/usr/bin/env python
"""Train RetinaNet with AP-loss on data in COCO layout, evaluate it, and draw its curves.

python scripts/train_coco.py --dataset-root ~/data/coco --gpus 0,1
python scripts/train_coco.py --recipe small_voc --dataset-root my_data --classes data \\
    --train-split train --val-split val
"""

from __future__ import annotations

from typing import Any, Sequence

from aploss_mx.command import readable_errors, run_training, training_parser
from aploss_mx.data.coco import COCODetection
from aploss_mx.data.dataset import classes_of


def main(argv: list[str] | None = None) -> dict[str, Any]:
    arguments = training_parser(__doc__, "coco_resnet50", "datasets/coco").parse_args(argv)

    def open_coco(classes: str | Sequence[str], splits: str) -> COCODetection:
        return COCODetection(arguments.dataset_root, splits, classes_of(classes), strict=False)

    with readable_errors():
        return run_training(arguments, open_coco)


if __name__ == "__main__":
    main()
