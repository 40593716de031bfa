#!/usr/bin/env python
"""Write a trained network for other programs, as MXNet symbol and parameters or as ONNX, or a small file for this one.

python scripts/export.py --params runs/voc07_resnet50/last.npz --output exported
python scripts/export.py --params runs/voc07_resnet50/last.npz --output exported --onnx
python scripts/export.py --params runs/voc07_resnet50/last.npz --compact detector.npz

Both take images (B, 3, H, W), normalised, H and W multiples of 32, and give class logits (B, N, K) and box deltas
(B, N, 4), without decoding and NMS; with --loss ohem the logits have the background's in front. model.json tells
classes, background, pixels and test settings. --onnx needs the extra: pip install -e '.[onnx]'.

--compact writes a checkpoint for detection and fine-tuning: convolutions in float16, without the optimizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aploss_mx.atomic import write_text
from aploss_mx.checkpoint import Checkpoint
from aploss_mx.command import readable_errors
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import describe, export_onnx, export_symbol


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", required=True, metavar="FILE", help="checkpoint of the detector")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for symbol, parameters and ONNX")
    parser.add_argument("--compact", type=Path, metavar="FILE", help="small checkpoint to write, .npz")
    parser.add_argument("--onnx", action="store_true", help="write model.onnx, too")
    arguments = parser.parse_args(argv)
    if not arguments.output and (arguments.onnx or not arguments.compact):
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
            written += [*export_symbol(detector.network, arguments.output), arguments.output / "model.json"]
            write_text(written[-1], describe(detector))
        if arguments.onnx:
            written.append(export_onnx(detector.network, arguments.output / "model.onnx"))
        print("wrote " + ", ".join(map(str, written)))


if __name__ == "__main__":
    main()
