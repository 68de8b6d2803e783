"""From blocks to HTML."""

from __future__ import annotations

import math
import re

from thawline.report.blocks import (
    Block,
    Case,
    Cases,
    Cell,
    Interval,
    Marked,
    Num,
    Paragraph,
    Points,
    Section,
    Sentence,
    Side,
    Strong,
    Table,
    Word,
)
from thawline.report.html import Child, Html, element, join
from thawline.report.svg import Bars, Heat, Lines, bars, heat, lines

MAX_ROWS = 200
"""Rows of a table that are shown; a sentence says how many there were."""
MAX_CHARACTERS = 600
"""Characters of a text that are shown."""
MAX_MEDIA = 50_000
"""Characters of a picture or sound as a data URI; larger ones are left out."""
_MEDIA = re.compile(r"data:(image/(png|jpeg|webp)|audio/(wav|ogg|mpeg|flac|webm));base64,[A-Za-z0-9+/=]+")
_LONG = 24  # characters: the column gets room, instead of one word a line


def section(one: Section) -> Html:
    """Return a section of the page."""
    heading = element("h2", one.title, id=f"{one.name}-title")
    return element("section", heading, [block(part) for part in one.blocks], id=one.name, aria_labelledby=f"{one.name}-title")


def block(one: Block) -> Html:
    """Return any block."""
    match one:
        case Paragraph():
            return element("p", words(one.words), class_=one.kind or None)
        case Points():
            items = [element("li", words(sentence)) for sentence in one.sentences]
            return element("div", element("h3", one.title), element("ul", items), class_=f"points {one.kind}".strip())
        case Table():
            return _table(one)
        case Cases():
            return _cases(one)
        case Lines():
            return _figure(one.title, lines(one), legend=_legend(one))
        case Bars():
            return _figure(one.title, bars(one))
        case Heat():
            return _figure(one.title, heat(one), fit="wide" if len(one.names) > 8 else "own")
        case Side():
            return element("div", [block(part) for part in one.blocks], class_="side")


def words(sentence: Sentence) -> Html:
    """Return a sentence; its numbers carry the value that they round."""
    return join(*(_word(word) for word in sentence))


def _word(word: Word) -> Child:
    match word:
        case Num():
            key = None if word.value is None else word.key
            return element("span", str(word), class_="n", data_value=_exact(word), data_key=key)
        case Interval() if word.ends:
            ends = join(" [", _word(word.ends[0]), ", ", _word(word.ends[1]), "]")
            return element("span", _word(word.number), element("span", ends, class_="ci"), class_="nowrap")
        case Interval():
            return _word(word.number)
        case Strong():
            return element("strong", word.text)
    return word


def _exact(one: Num) -> str | None:
    return None if one.value is None else repr(one.value)


def _table(one: Table) -> Html:
    long = [any(isinstance(cell := row[k], str) and len(cell) > _LONG for row in one.rows) for k in range(len(one.columns))]
    numeric = [any(isinstance(row[k], Num | Interval) for row in one.rows) for k in range(len(one.columns))]
    head = [
        element("th", name, scope="col", class_="number" if is_number else None)
        for name, is_number in zip(one.columns, numeric, strict=True)
    ]
    body = [
        element(
            "tr",
            [_cell(cell, "number" if numeric[k] else "long" if long[k] else None, first=k == 0) for k, cell in enumerate(row)],
        )
        for row in one.rows[:MAX_ROWS]
    ]
    total = one.total or len(one.rows)
    shown = f" (the first {min(len(one.rows), MAX_ROWS):,} of {total:,})" if total > len(body) else ""
    caption = element("caption", one.caption, shown)
    table = element("table", caption, element("thead", element("tr", head)), element("tbody", body), class_="sortable")
    # A wide table scrolls by itself, so that the page does not; what scrolls must be reachable with the keyboard.
    box = element("div", table, class_="scroll", tabindex=0, role="group", aria_label=one.caption)
    return element("details", element("summary", one.caption), box) if one.folded else box


def _cell(cell: Cell, kind: str | None, *, first: bool) -> Html:
    number = cell.number if isinstance(cell, Interval) else cell
    value = _exact(number) if isinstance(number, Num) else None
    content = _word(cell) if cell is not None else ""
    named = {"class_": kind, "data_sort": value}
    return element("th", content, scope="row", **named) if first and kind != "number" else element("td", content, **named)


def _cases(one: Cases) -> Html:
    items = [
        element("li", element("p", element("code", case.id), " ", words(case.words)), _media(case), _marked(case.text))
        for case in one.cases
    ]
    cases = element("ol", items, class_="cases")
    folded = element("details", element("summary", one.title), cases)
    return folded if one.folded else element("div", element("h3", one.title), cases)


def _media(case: Case) -> Html | None:
    if case.media is None or len(case.media) > MAX_MEDIA or not _MEDIA.fullmatch(case.media):
        return None
    if case.media.startswith("data:image/"):
        # Its room is kept from the start, so that nothing moves when it is decoded.
        picture = element("img", src=case.media, alt=f"the picture of {case.id}", width=160, height=160)
        return element("div", picture, _regions(case, "over"), class_="media")
    sound = element("audio", src=case.media, controls=True, preload="none", aria_label=f"the sound of {case.id}")
    return element("div", sound, _regions(case, "strip"), class_="media")


def _regions(case: Case, form: str) -> Html | None:
    """Draw what each region contributed, over the picture or below the sound."""
    if not case.regions:
        return None
    rows, columns = len(case.regions), len(case.regions[0])
    cells = [
        element("rect", element("title", f"{weight:+.2f}"), x=x, y=y, width=1, height=1, class_=f"{sign} w{level}")
        for y, row in enumerate(case.regions)
        for x, weight in enumerate(row)
        for sign, level in (_level(weight),)
        if level
    ]
    label = f"which parts of {case.id} the answer rests on"
    box = f"0 0 {columns} {rows}"
    return element("svg", cells, viewBox=box, preserveAspectRatio="none", class_=form, role="img", aria_label=label)


def _level(weight: float | None) -> tuple[str, int]:
    """Return whether something speaks for the answer or against it, and how much, from 0 to 4."""
    level = min(4, math.ceil(abs(weight) * 4)) if weight is not None and math.isfinite(weight) else 0
    return "for" if (weight or 0) > 0 else "against", level


def _marked(text: Marked) -> Html | None:
    if not text.pieces:
        return None
    children: list[Child] = []
    left = MAX_CHARACTERS
    for piece, weight in text.pieces:
        shown = piece[:left]
        left -= len(shown)
        sign, level = _level(weight)
        children.append(element("mark", shown, class_=f"{sign} w{level}", title=f"{weight:+.2f}") if level else shown)
        if left <= 0:
            break
    cut = sum(len(piece) for piece, _ in text.pieces) - MAX_CHARACTERS
    children.append(element("span", f" … {cut:,} more characters", class_="quiet") if cut > 0 else None)
    return element("blockquote", children, dir="auto")


def _figure(title: str, picture: Html, *, legend: Html | None = None, fit: str | None = None) -> Html:
    scrolling = {"tabindex": 0, "role": "group", "aria_label": title} if fit == "wide" else {}
    return element("figure", element("figcaption", title), legend, element("div", picture, class_=fit, **scrolling))


def _legend(chart: Lines) -> Html | None:
    named = [(place, one) for place, one in enumerate(chart.series) if one.name]
    if len(named) < 2:
        return None
    items = []
    for place, one in named:
        sample = element("path", d="M1 6L23 6", class_=f"line c{place % 6}{' faint' if one.form == 'faint' else ''}")
        dot = element("circle", cx=12, cy=6, r=3.2, class_=f"dot c{place % 6}") if one.form == "dots" else None
        picture = element("svg", dot or sample, viewBox="0 0 24 12", width=24, height=12, aria_hidden="true")
        items.append(element("li", picture, one.name))
    return element("ul", items, class_="legend")
