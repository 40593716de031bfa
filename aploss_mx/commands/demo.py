"""Find objects in photographs: annotated pictures, and the detections as JSON.

%(prog)s --params runs/voc07_resnet50/last.npz --input photo.jpg
%(prog)s --params best.npz --input 'holiday/*.jpg' --output found --min-score 0.5
"""

from __future__ import annotations

import argparse
import glob
import sys
from collections import Counter
from pathlib import Path
from typing import Sequence

import cv2
from tqdm import tqdm

from aploss_mx.arguments import ArgumentParser
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import add_gpus_flag, one_device
from aploss_mx.commands.recipe_flags import add_test_flags, settings_given
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.detections import save_detections
from aploss_mx.report.draw import annotate, contact_sheet, write_picture

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", required=True, metavar="FILE", help="checkpoint of the detector")
    parser.add_argument("--input", required=True, metavar="FILE|FOLDER|GLOB", help="pictures; quote a pattern")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="lowest score drawn; the JSON has all (default: what had the highest F1 when the detector was evaluated)",
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="also write all pictures side by side into this file"
    )
    add_gpus_flag(parser)
    add_test_flags(parser)
    with readable_errors():
        run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    files = find_pictures(arguments.input)
    repeated = [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]
    if repeated:
        raise ValueError(f"--input {arguments.input}: several pictures are named {repeated[0]}; give them one by one")
    targets = {arguments.output / f"{file.stem}.png" for file in files} | (
        {arguments.sheet} if arguments.sheet else set()
    )
    overwritten = {target.resolve() for target in targets} & {file.resolve() for file in files}
    if overwritten:
        raise ValueError(f"{overwritten.pop()} would be overwritten: choose another --output or --sheet")
    if arguments.sheet and not cv2.haveImageWriter(str(arguments.sheet)):
        raise ValueError(f"--sheet {arguments.sheet}: no picture format has this suffix; use .png or .jpg")
    detector = Detector.load(arguments.params, one_device(arguments), **settings_given(arguments))
    min_score = detector.shown_score if arguments.min_score is None else arguments.min_score
    arguments.output.mkdir(parents=True, exist_ok=True)
    detections, pictures, unreadable = {}, [], []
    for file in tqdm(files, desc="detecting", unit="img", disable=None):
        try:
            image = read_image(file, exif_orientation=True)
        except OSError as error:
            unreadable.append(error)
            continue
        found = detections[file.stem] = detector.predict(image)
        picture = annotate(image, found, detector.classes, min_score)
        target = arguments.output / f"{file.stem}.png"
        write_picture(target, picture)
        if arguments.sheet:
            pictures.append(picture)
        shown = int((found.scores >= min_score).sum())
        tqdm.write(f"{file}: {shown} object(s) with a score of {min_score:.3g} or more → {target}")
    save_detections(arguments.output / "detections.json", detections, detector.classes)
    print(f"wrote {arguments.output / 'detections.json'}")
    if pictures:
        write_picture(arguments.sheet, contact_sheet(pictures, min(5, len(pictures))))
        print(f"wrote {arguments.sheet}")
    for error in unreadable:
        print(f"left out: {error}", file=sys.stderr)
    if not detections:
        raise ValueError(f"none of the {len(files)} file(s) of {arguments.input} is a readable image")


def find_pictures(pattern: str) -> list[Path]:
    """Return the files that a path, a folder or a glob pattern names, sorted.

    Raises
    ------
    ValueError
        If there are none.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    else:
        files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not files:
        raise ValueError(f"--input {pattern}: no such file, and no pictures ({', '.join(sorted(SUFFIXES))}) there")
    return files
