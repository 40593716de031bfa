"""Read annotation files in the layout of COCO, as they are written, and find them and their images."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, Collection, Iterator

from aploss_mx.data.file_index import FolderIndex
from aploss_mx.data.layouts import LAYOUTS
from aploss_mx.data.look_alikes import hint, look_alike
from aploss_mx.data.problems import ERROR, WARNING, DataError, Problem, raise_if_errors, shortened
from aploss_mx.text import shown, unicode_forms

ANNOTATIONS = "annotations"
ROBOFLOW = "_annotations.coco.json"  # Roboflow's name of the file that it puts beside a split's images
PREFIXES = ("instances_", "", "image_info_")
LARGEST = sys.float_info.max
LARGEST_SIDE = 2**31  # of an image, in pixels
CROWD = "iscrowd"
OPTIONAL = (CROWD, "area")  # of annotations: nothing else would tell that they are spelled wrong


class SplitFile:
    """One annotation file: its images, annotations and categories, of which the shape alone is checked.

    Where a list says which images are wanted, the others and their annotations may hold anything.

    Parameters
    ----------
    root : Path
        The data set's folder.
    split : str
        The split's name or the file's path, and maybe ``:`` and a list of image ids, as `COCODetection` takes them.

    Attributes
    ----------
    path : Path
    images : list of dict
    categories, groups : dict of int to str
        Name and supercategory by id.
    annotations : list of dict, or None
        None where the file has none, as for test images.
    has_areas : bool
        Whether an annotation has an area above 0, be its image wanted or not.
    problems : list of Problem
        Fields that are not read but look like one that is.

    Raises
    ------
    DataError
        The file is missing, is no JSON, or not in this layout.
    """

    def __init__(self, root: Path, split: str):
        self.root = root
        self._parents = (FolderIndex(root), FolderIndex(root / "images"))
        name, _, id_list = split.partition(":")
        self.path = find_file(root, name)
        stem = self.path.parent.name if self.path.name == ROBOFLOW else self.path.stem
        self.split = next(stem[len(prefix) :] for prefix in (*filter(None, PREFIXES), "") if stem.startswith(prefix))
        content = _read_json(self.path)
        left_out = self._left_out(content, id_list) if id_list else set()
        self.images = self._table(content, "images", ("id", "file_name", "width", "height"), left_out)
        for entry in self.images:
            if not _is_id(entry["id"]):
                raise self._broken(f"image id {shown(entry['id'])} is neither a whole number nor text")
            if not isinstance(entry["file_name"], (str, int)):
                raise self._broken(
                    f"file_name of image id {shown(entry['id'])} is {shown(entry['file_name'])}, no text"
                )
            sides = [entry["width"], entry["height"]]
            if not all(_is_whole(side) and 0 < side < LARGEST_SIDE for side in sides):
                what = f"width and height of image id {shown(entry['id'])} are {shown(sides)}"
                raise self._broken(f"{what}, not whole numbers above 0")
        self.categories: dict[int, str] = {}
        self.groups: dict[int, str] = {}
        for entry in self._table(content, "categories", ("id", "name")):
            self._add_category(entry)
        self.annotations = None
        self.problems: list[Problem] = []
        if "annotations" in content:
            self.annotations = self._table(content, "annotations", ("image_id", "category_id", "bbox"), left_out)
            self.problems = self._fields_not_read(self.annotations)
        areas = (entry.get("area") for entry in content.get("annotations", ()))
        self.has_areas = any(is_finite(area) and area > 0 for area in areas)
        if not self.images:
            raise DataError([Problem(ERROR, "empty split", str(self.path), "it lists no image")])

    @cached_property
    def relative_path(self) -> str:
        """The path for messages, from the data set's folder on where it is in there: Roboflow names all files alike."""
        return str(self.path.relative_to(self.root) if self.root in self.path.parents else self.path)

    def _left_out(self, content: dict[str, Any], id_list: str) -> set[int | str]:
        """Ids of the images that a list of wanted ones lacks."""
        wanted = _read_ids(self.root, id_list)
        there = {entry["id"] for entry in self._table(content, "images", ("id",)) if _is_id(entry["id"])}
        absent = wanted - there
        if absent:
            message = f"image ids that {self.relative_path} lacks: {shortened(list(map(str, sorted(absent))), 10)}"
            raise DataError([Problem(ERROR, "unknown image id", id_list, message)])
        return there - wanted

    def _add_category(self, entry: dict[str, Any]) -> None:
        number, name = entry["id"], entry["name"]
        if not _is_whole(number):
            raise self._broken(f"category id {shown(number)} is no whole number")
        if not isinstance(name, (str, int, float)) or not _is_text(str(name)):
            raise self._broken(f"the name of category id {number} is {shown(name)}, which is no text")
        if number in self.categories:
            both = f"as {shown(self.categories[number])} and {shown(name)}"
            raise self._broken(f"category id {number} is there twice, {both}")
        self.categories[number] = str(name)
        self.groups[number] = entry.get("supercategory")

    def _table(
        self, content: dict[str, Any], name: str, keys: tuple[str, ...], left_out: Collection[int | str] = ()
    ) -> list[dict[str, Any]]:
        """A table's entries, which must have all `keys`, but for those whose first key's value is `left_out`."""
        table = content.get(name)
        if not isinstance(table, list):
            raise self._broken(f"it has no list of {name!r}{hint(content, name)}")
        kept, problems = [], []
        for number, entry in enumerate(table):
            if not isinstance(entry, dict):
                raise self._broken(f"entry {number} (from 0) of {name!r} lacks {', '.join(keys)}: it is no object")
            if left_out and _is_id(entry.get(keys[0])) and entry[keys[0]] in left_out:
                continue
            lacking = [key for key in keys if key not in entry]
            if lacking:
                known = next((f", {key} {shown(entry[key])}," for key in ("file_name", "id") if key in entry), "")
                message = f"entry {number} (from 0){known} of {name!r} lacks {', '.join(lacking)}"
                problems += self._broken(message + hint(entry, lacking[0])).problems
            kept.append(entry)
        raise_if_errors(problems)
        return kept

    def _fields_not_read(self, annotations: list[dict[str, Any]]) -> list[Problem]:
        """A warning for each field that looks like an optional one, also among CVAT's attributes."""
        fields = Counter(field for entry in annotations for field in entry)
        attributes = Counter(field for entry in annotations for field in _attributes(entry))
        meant = {field: look_alike(field, OPTIONAL) for field in fields}
        meant.update({field: CROWD for field in attributes if field == CROWD or look_alike(field, (CROWD,))})
        return [
            Problem(
                WARNING,
                "field that is not read",
                str(self.path),
                f"{shown(field)}, in {fields[field] + attributes[field]} annotation(s), looks like {known!r}: "
                "rename it if it is meant",
                **self.seen(next(entry for entry in annotations if field in entry or field in _attributes(entry))),
            )
            for field, known in meant.items()
            if known and (field != known or attributes[field])
        ]

    def _broken(self, message: str) -> DataError:
        return DataError([Problem(ERROR, "not in COCO's layout", str(self.path), message)])

    def seen(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """Return ``image`` and ``box`` of a `Problem` with an annotation, None where it does not tell them."""
        number, box = annotation["image_id"], None
        entry = self._by_id.get(number) if _is_id(number) else None
        if _is_box(annotation["bbox"]):
            x, y, width, height = map(float, annotation["bbox"])
            box = (x, y, x + width, y + height)
        return {"image": entry and self.image_path(entry), "box": box}

    @cached_property
    def _by_id(self) -> dict[int | str, dict[str, Any]]:
        return {entry["id"]: entry for entry in self.images}

    def image_path(self, entry: dict[str, Any]) -> Path:
        """Return where an image is, the first place that has it.

        It may be beside a file of annotations that is not in ``annotations``, or in a folder called as the split, its
        URL or the year in its name, which may be in a folder ``images``, or in the latter itself, or in the root.
        """
        name = str(entry["file_name"])
        year = re.match(r"COCO_(\w+\d{4})_", name)
        url = entry.get("coco_url")
        url = url.split("/")[-2:][0] if isinstance(url, str) else ""
        folders = [folder for folder in (year and year.group(1), self.split, url) if folder]
        names = dict.fromkeys(form for one in (name, name.replace("\\", "/")) for form in unicode_forms(one))
        found = (place / name for name in names for place in self._image_places(folders))
        usual = [*self._beside, *(self.root / folder for folder in folders), self.root / "images"][0]
        return next((path for path in found if os.path.isfile(path)), usual / name)

    @property
    def _beside(self) -> list[Path]:
        return [self.path.parent] if self.path.parent.name != ANNOTATIONS else []

    def _image_places(self, folders: list[str]) -> Iterator[Path]:
        """Each folder is looked for only where the places before it lack the image."""
        yield from self._beside
        for folder in folders:
            for parent in self._parents:
                yield from parent.find(folder)
        yield from (self.root / "images", self.root)


def places(root: Path, split: str) -> list[Path]:
    """Return where the file of a split may be that goes by its name."""
    return [root / ANNOTATIONS / f"{prefix}{split}.json" for prefix in PREFIXES] + [root / split / ROBOFLOW]


def find_file(root: Path, split: str) -> Path:
    """Return the file that a split's name, or its path, stands for.

    Raises
    ------
    DataError
        There is none; the message lists the places and the files that exist.
    """
    tried = [Path(split), root / split] if split.endswith(".json") else places(root, split)
    found = next((path for path in tried if os.path.isfile(path)), None)
    if found is None:
        files = annotation_files(root)
        there = [path.name if path.name != ROBOFLOW else str(path.relative_to(root)) for path in files]
        message = f"none of {shortened([str(path) for path in tried])} exists; "
        message += f"files there: {shortened(there, 20)}" if there else f"files there: none. {LAYOUTS}"
        raise DataError([Problem(ERROR, "missing split", split, message)])
    return found


def annotation_files(root: Path) -> list[Path]:
    """Return the files in a folder that make it one in COCO's layout, Roboflow's included."""
    return [*sorted(root.glob(f"{ANNOTATIONS}/*.json")), *sorted(root.glob(f"*/{ROBOFLOW}"))]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        # Of bytes, for any mark of their order.
        content = json.loads(path.read_bytes(), object_hook=_without_mask)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        message = f"not readable as JSON: {str(error) or type(error).__name__}"
        raise DataError([Problem(ERROR, "broken annotation file", str(path), message)]) from error
    if not isinstance(content, dict):
        message = f"it holds a {type(content).__name__}, not an object with images, annotations and categories"
        raise DataError([Problem(ERROR, "not in COCO's layout", str(path), message)])
    return content


def _without_mask(entry: dict[str, Any]) -> dict[str, Any]:
    """An object without its polygons, which nothing here reads: all of COCO's together are a gigabyte and more."""
    entry.pop("segmentation", None)
    return entry


def _read_ids(root: Path, name: str) -> set[int]:
    path = next((path for path in (root / ANNOTATIONS / name, Path(name)) if os.path.isfile(path)), None)
    if path is None:
        raise DataError([Problem(ERROR, "missing id list", name, f"neither in {root / ANNOTATIONS} nor a path")])
    try:
        return {int(word) for word in path.read_text(encoding="utf-8-sig").split()}
    except ValueError as error:
        raise DataError([Problem(ERROR, "broken id list", str(path), f"it must list image ids: {error}")]) from error


def wrong_annotation(entry: dict[str, Any], categories: dict[int, str]) -> str | None:
    """What is wrong with an annotation by itself; None where nothing is."""
    wrong = None
    bbox = entry["bbox"]
    if not _is_id(entry["image_id"]):
        wrong = "which is neither a whole number nor text"
    elif not _is_whole(entry["category_id"]) or entry["category_id"] not in categories:
        wrong = f"there is no category id {shown(entry['category_id'])}"
    elif not _is_box(bbox):
        wrong = f"bbox {shown(bbox)} is not four finite numbers [x, y, w, h]"
    elif entry.get(CROWD, 0) not in (0, 1):
        wrong = f"iscrowd is {shown(entry[CROWD])}, not 0 or 1"
    if wrong is None:
        return None
    return f"annotation {shown(entry.get('id', '?'))} of image id {shown(entry['image_id'])}: {wrong}"


def _attributes(annotation: dict[str, Any]) -> dict[str, Any]:
    found = annotation.get("attributes")
    return found if isinstance(found, dict) else {}


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(is_finite(number) for number in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _is_text(value: str) -> bool:
    """Whether text can be written: JSON may spell halves of characters."""
    return bool(value) and value.encode("utf-8", "replace").decode("utf-8") == value


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that float64 holds."""
    # Compared, not converted: float() fails on an integer of 400 digits.
    return (_is_whole(value) or isinstance(value, float)) and abs(value) <= LARGEST
