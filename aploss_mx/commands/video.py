"""Find objects in a film or in what a camera sees: an annotated film, and a line of JSON a frame."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import cv2
from tqdm import tqdm

from aploss_mx.console import complain
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.detections import entries_of
from aploss_mx.progress import track
from aploss_mx.report.draw import annotate
from aploss_mx.report.film import Film, no_url
from aploss_mx.training.interrupt import GracefulInterrupt

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
USUAL_RATE = 25.0  # frames a second, where a source names none, or the ticks of its clock
HIGHEST_RATE = 240.0
LONGEST_GAP = 1000  # frames in a row that cannot be read


def is_video(source: str) -> bool:
    """Return whether an input is a film, by its suffix, or a camera's number that is no file or folder."""
    return _is_camera(source) or Path(source).suffix.lower() in SUFFIXES


def _is_camera(source: str) -> bool:
    # More digits are no number that OpenCV takes.
    return source.isdecimal() and len(source) < 10 and not Path(source).exists()


def folders_of(file: Path) -> set[Path]:
    """Return the folders that a file stands in: that of a link, and that of what it leads to."""
    return {file.parent.resolve(), file.resolve().parent}


def run_video(detector: Detector, source: str, folder: Path, min_score: float, every: int = 1) -> None:
    """Write ``NAME.mp4`` and ``NAME.jsonl`` into a folder.

    Ctrl-C ends it after the frame at work: the film is whole as far as it goes.

    Parameters
    ----------
    detector : Detector
    source : str
        A film, or a camera's number.
    folder : Path
    min_score : float
        Lowest score drawn; the JSON has all.
    every : int
        Look at every so manieth frame, and leave the others out: the film lasts as long, at no less than one a second.

    Raises
    ------
    ValueError
        If a film beside the source would be overwritten, or a path is not UTF-8.
    OSError
        If the source cannot be opened or has no frame, or the film cannot be written.
    """
    path = Path(os.path.expanduser(source))
    name = f"camera{source}" if _is_camera(source) else path.stem
    target, lines = folder / f"{name}.mp4", folder / f"{name}.jsonl"
    if path.exists() and target.exists() and (target.samefile(path) or folders_of(target) & folders_of(path)):
        raise ValueError(f"{target} would be overwritten: choose another --output")
    if target.exists() != lines.exists():  # an earlier demo leaves both
        taken = target if target.exists() else lines
        raise ValueError(f"{taken} would be overwritten, and is not of an earlier demo: choose another --output")
    if not _is_camera(source) and not path.is_file():
        raise FileNotFoundError(f"--input {source}: no such file")
    try:
        f"{path}{target}".encode()
    except UnicodeEncodeError:  # which OpenCV crashes at
        told = f"--input {source}, --output {folder}: OpenCV takes paths of films in UTF-8 alone"
        raise ValueError(told) from None
    capture = cv2.VideoCapture(int(source) if _is_camera(source) else no_url(path))
    try:
        if not capture.isOpened():
            raise OSError(f"--input {source}: OpenCV cannot open it; is it a film, or a camera that nobody else uses?")
        folder.mkdir(parents=True, exist_ok=True)
        frames = _annotate_frames(detector, capture, target, lines, min_score, every)
    finally:
        capture.release()
    if not frames:
        raise OSError(f"--input {source}: it has no frame that OpenCV can read")


def _annotate_frames(
    detector: Detector, capture: cv2.VideoCapture, target: Path, lines: Path, min_score: float, every: int
) -> int:
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate <= HIGHEST_RATE else USUAL_RATE
    expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    done, missed, lost, first, begin, start = 0, 0, 0, 0, 0.0, time.monotonic()
    bar = track(desc="detecting", total=-(-expected // every) if expected > 0 else None, unit="frames")
    try:
        with bar, GracefulInterrupt("frame") as interrupt, ExitStack() as opened:
            for number in count():
                interrupt.check()
                if not capture.grab():  # a damaged frame, or the end
                    missed += 1
                    if number >= expected or missed > LONGEST_GAP:
                        break
                    continue
                lost, missed = lost + missed, 0
                if number % every:
                    continue
                moment = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                whole, frame = capture.retrieve()
                if not whole:  # such as a camera's that came in part
                    lost += 1
                    continue
                image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                found = detector.predict(image)
                picture = annotate(image, found, detector.classes, min_score)
                if not done:
                    film = Film(target, rate / every, (picture.shape[1], picture.shape[0]))
                    opened.callback(film.close)
                    file = opened.enter_context(open(lines, "w", encoding="utf-8"))
                    first, begin = number, moment
                # Some sources have no clock.
                seconds = moment - begin if moment > begin else (number - first) / rate
                film.add(picture, seconds)
                shown = {"frame": number, "seconds": round(seconds, 3)}
                file.write(json.dumps({**shown, "detections": entries_of(found, detector.classes)}) + "\n")
                done += 1
                bar.update()
    finally:
        if lost:
            complain(f"{lost} frame(s) cannot be read and are left out")
        if done:
            tqdm.write(f"{done} frame(s), {done / (time.monotonic() - start):.1f} a second → {target}, {lines}")
    return done
