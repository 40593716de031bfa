"""Find the images of a split of data in the layout of PASCAL VOC."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import NamedTuple

from aploss_mx.data.file_index import FileIndex
from aploss_mx.data.images import SUFFIXES
from aploss_mx.data.layouts import LAYOUTS
from aploss_mx.data.problems import ERROR, WARNING, DataError, Problem, shortened
from aploss_mx.text import shown, unicode_forms

YEAR_FOLDERS = "VOC[0-9][0-9][0-9][0-9]"
SPLIT_FOLDER = Path("ImageSets", "Main")
ANNOTATIONS, PICTURES = "Annotations", "JPEGImages"
DEVKIT = "VOCdevkit"
LONGEST_NAME = 255  # bytes that a file system takes


def find_split(root: Path, split: str) -> Path:
    """The list of images that a split's name stands for.

    ``2007_train`` is ``VOC2007/ImageSets/Main/train.txt`` under `root`, or ``ImageSets/Main/train.txt`` where `root`
    itself holds the images (unless it is named after another year). ``train`` is ``ImageSets/Main/train.txt``, or the
    same in the one folder like ``VOC2007`` that has it.

    Raises
    ------
    DataError
        No such file, or more than one; the message lists the places and the splits that exist.
    """
    root = _devkit(root)
    tried = list_places(root, split)
    found = [path for path in tried if os.path.isfile(path)]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"it may be any of {shortened([str(path) for path in found])}; name the year, or a deeper folder"
        raise DataError([Problem(ERROR, "ambiguous split", split, message)])
    there = _existing_splits(root)
    message = f"none of {shortened([str(path) for path in tried])} exists; "
    message += f"splits there: {shortened(there, 20)}" if there else f"{root} has no lists of images. {LAYOUTS}"
    raise DataError([Problem(ERROR, "missing split", split, message)])


def list_places(root: Path, split: str) -> list[Path]:
    """Where the list of a split may be, as `find_split` reads its name."""
    root = _devkit(root)
    year, name = re.fullmatch(r"(?:(\d{4})_)?(.*)", split, flags=re.DOTALL).groups()
    if year is None:
        places = [root, *sorted(root.glob(YEAR_FOLDERS))]
    elif re.fullmatch(r"VOC\d{4}", root.name) and root.name != f"VOC{year}":
        places = [root / f"VOC{year}"]
    else:
        places = [root / f"VOC{year}", root]
    tried = [Path(f"{place / SPLIT_FOLDER}/{name}.txt") for place in places]  # in there, even if the name begins with /
    return tried if year is None else [*tried, root / SPLIT_FOLDER / f"{split}.txt"]


def folder_of(path: Path) -> Path:
    """The folder that holds the images of a list: the one above ``ImageSets``, however deep in there the list is."""
    return next(parent.parent for parent in path.parents if parent.name == SPLIT_FOLDER.parts[0])


def _devkit(root: Path) -> Path:
    """The folder of PASCAL's archives in `root`, where that has no lists itself; else `root`."""
    return root / DEVKIT if (root / DEVKIT).is_dir() and not _existing_splits(root) else root


class Listed(NamedTuple):
    """An image of a list: the folder that holds ``Annotations`` and its like, the image's name, its annotation file.

    The name has no suffix; it is a path with ``/`` where the image is in a subfolder. The file need not exist.
    """

    folder: Path
    name: str
    annotation: Path


def list_images(root: Path, splits: str, problems: list[Problem], annotated: bool = True) -> list[Listed]:
    """Images that the splits list, each once; `problems` gets lines that name none, and images that are listed again.

    `annotated` says whether the images have annotation files.

    Raises
    ------
    DataError
        A list is missing, named twice or unreadable.
    """
    lists: dict[Path, str] = {}
    images: dict[str, Listed] = {}
    for split in splits.split("+"):
        path = find_split(root, split)
        if path in lists:
            message = f"both {lists[path]} and {split} lead to it; name it once"
            raise DataError([Problem(ERROR, "repeated split", str(path), message)])
        lists[path] = split
        folder = folder_of(path)
        index = FileIndex(folder / ANNOTATIONS, {".xml"}) if annotated else FileIndex(folder / PICTURES, SUFFIXES)
        for number, line in read_split(path):
            try:
                name = find_name(line, index)
            except ValueError as error:
                problems.append(Problem(ERROR, "line that names no image", str(path), f"line {number}: {error}"))
                continue
            listed = Listed(folder, name, _annotation(folder, name, index))
            first = images.setdefault(listed.name, listed)
            if first is listed:
                continue
            if first.folder == folder:
                message = f"again in line {number} of {path}; read once"
                problems.append(Problem(WARNING, "repeated image", str(listed.annotation), message))
            else:
                message = f"{first.annotation} has the same name, and detections are told apart by it; rename one"
                problems.append(Problem(ERROR, "repeated image name", str(listed.annotation), message))
    return list(images.values())


def find_name(line: str, index: FileIndex) -> str:
    """Return the name in `index` that a line of a list means.

    A line is a name, blanks in it included, or a name and a number: lists for one class have such a column (1, 0 or
    -1). The name may be in quotes or have a suffix, and the path to it may have folders too many, up to
    ``Annotations`` or ``JPEGImages``, or too few. Of several readings the first that leads to a file counts.

    Raises
    ------
    ValueError
        If the line can be no name, or may be any of several files.
    """
    before, _, after = line.replace("\t", " ").rpartition(" ")
    without_column = before.rstrip() if before and re.fullmatch(r"[-+]?\d+", after) else line
    texts = [form for text in (line, without_column) for form in unicode_forms(text)]
    readings = [reading for text in texts for reading in (_path_of(text), _without_suffix(text))]
    for name in readings:
        if name in index.files:
            return name
    for name in readings:
        names = index.names_by_stem.get(name, [])
        if len(names) > 1:
            raise ValueError(f"it may be any of {shortened(names, 5)}: name the folder, too")
        if names:
            return names[0]
    name = _without_suffix(without_column)
    if name.startswith(("/", "../")) or name in (".", "..") or len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"{shown(line)} can be no name of a file in {index.folder.name}")
    return name


def _annotation(folder: Path, name: str, index: FileIndex) -> Path:
    """The annotation file of a name; of several, and where `index` has none, the one in ``.xml`` to the letter."""
    path = folder / ANNOTATIONS / f"{name}.xml"
    found = [file for file in index.files.get(name, []) if file.suffix.lower() == ".xml"]
    return path if path in found or not found else found[0]


def read_split(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line of a list that is not blank, without blanks at its ends.

    Raises
    ------
    DataError
        The file cannot be read, or lists no image.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([Problem(ERROR, "unreadable split", str(path), f"{error}; it must be UTF-8 text")]) from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError([Problem(ERROR, "empty split", str(path), "it lists no image")])
    return lines


def _path_of(text: str) -> str:
    """A spelled path in its only form: from the folder of annotations or pictures, with / between its parts."""
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    path = "/" + text.replace("\\", "/")
    for folder in (ANNOTATIONS, PICTURES):
        path = "/" + path.rpartition(f"/{folder}/")[2] if f"/{folder}/" in path else path
    return posixpath.normpath(path[1:])


def _without_suffix(text: str) -> str:
    stem, suffix = posixpath.splitext(_path_of(text))
    return stem if suffix.lower() in (".xml", *SUFFIXES) else stem + suffix


def _existing_splits(root: Path) -> list[str]:
    """Names that `find_split` knows under `root`, those of single classes (``cat_train``) last."""
    names = [path.stem for path in (root / SPLIT_FOLDER).glob("*.txt")]
    for folder in root.glob(YEAR_FOLDERS):
        names += [f"{folder.name[3:]}_{path.stem}" for path in (folder / SPLIT_FOLDER).glob("*.txt")]
    return sorted(names, key=lambda name: (name.count("_"), name))
