"""Train RetinaNet with AP-loss on data in COCO layout, evaluate it, and draw its curves.

%(prog)s --dataset-root ~/data/coco --gpus 0,1
%(prog)s --recipe own_data --dataset-root my_coco --save-prefix runs/my_coco
"""

from __future__ import annotations

from typing import Any, Sequence

from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import command_line
from aploss_mx.commands.training import run_training, training_parser
from aploss_mx.data.coco import COCODetection


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> dict[str, Any]:
    parser = training_parser(__doc__, "coco_resnet50", "datasets/coco", prog)
    arguments = parser.parse_args(argv)
    with readable_errors():
        return run_training(arguments, COCODetection, command_line(parser, argv))
