"""Train RetinaNet with AP-loss on data in PASCAL VOC layout, evaluate it, and draw its curves.

%(prog)s --dataset-root ~/data/VOCdevkit --gpus 0,1
%(prog)s --recipe own_data --dataset-root my_data --save-prefix runs/my_data
"""

from __future__ import annotations

from typing import Any, Sequence

from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.training import command_line, run_training, training_parser
from aploss_mx.data.dataset import classes_of
from aploss_mx.data.voc import VOCDetection


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> dict[str, Any]:
    parser = training_parser(__doc__, "voc07_resnet50", "datasets/VOCdevkit", prog)
    arguments = parser.parse_args(argv)

    def open_voc(classes: str | Sequence[str], splits: str) -> VOCDetection:
        return VOCDetection(arguments.dataset_root, splits, classes_of(classes), strict=False)

    with readable_errors():
        return run_training(arguments, open_voc, command_line(parser, argv))
