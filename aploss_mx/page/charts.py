"""Draw charts as inline SVG: lines whose values show on hovering, bars, points, and tables of colours."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Sequence
from unicodedata import east_asian_width

import numpy as np
from markupsafe import Markup

from aploss_mx.page.render import render

WIDTH, HEIGHT = 460, 270  # of the drawing, which the page scales
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 10, 42
MOST_POINTS = 600  # of a curve; of more, every second or third … is drawn
FEW_POINTS = 30  # which get a mark each
BAR, NAMES = 24, 150  # height of a bar with its gap; width of names beside bars
NUMBERED = 26  # side of a cell that can hold its number
DASHES = ("", "6 3", "2 3", "8 3 2 3", "10 4 2 4 2 4")  # a line style of its own tells a curve apart without colour
COLORS = len(DASHES)  # classes c0, c1, … of the style sheet


class Curve(NamedTuple):
    """Points of a curve, in the order of x; where y is nan, it has a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Axis(NamedTuple):
    """A scale in the drawing.

    Attributes
    ----------
    low, high : float
        Ends of the scale.
    start, end : float
        Where they lie in the drawing.
    ticks : list of float
    doubling : bool
        Whether equal distances are equal factors; the ends, and the ticks, are logarithms to the base of 2.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: list[float]
    doubling: bool = False

    def place(self, value: float) -> float:
        """Return where a value, or the logarithm of one, lies, rounded for a short text."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Place and text of each tick."""
        return [(self.place(tick), short(2.0**tick if self.doubling else tick)) for tick in self.ticks]


def short(value: float) -> str:
    """Return a number in at most four digits where that tells it: 0.001, 12.5, 20000."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def width_of(text: str, font: float) -> float:
    """Return about how many pixels a text takes in a sans-serif of so many: rather too many than too few."""
    wide = sum(2 if east_asian_width(one) in "WF" else 1.5 if one.isupper() or one in "mw%@…—" else 1 for one in text)
    return 0.56 * font * wide


def cut(text: str, room: float, font: float) -> str:
    """Return a text, or as much of its beginning as fits, with an ellipsis."""
    if width_of(text, font) <= room:
        return text
    fits = next(count for count in range(len(text), -1, -1) if width_of(f"{text[:count]}…", font) <= room or not count)
    return f"{text[:fits]}…"


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` + 1 round numbers within [low, high], a step of 1, 2 or 5 times a power of ten apart."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step = next(factor * step for factor in (1, 2, 5, 10) if factor * step * most >= (high - low) * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    title: str,
    curves: Sequence[Curve],
    x: str,
    y: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    note: str = "",
    empty: str = "Nothing was measured.",
) -> Markup:
    """Return a chart of curves; hovering, or the arrow keys, show the numbers of a point.

    Parameters
    ----------
    title : str
    curves : sequence of Curve
        More than there are line styles repeat them.
    x, y : str
        Names of the axes.
    x_range, y_range : pair of float, optional
        Ends of the axes; else those of the numbers, the y-axis from 0 where none is below.
    diagonal : bool
        Draw y = x, where a perfect reliability curve lies.
    note : str
        A sentence below.
    empty : str
        What stands there if there is no number.
    """
    drawn = [_thinned(curve) for curve in curves]
    known = [curve for curve in drawn if np.isfinite(curve.y).any()]
    if not known:
        return render("empty.html", title=title, text=empty)
    xs = np.concatenate([curve.x for curve in known])
    ys = np.concatenate([curve.y for curve in known])
    across = _axis(x_range or (xs.min(), xs.max()), LEFT, WIDTH - RIGHT)
    up = _axis(y_range or _from_zero(ys), HEIGHT - BOTTOM, TOP)
    paths = [
        {
            "name": curve.name,
            "number": number % COLORS,
            "dash": DASHES[number % COLORS],
            "path": _path(curve, across, up),
            "dots": [(across.place(a), up.place(b)) for a, b in zip(curve.x, curve.y) if np.isfinite(b)]
            if len(curve.x) <= FEW_POINTS
            else [],
        }
        for number, curve in enumerate(known)
    ]
    corner = (across.place(up.low), up.place(across.low), across.place(up.high), up.place(across.high))
    data = {
        "x": x,
        "scale": [across.low, across.high, across.start, across.end],
        "curves": [{"name": curve.name, "x": _rounded(curve.x), "y": _rounded(curve.y)} for curve in known],
    }
    ends = "; ".join(f"{curve.name}: last {short(curve.y[np.isfinite(curve.y)][-1])}" for curve in known[:COLORS])
    return render(
        "lines.html", title=title, x=across, y=up, x_name=x, y_name=y, paths=paths, data=data, note=note,
        diagonal=corner if diagonal else None, description=f"{title}: {y} over {x}. {ends}",
        box=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM), size=(WIDTH, HEIGHT), legend=len(known) > 1,
    )  # fmt: skip


def bars(title: str, names: Sequence[str], values: Sequence[float], *, note: str = "", form: str = ".1f") -> Markup:
    """Return horizontal bars with their numbers, one below another; nan has no bar, a value below 0 none either."""
    high = max([value for value in values if np.isfinite(value)] + [0]) or 1
    room = WIDTH - NAMES - 60
    rows = [
        {
            "name": cut(name, NAMES - 8, 12.5),
            "whole": name,
            "y": number * BAR,
            "width": round(max(0.0, value) / high * room, 1) if np.isfinite(value) else 0,
            "text": format(value, form) if np.isfinite(value) else "–",
        }
        for number, (name, value) in enumerate(zip(names, values))
    ]
    told = ", ".join(f"{row['whole']} {row['text']}" for row in rows)
    return render(
        "bars.html", title=title, rows=rows, note=note, size=(WIDTH, BAR * len(rows)), start=NAMES, bar=BAR,
        description=f"{title}: {told}",
    )  # fmt: skip


def scatter(title: str, groups: Sequence[Curve], x: str, y: str, *, note: str = "") -> Markup:
    """Return a chart of points, at least one, whose numbers are above 0, on logarithmic axes.

    Each group has a colour and a shape of its own; one without points is left out.
    """
    known = [Curve(group.name, np.log2(group.x), np.log2(group.y)) for group in groups if len(group.x)]
    across = _doubling_axis(np.concatenate([group.x for group in known]), LEFT, WIDTH - RIGHT)
    up = _doubling_axis(np.concatenate([group.y for group in known]), HEIGHT - BOTTOM, TOP)
    marks = []
    for number, group in enumerate(known):
        places = dict.fromkeys((round(across.place(a)), round(up.place(b))) for a, b in zip(group.x, group.y))
        marks.append({"name": group.name, "number": number % COLORS, "places": list(places)})
    counts = "; ".join(f"{group.name}: {len(group.x)} points" for group in known)
    return render(
        "scatter.html", title=title, x=across, y=up, x_name=x, y_name=y, marks=marks, note=note,
        description=f"{title}: {y} over {x}. {counts}", box=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        size=(WIDTH, HEIGHT), legend=len(known) > 1,
    )  # fmt: skip


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    counts: np.ndarray,
    row: str,
    column: str,
    *,
    note: str = "",
) -> Markup:
    """Return a table of counts (R, C), each darker the larger its share of its row; as a confusion matrix."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = max(9, min(44, 760 // max(len(rows), len(columns), 1)))
    font = max(7, min(12, side - 1))
    labels = 10 + min(126, math.ceil(max(width_of(name, font) for name in [*rows, *columns])))
    numbered = side >= NUMBERED
    cells = [
        {
            "x": labels + int(right) * side,
            "y": labels + int(down) * side,
            "opacity": round(max(0.06, 0.85 * float(shares[down, right])), 3),
            "text": f"{counts[down, right]:,}" if numbered else "",
            "title": f"{row} {rows[down]}, {column} {columns[right]}: {counts[down, right]:,}"
            f" ({shares[down, right]:.0%} of the row)",
        }
        for down, right in zip(*np.nonzero(counts))
    ]
    heads = [
        [{"text": cut(name, labels - 6, font), "whole": name, "at": labels + (n + 0.5) * side}
         for n, name in enumerate(names)]
        for names in (rows, columns)
    ]  # fmt: skip
    size = (labels + side * len(columns) + 1, labels + side * len(rows) + 1)
    return render(
        "heat_map.html", title=title, cells=cells, rows=heads[0], columns=heads[1], labels=labels, side=side, size=size,
        row=row, column=column, note=note, font=font,
        description=f"{title}: {len(rows)} rows ({row}) and {len(columns)} columns ({column}).",
    )  # fmt: skip


def _thinned(curve: Curve) -> Curve:
    """At most MOST_POINTS points, evenly spread, the last among them."""
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    every = max(1, -(-len(x) // MOST_POINTS))
    kept = slice((len(x) - 1) % every, None, every)
    return Curve(curve.name, x[kept], y[kept])


def _from_zero(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanmin(values), np.nanmax(values)
    return (0.0 if low >= 0 else low), high


def _doubling_axis(logarithms: np.ndarray, start: float, end: float) -> Axis:
    low = math.floor(logarithms.min())
    high = max(low + 1, math.ceil(logarithms.max()))
    return Axis(low, high, start, end, list(range(low, high + 1, 1 + (high - low) // 10)), doubling=True)


def _axis(ends: tuple[float, float], start: float, end: float) -> Axis:
    low, high = map(float, ends)
    if not high > low:
        half = max(0.5, 0.005 * abs(low))  # the ticks of thousands are whole numbers
        low, high = low - half * (low != 0), high + half
    return Axis(low, high, start, end, nice_ticks(low, high))


def _path(curve: Curve, across: Axis, up: Axis) -> str:
    parts, move = [], "M"
    for x, y in zip(curve.x, curve.y):
        if np.isfinite(y):
            parts.append(f"{move}{across.place(x):g} {up.place(y):g}")
        move = "L" if np.isfinite(y) else "M"
    return "".join(parts)


def _rounded(values: Any) -> list[float]:
    """Short numbers; whole ones, as steps are, stay what they are."""
    return [float(value) if float(value).is_integer() else float(f"{value:.6g}") for value in values]
