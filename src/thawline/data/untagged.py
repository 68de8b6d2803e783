"""Texts without tags, cut into words for a model that tags them."""

from __future__ import annotations

import pyarrow as pa

from thawline.data import texts
from thawline.data.words import words
from thawline.types import Finding

_TOKENS, _OFFSETS = pa.list_(pa.string()), pa.list_(pa.list_(pa.int32()))


def untagged(table: pa.Table) -> tuple[pa.Table, tuple[Finding, ...]]:
    """Return the table with "tokens" and "offsets" (begin and end of each) of its texts; the texts stay under their name.

    Raises DataError where no column holds texts.

    >>> untagged(pa.table({"text": ["In Oslo!"]}))[0].select(["tokens", "offsets"]).to_pylist()
    [{'tokens': ['In', 'Oslo', '!'], 'offsets': [[0, 2], [3, 7], [7, 8]]}]
    """
    name = texts.find_texts(table, {"id"}, labelled=False)[0]
    values = [text or "" for text in table.column(name).cast(pa.string()).to_pylist()]
    places = [words(text) for text in values]
    tokens = [[text[begin:end] for begin, end in row] for text, row in zip(values, places, strict=True)]
    rest = {other: table.column(other) for other in table.column_names if other not in ("tokens", "offsets")}
    made = {"tokens": pa.array(tokens, _TOKENS), "offsets": pa.array(places, _OFFSETS)}
    return pa.table({**made, **rest}), (Finding("note", "columns", f"texts: {name!r}, cut into words"),)
