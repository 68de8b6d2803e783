"""Parquet and Arrow files, and folders saved with `datasets`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from thawline.data.tables import Parsed
from thawline.errors import DataError

_ROWS = 65536


def parse_parquet(path: Path, encoding: str | None) -> Parsed:
    """Parse a Parquet file in batches of rows; the class names that `datasets` writes into it replace the numbers."""
    del encoding  # the format has its own
    try:
        file = pa.parquet.ParquetFile(path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from None
    return _named(file.schema_arrow, file.iter_batches(batch_size=_ROWS))


def parse_arrow(path: Path, encoding: str | None) -> Parsed:
    """Parse an Arrow (Feather 2) file or stream in batches of rows."""
    del encoding
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return _named(reader.schema, (reader.get_batch(place) for place in range(reader.num_record_batches)))
    except pa.ArrowInvalid:
        pass
    try:
        stream = pa.ipc.open_stream(pa.memory_map(str(path)))
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable Arrow file: {error}") from None
    return _named(stream.schema, stream)


def named(table: pa.Table, names: Mapping[str, Sequence[str]]) -> pa.Table:
    """Return the table with class numbers replaced by names; dictionary columns become plain ones.

    >>> named(pa.table({"label": [1, -1, 0]}), {"label": ["neg", "pos"]})["label"].to_pylist()
    ['pos', None, 'neg']
    """
    plain = plain_schema(table.schema, names)
    batches = [_plain(batch, plain, names) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, plain)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes that `datasets` keeps in the schema, for each column that has them."""
    info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info") or {}
    found = {name: _class_label(feature) for name, feature in (info.get("features") or {}).items()}
    return {name: names for name, names in found.items() if names}


def plain_schema(schema: pa.Schema, names: Mapping[str, Sequence[str]]) -> pa.Schema:
    """Return the schema that the columns have once their dictionaries and class numbers are resolved."""
    return pa.schema([(field.name, _plain_type(field.type, field.name in names)) for field in schema])


def _named(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Parsed:
    names = class_names(schema)
    plain = plain_schema(schema, names)
    return Parsed(plain, (_plain(batch, plain, names) for batch in batches))


def _class_label(feature: Any) -> list[str]:
    if isinstance(feature, list):
        feature = feature[0] if feature else None
    if not isinstance(feature, dict):
        return []
    inner = feature.get("feature")
    return (
        _class_label(inner)
        if inner is not None
        else list(feature.get("names") or [])
        if feature.get("_type") == "ClassLabel"
        else []
    )


def _plain_type(kind: pa.DataType, classes: bool) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type, classes)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type, classes))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type, False)) for field in kind])
    if pa.types.is_large_string(kind):  # pandas and polars write them
        return pa.string()
    return pa.string() if classes and pa.types.is_integer(kind) else kind


def _plain(batch: pa.RecordBatch, schema: pa.Schema, names: Mapping[str, Sequence[str]]) -> pa.RecordBatch:
    columns = [
        _classes(column, names[field.name])
        if field.name in names
        else column.cast(field.type)
        if column.type != field.type
        else column
        for field, column in zip(schema, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _classes(numbers: pa.Array, names: Sequence[str]) -> pa.Array:
    if pa.types.is_list(numbers.type) or pa.types.is_large_list(numbers.type):
        lengths = np.asarray(numbers.value_lengths().fill_null(0))
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, _classes(numbers.flatten(), names))
    if not pa.types.is_integer(numbers.type):
        return numbers.cast(pa.string())
    known = pa.compute.and_(pa.compute.greater_equal(numbers, 0), pa.compute.less(numbers, len(names)))
    return pa.array(names, pa.string()).take(pa.compute.if_else(known, numbers, pa.scalar(None, numbers.type)))
