"""Read, write and check the detections of a data set: JSON in the layout of COCO results, files for the servers."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from aploss_mx.atomic import replacing
from aploss_mx.data.coco import ABSENT
from aploss_mx.data.sample import Sample
from aploss_mx.geometry.detections import Detections
from aploss_mx.text import cut, shown

# Of coordinates: float64 holds their sums and products.
_LARGEST = float(np.finfo(np.float32).max) / 2


def check_detections(samples: Sequence[Sample], detections: Mapping[str, Detections], classes: Sequence[str]) -> None:
    """Check that the detections are of these images and both are of these classes.

    Raises
    ------
    ValueError
        If two samples share an image id, an image with detections is not among the samples, or a label of either
        has no class.
    """
    image_ids = [sample.image_id for sample in samples]
    repeated = [image_id for image_id, count in Counter(image_ids).items() if count > 1]
    if repeated:
        raise ValueError(f"image ids must be unique, these are repeated: {_listed(repeated)}")
    strangers = detections.keys() - set(image_ids)
    if strangers:
        raise ValueError(
            f"detections of images that are not in the ground truth: {_listed(strangers)}; "
            "evaluate on the split that was detected on"
        )
    for sample in samples:
        _check_labels(f"ground truth of image {sample.image_id}", sample.labels, classes)
    for image_id, found in detections.items():
        _check_labels(f"detections of image {image_id}", found.labels, classes)


def save_detections(path: str | os.PathLike, detections: Mapping[str, Detections], classes: Sequence[str]) -> None:
    """Write detections as JSON, atomically: `path` holds its old content or all of the new.

    The file is a list of ``{"image_id": str, "category": class name, "bbox": [x, y, w, h], "score": s}``, where
    x = x1, y = y1, w = x2 - x1 and h = y2 - y1 in continuous pixels; in the 1-based inclusive pixels of PASCAL VOC
    that is x = xmin - 1 and w = xmax - xmin + 1. An image without detections has no entry. Detections of a calibrated
    detector have their ``"confidence"`` as well.

    Parameters
    ----------
    path : path-like
        The file; missing folders are created.
    detections : mapping of str to Detections
        By image id.
    classes : sequence of str
        Names of the classes, in the order of the labels.

    Raises
    ------
    ValueError
        If a label has no class.
    """
    for image_id, found in detections.items():
        _check_labels(f"detections of image {image_id}", found.labels, classes)
    _write_list(
        path,
        (
            [{"image_id": image_id, **entry} for entry in entries_of(found, classes)]
            for image_id, found in detections.items()
        ),
    )


def _write_list(path: str | os.PathLike, parts: Iterable[list[dict[str, Any]]]) -> None:
    """Write parts as one JSON list, atomically: all of a large data set's at once would be gigabytes."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("[")
        for number, part in enumerate(filter(None, parts)):
            file.write(", " * (number > 0) + json.dumps(part)[1:-1])
        file.write("]")


def entries_of(found: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return one image's detections as `save_detections` writes them, without the image's id."""
    entries = [
        {"category": classes[label], "bbox": bbox, "score": score}
        for label, bbox, score in zip(found.labels, _xywh(found.boxes), found.scores.tolist())
    ]
    if found.confidence is not None:
        for entry, confidence in zip(entries, found.confidence.tolist()):
            entry["confidence"] = confidence
    return entries


def save_coco_results(
    path: str | os.PathLike,
    detections: Mapping[str, Detections],
    samples: Sequence[Sample],
    category_ids: Sequence[int],
) -> None:
    """Write detections as COCO's evaluation server takes them, atomically.

    Parameters
    ----------
    path : path-like
        The JSON file; missing folders are created.
    detections : mapping of str to Detections
        By image id.
    samples : sequence of Sample
        Their images; the file gets each one's ``coco_id``.
    category_ids : sequence of int
        COCO's id of each class, in the order of the labels.
    """
    coco_ids = {sample.image_id: sample.coco_id for sample in samples}
    _write_list(
        path,
        (
            [
                {"image_id": coco_ids[image_id], "category_id": category_ids[label], "bbox": bbox, "score": score}
                for label, bbox, score in zip(found.labels, _xywh(found.boxes), found.scores.tolist())
            ]
            for image_id, found in detections.items()
        ),
    )


def check_voc_names(image_ids: Iterable[str], classes: Sequence[str]) -> None:
    """Raise ValueError where names do not fit into what `save_voc_results` writes: classes are names of files in it."""
    for name in classes:
        if re.search(r"[/\\\x00-\x1f\x7f]", name):
            raise ValueError(f"PASCAL's results have a file for each class, and {shown(name)} can be no file's name")
    for image_id in image_ids:
        if re.search(r"\s", image_id):
            raise ValueError(f"PASCAL's results separate columns by blanks, and image {shown(image_id)} has some")


def save_voc_results(
    path: str | os.PathLike, detections: Mapping[str, Detections], classes: Sequence[str], year: str, split: str
) -> None:
    """Write detections as PASCAL VOC's evaluation server takes them: a zip file with a text file for each class.

    Each is ``results/VOC<year>/Main/comp4_det_<split>_<class>.txt`` (comp4: trained on any data but the test's), with
    a line ``image score xmin ymin xmax ymax`` for a detection, in 1-based inclusive pixels.

    Parameters
    ----------
    path : path-like
        The zip file; missing folders are created.
    detections : mapping of str to Detections
        By image id.
    classes : sequence of str
        Names of the classes, in the order of the labels.
    year, split : str
        Such as '2012' and 'test'.

    Raises
    ------
    ValueError
        As `check_voc_names`, before anything is written.
    """
    check_voc_names(detections, classes)
    lines: dict[int, list[str]] = {label: [] for label in range(len(classes))}
    for image_id, found in detections.items():
        for (x1, y1, x2, y2), score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()):
            lines[label].append(f"{image_id} {_decimal(score)} {x1 + 1:.3f} {y1 + 1:.3f} {x2:.3f} {y2:.3f}\n")
    with replacing(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for label, name in enumerate(classes):
            archive.writestr(f"results/VOC{year}/Main/comp4_det_{split}_{name}.txt", "".join(lines[label]))


def _decimal(score: float) -> str:
    """All digits of a score, without an exponent."""
    return np.format_float_positional(score, unique=True, min_digits=1)


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    # The difference in float64: in float32, x + w would not give x2 back.
    corners = boxes.astype(np.float64)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()


def load_detections(
    path: str | os.PathLike, classes: Sequence[str], image_ids: Iterable[str], category_ids: Sequence[int | None] = ()
) -> dict[str, Detections]:
    """Read what `save_detections` or `save_coco_results` wrote, or another program in these layouts.

    An entry names its class by ``category`` or by COCO's ``category_id``. Its image id is text or a whole number, which
    counts as its text.

    Parameters
    ----------
    path : path-like
        The JSON file.
    classes : sequence of str
        Names of the classes, in the order of the labels.
    image_ids : iterable of str
        All images of the split.
    category_ids : sequence of int or None
        COCO's id of each class, where the data have ids, and ABSENT of one that they lack.

    Returns
    -------
    dict of str to Detections
        In float64. One item for each of `image_ids`, in their order; an image that the file does not name has no
        detections.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not JSON or not in this layout, or names a class or an image that is not given.
    """
    path = Path(path)
    entries = read_json(path, list, "a list of detections")
    for index, entry in enumerate(entries):
        problem = _problem_of(entry)
        if problem:
            raise ValueError(f"{path}: entry {index} (from 0) {problem}")

    labels_by_id = {number: label for label, number in enumerate(category_ids) if number != ABSENT}
    label_of = {**{name: label for label, name in enumerate(classes)}, **labels_by_id}
    categories = [entry.get("category", entry.get("category_id")) for entry in entries]
    unknown = set(categories) - label_of.keys()
    if unknown:
        known = ", ".join(classes) + (f" with the ids {', '.join(map(str, labels_by_id))}" if category_ids else "")
        without_ids = "" if category_ids else ", which have no ids in this layout of the data"
        raise ValueError(f"{path}: unknown categories {_listed(unknown)}; the classes are {known}{without_ids}")
    rows: dict[str, list[tuple[float, ...]]] = {image_id: [] for image_id in image_ids}
    unknown = {str(entry["image_id"]) for entry in entries} - rows.keys()
    if unknown:
        raise ValueError(
            f"{path}: images that are not in the split: {_listed(unknown)}; evaluate on the split that was detected on"
        )

    for entry, category in zip(entries, categories):
        x, y, w, h = entry["bbox"]
        rows[str(entry["image_id"])].append((x, y, x + w, y + h, entry["score"], label_of[category]))
    return {image_id: _from_rows(image_rows) for image_id, image_rows in rows.items()}


def _from_rows(rows: list[tuple[float, ...]]) -> Detections:
    """Detections from rows x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def read_json(path: Path, kind: type, what: str) -> Any:
    """Return what a JSON file holds; ValueError names the file where it is none, or holds no `kind`, called `what`."""
    try:
        content = json.loads(path.read_bytes())  # of bytes, for any mark of their order
    # RecursionError: brackets nested deeper than Python's stack.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} must hold {what}, but holds a {type(content).__name__}")
    return content


def _problem_of(entry: Any) -> str | None:
    """What is wrong with an entry of the file, by itself; None where nothing is."""
    if not isinstance(entry, dict):
        return f"must be an object, but is a {type(entry).__name__}"
    named = "category_id" if "category" not in entry and "category_id" in entry else "category"
    missing = [key for key in ("image_id", named, "bbox", "score") if key not in entry]
    if missing:
        return f"lacks {', '.join(missing)}"
    kinds = {"image_id": (str, int), "category": (str,), "category_id": (int,)}
    for key in ("image_id", named):
        if type(entry[key]) not in kinds[key]:
            what = " or ".join({str: "a string", int: "a whole number"}[kind] for kind in kinds[key])
            return f"has the {key} {shown(entry[key])}, which must be {what}"
    bbox, score = entry["bbox"], entry["score"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_finite_number, bbox)):
        return f"has the bbox {shown(bbox)}, which must be four finite numbers [x, y, w, h]"
    if min(bbox[2:]) < 0:
        return f"has the bbox {shown(bbox)} of negative size; it must be [x, y, w, h]"
    if not _is_finite_number(score, sys.float_info.max):
        return f"has the score {shown(score)}, which must be a finite number"
    return None


def _is_finite_number(value: Any, largest: float = _LARGEST) -> bool:
    # Compared, not converted: float() fails on an integer of 400 digits, and bool is an int.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= largest


def _check_labels(what: str, labels: np.ndarray, classes: Sequence[str]) -> None:
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise ValueError(f"{what}: labels {_listed(np.unique(wrong))} have no class, there are {len(classes)}")


def _listed(names: Iterable[Any], most: int = 5) -> str:
    ordered = [cut(str(name)) for name in sorted(names, key=lambda name: (isinstance(name, str), name))]
    more = f", ... ({len(ordered)} in all)" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
