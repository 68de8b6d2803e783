"""Plain text files: a text a line, unless they are columns of tokens and tags."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from thawline.data import conll
from thawline.data import encoding as encodings
from thawline.data.tables import Parsed

_ROWS = 65536
_SCHEMA = pa.schema([("text", pa.string())])


def parse(path: Path, encoding: str | None) -> Parsed:
    """Parse a text file: CoNLL columns where it looks like them, else the column `text`, a row a line, empty ones too."""
    codec = encodings.detect(path, encoding)
    if conll.looks_like(path, codec):
        return conll.parse(path, encoding)
    told = "a text a line (for tagged words: a word and its tag a line, such as 'Paris B-location')"
    return Parsed(_SCHEMA, _batches(path, codec), (*encodings.told(codec, encoding), told))


def _batches(path: Path, codec: str) -> Iterator[pa.RecordBatch]:
    with path.open(encoding=codec) as file:
        while texts := [line.rstrip("\n") for line in islice(file, _ROWS)]:
            yield pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], schema=_SCHEMA)
