"""Annotation files in the layout of PASCAL VOC, as they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException, ElementTree

from aploss_mx.data.problems import ERROR, DataError, Problem


@dataclass(frozen=True)
class VOCObject:
    """One ``<object>``: its class by name, [xmin, ymin, xmax, ymax] as written (pixels count from 1, both ends in)."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VOCAnnotation:
    """One annotation file, as written: no class is looked up yet, no box checked. A size not given is 0."""

    path: Path
    filename: str
    width: int
    height: int
    objects: tuple[VOCObject, ...]


def parse_annotation(path: Path) -> VOCAnnotation:
    """Read one annotation file, entities and external references refused.

    Raises
    ------
    DataError
        The file is missing, is no XML or no annotation, or an object lacks its name or a finite coordinate.
    """
    if not path.is_file():
        raise DataError([Problem(ERROR, "missing annotation", str(path), "no such file")])
    try:
        root = _parse_xml(path)
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag}> is not an <annotation>")
        return VOCAnnotation(
            path=path,
            filename=root.findtext("filename", "").strip(),
            width=int(_number(root, "size/width", "0")),
            height=int(_number(root, "size/height", "0")),
            objects=tuple(_parse_object(element) for element in root.findall("object")),
        )
    except ValueError as error:
        raise DataError([Problem(ERROR, "broken annotation", str(path), str(error))]) from error


def _parse_xml(path: Path) -> Element:
    try:
        return ElementTree.parse(path).getroot()
    except DefusedXmlException as error:
        raise ValueError(f"refused as unsafe XML: {error}") from error
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"not readable as XML: {error}") from error


def _parse_object(element: Element) -> VOCObject:
    name = element.findtext("name", "").strip()
    if not name:
        raise ValueError("an <object> has no <name>")
    difficult = element.findtext("difficult", "").strip() or "0"
    if difficult not in ("0", "1"):
        raise ValueError(f"<difficult> of a {name!r} is {difficult!r}, not 0 or 1")
    box = tuple(_number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    return VOCObject(name, box, difficult == "1")


def _number(element: Element, tag: str, default: str = "") -> float:
    text = element.findtext(tag, "").strip() or default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"<{tag}> in <{element.tag}> is {text!r}, not a number")
    return value
