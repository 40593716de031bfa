"""Find objects in photographs and films: annotated, and the detections as JSON.

%(prog)s --input photo.jpg
%(prog)s --params runs/voc07_resnet50/last.npz --input photo.jpg
%(prog)s --params best.npz --input holiday/*.jpg --output found --min-confidence 0.7
%(prog)s --params best.npz --input film.mp4 --every 5
%(prog)s --params best.npz --input 0

Without --params, a detector of VOC's 20 classes that comes with the package, voc-resnet18, does it.

A number is a camera's. Of films, a line of JSON is written a frame; Ctrl-C ends them after the frame at work. Drawn
with a box is the confidence where the detector was calibrated, else the score.
"""

from __future__ import annotations

import argparse
import glob
import math
import os
from itertools import chain
from pathlib import Path
from typing import Sequence

from tqdm import tqdm

from aploss_mx.arguments import ArgumentParser, output_file, output_folder
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import add_gpus_flag, fraction, one_device, positive_int
from aploss_mx.commands.recipe_flags import add_test_flags, settings_of_test
from aploss_mx.commands.video import folders_of, is_video, run_video
from aploss_mx.console import complain
from aploss_mx.data.images import SUFFIXES
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.detections import read_json, save_detections
from aploss_mx.model_zoo import DEFAULT, model_names
from aploss_mx.progress import track
from aploss_mx.report.draw import annotate, contact_sheet, has_format, tile, write_picture
from aploss_mx.text import visible


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--params",
        default=DEFAULT,
        metavar="FILE|NAME",
        help=f"checkpoint, export, or a detector that comes with the package: {', '.join(model_names())} "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="FILE|FOLDER|GLOB", help="pictures, or a film or a camera's number"
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        default="runs/demo",
        metavar="FOLDER",
        help="folder of what is annotated, and of the JSON (default: %(default)s)",
    )
    lowest = parser.add_mutually_exclusive_group()
    lowest.add_argument(
        "--min-score",
        type=fraction,
        metavar="S",
        help="lowest score drawn, which is no confidence; the JSON has all (default: what had the highest F1 when the "
        "detector was evaluated)",
    )
    lowest.add_argument("--min-confidence", type=fraction, metavar="C", help="lowest confidence drawn, instead")
    parser.add_argument(
        "--sheet", type=output_file, metavar="FILE", help="also write all pictures side by side into this file"
    )
    parser.add_argument(
        "--every", type=positive_int, default=1, metavar="N", help="of films, take every Nth frame (default: 1)"
    )
    add_gpus_flag(parser)
    add_test_flags(parser)
    with readable_errors():
        run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    if len(arguments.input) == 1 and is_video(arguments.input[0]):
        if arguments.sheet:
            raise ValueError("--sheet is of pictures, not of films")
        detector, min_score = load(arguments)
        run_video(detector, arguments.input[0], arguments.output, min_score, arguments.every)
        return
    if any(map(is_video, arguments.input)):
        raise ValueError("--input takes one film or one camera at a time, and no pictures beside it")
    if arguments.every != 1:
        raise ValueError("--every is of films, not of pictures")
    found = chain(*map(find_pictures, arguments.input))
    files = list({os.path.abspath(file): file for file in found}.values())  # one picture may be named in several ways
    names = names_of(files)
    targets = [arguments.output / f"{name}.png" for name in names]
    _check_kept(files, targets, arguments.output, arguments.sheet)
    if arguments.sheet and not has_format(arguments.sheet.suffix):
        raise ValueError(f"--sheet {arguments.sheet}: no picture format in colour has this suffix; use .png or .jpg")
    detector, min_score = load(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    detections, tiles = {}, []
    try:
        for file, name, target in track(list(zip(files, names, targets)), "detecting", unit="images"):
            try:
                image = read_image(file, exif_orientation=True)
            except OSError as error:
                with tqdm.external_write_mode():
                    complain(f"left out: {error}")
                continue
            found = detections[name] = detector.predict(image)
            picture = annotate(image, found, detector.classes, min_score)
            write_picture(target, picture)
            if arguments.sheet:
                tiles.append(tile(picture))
            shown = int((found.scores >= min_score).sum())
            unit, least = detector.as_drawn(min_score) if arguments.min_score is None else ("score", min_score)
            tqdm.write(
                f"{visible(str(file))}: {shown} object(s) with a {unit} of {least:.3g} or more → {visible(str(target))}"
            )
    finally:  # whatever a later picture did
        if detections:
            save_detections(arguments.output / "detections.json", detections, detector.classes)
            print(f"wrote {arguments.output / 'detections.json'}")
        if tiles:
            write_picture(arguments.sheet, contact_sheet(tiles, max(5, math.isqrt(len(tiles)))))
            print(f"wrote {arguments.sheet}")
    if not detections:
        raise ValueError(f"none of the {len(files)} file(s) of {' '.join(arguments.input)} is a readable image")


def _check_kept(files: list[Path], targets: list[Path], folder: Path, sheet: Path | None) -> None:
    """Raise ValueError where somebody's picture, or detections that are not of a demo, would be overwritten."""
    originals = {place for file in files for place in folders_of(file)}
    written = set()
    for target in [*targets, sheet] if sheet else targets:
        if (target.exists() and folders_of(target) & originals) or target.resolve() in written:
            raise ValueError(f"{target} would be overwritten: choose another --output or --sheet")
        written.add(target.resolve())
    if (folder / "recipe.yaml").exists():
        raise ValueError(f"{folder} is a training's, and keeps its detections.json: choose another --output")
    detections = folder / "detections.json"
    taken = next((file for file in [detections, *targets] if file.exists()), None)
    if taken and not (detections.exists() and _is_of_a_demo(detections)):
        raise ValueError(f"{taken} would be overwritten, and is not of an earlier demo: choose another --output")


def _is_of_a_demo(file: Path) -> bool:
    """Return whether each picture that detections are of lies beside them, annotated."""
    try:
        entries = read_json(file, list, "a list of detections")
    except ValueError:
        return False
    names = {entry.get("image_id") if isinstance(entry, dict) else None for entry in entries}
    return all(isinstance(name, str) and (file.parent / f"{name}.png").exists() for name in names)


def load(arguments: argparse.Namespace) -> tuple[Detector, float]:
    """Return the detector, having said which it is, and the lowest score to draw."""
    detector = Detector.load(arguments.params, one_device(arguments), **settings_of_test(arguments))
    shown = ", ".join(detector.classes[:5]) + (" …" if len(detector.classes) > 5 else "")
    print(f"detector: {visible(str(arguments.params))}, of {len(detector.classes)} class(es): {visible(shown)}")
    if arguments.min_confidence is None:
        return detector, detector.shown_score if arguments.min_score is None else arguments.min_score
    if not detector.calibration:
        raise ValueError("--min-confidence wants a detector with confidences: this one was not calibrated; --min-score")
    return detector, detector.calibration.score(arguments.min_confidence)


def names_of(files: list[Path]) -> list[str]:
    """Return what results call the pictures: stems, or file names, or paths below a common folder, as far as needed."""
    absolute = list(map(os.path.abspath, files))  # without .., by which results would leave their folder
    folder = os.path.commonpath(map(os.path.dirname, absolute))
    paths = [os.path.relpath(path, folder) for path in absolute]
    spellings = ([file.stem for file in files], [file.name for file in files], paths)
    return next(names for names in spellings if len(set(names)) == len(files))


def find_pictures(pattern: str, flag: str = "--input") -> list[Path]:
    """Return the files that a path, a folder or a glob pattern, given to a flag, names, sorted.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not pattern:
        raise ValueError(f"{flag} is empty")
    path = Path(os.path.expanduser(pattern))
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    else:
        files = sorted({Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name)})
    if not files:
        what = "no pictures in this folder itself" if os.path.isdir(path) else "no such file, and no pictures there"
        raise ValueError(f"{flag} {pattern}: {what} ({', '.join(SUFFIXES)})")
    return files
