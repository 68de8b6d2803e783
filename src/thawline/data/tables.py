"""From the parser of one family of formats to a memory-mapped table in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from thawline.data import cache as caching
from thawline.errors import DataError

_VERSION = "2"  # part of every key: raise it when parsing the same bytes would give another table
_NOTES = b"thawline.notes"


class Parsed(NamedTuple):
    """What a parser gives: the schema, the rows in record batches as they come, and what is to be told."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    notes: tuple[str, ...] = ()


class TableFile(NamedTuple):
    """A file that has been read: its table (memory-mapped), what is to be told, and the hash of its bytes."""

    table: pa.Table
    notes: tuple[str, ...]
    digest: str


Parser = Callable[[Path, str | None], Parsed]


def through_cache(path: Path, parser: Parser, *, encoding: str | None, cache: Path) -> TableFile:
    """Parse the file, unless its bytes were parsed before, and map the result; raises DataError where it has no rows."""
    digest = caching.hash_file(path)
    kept = cache / "data" / f"{caching.hash_bytes(_VERSION, parser.__module__, path.suffix, digest, encoding or '')}.arrow"
    table = caching.open_arrow(kept)
    if table is None:
        parsed = parser(path, encoding)
        schema = parsed.schema.with_metadata({**(parsed.schema.metadata or {}), _NOTES: json.dumps(parsed.notes)})
        caching.write_arrow(kept, schema, (batch.replace_schema_metadata(schema.metadata) for batch in _filled(path, parsed)))
        table = caching.open_arrow(kept)
    if table is None:
        raise DataError(f"{path} was read, but {kept} cannot be opened; delete that file and try again.")
    return TableFile(table, tuple(json.loads(table.schema.metadata[_NOTES])), digest)


def _filled(path: Path, parsed: Parsed) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in parsed.batches:
        rows += batch.num_rows
        yield batch
    if rows == 0:
        raise DataError(
            f"{path} has no rows, only the columns {', '.join(parsed.schema.names) or '(none)'}; expected at least one row."
        )
