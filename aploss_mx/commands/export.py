"""Write a trained network for other programs, as MXNet symbol and parameters or as ONNX, or a small file for this one.

%(prog)s --params runs/voc07_resnet50/last.npz --output exported
%(prog)s --params runs/voc07_resnet50/last.npz --output exported --onnx
%(prog)s --params runs/voc07_resnet50/last.npz --output exported --format onnx --boxes
%(prog)s --params runs/voc07_resnet50/last.npz --output exported --int8 --calibrate 64 --images ~/data/photographs
%(prog)s --params runs/voc07_resnet50/last.npz --output exported --format onnx --int8 --images ~/data/photographs
%(prog)s --params runs/voc07_resnet50/last.npz --compact detector.npz

Symbol and model.onnx take images (B, 3, H, W), normalised, H and W multiples of 32, and give class logits (B, N, K) and
box deltas (B, N, 4), without decoding and NMS; with --loss ohem the logits have the background's in front. model.json
tells everything else that a program needs. --boxes adds detector.onnx, which takes an image's pixels, uint8 (H, W, 3)
in RGB, and gives boxes in its pixels, scores and labels. ONNX needs the extra: pip install '.[onnx]'.

--int8 writes the network with convolutions that compute in INT8, on CPUs, which VNNI is made for: int8-symbol.json for
MXNet, int8.onnx for onnxruntime, and with --boxes int8-detector.onnx; --images are like those that the detector will
see. `aploss-mx demo` and `evaluate` take a network, or a folder of one, as --params.

--compact writes a checkpoint for detection and fine-tuning: convolutions in float16, without the optimizer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Sequence

import numpy as np

from aploss_mx.arguments import ArgumentParser, output_file, output_folder
from aploss_mx.atomic import write_text
from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands.demo import find_pictures
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import positive_int
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.description import describe
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import check_views, export_onnx, export_onnx_boxes, export_symbol
from aploss_mx.detection.exported import DESCRIPTION, NETWORKS, parameters_described
from aploss_mx.detection.onnx_int8 import quantize_onnx
from aploss_mx.detection.quantize import has_int8_units, quantize
from aploss_mx.model_zoo import model_names
from symbols.retinanet import RetinaNet

FORMATS = ("mxnet", "onnx")
BOXES = {"model": "detector.onnx", "int8": "int8-detector.onnx"}
CALIBRATED = 32  # images


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--params",
        required=True,
        metavar="FILE|NAME",
        help=f"checkpoint, or a detector that comes with the package: {', '.join(model_names())}",
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        metavar="FOLDER",
        help="folder for symbol, parameters and ONNX; may be left out with --compact",
    )
    parser.add_argument("--compact", type=output_file, metavar="FILE", help="small checkpoint to write, .npz")
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=["mxnet"], help="mxnet, onnx or both (default: mxnet)"
    )
    parser.add_argument("--onnx", action="store_true", help="the same as --format mxnet onnx")
    parser.add_argument("--boxes", action="store_true", help="with onnx: write detector.onnx, pixels in, boxes out")
    parser.add_argument("--int8", action="store_true", help="write the network in INT8, for CPUs, in place of float32")
    parser.add_argument(
        "--calibrate",
        type=positive_int,
        metavar="N",
        help=f"images that tell INT8's ranges, spread over --images (default: {CALIBRATED})",
    )
    parser.add_argument(
        "--images", metavar="FILE|FOLDER|GLOB", help="pictures to calibrate --int8 with; quote a pattern"
    )
    arguments = parser.parse_args(argv)
    if arguments.int8 and not (arguments.output and arguments.images):
        parser.error("--int8 wants --output, and --images to calibrate with")
    if not arguments.int8 and (arguments.images or arguments.calibrate):
        parser.error("--images and --calibrate go with --int8")
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
            written += write_networks(arguments, formats)
        print("wrote " + ", ".join(map(str, written)))


def write_networks(arguments: argparse.Namespace, formats: set[str]) -> list[Path]:
    """Write a detector's network in all formats, and its description."""
    detector = Detector.load(arguments.params)
    if not isinstance(detector.network, RetinaNet):
        raise ValueError(f"--params {arguments.params} is exported already: give the checkpoint it was made of")
    if arguments.boxes:
        check_views(detector.recipe)  # before anything is written
    folder, stem = arguments.output, "int8" if arguments.int8 else "model"
    names = {"mxnet": [f"{stem}-symbol.json"], "onnx": [f"{stem}.onnx", BOXES[stem]][: 1 + arguments.boxes]}
    about = describe(detector)
    alike = parameters_described(folder) == json.loads(about)["parameters"]
    check_folder(folder, about, alike, [name for wanted in formats for name in names[wanted]])
    images = calibration_images(arguments.images, arguments.calibrate or CALIBRATED) if arguments.int8 else []
    written: list[Path] = []
    if not alike:
        # Nothing may stand beside another detector's description, whatever happens before ours is written.
        (folder / DESCRIPTION).unlink(missing_ok=True)
    if "mxnet" in formats:
        network = quantize(detector, images) if images else detector.network
        written += export_symbol(network, folder, stem)
    if "onnx" in formats:
        written += export_to_onnx(detector, images, folder, stem, arguments.boxes)
    write_text(folder / DESCRIPTION, about)
    return [*written, folder / DESCRIPTION]


def check_folder(folder: Path, about: str, alike: bool, written: Sequence[str]) -> None:
    """Raise ValueError where networks of other parameters than the folder's would stay, unless those are `alike`.

    Networks that give boxes have all of the description in them, and not its parameters alone.
    """
    same = alike and (folder / DESCRIPTION).read_text(encoding="utf-8") == about
    others = [*(() if alike else NETWORKS), *(() if same else BOXES.values())]
    left = ", ".join(name for name in others if name not in written and (folder / name).exists())
    if left:
        raise ValueError(
            f"{folder} holds {left}, which {DESCRIPTION} does not say to be of this detector as it is now: choose "
            "another --output, or remove what is left"
        )


def calibration_images(pictures: str, count: int) -> list[np.ndarray]:
    """Return so many images at most, spread evenly over those given."""
    if not has_int8_units():
        print("this CPU has no VNNI, the units for INT8: measure here whether it is any faster than float32")
    files = find_pictures(pictures, "--images")
    chosen = np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int))
    return [read_image(files[index]) for index in chosen]


def export_to_onnx(
    detector: Detector, images: Sequence[np.ndarray], folder: Path, stem: str, boxes: bool
) -> list[Path]:
    """Write the network, in INT8 where there are images to calibrate with, and the whole detector if `boxes`."""
    if images:
        with tempfile.TemporaryDirectory() as temporary:
            network = export_onnx(detector.network, Path(temporary, "model.onnx"))
            network = quantize_onnx(network, map(detector.views[0], images), folder / f"{stem}.onnx")
    else:
        network = export_onnx(detector.network, folder / f"{stem}.onnx")
    return [network, export_onnx_boxes(detector, network, folder / BOXES[stem])] if boxes else [network]
