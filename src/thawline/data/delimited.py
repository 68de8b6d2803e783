"""CSV and TSV: streamed through pyarrow with every value as text, so that a label "01" stays "01"."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from thawline.data import encoding as encodings
from thawline.data.tables import Parsed
from thawline.errors import DataError

_SAMPLE = 1 << 17
_BLOCK = 1 << 24
_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs"}


class _Dialect(NamedTuple):
    codec: str
    delimiter: str
    quoted: bool


def parse(path: Path, encoding: str | None) -> Parsed:
    """Parse a CSV or TSV file with a header; the delimiter of a .csv file is sniffed (comma, semicolon, tab).

    Raises DataError for what cannot be decoded and for a row with too few or too many values, naming the line.
    """
    codec = encodings.detect(path, encoding)
    notes = encodings.told(codec, encoding)
    tabs = path.suffix.lower() in (".tsv", ".tab")
    delimiter = "\t" if tabs else _sniff(path, codec)
    quoted = not (tabs and _stray_quotes(path, codec))
    if delimiter != "," and not tabs:
        notes += (f"values are separated by {_WORDS[delimiter]}",)
    if not quoted:
        notes += ("quotation marks are taken as they stand",)
    dialect = _Dialect(codec, delimiter, quoted)
    header = _header(path, dialect)
    names = _names(header)
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise DataError(f"{path}: the header has {twice!r} twice; give every column a name of its own.")
    schema = pa.schema([(name, pa.string()) for name in names])
    return Parsed(schema, _batches(path, dialect, header), notes)


def _batches(path: Path, dialect: _Dialect, header: list[str]) -> Iterator[pa.RecordBatch]:
    codec = "utf8" if dialect.codec.startswith("utf-8") else dialect.codec
    try:
        with pa.csv.open_csv(
            str(path),
            read_options=pa.csv.ReadOptions(block_size=_BLOCK, encoding=codec, use_threads=False),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.delimiter, quote_char='"' if dialect.quoted else False, newlines_in_values=dialect.quoted
            ),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
        ) as reader:
            for batch in reader:
                yield batch.rename_columns(_names(header))
    except pa.ArrowInvalid as error:
        raise DataError(_ragged(path, dialect) or f"{path} cannot be read as a table: {error}") from None


def _names(header: list[str]) -> list[str]:
    return [name.strip() or f"unnamed_{place}" for place, name in enumerate(header)]


def _rows(path: Path, dialect: _Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of the line it begins on; slow, for the header and for faults."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding=dialect.codec, newline="") as file:
            if dialect.quoted:
                reader = csv.reader(file, delimiter=dialect.delimiter)
            else:
                reader = csv.reader(file, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
            line = 1
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
    finally:
        csv.field_size_limit(limit)


def _header(path: Path, dialect: _Dialect) -> list[str]:
    return next(_rows(path, dialect))[1]


def _ragged(path: Path, dialect: _Dialect) -> str:
    width = 0
    for line, row in _rows(path, dialect):
        width = width or len(row)
        if len(row) != width:
            shown = dialect.delimiter.join(row)
            return (
                f"{path}, line {line}: {len(row)} values, but the header has {width}: {shown[:80]!r}. "
                f"Put values that hold {_WORDS[dialect.delimiter]}, line breaks or quotation marks "
                "in quotation marks, and double those within."
            )
    return ""


def _sniff(path: Path, codec: str) -> str:
    """Return the delimiter that gives most rows as many values as the header has."""
    with path.open(encoding=codec, newline="") as file:
        sample = file.read(_SAMPLE)
    if len(sample) == _SAMPLE:
        sample = sample[: sample.rfind("\n") + 1] or sample

    def fit(delimiter: str) -> float:
        try:
            rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
        except csv.Error:
            return 0.0
        return sum(len(row) == len(rows[0]) for row in rows) / len(rows) if rows and len(rows[0]) > 1 else 0.0

    return max(_WORDS, key=fit)


def _stray_quotes(path: Path, codec: str) -> bool:
    """Whether a tab-separated file was written without quoting: a value opens a quotation that it does not close."""
    stray = False
    tabs = None
    with path.open(encoding=codec) as file:
        for line in file:
            values = line.rstrip("\n").split("\t")
            if line.strip() and (tabs := tabs or len(values)) != len(values):
                return False
            stray = stray or ('"' in line and any(v[:1] == '"' and (len(v) < 2 or v[-1] != '"') for v in values))
    return stray
