"""Read object annotations in the layout of PASCAL VOC: the challenge's own data, and other folders that follow it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from aploss_mx.data.clip import Corners, check_scale, fit_box
from aploss_mx.data.file_index import FileIndex
from aploss_mx.data.images import SUFFIXES, open_image, reason_of, stored_size
from aploss_mx.data.layouts import existing_folder
from aploss_mx.data.problems import ERROR, WARNING, DataError, Problem, raise_if_errors, shortened
from aploss_mx.data.repeats import shared_pictures
from aploss_mx.data.sample import Sample
from aploss_mx.data.voc_annotations import VOCAnnotation, VOCObject, parse_annotation
from aploss_mx.data.voc_splits import ANNOTATIONS, PICTURES, Listed, list_images
from aploss_mx.progress import PROGRESS_BAR_FROM, track
from aploss_mx.text import unicode_forms

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VOCDetection(Sequence):
    """A data set in VOC layout, as a sequence of `Sample`; all annotations are read at once, images are not.

    Parameters
    ----------
    root : str or Path
        The folder above ``VOC2007`` and its like, or one that holds ``Annotations`` and its like itself.
    splits : str
        Names of image lists, joined by ``+``: ``2007_trainval`` or just ``trainval``; see `voc_splits.find_split`.
    classes : sequence of str or None
        The class names, in the order of their labels. Case counts. None takes the names in the data, sorted.
    strict : bool
        Raise on errors in the annotations (the default). Otherwise leave out what is broken and keep the errors in
        ``problems``, for a report that names them together with others.
    annotated : bool
        Whether to read annotation files; test images whose objects are kept secret have none.

    Attributes
    ----------
    name : str
        The data set in words, for reports.
    classes : tuple of str
    annotated : bool
    samples : list of Sample
        In the order of the lists; the ``image_id`` of a picture in a subfolder has the folder's name, too. A box
        without area, or outside its image, is left out; one that reaches over the edge is clipped. Images without
        boxes stay in.
    problems : list of Problem
        What was wrong in the annotations, among it each box left out or clipped.

    Raises
    ------
    DataError
        There is no such folder, or a list is missing, ambiguous or empty. If `strict`, also: an annotation file is
        missing or broken, a class is not among `classes`, boxes seem to be in fractions of the image, two images share
        a name or a picture, an image may be either of two files, or neither annotation nor image tells the size.
    """

    def __init__(
        self,
        root: str | Path,
        splits: str = "2007_trainval+2012_trainval",
        classes: Sequence[str] | None = VOC_CLASSES,
        strict: bool = True,
        annotated: bool = True,
    ):
        root = existing_folder(root)
        self.name = f"{root.name} {splits}"
        self.problems: list[Problem] = []

        self.annotated = annotated
        images = list_images(root, splits, self.problems, annotated)
        if annotated:
            annotations = _read_annotations(images, self.problems)
        else:
            annotations = {image: VOCAnnotation(image.annotation, "", 0, 0, ()) for image in images}
        if classes is None:
            classes = sorted({item.name for annotation in annotations.values() for item in annotation.objects})
        self.classes = tuple(classes)
        self.problems += _unknown_classes(list(annotations.values()), self.classes)
        self.problems += _fields_not_read(annotations.values())
        pictures = {image.folder: FileIndex(image.folder / PICTURES, SUFFIXES) for image in images}
        samples = [
            _to_sample(image, annotation, pictures[image.folder], self.classes, self.problems)
            for image, annotation in annotations.items()
        ]
        self.samples = [sample for sample in samples if sample is not None]
        found = {str(image.annotation): sample.image_path for image, sample in zip(annotations, samples) if sample}
        self.problems = [
            replace(problem, image=found.get(problem.file) or _picture_by_name(Path(problem.file), pictures))
            for problem in self.problems
        ]
        self.problems += shared_pictures(self.samples, ERROR)  # <filename> may be another's, or a name in a subfolder
        if strict:
            raise_if_errors(self.problems)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names from the command line: separated by commas, or a text file with one name a line.

    Raises
    ------
    ValueError
        A name is empty or occurs twice, or the file is missing or is not UTF-8 text.
    """
    text = os.path.expanduser(text)
    if os.path.isfile(text):
        try:
            names = Path(text).read_text(encoding="utf-8-sig").rstrip().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the file of class names {text} cannot be read: {error}") from error
    elif text.endswith(".txt"):
        raise ValueError(f"the file of class names {text} does not exist")
    else:
        names = text.split(",")
    names = [name.strip() for name in names]
    if not all(names):
        raise ValueError(f"class name {names.index('') + 1} in {text!r} is empty")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"repeated class names in {text!r}: {shortened(repeated)}")
    return tuple(names)


def _read_annotations(images: list[Listed], problems: list[Problem]) -> dict[Listed, VOCAnnotation]:
    annotations = {}
    for image in track(images, "reading annotations", unit="files", hidden=len(images) <= PROGRESS_BAR_FROM):
        try:
            annotations[image] = parse_annotation(image.annotation)
        except DataError as error:
            problems += error.problems
    return annotations


def _unknown_classes(annotations: list[VOCAnnotation], classes: tuple[str, ...]) -> list[Problem]:
    """One error that lists the class names in the data that are not among `classes`, if there are any."""
    counts = Counter(item.name for annotation in annotations for item in annotation.objects)
    unknown = sorted(set(counts) - set(classes))
    if not unknown:
        return []
    first = {
        item.name: (annotation.path, item)
        for annotation in reversed(annotations)
        for item in reversed(annotation.objects)
    }
    described = [f"{name!r} ({counts[name]} objects, first in {first[name][0].name})" for name in unknown]
    path, item = first[unknown[0]]
    return [
        Problem(
            ERROR,
            "unknown class",
            str(path),
            f"not among the {len(classes)} classes: {shortened(described, 10)}. The data have "
            f"{shortened(sorted(counts))}: give these with --classes, or correct the annotations",
            box=_corners(item),
        )
    ]


def _fields_not_read(annotations: Iterable[VOCAnnotation]) -> list[Problem]:
    """A warning for each field that looks like one that is read, at the first file that has it."""
    files: dict[str, list[Path]] = {}
    for annotation in annotations:
        for words in annotation.not_read:
            files.setdefault(words, []).append(annotation.path)
    return [
        Problem(
            WARNING, "field that is not read", str(paths[0]), f"{words}: rename it if it is meant ({len(paths)} files)"
        )
        for words, paths in files.items()
    ]


def _to_sample(
    image: Listed, annotation: VOCAnnotation, pictures: FileIndex, classes: tuple[str, ...], problems: list[Problem]
) -> Sample | None:
    """The annotation with labels for names and boxes inside the image; None where the image's size is unknown."""
    image_path = _find_picture(image, annotation.filename, pictures, problems)
    width, height = annotation.width, annotation.height
    if width <= 0 or height <= 0:
        try:
            with open_image(image_path) as opened:
                width, height = stored_size(opened)
        except Exception as error:  # Pillow raises almost anything on a broken file
            file = str(annotation.path if os.path.isfile(annotation.path) else image_path)
            message = f"no <size> is given, and the image cannot be read: {reason_of(error)}"
            problems.append(Problem(ERROR, "unknown size", file, message))
            return None

    known = [item for item in annotation.objects if item.name in classes]
    check_scale([item.box for item in known], annotation.path, problems)
    boxes = [
        fit_box(_corners(item), width, height, f"{item.name} {_as_written(item)}", annotation.path, problems)
        for item in known
    ]
    kept = [(item, box) for item, box in zip(known, boxes) if box is not None]
    return Sample(
        image_id=image.name,
        image_path=image_path,
        width=width,
        height=height,
        boxes=np.array([box for _, box in kept], np.float64).reshape(-1, 4),
        labels=np.array([classes.index(item.name) for item, _ in kept], np.int64),
        difficult=np.array([item.difficult for item, _ in kept], bool),
    )


def _find_picture(image: Listed, filename: str, pictures: FileIndex, problems: list[Problem]) -> Path:
    """The picture by the image's name, or else by ``<filename>``, which also decides between several."""
    # Only the last part of <filename>: annotation tools write whole paths of either system there.
    filename = PureWindowsPath(filename).name
    stem = image.name.rpartition("/")[2]
    names = [form for name in (image.name, stem) for form in unicode_forms(name)]
    found = next((pictures.files[name] for name in names if name in pictures.files), [])
    if len(found) > 1:
        found = [path for path in found if path.name in unicode_forms(filename)] or found
    if len(found) > 1:
        files = shortened([path.name for path in found], 5)
        message = f"{files} are its picture by their names, and <filename> says none of them: give it, or remove some"
        problems.append(Problem(ERROR, "several pictures", str(image.annotation), message))
    if found:
        return found[0]
    folders = [pictures.folder / part for part in PurePosixPath(image.name).parents]
    places = [folder / form for folder in folders for name in (filename, stem) if name for form in unicode_forms(name)]
    return next((path for path in places if os.path.isfile(path)), pictures.folder / f"{image.name}.jpg")


def _picture_by_name(annotation: Path, pictures: dict[Path, FileIndex]) -> Path | None:
    """A picture that has the name of an annotation file; None where a file is none, or there is no such picture."""
    if annotation.suffix.lower() != ".xml" or ANNOTATIONS not in annotation.parts:
        return None
    folder = next(parent for parent in annotation.parents if parent.name == ANNOTATIONS)
    index = pictures.setdefault(folder.parent, FileIndex(folder.parent / PICTURES, SUFFIXES))
    return next(iter(index.files.get(annotation.relative_to(folder).with_suffix("").as_posix(), [])), None)


def _corners(item: VOCObject) -> Corners:
    """Corners [x1, y1, x2, y2] in continuous pixels."""
    xmin, ymin, xmax, ymax = item.box
    # As written, a box that ends where it begins is one pixel thin; it is the trace of a click, not an object.
    if xmax <= xmin or ymax <= ymin:
        return (xmin, ymin, xmax, ymax)
    return (xmin - 1, ymin - 1, xmax, ymax)


def _as_written(item: VOCObject) -> str:
    return "[" + ", ".join(f"{number:g}" for number in item.box) + "]"
