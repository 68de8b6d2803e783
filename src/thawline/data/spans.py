"""Texts with spans of characters, as annotation tools export them: doccano, spaCy, Prodigy, Label Studio."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from thawline.data.words import Span, align, words
from thawline.errors import DataError

_TEXTS = ("text", "content", "sentence", "document", "文本")
_SPANS = ("entities", "spans", "labels", "label", "annotations", "ner", "实体", "标签")
_BEGIN = ("start", "start_offset", "begin", "startOffset")
_END = ("end", "end_offset", "endOffset", "stop")
_KIND = ("label", "labels", "type", "entity", "entity_type", "tag")
_SAMPLE = 100


class Marked(NamedTuple):
    """Where a table keeps its texts and their spans; `field` is the text's name where the column holds records."""

    text: str
    field: str | None
    spans: str


class Row(NamedTuple):
    """One text cut into words: the words, begin and end of each, and the spans of words; None where nobody marked any."""

    tokens: list[str]
    offsets: list[tuple[int, int]]
    spans: list[Span] | None


def find(table: pa.Table) -> Marked | None:
    """Return the columns that hold texts and spans of characters; None where there are none."""
    names = table.column_names
    plain = (name for name in _TEXTS if name in names and pa.types.is_string(table.field(name).type))
    place: tuple[str, str | None] | None = next(((name, None) for name in plain), None)
    if place is None and "data" in names and pa.types.is_struct(kind := table.field("data").type):  # Label Studio
        place = next((("data", name) for name in _TEXTS if kind.get_field_index(name) >= 0), None)
    if place is None:
        return None
    spans = next((name for name in _SPANS if name in names and _holds_spans(table.column(name), name)), None)
    return None if spans is None else Marked(*place, spans)


def rows(table: pa.Table, marked: Marked, told: Counter[str]) -> Iterator[Row]:
    """Yield each row; `told` counts what could not be kept as it was marked. Raises DataError for a bad span, by row."""
    texts, values = table.column(marked.text), table.column(marked.spans)
    for number, (text, value) in enumerate(zip(_values(texts), _values(values), strict=True), 1):
        text = text.get(marked.field) if isinstance(text, Mapping) else text
        if not isinstance(text, str):
            raise DataError(f"Row {number}: there is no text (column {marked.text!r}).")
        try:
            entries = _entries(value, told)
            found = None if entries is None else [span for entry in entries for span in _spans(entry, text, told)]
        except (ValueError, TypeError, LookupError) as error:
            raise DataError(
                f'Row {number}, column {marked.spans!r}: {error}; expected spans such as [0, 5, "person"] or '
                '{"start": 0, "end": 5, "label": "person"}, counted in characters, the end exclusive.'
            ) from None
        places = words(text)
        aligned = align(places, found or [])
        told.update(widened=aligned.widened, overlapping=aligned.overlapping, empty=aligned.empty)
        yield Row([text[begin:end] for begin, end in places], places, None if found is None else aligned.spans)


def _values(column: pa.ChunkedArray) -> Iterator[Any]:
    return (value for chunk in column.chunks for value in chunk.to_pylist())


def _holds_spans(column: pa.ChunkedArray, name: str) -> bool:
    sample = list(islice((value for value in _values(column) if value is not None), _SAMPLE))
    try:
        found = [entry for value in sample for entry in _entries(value, Counter()) or []]
        return bool(found and all(map(_bounds, found))) or (bool(sample) and not found and name in _SPANS[:2])
    except (ValueError, TypeError, LookupError):
        return False


def _entries(value: Any, told: Counter[str]) -> list[Any] | None:
    """Return the marked spans of one row as the tool wrote them; None where it was not annotated."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        value = value["entities"]
    if value is None or (isinstance(value, Sequence) and not value):
        return value if value is None else []
    if isinstance(value[0], Mapping) and "result" in value[0]:  # Label Studio: one for each annotator
        done = [each["result"] for each in value if not each.get("was_cancelled")]
        told["annotators"] += len(done) > 1
        value = done[0] if done else None
    return None if value is None else [entry for entry in value if _is_span(entry, told)]


def _is_span(entry: Any, told: Counter[str]) -> bool:
    other = (
        isinstance(entry, Mapping) and isinstance(entry.get("type"), str) and entry["type"] in ("relation", "choices", "rating")
    )
    told["no_spans"] += other
    return not other


def _spans(entry: Any, text: str, told: Counter[str]) -> Iterator[Span]:
    begin, end = _bounds(entry)
    record = _record(entry)
    given = record.get("text")
    if isinstance(given, str) and text[begin:end] != given:  # JavaScript counts a character beyond U+FFFF twice
        units = text.encode("utf-16-le")
        pieces = units[: 2 * begin].decode("utf-16-le", "ignore"), units[2 * begin : 2 * end].decode("utf-16-le", "ignore")
        if pieces[1] == given:
            begin, end = len(pieces[0]), len(pieces[0]) + len(given)
            told["utf-16"] += 1
        else:
            told["other_text"] += 1
    if not 0 <= begin <= end <= len(text):
        raise ValueError(f"the span {begin} to {end} does not lie in the text, which has {len(text)} characters")
    kinds = _first(record, _KIND)
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind is None or not str(kind).strip():
            raise ValueError(f"the span {begin} to {end} has no type")
        yield str(kind), begin, end


def _record(entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == 3:
        return dict(zip(("start", "end", "label"), entry, strict=True))
    if not isinstance(entry, Mapping):
        raise TypeError(f"{str(entry)[:60]!r} is no span")
    inner = entry.get("value")
    return inner if isinstance(inner, Mapping) else entry


def _bounds(entry: Any) -> tuple[int, int]:
    record = _record(entry)
    begin, end = _first(record, _BEGIN), _first(record, _END)
    if type(begin) is not int or type(end) is not int:
        raise TypeError(f"{str(entry)[:60]!r} has no beginning and end")
    return begin, end


def _first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)
