"""Charts as inline SVG: coordinates and classes; colours are CSS variables, so that one picture does in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, final

from thawline.report.html import Html, element, join, number

Point: TypeAlias = tuple[float, float]
Range: TypeAlias = tuple[float, float]

WIDTH, HEIGHT = 380, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 12, 42
_BAR, _NAMES, _NAME_CHARS = 26, 124, 18
_CELL = 34.0


@final
@dataclass(frozen=True)
class Series:
    """One line of a chart: points by x, with the interval of each where there is one."""

    name: str
    points: Sequence[Point]
    band: Sequence[Range] = ()
    form: Literal["line", "curve", "steps", "dots", "faint"] = "line"


@final
@dataclass(frozen=True)
class Lines:
    """Lines over common axes; `marks` are places on the x axis with a word, `diagonal` the line y = x."""

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    x_range: Range | None = None
    y_range: Range | None = None
    marks: Sequence[tuple[float, str]] = ()
    diagonal: bool = False


@final
@dataclass(frozen=True)
class Bars:
    """A horizontal bar for each name, with its interval where there is one."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    label: str
    intervals: Sequence[Range | None] = ()
    range: Range | None = None


@final
@dataclass(frozen=True)
class Heat:
    """A matrix of counts, a row for each true label; its diagonal is what is right."""

    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[float]]
    row_label: str = "true"
    column_label: str = "predicted"


def thin(points: Sequence[Point], most: int = 300) -> list[Point]:
    """Return at most `most` points, each the mean of those that lie beside one another.

    >>> thin([(0, 1), (1, 3), (2, 5), (3, 7)], 2)
    [(0.5, 2.0), (2.5, 6.0)]
    """
    if len(points) <= most:
        return list(points)
    edges = [round(k * len(points) / most) for k in range(most + 1)]
    parts = [points[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers within a range.

    >>> ticks(0, 1), ticks(3, 98, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [20.0, 40.0, 60.0, 80.0])
    """
    rough = (high - low) / about or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * unit for factor in (1, 2, 5, 10)), key=lambda size: abs(size - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def lines(chart: Lines) -> Html:
    """Draw lines."""
    series = [_finite(one) for one in chart.series]
    frame = _Frame(
        chart.x_range or _span([x for one in series for x, _ in one.points], whole=False),
        chart.y_range or _span([y for one in series for y in (*(y for _, y in one.points), *(e for b in one.band for e in b))]),
    )
    marks = [_mark(frame, x, word) for x, word in chart.marks]
    low, high = max(frame.x[0], frame.y[0]), min(frame.x[1], frame.y[1])
    same = _path([frame(low, low), frame(high, high)], "diagonal") if chart.diagonal else None
    drawn = [_series(frame, one, place) for place, one in enumerate(series)]
    return _picture(chart.title, WIDTH, HEIGHT, _axes(frame, chart.x_label, chart.y_label), marks, same, drawn)


def bars(chart: Bars) -> Html:
    """Draw horizontal bars."""
    ends = [end for pair in chart.intervals if pair for end in pair]
    low, high = chart.range or _span([0.0, *chart.values, *ends])
    height = len(chart.names) * _BAR + 46
    right, bottom = WIDTH - 58, height - 40

    def x(value: float) -> float:
        return _NAMES + (min(max(value, low), high) - low) / (high - low) * (right - _NAMES)

    drawn = []
    for tick in ticks(low, high, 4):
        drawn.append(_path([(x(tick), 4), (x(tick), bottom)], "grid"))
        drawn.append(element("text", short_number(tick), x=x(tick), y=bottom + 15, text_anchor="middle", class_="tick"))
    intervals = chart.intervals or [None] * len(chart.names)
    for place, (name, value, pair) in enumerate(zip(chart.names, chart.values, intervals, strict=True)):
        top, start = 6 + place * _BAR, min(x(0.0), x(value))
        drawn.append(element("text", _short(name), x=_NAMES - 8, y=top + 15, text_anchor="end"))
        drawn.append(element("rect", class_="bar", x=start, y=top + 3, width=abs(x(value) - x(0.0)), height=_BAR - 8))
        if pair:
            drawn.append(_path([(x(pair[0]), top + 12), (x(pair[1]), top + 12)], "whisker"))
        beside = max(x(value), x(pair[1]) if pair else 0.0, x(0.0)) + 5
        drawn.append(element("text", short_number(value), x=beside, y=top + 15, class_="value"))
    drawn.append(element("text", chart.label, x=(_NAMES + right) / 2, y=bottom + 33, text_anchor="middle", class_="tick"))
    return _picture(chart.title, WIDTH, height, drawn)


def heat(chart: Heat) -> Html:
    """Draw a matrix; a cell is as dark as its share of its row."""
    n, longest = len(chart.names), min(16, max(map(len, chart.names), default=0))
    left, top = 20.0 + 7 * longest, 46 + 5.2 * longest
    cell = min(_CELL, max(15.0, 540 / max(n, 1)))
    drawn = []
    for row, (name, counts) in enumerate(zip(chart.names, chart.counts, strict=True)):
        y, whole = top + row * cell, sum(counts) or 1
        drawn.append(element("text", _short(name, 16), x=left - 6, y=y + cell / 2 + 4, text_anchor="end"))
        turned = f"rotate(-45 {number(left + (row + 0.5) * cell)} {number(top - 8)})"
        drawn.append(element("text", _short(name, 16), x=left + (row + 0.5) * cell, y=top - 8, transform=turned))
        for column, count in enumerate(counts):
            if count:
                drawn.append(_cell((left + column * cell, y), cell, count, share=count / whole, right=row == column))
    grid = element("rect", x=left, y=top, width=n * cell, height=n * cell, class_="frame")
    words = element("text", f"{chart.row_label} ↓   {chart.column_label} →", x=6, y=16, class_="tick")
    return _picture(chart.title, max(left + n * cell + 5 * longest, 250.0), top + n * cell + 6, grid, drawn, words)


def short_number(value: float) -> str:
    """Return a number as people read it.

    >>> [short_number(value) for value in (0.5, 12345.6, 0.00012, 3.0, 1e6)]
    ['0.5', '12,346', '0.00012', '3', '1,000,000']
    """
    if value and abs(value) < 0.001:
        return f"{value:.2g}".replace("e-0", "e-")
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return number(value, 3 if abs(value) < 10 else 1)


@final
@dataclass(frozen=True)
class _Frame:
    """From values to coordinates."""

    x: Range
    y: Range

    def __call__(self, x: float, y: float) -> Point:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (min(max(y, self.y[0]), self.y[1]) - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)


def _finite(one: Series) -> Series:
    kept = [k for k, (x, y) in enumerate(one.points) if math.isfinite(x) and math.isfinite(y)]
    return Series(one.name, [one.points[k] for k in kept], [one.band[k] for k in kept] if one.band else (), one.form)


def _span(values: Sequence[float], *, whole: bool = True) -> Range:
    """Return the range of values, with a little room where it is not that of an axis that ends where the values do."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = (high - low) * 0.04 if high > low else abs(high) * 0.1 or 1.0
    if not whole and high > low:
        return low, high
    return (low if low == 0 else low - room), (high if high == 0 and low < 0 else high + room)


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[Html]:
    drawn = []
    for tick in ticks(*frame.y):
        (left, y), (right, _) = frame(frame.x[0], tick), frame(frame.x[1], tick)
        drawn.append(_path([(left, y), (right, y)], "grid"))
        drawn.append(element("text", short_number(tick), x=left - 6, y=y + 4, text_anchor="end", class_="tick"))
    for tick in ticks(*frame.x):
        x, y = frame(tick, frame.y[0])
        drawn.append(element("text", short_number(tick), x=x, y=y + 16, text_anchor="middle", class_="tick"))
    middle, bottom = (_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6
    height = (_TOP + HEIGHT - _BOTTOM) / 2
    drawn.append(element("text", x_label, x=middle, y=bottom, text_anchor="middle", class_="tick"))
    turned = f"rotate(-90 11 {number(height)})"
    drawn.append(element("text", y_label, x=11, y=height, text_anchor="middle", class_="tick", transform=turned))
    return drawn


def _series(frame: _Frame, one: Series, place: int) -> Html:
    colour, points, band = f"c{place % 6}", list(one.points), list(one.band)
    if one.form == "steps":
        points = [corner for a, b in pairwise(points) for corner in (a, (b[0], a[1]))] + points[-1:]
        band = [pair for pair in band for _ in range(2)][: len(points)]
    at = [frame(*point) for point in points]
    drawn = []
    if band and one.form == "dots":
        ends = [(frame(x, low), frame(x, high)) for (x, _), (low, high) in zip(points, band, strict=True)]
        drawn += [_path(pair, f"whisker {colour}") for pair in ends]
    elif band:
        upper = [frame(x, high) for (x, _), (_, high) in zip(points, band, strict=True)]
        lower = [frame(x, low) for (x, _), (low, _) in zip(points, band, strict=True)]
        drawn.append(element("path", d=f"{_moves([*upper, *reversed(lower)])}Z", class_=f"band {colour}"))
    if one.form != "dots":
        drawn.append(_path(at, f"line {colour}{' faint' if one.form == 'faint' else ''}"))
    if one.form == "dots" or (len(at) <= 12 and one.form == "line"):
        drawn += [element("circle", cx=x, cy=y, r=3.2, class_=f"dot {colour}") for x, y in at]
    return join(drawn)


def _mark(frame: _Frame, x: float, word: str) -> Html:
    (at, bottom), (_, top) = frame(x, frame.y[0]), frame(x, frame.y[1])
    late = at > WIDTH - 110
    label = element("text", word, x=at + (-4 if late else 4), y=bottom - 6, text_anchor="end" if late else None, class_="mark")
    return join(_path([(at, bottom), (at, top)], "marked"), label)


def _cell(corner: Point, size: float, count: float, *, share: float, right: bool) -> Html:
    x, y = corner
    opacity = number(0.08 + 0.4 * share, 2)  # never so dark that the number on it is hard to read
    square = element("rect", x=x, y=y, width=size, height=size, class_="right" if right else "wrong", fill_opacity=opacity)
    middle = {"x": x + size / 2, "y": y + size / 2 + 4, "text_anchor": "middle", "class_": "count"}
    return join(square, element("text", f"{count:g}", **middle) if size >= 18 and count < 10_000 else None)


def _path(points: Sequence[Point], classes: str) -> Html:
    return element("path", d=_moves(points), class_=classes)


def _moves(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) if points else ""


def _short(name: str, most: int = _NAME_CHARS) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _picture(title: str, width: float, height: float, *parts: Html | list[Html] | None) -> Html:
    box = f"0 0 {number(width)} {number(height)}"
    size = {"width": float(width), "height": float(height)}
    return element("svg", element("title", title), *parts, viewBox=box, role="img", aria_label=title, **size)
