"""Read object annotations in the layout of COCO: one JSON file a split, and folders of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aploss_mx.data.clip import Corners, check_scale, fit_box
from aploss_mx.data.coco_file import SplitFile, is_finite, places, wrong_annotation
from aploss_mx.data.layouts import existing_folder
from aploss_mx.data.problems import (
    AREA_FROM_BOX,
    ERROR,
    NOT_TRAINED,
    WARNING,
    DataError,
    Problem,
    raise_if_errors,
    shortened,
)
from aploss_mx.data.repeats import shared_pictures
from aploss_mx.data.sample import Sample
from aploss_mx.progress import PROGRESS_BAR_FROM, track
from aploss_mx.text import cut, shown

ABSENT = None  # in place of the category id of a class that the data lack: any number may be an id
# The paper's splits, from the files that Girshick's group published; 2017 renamed the same images train and val.
ALIASES = {"trainval35k": "train2014+valminusminival2014", "minival": "minival2014"}


class COCODetection(Sequence):
    """A data set in COCO layout, as a sequence of `Sample`; annotations are read at once, images are not.

    Parameters
    ----------
    root : str or Path
        The folder that holds ``annotations`` and the folders of images.
    splits : str
        Names joined by ``+``. ``train2017`` is ``annotations/instances_train2017.json``; the prefix may also be
        missing, or ``image_info_``, whose files have no objects. ``train`` may also be Roboflow's
        ``train/_annotations.coco.json``. A name may also be the path of a JSON file.
        ``val2014:ids.txt`` keeps the images whose ids the text file lists (in ``annotations`` or by its path).
        ``trainval35k`` and ``minival`` are understood without files of these names, too.
    classes : sequence of str or None
        Names of the categories, in the order of their labels; None takes all of the data's, by category id, without
        those that have no objects and are the supercategory of others.
    strict : bool
        Raise on errors in the annotations. Otherwise leave out what is broken and keep the errors in ``problems``.

    Attributes
    ----------
    name : str
        The data set in words, for reports.
    classes : tuple of str
    category_ids : tuple of int or None
        The data's id of each class, ABSENT where they lack it.
    annotated : bool
        Whether all files have annotations: those of test images have none.
    samples : list of Sample
        In the order of the files; the image id, as text, is ``image_id``, crowds are difficult. Objects no wider or
        higher than a pixel, or of area 0 where others have one, are tiny, as in the authors' release. A box without
        area, or outside its image, is left out; one that reaches over the edge is clipped. Images without boxes stay
        in.
    problems : list of Problem
        What was wrong, among it each box left out or clipped.

    Raises
    ------
    DataError
        The folder or a file is missing, is no JSON, or not in this layout. If `strict`, also: an image id occurs
        twice, an annotation is broken or of an image or a category that is not there, boxes seem to be in fractions of
        the image, a category is not among `classes`, or classes are not in the data, which have others.
    """

    def __init__(self, root: str | Path, splits: str, classes: Sequence[str] | None = None, strict: bool = True):
        root = existing_folder(root)
        self.name = f"{root.name} {splits}"
        self.problems: list[Problem] = []
        files = [SplitFile(root, split) for split in _expand(root, splits)]
        self.annotated = all(file.annotations is not None for file in files)
        categories = self._without_groups(_common_categories(files), files, classes)
        self.classes = tuple(categories.values() if classes is None else classes)
        self.category_ids = self._ids_of_classes(categories, files)
        self.samples: list[Sample] = []
        self._read_from: dict[str, str] = {}
        for file in files:
            self._add(file)
        self.problems += shared_pictures(self.samples, WARNING)
        if strict:
            raise_if_errors(self.problems)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def _without_groups(
        self, categories: dict[int, str], files: list[SplitFile], classes: Sequence[str] | None
    ) -> dict[int, str]:
        """Leave out what only groups other categories, as Roboflow's root does, which may be named like one of them."""
        groups = {(number, group) for file in files for number, group in file.groups.items() if isinstance(group, str)}
        used = _used_ids(files)
        kept = dict(categories)
        for number, name in categories.items():
            wanted = classes is not None and name in classes and list(kept.values()).count(name) == 1
            groups_others = any(group == name and member != number for member, group in groups)
            if groups_others and number not in used and not wanted:
                del kept[number]
                message = f"{name!r}, id {number}, has no objects and groups others: it is no class"
                self.problems.append(Problem(WARNING, "category left out", str(files[0].path), message))
        repeated = [name for name, count in Counter(kept.values()).items() if count > 1]
        if repeated:
            message = f"several categories are named {shortened(repeated, 10)}: rename one"
            raise DataError([Problem(ERROR, "repeated category", str(files[0].path), message)])
        return kept

    def _ids_of_classes(self, categories: dict[int, str], files: list[SplitFile]) -> tuple[int | None, ...]:
        ids = {name: number for number, name in categories.items()}
        known = f"the data have {shortened(list(categories.values()))}"
        strangers = [(number, name) for number, name in categories.items() if name not in self.classes]
        used = _used_ids(files)
        unknown = [name for number, name in strangers if number in used]
        if unknown:
            message = f"not among the {len(self.classes)} classes: {shortened(unknown, 10)}; {known}"
            number = next(number for number, name in strangers if name == unknown[0])
            of_it = (file.seen(e) for file in files for e in file.annotations or () if e["category_id"] == number)
            self.problems.append(Problem(ERROR, "unknown class", self.name, message, **next(of_it)))
        missing = [name for name in self.classes if name not in ids]
        if missing:
            # Where nothing else is there that could be meant, a split may lack what another one has.
            severity = ERROR if strangers or len(missing) == len(self.classes) else WARNING
            message = f"no category is named {shortened(missing, 10)}; {known}"
            self.problems.append(Problem(severity, "class that the data lack", self.name, message))
        return tuple(ids.get(name, ABSENT) for name in self.classes)

    def _add(self, file: SplitFile) -> None:
        """Append the samples of a split."""
        self.problems += file.problems
        labels = {number: label for label, number in enumerate(self.category_ids)}
        objects: dict[int | str, list[dict[str, Any]]] = {}
        known = {entry["id"] for entry in file.images}
        for entry in file.images:
            image_id = str(entry["id"])
            if image_id in self._read_from:
                message = f"image id {cut(image_id)} is in {self._read_from[image_id]}, too, and detections go by it"
                image = file.image_path(entry)
                self.problems.append(Problem(ERROR, "repeated image id", str(file.path), message, image))
                continue
            self._read_from[image_id] = file.relative_path
            objects[entry["id"]] = []
        strangers = Counter()
        for entry in file.annotations or ():
            wrong = wrong_annotation(entry, file.categories)
            if wrong:
                self.problems.append(Problem(ERROR, "broken annotation", str(file.path), wrong, **file.seen(entry)))
            elif entry["image_id"] in objects:
                entry["bbox"] = list(map(float, entry["bbox"]))
                objects[entry["image_id"]].append(entry)
            elif entry["image_id"] not in known:
                strangers[entry["image_id"]] += 1
        for image_id, count in strangers.items():
            message = f"{count} annotation(s) of image id {cut(str(image_id))}, which is not in the file"
            self.problems.append(Problem(ERROR, "annotation without an image", str(file.path), message))
        hidden = len(file.images) <= PROGRESS_BAR_FROM
        for entry in track(file.images, "reading annotations", unit="images", hidden=hidden):
            if entry["id"] in objects:
                kept = [item for item in objects.pop(entry["id"]) if item["category_id"] in labels]
                self.samples.append(_to_sample(file, entry, kept, labels, self.problems))


def _expand(root: Path, splits: str) -> list[str]:
    """Split names at +, aliases written out where no file has their name."""
    names = []
    for split in splits.split("+"):
        known = split in ALIASES and not any(os.path.isfile(path) for path in places(root, split))
        names += ALIASES[split].split("+") if known else [split]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError([Problem(ERROR, "repeated split", shortened(repeated), "name it once")])
    return names


def _common_categories(files: list[SplitFile]) -> dict[int, str]:
    """Categories of all files by id, in its order; an error where two of them give an id other names."""
    first: dict[int, SplitFile] = {}
    for file in files:
        for number, name in file.categories.items():
            other = first.setdefault(number, file)
            if other.categories[number] != name:
                message = f"its categories are not those of {other.relative_path}: id {number} is {name!r} here"
                raise DataError([Problem(ERROR, "other categories", str(file.path), message)])
    return {number: file.categories[number] for number, file in sorted(first.items())}


def _used_ids(files: list[SplitFile]) -> set[int]:
    """Category ids that annotations have."""
    ids = (entry["category_id"] for file in files for entry in file.annotations or ())
    return {number for number in ids if isinstance(number, int)}


def _area(entry: dict[str, Any], box: Corners) -> float:
    """Area of an object's mask, or of its clipped box where the annotation gives none that can be the mask's.

    Tools that know no masks write 0, or the area in shares of the picture.
    """
    # The lesser of both: x + w - x may be w and a digit more.
    of_box = min(entry["bbox"][2] * entry["bbox"][3], (box[2] - box[0]) * (box[3] - box[1]))
    area = entry.get("area")
    return area if is_finite(area) and area >= min(1, of_box) else of_box


def _is_tiny(entry: dict[str, Any], file: SplitFile) -> bool:
    """Whether the authors' release leaves an object out of training; an area of 0 says so where others have one."""
    return min(entry["bbox"][2:]) <= 1 or (file.has_areas and entry.get("area") == 0)


def _to_sample(
    file: SplitFile,
    image: dict[str, Any],
    objects: list[dict[str, Any]],
    labels: dict[int | None, int],
    problems: list[Problem],
) -> Sample:
    kept: list[tuple[dict[str, Any], Corners]] = []
    found: list[Problem] = []
    path, known_as = file.image_path(image), f"image id {cut(str(image['id']))}"
    check_scale([entry["bbox"] for entry in objects], file.path, found, f"{known_as}: ")
    for entry in objects:
        x, y, w, h = entry["bbox"]
        described = f"{file.categories[entry['category_id']]} [{x:g}, {y:g}, {w:g}, {h:g}] of {known_as}"
        box = fit_box((x, y, x + w, y + h), image["width"], image["height"], described, file.path, found)
        if box is None:
            continue
        kept.append((entry, box))
        if "area" in entry and entry["area"] != _area(entry, box):
            message = f"{described} has the area {shown(entry['area'])}, which cannot be its mask's"
            found.append(Problem(WARNING, AREA_FROM_BOX, str(file.path), message, box=box))
        if _is_tiny(entry, file):
            message = f"{described} is a pixel thin or has the area 0; the metrics count it"
            found.append(Problem(WARNING, NOT_TRAINED, str(file.path), message, box=box))
    problems += [replace(problem, image=path) for problem in found]
    return Sample(
        image_id=str(image["id"]),
        image_path=path,
        width=image["width"],
        height=image["height"],
        boxes=np.array([box for _, box in kept], np.float64).reshape(-1, 4),
        labels=np.array([labels[entry["category_id"]] for entry, _ in kept], np.int64),
        difficult=np.array([entry.get("iscrowd", 0) for entry, _ in kept], bool),
        areas=np.array([_area(entry, box) for entry, box in kept], np.float64),
        tiny=np.array([_is_tiny(entry, file) for entry, _ in kept], bool),
        coco_id=image["id"],
    )
