"""Train RetinaNet with AP-loss on data in PASCAL VOC layout, evaluate it, and draw its curves.

%(prog)s --dataset-root ~/data/VOCdevkit --gpus 0,1
%(prog)s --recipe own_data --dataset-root my_data --save-prefix runs/my_data
"""

from __future__ import annotations

from typing import Any, Sequence

from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import command_line
from aploss_mx.commands.training import run_training, training_parser
from aploss_mx.data.voc import VOCDetection


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> dict[str, Any]:
    parser = training_parser(__doc__, "voc07_resnet50", "datasets/VOCdevkit", prog)
    arguments = parser.parse_args(argv)
    with readable_errors():
        return run_training(arguments, VOCDetection, command_line(parser, argv))
