"""A shelf: all stored tensors that one set of facts has led to, found by key over any number of segments."""

from __future__ import annotations

import bisect
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from thawline.data.cache import hash_bytes, written_aside
from thawline.thaw.segment import (
    DTYPES,
    HEADER_BYTES,
    KEY_BYTES,
    SUFFIX,
    VERSION,
    BrokenSegmentError,
    Segment,
    SegmentWriter,
    StoreError,
    size_in_file,
    told,
)

if TYPE_CHECKING:
    from torch import Tensor

Room = Callable[[int, set[Path]], int]
"""room(needed, kept): make room for `needed` bytes without removing the segments `kept`; how many bytes may be written."""

FACTS = "facts.json"
SEGMENTS = f"*{SUFFIX}"
_SEGMENT_BYTES = 128 * 2**20  # what a killed writer loses at most; each segment in use holds one file descriptor
_GRANT_BYTES = 32 * 2**20  # so much is reserved at a time, but no more than half of what is left


def shelf_name(facts: Mapping[str, Any]) -> str:
    """Return the hash, 32 hex digits, of facts that JSON can hold; their order does not count.

    >>> shelf_name({"depth": 4, "dtype": "float32"}) == shelf_name({"dtype": "float32", "depth": 4})
    True
    >>> shelf_name({"depth": 4}) == shelf_name({"depth": 4.0})
    False
    """
    return hash_bytes(f"format {VERSION}, {sys.byteorder}-endian", json.dumps(facts, sort_keys=True, allow_nan=False))


def remove(paths: Iterable[Path]) -> int:
    """Remove files of shelves, and each folder that only its facts are left in; return the bytes of what was removed."""
    freed = 0
    for path in paths:
        with suppress(OSError):  # another process was faster, or holds it (Windows)
            size = path.stat().st_size
            path.unlink()
            freed += size
        with suppress(OSError):
            if os.listdir(path.parent) in ([FACTS], []):
                (path.parent / FACTS).unlink(missing_ok=True)
                path.parent.rmdir()
    return freed


@final
class Shelf:
    """The tensors of one set of facts; `facts["dtype"]` says what their elements are. Made by `Store.shelf`.

    Keys have 16 bytes. Segments that other processes add are seen by `missing`. For one thread at a time.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, room: Room) -> None:
        self.facts, self.dtype, self.folder = dict(facts), str(facts.get("dtype")), folder / shelf_name(facts)
        self.key = bytes.fromhex(self.folder.name)
        if self.dtype not in DTYPES:
            raise ValueError(f"facts['dtype'] is {self.dtype!r}; expected one of {', '.join(DTYPES)}")
        self._room, self._written, self._stale = room, set[Path](), True
        self._segments: list[Segment] = []
        self._starts = [0]  # the number of each segment's first row, and of the next one's
        # Sorted by the first half of the key. A row is -1 where the tensor was found broken.
        self._high, self._low = np.empty(0, "<u8"), np.empty(0, "<u8")
        self._rows = np.empty(0, np.int64)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Return the positions in `keys` of what is not there, or was found broken."""
        self._stale = True
        return [int(i) for i in np.flatnonzero(self._find(keys) < 0)]

    def size(self, keys: Sequence[bytes]) -> int:
        """Return the bytes of the elements of those tensors that are there, each as often as its key."""
        places = self._find(keys)  # first: it may open segments, which makes other rows
        found = self._rows[places[places >= 0]]
        numbers = np.searchsorted(self._starts, found, side="right") - 1
        sizes = (self._segments[number].sizes()[found[numbers == number] - self._starts[number]] for number in set(numbers))
        return sum(int(some.sum()) for some in sizes)

    def read(self, keys: Sequence[bytes]) -> list[Tensor | None]:
        """Return the tensor of each key as a view of the mapped file; None where it is not there, torn or foreign."""
        import torch

        dtype, tensors = getattr(torch, self.dtype), list[torch.Tensor | None]()
        for key, found in zip(keys, self._find(keys), strict=True):
            place = self._place(key, int(found))
            if place is None:
                tensors.append(None)
                continue
            source, shape, start = place
            if count := math.prod(shape):
                tensors.append(torch.frombuffer(source, dtype=dtype, count=count, offset=start).view(shape))
            else:
                tensors.append(torch.empty(shape, dtype=dtype))
        return tensors

    def add(self, keys: Sequence[bytes], tensors: Sequence[Tensor]) -> None:
        """Write tensors as segments of their own; many calls are better made to one `writer`. Raises StoreError."""
        with self.writer() as writer:
            writer.add(keys, tensors)

    @contextmanager
    def writer(self, expected: int = 0) -> Iterator[Writer]:
        """Give a `Writer`; what it was given can be read after the context, also where that ends with an error.

        Room for `expected` bytes is made at once. Raises StoreError, then or later; what did fit stays.
        """
        if expected:
            self._room(expected, self.in_use())
        writer = Writer(self, self._room)
        try:
            yield writer
        finally:
            writer.close()

    def clear(self) -> None:
        """Remove every segment; what has been read stays readable."""
        remove(self.folder.glob(SEGMENTS))
        self._segments, self._starts = [], [0]
        self._high, self._low, self._rows = self._high[:0], self._low[:0], self._rows[:0]

    def in_use(self) -> set[Path]:
        """Return the segments that were written or read here; none of them makes room for more of this shelf."""
        return self._written | {segment.path for segment in self._segments if segment.touched}

    def written(self, path: Path) -> None:
        """Take note of a segment that a writer has published."""
        self._written.add(path)
        self._stale = True
        if not (facts := self.folder / FACTS).exists():
            with written_aside(facts) as aside:
                aside.write_text(json.dumps(self.facts, indent=1, sort_keys=True), encoding="utf-8")

    def _place(self, key: bytes, found: int) -> tuple[Any, tuple[int, ...], int] | None:
        """Return mapped file, shape and place of the elements for the entry `found`, else for another of the same key."""
        while found >= 0:
            row = int(self._rows[found])
            number = bisect.bisect_right(self._starts, row) - 1
            segment = self._segments[number]
            block = segment.block(row - self._starts[number])
            if block is not None:
                segment.touch()
                return segment.map, *block
            self._rows[found] = -1
            found = int(self._find([key])[0])
        return None

    def _find(self, keys: Sequence[bytes]) -> np.ndarray:
        """Return for each key where it stands among the sorted ones, -1 where it is not there; shape [len(keys)]."""
        if self._stale:
            self._look()
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key has other than {KEY_BYTES} bytes")
        high, low = np.frombuffer(b"".join(keys), "<u8").reshape(-1, 2).T
        found, at, left = np.full(len(keys), -1), np.searchsorted(self._high, high), np.arange(len(keys))
        while True:  # on to the next of those with the same first half, as long as there is one
            left = left[at[left] < len(self._high)]
            left = left[self._high[at[left]] == high[left]]
            if not len(left):
                return found
            fits = (self._low[at[left]] == low[left]) & (self._rows[at[left]] >= 0)
            found[left[fits]] = at[left[fits]]
            left = left[~fits]
            at[left] += 1

    def _look(self) -> None:
        """Open the segments that have come, and remove those that are broken."""
        self._stale = False
        high, low, rows = [self._high], [self._low], [self._rows]
        known = {segment.path.name for segment in self._segments}
        for path in sorted(path for path in self.folder.glob(SEGMENTS) if path.name not in known):
            try:
                segment = Segment(path, self.key, self.dtype)
            except BrokenSegmentError:
                with suppress(OSError):
                    path.unlink()
                continue
            except OSError:  # removed meanwhile, or not readable now
                continue
            self._segments.append(segment)
            self._starts.append(self._starts[-1] + segment.count)
            rows.append(np.arange(*self._starts[-2:]))
            for half, column in zip((high, low), segment.keys(), strict=True):
                half.append(column)
        if len(rows) > 1:
            order = np.argsort(np.concatenate(high), kind="stable")
            self._high, self._low, self._rows = (np.concatenate(parts)[order] for parts in (high, low, rows))


@final
class Writer:
    """Writes tensors to a shelf in segments of at most 128 MB (unless one tensor is larger). Made by `Shelf.writer`."""

    def __init__(self, shelf: Shelf, room: Room) -> None:
        self._shelf, self._room = shelf, room
        self._segment: SegmentWriter | None = None

    def add(self, keys: Sequence[bytes], tensors: Sequence[Tensor]) -> None:
        """Write tensors, each of any shape, on any device. Raises StoreError; the caller then goes on without the store."""
        with self._told():
            for key, tensor in zip(keys, tensors, strict=True):
                if len(key) != KEY_BYTES or str(tensor.dtype) != f"torch.{self._shelf.dtype}":
                    raise ValueError(f"{len(key)} bytes for a {tensor.dtype} tensor; expected {KEY_BYTES}, {self._shelf.dtype}")
                self._segment_for(size_in_file(tensor)).add(key, tensor.cpu())

    def close(self) -> None:
        """Publish what was written. Raises StoreError."""
        if self._segment is None:
            return
        with self._told():
            self._segment.publish()
            self._shelf.written(self._segment.path)
        self._segment = None

    def _segment_for(self, size: int) -> SegmentWriter:
        """Return the segment that takes `size` bytes more, with room for them that other writers see as taken."""
        if self._segment is not None and self._segment.size + size > _SEGMENT_BYTES:
            self.close()
        reserved, end = (self._segment.reserved, self._segment.end) if self._segment else (0, HEADER_BYTES)
        if end + size > reserved:
            try:
                room = self._room(end + size - reserved, self._shelf.in_use())
            except StoreError:
                self.close()  # what did fit is of use
                raise
            self._segment = self._segment or SegmentWriter(self._shelf.folder, self._shelf.key, self._shelf.dtype)
            self._segment.reserve(max(end + size, reserved + min(room // 2, _GRANT_BYTES)))
        assert self._segment is not None, "room is reserved in a segment"
        return self._segment

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what goes wrong with the disk into a StoreError, and leave nothing half written."""
        try:
            with told(self._shelf.folder):
                yield
        except StoreError:
            if self._segment is not None:
                self._segment.discard()
            self._segment = None
            raise
