"""Write a trained network for other programs, as MXNet symbol and parameters or as ONNX, or a small file for this one.

%(prog)s --params runs/voc07_resnet50/last.npz --output exported
%(prog)s --params runs/voc07_resnet50/last.npz --output exported --onnx
%(prog)s --params runs/voc07_resnet50/last.npz --output exported --format onnx --boxes
%(prog)s --params runs/voc07_resnet50/last.npz --compact detector.npz

Symbol and model.onnx take images (B, 3, H, W), normalised, H and W multiples of 32, and give class logits (B, N, K) and
box deltas (B, N, 4), without decoding and NMS; with --loss ohem the logits have the background's in front. model.json
tells everything else that a program needs. --boxes adds detector.onnx, which takes an image's pixels, uint8 (H, W, 3)
in RGB, and gives boxes in its pixels, scores and labels. ONNX needs the extra: pip install -e '.[onnx]'.

--compact writes a checkpoint for detection and fine-tuning: convolutions in float16, without the optimizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from aploss_mx.atomic import write_text
from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands.errors import readable_errors
from aploss_mx.detection.description import describe
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import export_onnx, export_onnx_boxes, export_symbol

FORMATS = ("mxnet", "onnx")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", required=True, metavar="FILE", help="checkpoint of the detector")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for symbol, parameters and ONNX")
    parser.add_argument("--compact", type=Path, metavar="FILE", help="small checkpoint to write, .npz")
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=["mxnet"], help="mxnet, onnx or both (default: mxnet)"
    )
    parser.add_argument("--onnx", action="store_true", help="the same as --format mxnet onnx")
    parser.add_argument("--boxes", action="store_true", help="with onnx: write detector.onnx, pixels in, boxes out")
    arguments = parser.parse_args(argv)
    formats = set(FORMATS if arguments.onnx else arguments.format)
    if arguments.boxes and "onnx" not in formats:
        parser.error("--boxes is of --format onnx")
    if not arguments.output and ("onnx" in formats or not arguments.compact):
        parser.error("give a folder with --output, or a file with --compact")
    if arguments.compact and arguments.compact.suffix != ".npz":
        parser.error(f"--compact {arguments.compact}: a checkpoint's name ends in .npz")
    with readable_errors():
        written = []
        if arguments.compact:
            if arguments.compact.resolve() == Path(arguments.params).resolve():
                raise ValueError(f"{arguments.compact} would be overwritten: choose another --compact")
            Checkpoint.load(arguments.params).compact().save(arguments.compact)
            written.append(arguments.compact)
        if arguments.output:
            detector = Detector.load(arguments.params)
            written.append(arguments.output / "model.json")
            write_text(written[-1], describe(detector))
            if "mxnet" in formats:
                written += export_symbol(detector.network, arguments.output)
            if "onnx" in formats:
                written.append(export_onnx(detector.network, arguments.output / "model.onnx"))
            if arguments.boxes:
                written.append(export_onnx_boxes(detector, written[-1], arguments.output / "detector.onnx"))
        print("wrote " + ", ".join(map(str, written)))
