"""What an example is called, and which examples have the same text: by content, never by row number."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.errors import DataError

Keys = np.ndarray[Any, np.dtype[np.uint64]]
_ROWS = 65536


def content_keys(texts: pa.Table) -> tuple[Keys, Keys]:
    """Return two hashes (BLAKE2b, 64 bits) of each row's text or texts, uint64 [N] each: as it stands, and normalised.

    Normalised is Unicode NFC without white space at either end; case and inner spaces count. Two texts whose normalised hashes
    are equal are called equal everywhere in Thawline. Different ones in 10^6 rows come to the
    same hash by chance once in 10^7 data sets.
    """
    pieces = [_piece(batch) for batch in texts.to_batches(max_chunksize=_ROWS)]
    if not pieces:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    return np.concatenate([plain for plain, _ in pieces]), np.concatenate([normalised for _, normalised in pieces])


def _piece(batch: pa.RecordBatch) -> tuple[Keys, Keys]:
    plain = _hash(batch.columns)
    columns = [pc.utf8_trim_whitespace(pc.utf8_normalize(column, "NFC")) for column in batch.columns]
    changed = np.zeros(batch.num_rows, np.bool_)
    for before, after in zip(batch.columns, columns, strict=True):
        changed |= pc.not_equal(before, after).to_numpy(zero_copy_only=False)
    normalised = plain.copy()
    if changed.any():
        normalised[changed] = _hash([column.filter(pa.array(changed)) for column in columns])
    return plain, normalised


def _hash(columns: Sequence[pa.Array]) -> Keys:
    """Hash one column by its bytes; of a pair, the first text's length stands in front, so that no two pairs run together."""
    rows: list[bytes] = columns[0].cast(pa.binary()).to_pylist()
    if len(columns) > 1:
        others: list[bytes] = columns[1].cast(pa.binary()).to_pylist()
        rows = [b"%d:%b%b" % (len(one), one, other) for one, other in zip(rows, others, strict=True)]
    return np.frombuffer(b"".join([blake2b(row, digest_size=8).digest() for row in rows]), ">u8").astype(np.uint64)


def content_ids(keys: Keys) -> pa.ChunkedArray:
    """Return "<16 hex digits>-<how many rows before have the same text>" for each row.

    >>> content_ids(np.array([10, 255, 10], dtype=np.uint64)).to_pylist()
    ['000000000000000a-0', '00000000000000ff-0', '000000000000000a-1']
    """
    counts = occurrences(keys)
    chunks = []
    for start in range(0, len(keys), _ROWS):
        part = keys[start : start + _ROWS]
        text = part.astype(">u8").tobytes().hex().encode()
        offsets = np.arange(0, 16 * len(part) + 1, 16, dtype=np.int32)
        digits = pa.StringArray.from_buffers(len(part), pa.py_buffer(offsets), pa.py_buffer(text))
        numbers = pa.array(counts[start : start + _ROWS]).cast(pa.string())
        chunks.append(pc.binary_join_element_wise(digits, numbers, "-"))
    return pa.chunked_array(chunks, pa.string())


def occurrences(keys: Keys) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many rows before each row have the same key, int64 [N].

    >>> occurrences(np.array([5, 7, 5, 5], dtype=np.uint64)).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(keys, kind="stable")
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[order][1:] != keys[order][:-1]
    starts = np.flatnonzero(new)
    counts = np.empty(len(keys), np.int64)
    counts[order] = np.arange(len(keys)) - np.repeat(starts, np.diff([*starts, len(keys)]))
    return counts


def given_ids(column: pa.ChunkedArray, *, name: str, split: str) -> pa.ChunkedArray:
    """Return the user's ids as text; raises DataError for a row without one, and for one that stands in two rows."""
    ids = column.cast(pa.string())
    missing = pc.or_kleene(pc.is_null(ids), pc.equal(ids, "")).to_numpy()
    if missing.any():
        raise DataError(
            f"Column {name!r} has no id in row {int(missing.argmax()) + 1} of {split}. "
            "Fill it, or set data.id=none for ids made from the content."
        )
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
    if len(twice):
        first = twice[0].as_py()
        raise DataError(
            f"Column {name!r} has the id {first['values']!r} {first['counts']} times in {split} ({len(twice)} ids repeat); "
            "expected each once. Set data.id to another column, or data.id=none for ids made from the content."
        )
    return ids
