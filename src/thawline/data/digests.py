"""Hashes of the bytes of pictures and sounds, remembered for files that have not changed since."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from thawline.data.cache import hash_bytes, hash_file, open_arrow, write_arrow

_SCHEMA = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("modified", pa.int64()), ("changed", pa.int64()), ("digest", pa.string())]
)
_SETTLED = 2.0  # seconds after which a further change gets another time stamp on any file system
_State = tuple[int, int, int]


def digests(values: Iterable[Mapping[str, Any]], cache: Path) -> list[str]:
    """Return the BLAKE2b hash, 32 hex digits, of the bytes of each value, a mapping with "bytes" or an absolute "path".

    A file is read again only when its size or one of its times (written, changed) is another than the last time. What is not
    there, or cannot be opened, has the hash of its path: `unreadable` is who tells that.

    >>> digests([{"bytes": b"a", "path": None}, {"bytes": b"a", "path": "b"}], Path("unused"))[0][:8]
    '27c35e6e'
    """
    listed = list(values)
    paths = {value["path"] for value in listed if value["bytes"] is None and value["path"] is not None}
    of_path = _of_files(sorted(paths), cache) if paths else {}
    return [of_path.get(value["path"], "") if value["bytes"] is None else _hash(value["bytes"]) for value in listed]


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()  # as `hash_file`: wherever the bytes are


def _of_files(paths: list[str], cache: Path) -> dict[str, str]:
    memo = cache / "digests" / f"{hash_bytes(os.path.commonpath([os.path.dirname(path) for path in paths]))}.arrow"
    known, now = _known(memo), time.time()
    fresh: dict[str, tuple[_State, str]] = {}
    found: dict[str, str] = {}
    for path in paths:
        try:
            status = os.stat(path)
            state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            before = known.get(path)
            found[path] = before[1] if before and before[0] == state else hash_file(Path(path))
        except OSError:
            found[path] = hash_bytes("not there", path)
            continue
        if (before is None or before[0] != state) and now - max(status.st_mtime, status.st_ctime) > _SETTLED:
            fresh[path] = state, found[path]
    if fresh:
        _keep(memo, known | fresh)
    return found


def _known(memo: Path) -> dict[str, tuple[_State, str]]:
    table = open_arrow(memo)
    if table is None or table.schema != _SCHEMA:
        return {}
    columns = [column.to_pylist() for column in table.columns]
    return {path: ((size, modified, changed), digest) for path, size, modified, changed, digest in zip(*columns, strict=True)}


def _keep(memo: Path, known: Mapping[str, tuple[_State, str]]) -> None:
    rows = [(path, *state, digest) for path, (state, digest) in known.items()]
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)]
    write_arrow(memo, _SCHEMA, [pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)])
