"""Open a data set by its folder, in whichever of the two layouts it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aploss_mx.data.coco import COCODetection
from aploss_mx.data.coco_file import annotation_files, places
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection, parse_classes
from aploss_mx.data.voc_splits import list_places


def open_dataset(
    root: str | Path, splits: str, classes: str | Sequence[str], strict: bool = True, annotated: bool = True
) -> VOCDetection | COCODetection:
    """Open data in COCO layout where `is_coco` says so, else in VOC layout.

    Parameters
    ----------
    root, splits, strict
        As `VOCDetection` and `COCODetection` take them.
    classes : str or sequence of str
        The names, or what `classes_of` takes.
    annotated : bool
        Whether to read VOC's annotation files; those of COCO say themselves whether they have any.

    Raises
    ------
    ValueError
        As `parse_classes`.
    DataError
        As the two data sets.
    """
    names = classes_of(classes)
    if is_coco(root, splits):
        return COCODetection(root, splits, names, strict)
    return VOCDetection(root, splits, names, strict, annotated)


def is_coco(root: str | Path, splits: str) -> bool:
    """Return whether splits of a folder are in COCO layout.

    The first split tells it: it has a JSON file or is the path of one, or it has a list of VOC's. Where it has neither,
    JSON files in the folder do; where names of folders have no case, VOC's must not count.
    """
    folder = Path(os.path.expanduser(root)).absolute()
    if not os.path.isdir(folder):
        return False
    split = splits.split("+")[0].partition(":")[0]
    if split.endswith(".json") or any(map(os.path.isfile, places(folder, split))):
        return True
    return bool(annotation_files(folder)) and not any(map(os.path.isfile, list_places(folder, split)))


def classes_of(setting: str | Sequence[str]) -> tuple[str, ...] | None:
    """Return the class names that a setting means: 'voc' is VOC's 20, 'data' None, other text as `parse_classes`."""
    if not isinstance(setting, str):
        return tuple(setting)
    if setting == "data":
        return None
    return VOC_CLASSES if setting == "voc" else parse_classes(setting)
