"""Object annotations in the layout of COCO: one JSON file a split, and folders of images."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aploss_mx.data.clip import fit_box
from aploss_mx.data.problems import ERROR, DataError, Problem, raise_if_errors, shortened
from aploss_mx.data.sample import Sample

ANNOTATIONS = "annotations"
ABSENT = -1  # the category id of a class that the data lack
LARGEST = sys.float_info.max
PREFIXES = ("instances_", "", "image_info_")
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
        missing, or ``image_info_``, whose files have no objects. A name may also be the path of a JSON file.
        ``val2014:ids.txt`` keeps the images whose ids the text file lists (in ``annotations`` or by its path).
        ``trainval35k`` and ``minival`` are understood without files of these names, too.
    classes : sequence of str or None
        Names of the categories, in the order of their labels; None takes all of the data's, by category id.
    strict : bool
        Raise on errors in the annotations. Otherwise leave out what is broken and keep the errors in ``problems``.

    Attributes
    ----------
    name : str
        The data set in words, for reports.
    classes : tuple of str
    category_ids : tuple of int
        The data's id of each class.
    annotated : bool
        Whether all files have annotations: those of test images have none.
    samples : list of Sample
        In the order of the files; the image id, as text, is ``image_id``, crowds are difficult. A box without area, or
        outside its image, is left out; one that reaches over the edge is clipped. Images without boxes stay in.
    problems : list of Problem
        What was wrong, among it each box left out or clipped.

    Raises
    ------
    DataError
        A file is missing, is no JSON, or not in this layout. If `strict`, also: an image id occurs twice, an
        annotation is broken or of an image or a category that is not there, or a category is not among `classes`.
    """

    def __init__(self, root: str | Path, splits: str, classes: Sequence[str] | None = None, strict: bool = True):
        root = Path(root).expanduser().absolute()
        self.name = f"{root.name} {splits}"
        self.problems: list[Problem] = []
        files = [_SplitFile(root, split) for split in _expand(root, splits)]
        self.annotated = all(file.annotations is not None for file in files)
        categories = _common_categories(files)
        self.classes = tuple(categories.values() if classes is None else classes)
        self.category_ids = self._ids_of_classes(categories, files)
        self.samples: list[Sample] = []
        self._read_from: dict[str, Path] = {}
        for file in files:
            self._add(file)
        if strict:
            raise_if_errors(self.problems)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def _ids_of_classes(self, categories: dict[int, str], files: list[_SplitFile]) -> tuple[int, ...]:
        ids = {name: number for number, name in categories.items()}
        used = {str(entry["category_id"]) for file in files for entry in file.annotations or ()}
        unknown = [name for number, name in categories.items() if name not in self.classes and str(number) in used]
        known = f"the data have {shortened(list(categories.values()))}"
        if unknown:
            message = f"not among the {len(self.classes)} classes: {shortened(unknown, 10)}; {known}"
            self.problems.append(Problem(ERROR, "unknown class", self.name, message))
        missing = [name for name in self.classes if name not in ids]
        if missing:
            message = f"no category is named {shortened(missing, 10)}; {known}"
            self.problems.append(Problem(ERROR, "class that the data lack", self.name, message))
        return tuple(ids.get(name, ABSENT) for name in self.classes)

    def _add(self, file: _SplitFile) -> None:
        """Append the samples of a split."""
        labels = {number: label for label, number in enumerate(self.category_ids)}
        objects: dict[int | str, list[dict[str, Any]]] = {}
        known = {entry["id"] for entry in file.images} | file.left_out
        for entry in file.images:
            image_id = str(entry["id"])
            if image_id in self._read_from:
                message = f"image id {image_id} is in {self._read_from[image_id].name}, too, and detections go by it"
                self.problems.append(Problem(ERROR, "repeated image id", str(file.path), message))
                continue
            self._read_from[image_id] = file.path
            objects[entry["id"]] = []
        strangers = Counter()
        for entry in file.annotations or ():
            wrong = _wrong_annotation(entry, file.categories)
            if wrong:
                self.problems.append(Problem(ERROR, "broken annotation", str(file.path), wrong))
            elif entry["image_id"] in objects:
                objects[entry["image_id"]].append(entry)
            elif entry["image_id"] not in known:
                strangers[entry["image_id"]] += 1
        for image_id, count in strangers.items():
            message = f"{count} annotation(s) of image id {image_id}, which is not in the file"
            self.problems.append(Problem(ERROR, "annotation without an image", str(file.path), message))
        for entry in file.images:
            if entry["id"] in objects:
                kept = [item for item in objects.pop(entry["id"]) if item["category_id"] in labels]
                self.samples.append(_to_sample(file, entry, kept, labels, self.problems))


class _SplitFile:
    """One annotation file: its images, annotations and categories, of which the shape alone is checked."""

    def __init__(self, root: Path, split: str):
        self.root = root
        name, _, id_list = split.partition(":")
        stem = Path(name).stem
        self.split = next(stem[len(prefix) :] for prefix in (*filter(None, PREFIXES), "") if stem.startswith(prefix))
        self.path = _find_file(root, name)
        content = _read_json(self.path)
        self.images = self._table(content, "images", ("id", "file_name", "width", "height"))
        for entry in self.images:
            self._check(_is_id(entry["id"]), f"image id {entry['id']!r} is neither a whole number nor text")
            sides = (entry["width"], entry["height"])
            fine = all(_is_whole(side) and side > 0 for side in sides)
            self._check(fine, f"width and height of image id {entry['id']} are {sides}, not whole numbers above 0")
        self.categories: dict[int, str] = {}
        for entry in self._table(content, "categories", ("id", "name")):
            self._check(_is_whole(entry["id"]), f"category id {entry['id']!r} is no whole number")
            twice = self.categories.get(entry["id"])
            self._check(twice is None, f"category id {entry['id']} is there twice, as {twice!r} and {entry['name']!r}")
            self.categories[entry["id"]] = str(entry["name"])
        self.annotations = (
            self._table(content, "annotations", ("image_id", "category_id", "bbox"))
            if "annotations" in content
            else None
        )
        self.left_out: set[int | str] = set()
        if id_list:
            wanted = _read_ids(root, id_list)
            absent = wanted - {entry["id"] for entry in self.images}
            if absent:
                message = f"image ids that {self.path.name} lacks: {shortened(list(map(str, sorted(absent))), 10)}"
                raise DataError([Problem(ERROR, "unknown image id", id_list, message)])
            self.left_out = {entry["id"] for entry in self.images} - wanted
            self.images = [entry for entry in self.images if entry["id"] in wanted]
        if not self.images:
            raise DataError([Problem(ERROR, "empty split", str(self.path), "it lists no image")])

    def _table(self, content: dict[str, Any], name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
        table = content.get(name)
        if not isinstance(table, list):
            raise self._broken(f"it has no list of {name!r}")
        for number, entry in enumerate(table):
            lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if lacking:
                raise self._broken(f"entry {number} (from 0) of {name!r} lacks {', '.join(lacking)}")
        return table

    def _check(self, fine: bool, message: str) -> None:
        if not fine:
            raise self._broken(message)

    def _broken(self, message: str) -> DataError:
        return DataError([Problem(ERROR, "not in COCO's layout", str(self.path), message)])

    def image_path(self, entry: dict[str, Any]) -> Path:
        """Return where an image is: in the folder of its split, its URL or its name's year, whichever has it."""
        name = str(entry["file_name"])
        folders = [self.split, str(entry.get("coco_url", "")).split("/")[-2:][0], "images", "."]
        year = re.match(r"COCO_(\w+\d{4})_", name)
        folders = [year.group(1), *folders] if year else folders
        places = [self.root / folder / name for folder in folders]
        return next((path for path in places if path.is_file()), places[0])


def _expand(root: Path, splits: str) -> list[str]:
    """Split names at +, aliases written out where no file has their name."""
    names = []
    for split in splits.split("+"):
        known = split in ALIASES and not any(path.is_file() for path in _places(root, split))
        names += ALIASES[split].split("+") if known else [split]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError([Problem(ERROR, "repeated split", shortened(repeated), "name it once")])
    return names


def _places(root: Path, split: str) -> list[Path]:
    return [root / ANNOTATIONS / f"{prefix}{split}.json" for prefix in PREFIXES]


def _find_file(root: Path, split: str) -> Path:
    places = [Path(split), root / split] if split.endswith(".json") else _places(root, split)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        there = sorted(path.name for path in (root / ANNOTATIONS).glob("*.json"))
        message = (
            f"none of {shortened([str(path) for path in places])} exists; files there: {shortened(there, 20) or 'none'}"
        )
        raise DataError([Problem(ERROR, "missing split", split, message)])
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            [Problem(ERROR, "broken annotation file", str(path), f"not readable as JSON: {error}")]
        ) from error
    if not isinstance(content, dict):
        message = f"it holds a {type(content).__name__}, not an object with images, annotations and categories"
        raise DataError([Problem(ERROR, "not in COCO's layout", str(path), message)])
    return content


def _read_ids(root: Path, name: str) -> set[int]:
    path = next((path for path in (root / ANNOTATIONS / name, Path(name)) if path.is_file()), None)
    if path is None:
        raise DataError([Problem(ERROR, "missing id list", name, f"neither in {root / ANNOTATIONS} nor a path")])
    try:
        return {int(word) for word in path.read_text(encoding="utf-8").split()}
    except ValueError as error:
        raise DataError([Problem(ERROR, "broken id list", str(path), f"it must list image ids: {error}")]) from error


def _common_categories(files: list[_SplitFile]) -> dict[int, str]:
    """Categories by id, in its order; an error where the files disagree, or two categories share a name."""
    categories = dict(sorted(files[0].categories.items()))
    for file in files[1:]:
        if file.categories != files[0].categories:
            message = f"its categories are not those of {files[0].path.name}"
            raise DataError([Problem(ERROR, "other categories", str(file.path), message)])
    repeated = [name for name, count in Counter(categories.values()).items() if count > 1]
    if repeated:
        message = f"several categories are named {shortened(repeated, 10)}"
        raise DataError([Problem(ERROR, "repeated category", str(files[0].path), message)])
    return categories


def _wrong_annotation(entry: dict[str, Any], categories: dict[int, str]) -> str | None:
    """What is wrong with an annotation by itself; None where nothing is."""
    where = f"annotation {entry.get('id', '?')} of image id {entry['image_id']}"
    if not _is_id(entry["image_id"]):
        return f"{where}: which is neither a whole number nor text"
    if not _is_whole(entry["category_id"]) or entry["category_id"] not in categories:
        return f"{where}: there is no category id {entry['category_id']!r}"
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_finite(number) for number in bbox):
        return f"{where}: bbox {bbox!r} is not four finite numbers [x, y, w, h]"
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"{where}: iscrowd is {entry['iscrowd']!r}, not 0 or 1"
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _is_finite(value: Any) -> bool:
    # Compared, not converted: float() fails on an integer of 400 digits.
    return (_is_whole(value) or isinstance(value, float)) and abs(value) <= LARGEST


def _area(entry: dict[str, Any]) -> float:
    """Area of an object's mask, or of its box where the annotation gives none that makes sense."""
    area = entry.get("area")
    return area if _is_finite(area) and area >= 0 else entry["bbox"][2] * entry["bbox"][3]


def _to_sample(
    file: _SplitFile,
    image: dict[str, Any],
    objects: list[dict[str, Any]],
    labels: dict[int, int],
    problems: list[Problem],
) -> Sample:
    boxes = []
    for entry in objects:
        x, y, w, h = entry["bbox"]
        described = f"{file.categories[entry['category_id']]} [{x:g}, {y:g}, {w:g}, {h:g}] of image id {image['id']}"
        boxes.append(fit_box((x, y, x + w, y + h), image["width"], image["height"], described, file.path, problems))
    kept = [(entry, box) for entry, box in zip(objects, boxes) if box is not None]
    return Sample(
        image_id=str(image["id"]),
        image_path=file.image_path(image),
        width=image["width"],
        height=image["height"],
        boxes=np.array([box for _, box in kept], np.float64).reshape(-1, 4),
        labels=np.array([labels[entry["category_id"]] for entry, _ in kept], np.int64),
        difficult=np.array([entry.get("iscrowd", 0) for entry, _ in kept], bool),
        areas=np.array([_area(entry) for entry, _ in kept], np.float64),
        coco_id=image["id"],
    )
