"""JSON lines, and a JSON array of objects: read in blocks, in two passes, since a later row may widen a column's type."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from thawline.data import encoding as encodings
from thawline.data.tables import Parsed
from thawline.errors import DataError

_ROWS = 16384
_CHARS = 1 << 20
_BETWEEN = " \t\r\n,"

Row = Mapping[str, Any]


def parse(path: Path, encoding: str | None) -> Parsed:
    """Parse a file of one JSON object a line, or of one array of objects; missing keys become nulls.

    Raises DataError for what is not JSON or not an object, naming the line.
    """
    codec = encodings.detect(path, encoding)
    fields: dict[str, pa.DataType] = {}
    for block in _blocks(_records(path, codec)):
        fields = merged(fields, block)
    schema = schema_of(fields)
    batches = (to_batch(block, schema) for block in _blocks(_records(path, codec)))
    return Parsed(schema, batches, encodings.told(codec, encoding))


def merged(fields: Mapping[str, pa.DataType], rows: Sequence[Row]) -> dict[str, pa.DataType]:
    """Return the type that holds the values seen before and those of `rows`, for each column; text where no other does."""
    names = dict.fromkeys(itertools.chain(fields, *rows))
    return {name: _wider(fields.get(name, pa.null()), _type([row.get(name) for row in rows])) for name in names}


def schema_of(fields: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema of these columns; one without any value is text."""
    return pa.schema([(name, pa.string() if kind == pa.null() else kind) for name, kind in fields.items()])


def to_batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows as a record batch of this schema; what is not text in a column of text becomes its JSON."""
    return pa.RecordBatch.from_arrays(
        [_array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema
    )


def _type(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.string()


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    try:
        schemas = [pa.schema([("x", one)]), pa.schema([("x", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind != pa.string():
        return pa.array(values, kind)
    return pa.array([None if value is None else _text(value) for value in values], kind)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # half a surrogate pair has no encoding


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    stream = iter(rows)
    while block := list(itertools.islice(stream, _ROWS)):
        yield block


def _records(path: Path, codec: str) -> Iterator[Row]:
    with path.open(encoding=codec) as file:
        array = next((line for line in file if line.strip()), "").lstrip().startswith("[")
    for line, value in (_of_array if array else _of_lines)(path, codec):
        if not isinstance(value, dict):
            raise DataError(
                f'{path}, line {line}: expected an object such as {{"text": …, "label": …}}, found {str(value)[:60]!r}.'
            )
        yield value


def _of_lines(path: Path, codec: str) -> Iterator[tuple[int, Any]]:
    with path.open(encoding=codec) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: not JSON ({error.msg}, column {error.colno}). "
                    "Expected one object a line, or one array of objects."
                ) from None


def _of_array(path: Path, codec: str) -> Iterator[tuple[int, Any]]:
    """Decode the elements one after the other, so that the whole array is never in memory."""
    decoder = json.JSONDecoder()
    with path.open(encoding=codec) as file:
        text = file.read(_CHARS).lstrip()
        line, at = 1, 1
        while True:
            begin = at
            while text[at : at + 1] and text[at] in _BETWEEN:
                at += 1
            line += text.count("\n", begin, at)
            if text.startswith("]", at):
                _refuse_more(path, line, itertools.chain([text[at + 1 :]], iter(lambda: file.read(_CHARS), "")))
                return
            try:
                value, end = decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                more = file.read(max(_CHARS, len(text) - at))
                if not more:
                    lines = error.lineno - 1 - text.count("\n", 0, at)
                    raise DataError(f"{path}, line {line + lines}: the array is broken or not closed ({error.msg}).") from None
                text, at = text[at:] + more, 0
                continue
            yield line, value
            line, at = line + text.count("\n", at, end), end


def _refuse_more(path: Path, line: int, parts: Iterable[str]) -> None:
    """Raise DataError where something stands behind the array: a second one, say, which would be lost."""
    if more := next((part.strip() for part in parts if part.strip()), ""):
        raise DataError(
            f"{path}, line {line}: the array ends there, and more comes after it ({more[:40]!r}); "
            "expected one array of objects, or one object a line."
        )
