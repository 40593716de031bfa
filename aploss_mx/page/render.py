"""Render templates to one HTML file that holds all it shows, and that its own policy keeps off every network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aploss_mx.atomic import write_text
from aploss_mx.text import visible

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("tables.js", "charts.js", "gallery.js")
_IN_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_page(path: str | os.PathLike, template: Path, **values: Any) -> None:
    """Write a page, atomically.

    Parameters
    ----------
    path : path-like
        The HTML file; missing folders are created.
    template : Path
        A template that extends ``base.html``; it finds this package's and those of its own folder.
    **values
        What the template shows. Text is escaped; `Markup` of the other modules here is not.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment(template.parent).get_template(template.name)
    write_text(path, page.render(style=Markup(style), script=Markup(script), policy=Markup(policy), **values))


def render(template: str, **values: Any) -> Markup:
    """Return what one of this package's templates makes of values, ready to be shown in another."""
    return Markup(_environment(TEMPLATES).get_template(template).render(**values))


def embed(data: Any) -> Markup:
    """Return JSON that can stand in a ``<script type="application/json">`` whatever its text holds; NaN is null."""
    text = json.dumps(_plain(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in _IN_SCRIPTS.items():
        text = text.replace(character, escape)
    return Markup(text)


def pack(array: np.ndarray) -> dict[str, str]:
    """Return an array of small unsigned integers as the script unpacks it to a typed array: type and base64."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {"type": f"Uint{8 * array.dtype.itemsize}Array", "data": base64.b64encode(little.tobytes()).decode("ascii")}


def percent(value: float | None) -> str:
    """Return a share of 1 as text in percent; a dash for none, also for nan."""
    return "–" if value is None or value != value else f"{100 * value:.1f} %"


@lru_cache(maxsize=None)
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([str(folder), str(TEMPLATES)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value, lines=True) if type(value) is str else value,
    )
    environment.filters["embed"] = embed
    return environment


def _source(text: str) -> str:
    """The policy's word for an inline style or script, of which this one alone is to be heeded."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _plain(data: Any) -> Any:
    """Types that JSON has, with what acts on a reader's eyes, or is no character, as escapes."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, Mapping):
        return {visible(str(key)): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple, np.ndarray)):
        return [_plain(value) for value in data]
    if isinstance(data, np.generic):
        data = data.item()
    return None if isinstance(data, float) and not np.isfinite(data) else data
