"""Rows of a table, seen as examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, final, overload

import numpy as np
import pyarrow as pa

from thawline.data.cache import hash_pieces
from thawline.types import Example

FILES = ("image", "audio")
"""Columns that name files; "content" beside them has a hash of each, uint64."""
CANONICAL = ("id", "text", "text_pair", "tokens", "messages", "tools", *FILES, "content", "label", "weight")


@final
class Examples(Sequence[Example]):
    """Rows of a (memory-mapped) Arrow table, seen as examples; selecting costs an index array, not a copy.

    `table` has the canonical columns first ("id" string, those of the inputs such as "text" string, "label" string, list of
    string or double, "weight" double), then the user's other columns. `indices`, int64 [N], says which rows; None: all.

    >>> some = Examples(pa.table({"id": ["a", "b", "c"], "text": ["x", "y", "z"]})).select([2, 0])
    >>> [example["text"] for example in some]
    ['z', 'x']
    """

    def __init__(self, table: pa.Table, indices: np.ndarray[Any, Any] | None = None) -> None:
        self.table = table
        self.indices = None if indices is None else np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return self.table.num_rows if self.indices is None else len(self.indices)

    def __repr__(self) -> str:
        return f"Examples({len(self)} rows: {', '.join(self.table.column_names)})"

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        place = range(len(self))[index]
        row = place if self.indices is None else int(self.indices[place])
        example: dict[str, Any] = self.table.slice(row, 1).to_pylist()[0]
        return example

    def __iter__(self) -> Iterator[Example]:
        for batch in self.batches():
            yield from batch

    def __contains__(self, example: object) -> bool:
        return any(example == own for own in self)

    def select(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Examples:
        """Return the examples at these positions, in this order; `indices` are integers [M] or a mask, bool [N]."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return Examples(self.table, chosen if self.indices is None else self.indices[chosen])

    def places_of(self, others: Examples) -> np.ndarray[Any, Any] | None:
        """Return where other rows of the same table stand among these, int64 [M]; None where not all of them do."""
        if others.table is not self.table or others.indices is None or self.indices is None:
            return None
        place = np.full(self.table.num_rows, -1)
        place[self.indices] = np.arange(len(self))
        found: np.ndarray[Any, Any] = place[others.indices]
        return found if (found >= 0).all() else None

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the values of one column, in the order of the examples."""
        if self.indices is None:
            return self.table.column(name)
        return Examples(self.table.select([name]))._take(self.indices).column(0)

    def pieces(self, names: Sequence[str], size: int = 1 << 16) -> Iterator[pa.Table]:
        """Yield tables of these columns, `size` rows each, in order; only one is in memory at a time."""
        some = Examples(self.table.select(list(names)))
        for start in range(0, len(self), size):
            yield some.table.slice(start, size) if self.indices is None else some._take(self.indices[start : start + size])

    def batches(self, size: int = 1000) -> Iterator[list[Example]]:
        """Yield the examples in lists of `size`, in order; only one list is in memory at a time."""
        for piece in self.pieces(self.table.column_names, size):
            yield piece.to_pylist()

    @cached_property
    def fingerprint(self) -> str:
        """Hash, 32 hex digits, of the canonical columns of these rows in this order, and of where tokens stand in texts."""
        names = [name for name in (*CANONICAL, "offsets") if name in self.table.column_names and name not in FILES]
        return hash_pieces(self.table.select(names).schema, self.pieces(names))

    @cached_property
    def _chunks(self) -> tuple[list[pa.RecordBatch], np.ndarray[Any, Any]]:
        batches = self.table.to_batches()
        return batches, np.cumsum([0, *(batch.num_rows for batch in batches)])

    def _take(self, rows: np.ndarray[Any, Any]) -> pa.Table:
        """Like `table.take`, which joins all chunks of the table first; this touches only those it needs."""
        batches, starts = self._chunks
        chunk = np.searchsorted(starts, rows, side="right") - 1
        order = np.argsort(chunk, kind="stable")
        cuts = np.flatnonzero(np.diff(chunk[order])) + 1
        parts = [
            batches[chunk[some[0]]].take(pa.array(rows[some] - starts[chunk[some[0]]]))
            for some in np.split(order, cuts)
            if len(some)
        ]
        table = pa.Table.from_batches(parts, self.table.schema)
        return table if len(parts) < 2 else table.combine_chunks().take(pa.array(np.argsort(order)))
