"""Check a data set: everything wrong with it, named before training starts."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, Protocol, Sequence

import numpy as np
from PIL import Image

from aploss_mx.data.images import QUARTER_TURNS, UPRIGHT, open_image, orientation_of, reason_of, stored_size
from aploss_mx.data.objects import Objects, counted_objects
from aploss_mx.data.problems import (
    BOX_CLIPPED,
    BOX_LEFT_OUT,
    ERROR,
    SIZE_MISMATCH,
    WARNING,
    Problem,
    format_problems,
    raise_if_errors,
)
from aploss_mx.data.repeats import repeated_boxes
from aploss_mx.data.sample import Sample
from aploss_mx.geometry.anchors import PAPERS, AnchorShapes
from aploss_mx.progress import PROGRESS_BAR_FROM, track
from aploss_mx.text import visible

MATCH = 0.5  # IoU from which on an anchor is an object's (`geometry.matcher`)
HARDLY_COVERED = 0.3  # share of a class's objects without such an anchor from which on it is told
ENOUGH_OBJECTS = 20  # for a share to mean something
COCO_DETECTIONS = 100  # of a class in an image that COCO's metrics count
READERS = 8  # threads: a disk in the network lets each image wait for some answers
PART = 200  # images that an interrupt waits for
JPEG_END = b"\xff\xd9"
MAYBE_TURNED = "EXIF turn that the size does not tell"  # by half, mirrored, or of a square
EXPLAINED = "explains it"


class Dataset(Protocol):
    """What a data set must have to be checked."""

    name: str
    classes: tuple[str, ...]
    samples: list[Sample]
    problems: list[Problem]


@dataclass(frozen=True)
class Report:
    """What a data set holds, and what is wrong with it; as text, a summary to print.

    Attributes
    ----------
    name : str
    images : int
    objects, difficult : dict of str to int
        Objects of each class that count, and those that are difficult and do not. Where the size of the training images
        is known, those count that training learns; else those that the metrics count, tiny ones among them.
    images_without_objects : int
        Images with no object that counts.
    problems : list of Problem
    uncovered : dict of str to float, or None
        Share of each class's objects that no anchor has an IoU of 0.5 with, where the size of the training images is
        known: they are learnt from their best anchor alone.
    """

    name: str
    images: int
    objects: dict[str, int]
    difficult: dict[str, int]
    images_without_objects: int
    problems: list[Problem]
    uncovered: dict[str, float] | None = None

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == ERROR]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == WARNING]

    @property
    def boxes_left_out(self) -> int:
        return sum(problem.kind == BOX_LEFT_OUT for problem in self.problems)

    @property
    def boxes_clipped(self) -> int:
        return sum(problem.kind == BOX_CLIPPED for problem in self.problems)

    @property
    def ok(self) -> bool:
        return not self.errors

    def raise_if_errors(self) -> None:
        """Raise a `DataError` with all errors, if there are any."""
        raise_if_errors(self.problems)

    def __str__(self) -> str:
        return self.format()

    def format(self, errors: bool = True) -> str:
        """Return the summary as text, with the errors or, where they are told elsewhere, without."""
        lines = [
            f"{visible(self.name)}: {self.images} images, {sum(self.objects.values())} objects "
            f"and {sum(self.difficult.values())} difficult ones",
            f"  {self.images_without_objects} images without an object that counts (training leaves them out)",
            f"  {self.boxes_left_out} boxes left out, {self.boxes_clipped} clipped",
            f"  {'class':<24}{'objects':>10}{'difficult':>11}",
        ]
        if self.uncovered is not None:
            lines[-1] += f"{'uncovered':>11}"
        for name, count in self.objects.items():
            share = "" if self.uncovered is None else f"{self.uncovered[name]:>11.1%}"
            lines.append(f"  {visible(name):<24}{count:>10}{self.difficult[name]:>11}{share}")
        if self.uncovered is not None:
            lines.append(f"  uncovered: without an anchor of IoU {MATCH}, so learnt from the best one alone")
        for heading, problems in (("errors", self.errors), ("warnings", self.warnings)):
            if errors or heading != "errors":
                lines += [f"{heading} ({len(problems)})", *format_problems(problems)]
        return "\n".join(lines)


def check_dataset(
    dataset: Dataset,
    progress: bool = True,
    max_detections: int | None = None,
    data_shape: int | None = None,
    anchors: AnchorShapes = PAPERS,
) -> Report:
    """Count a data set's images and objects, and collect what is wrong with annotations, images and classes.

    A data set in which no object counts is an error: there is nothing to train on, and nothing to measure. Where
    `max_detections` says how many boxes a detector keeps on an image, images with more objects are a warning; where
    `data_shape` is the side of the training images, tiny objects do not count, and a class that `anchors` hardly cover
    is one.
    """
    images = len(dataset.samples)
    objects, difficult = Counter(), Counter()
    images_without_objects = 0
    for sample in dataset.samples:
        counted = ~sample.difficult if data_shape is None else sample.trained
        objects.update(sample.labels[counted].tolist())
        difficult.update(sample.labels[sample.difficult].tolist())
        images_without_objects += not counted.any()

    problems = [*dataset.problems, *check_images(dataset, progress)]
    clipped = {str(problem.image) for problem in problems if problem.kind == BOX_CLIPPED}  # of equal boxes since then
    whole = (sample for sample in dataset.samples if str(sample.image_path) not in clipped)
    problems += [problem for sample in whole for problem in repeated_boxes(sample, dataset.classes)]
    if max_detections is not None:
        problems += [problem for sample in dataset.samples for problem in check_crowding(sample, max_detections)]
    if not objects:
        what = "train on" if data_shape else "measure"
        message = f"not one object in its images counts: there is nothing to {what}"
        problems.append(Problem(ERROR, "no objects", dataset.name, message))
    else:
        problems += [
            Problem(WARNING, "class without objects", dataset.name, f"{name!r} has none that counts")
            for label, name in enumerate(dataset.classes)
            if not objects[label]
        ]
    uncovered = None
    if data_shape is not None:
        found = counted_objects(dataset.samples, data_shape, anchors)
        poor = np.bincount(found.label[found.overlap < MATCH], minlength=len(dataset.classes))
        uncovered = {name: poor[label] / max(1, objects[label]) for label, name in enumerate(dataset.classes)}
        problems += [
            _hardly_covered(dataset, found, label, f"{share:.0%} of {name!r}", data_shape)
            for label, (name, share) in enumerate(uncovered.items())
            if share > HARDLY_COVERED and objects[label] >= ENOUGH_OBJECTS
        ]
    return Report(
        name=dataset.name,
        images=images,
        objects={name: objects[label] for label, name in enumerate(dataset.classes)},
        difficult={name: difficult[label] for label, name in enumerate(dataset.classes)},
        images_without_objects=images_without_objects,
        problems=problems,
        uncovered=uncovered,
    )


def _hardly_covered(dataset: Dataset, found: Objects, label: int, share: str, data_shape: int) -> Problem:
    poor = np.flatnonzero((found.label == label) & (found.overlap < MATCH))
    typical = poor[np.argsort(found.overlap[poor], kind="stable")[len(poor) // 2]]
    return Problem(
        WARNING,
        "class that anchors hardly cover",
        dataset.name,
        f"{share} have no anchor with an IoU of {MATCH} at data_shape {data_shape}: a larger --data-shape or a smaller "
        "--anchor-size helps where they are small, other --anchor-ratios where they are long or flat",
        dataset.samples[found.image[typical]].image_path,
        found.boxes[typical],
    )


def check_crowding(sample: Sample, max_detections: float) -> list[Problem]:
    """Say it where an image has more objects than boxes that count: of all classes, or of one by COCO's rules."""
    labels = sample.labels[~sample.difficult]
    of_a_class = int(np.bincount(labels).max(initial=0))
    if len(labels) > max_detections:
        message = f"{len(labels)} objects, and at most {max_detections} boxes are kept on an image (max_detections)"
    elif of_a_class > COCO_DETECTIONS:
        message = f"{of_a_class} objects of one class, and COCO's metrics count {COCO_DETECTIONS} of one in an image"
    else:
        return []
    path = str(sample.image_path)
    return [Problem(WARNING, "more objects than detections", path, f"{message}: AP cannot reach 1", path)]


def check_images(dataset: Dataset, progress: bool = True) -> list[Problem]:
    """Find images that are missing, damaged, or not of the size that their boxes were drawn for.

    A JPEG that ends as it should is not decoded, only its header is read: damage amid it goes unnoticed.

    Parameters
    ----------
    dataset : Dataset
    progress : bool
        Show progress, if there are many images.
    """
    hidden = not progress or len(dataset.samples) <= PROGRESS_BAR_FROM
    found = track(_check_all(dataset.samples), "checking images", len(dataset.samples), unit="images", hidden=hidden)
    problems = [problem for of_image in found for problem in of_image]
    if any(EXPLAINED in problem.message for problem in problems if problem.kind == SIZE_MISMATCH):
        told = "its boxes are turned, as those of other pictures here: turn the stored pixels and strip the tag"
        problems = [
            replace(problem, severity=ERROR, message=told) if problem.kind == MAYBE_TURNED else problem
            for problem in problems
        ]
    return problems


def _check_all(samples: Sequence[Sample]) -> Iterator[list[Problem]]:
    """Problems of each image, in the order of the samples."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(samples), PART):
            yield from pool.map(_check_image, samples[start : start + PART])


def _check_image(sample: Sample) -> list[Problem]:
    path = sample.image_path
    if not os.path.isfile(path):
        return [Problem(ERROR, "missing image", str(path), "no such file", path)]
    try:
        with open_image(path) as image:
            size, orientation = stored_size(image), orientation_of(image)
            damage = _find_damage(image, path)
    except Exception as error:  # PIL's decoders raise almost anything on a broken file
        message = f"{reason_of(error)}; replace it or take it off the list"
        return [Problem(ERROR, "unreadable image", str(path), message, path)]
    return damage + _check_size(sample, size, orientation)


def _find_damage(image: Image.Image, path: Path) -> list[Problem]:
    """Problems with an image's pixels, looked at closely only where the cheap sign of a whole file is missing."""
    if image.format not in ("JPEG", "MPO"):
        image.load()
        return []
    if _ends_with(path, JPEG_END):
        return []
    header = image.fp.tell()  # bytes before the pixels, among them maybe a thumbnail, a whole JPEG itself
    image.load()
    if JPEG_END not in path.read_bytes()[header:]:
        message = "it can be decoded but has no end-of-image marker; its lower part may be lost"
        return [Problem(WARNING, "unfinished JPEG", str(path), message, path)]
    return []


def _ends_with(path: Path, marker: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(-len(marker), os.SEEK_END)
        return file.read() == marker


def _check_size(sample: Sample, size: tuple[int, int], orientation: int) -> list[Problem]:
    """Compare an image's size, as stored, with the annotated one; readers differ in heeding an EXIF rotation."""
    path = str(sample.image_path)
    annotated = (sample.width, sample.height)
    if size == annotated and orientation == UPRIGHT:
        return []
    if size == annotated:
        message = f"its EXIF orientation is {orientation}, not {UPRIGHT}; boxes are taken to fit its pixels as stored. "
        if orientation in QUARTER_TURNS and size != size[::-1]:
            return [Problem(WARNING, "EXIF rotation", path, message + "Better strip the tag", path)]
        message += "Where they were drawn on the turned picture, turn the stored pixels; in any case strip the tag"
        return [Problem(WARNING, MAYBE_TURNED, path, message, path)]
    message = f"{size[0]}x{size[1]} pixels, annotated as {annotated[0]}x{annotated[1]}: its boxes would be wrong; "
    if orientation in QUARTER_TURNS and size == annotated[::-1]:
        message += f"its EXIF orientation {orientation} {EXPLAINED}: turn the stored pixels and strip the tag"
    else:
        message += "correct the annotation or replace the image"
    return [Problem(ERROR, SIZE_MISMATCH, path, message, path)]
