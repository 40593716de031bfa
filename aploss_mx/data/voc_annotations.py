"""Read annotation files in the layout of PASCAL VOC, as they are written."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException, ElementTree

from aploss_mx.data.look_alikes import hint, look_alike
from aploss_mx.data.problems import ERROR, DataError, Problem
from aploss_mx.text import shown

SIDES = ("xmin", "ymin", "xmax", "ymax")
OUTLINES = ("polygon", "robndbox", "segmentation", "points")  # what other tools write in place of boxes
LARGEST_SIDE = 2**31  # of a picture, in pixels
# What may be left out: nothing else would tell that it is spelled wrong.
OPTIONAL = {"annotation": ("filename", "size", "object"), "size": ("width", "height"), "object": ("difficult",)}


@dataclass(frozen=True)
class VOCObject:
    """One ``<object>``: its class by name, [xmin, ymin, xmax, ymax] as written (pixels count from 1, both ends in)."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VOCAnnotation:
    """One annotation file, as written: no class is looked up yet, no box checked. A size not given is 0.

    `not_read` has, for each field that is not read but looks like one that is, words on both.
    """

    path: Path
    filename: str
    width: int
    height: int
    objects: tuple[VOCObject, ...]
    not_read: tuple[str, ...] = ()


def parse_annotation(path: Path) -> VOCAnnotation:
    """Read one annotation file, entities and external references refused.

    Raises
    ------
    DataError
        The file is missing, is no XML or no annotation, or an object lacks its name or a finite coordinate, or
        has several names or boxes.
    """
    if not os.path.isfile(path):
        raise DataError([Problem(ERROR, "missing annotation", str(path), "no such file")])
    try:
        root = _parse_xml(path)
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag}> is not an <annotation>")
        return VOCAnnotation(
            path=path,
            filename=root.findtext("filename", "").strip(),
            width=_side(root, "width"),
            height=_side(root, "height"),
            objects=tuple(_parse_object(element) for element in root.findall("object")),
            not_read=tuple(sorted(_not_read(root))),
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
    for tag in ("name", "bndbox"):
        different = {tuple((part.text or "").strip() for part in child.iter()) for child in element.findall(tag)}
        if len(different) > 1:
            raise ValueError(f"an <object> has {len(different)} <{tag}>: give each object its own <object>")
    name = element.findtext("name", "").strip()
    if not name:
        raise ValueError(f"an <object> has no <name>{hint(_fields(element), 'name')}")
    difficult = element.findtext("difficult", "").strip() or "0"
    if difficult not in ("0", "1"):
        raise ValueError(f"<difficult> of a {shown(name)} is {shown(difficult)}, not 0 or 1")
    if element.find("bndbox") is None:
        outline = next((tag for tag in OUTLINES if element.find(tag) is not None), None)
        what = f"a <{outline}> but no <bndbox>" if outline else f"no <bndbox>{hint(_fields(element), 'bndbox')}"
        box = "<bndbox> with <xmin>, <ymin>, <xmax> and <ymax> in pixels"
        raise ValueError(f"a {shown(name)} has {what}: give the box around it, {box}")
    return VOCObject(name, tuple(_number(element, f"bndbox/{side}") for side in SIDES), difficult == "1")


def _side(root: Element, name: str) -> int:
    side = _number(root, f"size/{name}", "0")
    if side >= LARGEST_SIDE:
        raise ValueError(f"<size/{name}> is {side:g}: no picture is as large")
    return int(side)


def _number(element: Element, tag: str, default: str = "") -> float:
    text = element.findtext(tag, "").strip() or default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"<{tag}> in <{element.tag}> is {shown(text)}, not a number")
    return value


def _not_read(root: Element) -> set[str]:
    """Words on each tag or attribute that is none of OPTIONAL but looks like it."""
    words = set()
    for element in (root, *root.findall("size"), *root.findall("object")):
        optional = OPTIONAL[element.tag]
        for field in _fields(element):
            meant = field if field in _attributes(element) and field in optional else look_alike(field, optional)
            if meant and (field != meant or element.find(field) is None):
                words.add(f"{shown(field)} in <{element.tag}> is not read, and looks like the tag <{meant}>")
    return words


def _fields(element: Element) -> list[str]:
    """Names of an element's tags and attributes."""
    return [child.tag for child in element] + _attributes(element)


def _attributes(element: Element) -> list[str]:
    """Names of an element's attributes, and of those that CVAT writes as tags."""
    return [*element.attrib, *(name.text or "" for name in element.findall("attributes/attribute/name"))]
