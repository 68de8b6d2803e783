"""The feature store: what frozen stages computed, named by all it depends on, kept below a cap, shared by runs."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from thawline.thaw.segment import ASIDE, SUFFIX, StoreError, count_of, told
from thawline.thaw.shelf import FACTS, SEGMENTS, Shelf, Writer, remove, shelf_name

__all__ = ["Bandwidth", "Freed", "Shelf", "ShelfInfo", "Store", "StoreError", "Writer", "bandwidth"]

_SPARE_BYTES = 100 * 2**20  # left to others on the disk
_ABANDONED_SECONDS = 3600.0  # a writer that has not written for so long was killed


class _File(NamedTuple):
    used: float
    size: int
    path: Path


@dataclass(frozen=True)
class ShelfInfo:
    """What a shelf holds: facts (none where they cannot be read), tensors, bytes, and when it was last used (POSIX time)."""

    name: str
    facts: Mapping[str, Any]
    examples: int
    size: int
    used: float


@dataclass(frozen=True)
class Freed:
    """What was removed from a store: segments, bytes."""

    segments: int
    size: int


@dataclass(frozen=True)
class Bandwidth:
    """What a folder takes and gives through the store, in MB/s (10^6 bytes): `cached` is a second reading, from memory."""

    write: float
    read: float
    cached: float


@final
@dataclass(frozen=True)
class Store:
    """Shelves in a folder, together at most `max_bytes` (None: no cap), and never more than the disk has room for.

    >>> import tempfile, torch
    >>> store = Store(Path(tempfile.mkdtemp()), max_bytes=10**6)
    >>> shelf = store.shelf({"weights": "5f3a", "depth": 4, "dtype": "bfloat16"})
    >>> keys = [bytes(16), b"0123456789abcdef"]
    >>> shelf.add(keys[:1], [torch.ones(2, 3, dtype=torch.bfloat16)])
    >>> shelf.missing(keys), shelf.read(keys)[0].shape
    ([1], torch.Size([2, 3]))
    """

    folder: Path
    max_bytes: int | None = field(kw_only=True)

    def shelf(self, facts: Mapping[str, Any]) -> Shelf:
        """Return the shelf of tensors that depend on `facts` and on nothing else but the key.

        `facts` are what JSON can hold; `facts["dtype"]` is float32, bfloat16 or float16, what is stored.
        """
        return Shelf(self.folder, facts, room=self.make_room)

    def shelves(self) -> list[ShelfInfo]:
        """Return what there is, last used first."""
        shelves: dict[Path, list[_File]] = {}
        for file in self._files():
            if file.path.suffix == SUFFIX:
                shelves.setdefault(file.path.parent, []).append(file)
        infos = [
            ShelfInfo(
                folder.name,
                _facts(folder),
                examples=sum(count_of(file.path) for file in files),
                size=sum(file.size for file in files),
                used=max(file.used for file in files),
            )
            for folder, files in shelves.items()
        ]
        return sorted(infos, key=lambda info: -info.used)

    def size(self) -> int:
        """Return the bytes of all shelves, and of what is being written."""
        return sum(file.size for file in self._files())

    def largest(self) -> int:
        """Return the bytes that would fit if everything else were removed: no set of tensors that takes more can be kept."""
        return self._limit(self.size())

    def make_room(self, needed: int, kept: Iterable[Path] = ()) -> int:
        """Remove the segments used least recently, but none of `kept`, until `needed` bytes fit; return how many do.

        Raises StoreError, and removes nothing, where that cannot be reached.
        """
        with told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            files, spared = self._files(), set(kept)
            total = sum(file.size for file in files)
            limit = self._limit(total)
            removable = [file for file in files if file.path.suffix == SUFFIX and file.path not in spared]
            if total - sum(file.size for file in removable) + needed > limit:
                raise StoreError(self._no_room(needed))
            freed, total = remove(_oldest(removable, total + needed - limit)), self.size()
            if (room := self._limit(total) - total) >= needed:  # counted anew: other processes remove and write, too
                return room
        if not freed:  # what is mapped cannot be removed everywhere
            raise StoreError(self._no_room(needed))
        return self.make_room(needed, kept)

    def prune(self, *, max_bytes: int | None = None, older_than: float | None = None, everything: bool = False) -> Freed:
        """Remove leftovers of killed writers, segments not used for `older_than` seconds, and the oldest above `max_bytes`.

        `everything` removes all, also what is being written: its writer then goes on without the store.
        """
        freed = self._sweep(0 if everything else _ABANDONED_SECONDS)
        files = [file for file in self._files() if file.path.suffix == SUFFIX]
        before = math.inf if everything else -math.inf if older_than is None else time.time() - older_than
        unused = [file for file in files if file.used < before]
        surplus = self.size() - sum(file.size for file in unused) - (math.inf if max_bytes is None else max_bytes)
        gone = [file.path for file in unused] + _oldest([file for file in files if file.used >= before], surplus)
        return Freed(len(gone), freed + remove(gone))

    def _files(self) -> list[_File]:
        """Return all segments, and the files from which some will be made; nothing else in the folder is ours."""
        files = []
        for place in self.folder.glob("[0-9a-f]*"):
            for path in place.glob("*") if re.fullmatch("[0-9a-f]{32}", place.name) else ():
                if path.suffix in (SUFFIX, ASIDE):
                    try:
                        found = path.stat()
                    except OSError:  # another process tidies up
                        continue
                    files.append(_File(found.st_mtime, found.st_size, path))
        return files

    def _limit(self, total: int) -> int:
        free = shutil.disk_usage(next(place for place in (self.folder, *self.folder.parents) if place.exists())).free
        room = max(0, total + free - _SPARE_BYTES)
        return room if self.max_bytes is None else min(room, self.max_bytes)

    def _sweep(self, age: float = _ABANDONED_SECONDS) -> int:
        """Remove what killed writers left; return its bytes."""
        before = time.time() - age
        return remove(file.path for file in self._files() if file.path.suffix == ASIDE and file.used <= before)

    def _no_room(self, needed: int) -> str:
        cap = "" if self.max_bytes is None else f", of at most {self.max_bytes / 1e6:,.1f} MB"
        return (
            f"Features cannot be kept in {self.folder}: {needed / 1e6:,.1f} MB more do not fit beside what is in use"
            f" ({self.size() / 1e6:,.1f} MB{cap}). Raise store.max_gb, make room on the disk,"
            " or type store.features=false to train without the store."
        )


def bandwidth(folder: Path, size: int = 2**25) -> Bandwidth:
    """Measure what the store does in `folder` with `size` bytes of tensors of 19,200 bytes each: synced to the disk, then read.

    Takes a second on a slow disk. Raises StoreError where nothing can be written.
    """
    import numpy as np
    import torch

    shelf = Store(folder, max_bytes=None).shelf({"dtype": "float32", "measured": secrets.token_hex(8)})
    keys = [number.to_bytes(16, "little") for number in range(max(1, size // 19200))]
    noise = np.random.default_rng().integers(0, 2**31, (len(keys), 4800), dtype=np.int32)  # which no disk compresses
    tensors = list(torch.from_numpy(noise.view(np.float32)))
    try:
        write = _seconds(lambda: shelf.add(keys, tensors))
        _forget(shelf.folder)
        read, cached = (_seconds(lambda: shelf.read(keys)) for _ in range(2))
    finally:
        shelf.clear()
    return Bandwidth(*(noise.nbytes / seconds / 1e6 for seconds in (write, read, cached)))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _forget(folder: Path) -> None:
    """Have the system drop what it holds of the segments in memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        for path in folder.glob(SEGMENTS):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _oldest(files: Sequence[_File], size: float) -> list[Path]:
    """Return the files used least recently that together have `size` bytes; none where that is not above 0."""
    chosen = []
    for file in sorted(files):
        if size <= 0:
            break
        chosen.append(file.path)
        size -= file.size
    return chosen


def _facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a shelf; none where they are not what it is named by."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        return facts if isinstance(facts, dict) and shelf_name(facts) == folder.name else {}
    except (OSError, ValueError):
        return {}
