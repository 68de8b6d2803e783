"""Segments: files of tensors without padding, written once and whole, memory-mapped, and believed only by their checksums.

    header   64 bytes: magic, format version, dtype, shelf, number of tensors, start of the index, size of the file, checksums
    blocks   each at a multiple of 64 bytes: key, number of dimensions, shape; then, at the next such multiple, the elements
    index    40 bytes a tensor: key, place and checksum of its block, number of bytes of the elements, number of dimensions

Numbers are little-endian, checksums CRC-32.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from thawline.errors import MachineError

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""What the elements of a stored tensor may be, and the bytes that one takes."""

KEY_BYTES = 16
SUFFIX, ASIDE = ".seg", ".part"
VERSION = 1
_MAGIC = b"thawline"
_HEADER = struct.Struct("<8sII16sQQQI")  # and CRC-32 of these bytes
HEADER_BYTES = _ALIGNMENT = 64
_HEAD = struct.Struct("<16sQ")
_RECORD = struct.Struct("<16sQQII")
_RECORDS = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<u8"), ("size", "<u8"), ("rest", "V8")])
_TOUCH_SECONDS = 60.0


class StoreError(MachineError):
    """Features cannot be kept (no room below the cap, a full disk, a read-only folder); go on without the store."""


class BrokenSegmentError(Exception):
    """The file is torn, changed, or no segment of this shelf."""


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what the system says about writing to `folder` into a StoreError."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, MachineError) as error:
        number = error.errno if isinstance(error, OSError) else errno.ENOSPC  # `written_aside` has put that into words
        what = "the disk is full" if number in (errno.ENOSPC, errno.EDQUOT) else f"it cannot be written to ({error})"
        raise StoreError(
            f"Features cannot be kept in {folder}: {what}. Make room there, point THAWLINE_CACHE to a folder on another disk,"
            " or type store.features=false to train without the store."
        ) from error


@final
class Segment:
    """A whole segment file, mapped.

    Raises BrokenSegmentError where it is not one of this shelf, OSError where it cannot be opened. The mapping is private: a
    tensor made of it may be written to, and the file stays as it is. It outlives the file's removal.
    `touched` is when it was last used (POSIX time).
    """

    def __init__(self, path: Path, shelf: bytes, dtype: str) -> None:
        self.path, self.touched, self._itemsize = path, 0.0, DTYPES[dtype]
        with path.open("rb") as file:
            try:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except ValueError as error:  # it is empty
                raise BrokenSegmentError from error
        self._bytes = memoryview(self.map)
        header = _header(self._bytes[:HEADER_BYTES])
        if header is None or header[:2] != (dtype, shelf) or header[4] != len(self._bytes):
            raise BrokenSegmentError
        _, _, self.count, self._index, size, checksum = header
        if self._index + self.count * _RECORD.size != size or zlib.crc32(self._bytes[self._index :]) != checksum:
            raise BrokenSegmentError

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the keys in two halves of 8 bytes, each uint64 of shape [count], views of the file."""
        records = np.frombuffer(self.map, _RECORDS, count=self.count, offset=self._index)
        return records["high"], records["low"]

    def sizes(self) -> np.ndarray:
        """Return the bytes of each tensor's elements, shape [count], a view of the file."""
        sizes: np.ndarray = np.frombuffer(self.map, _RECORDS, count=self.count, offset=self._index)["size"]
        return sizes

    def block(self, row: int) -> tuple[tuple[int, ...], int] | None:
        """Return shape and place of the elements of one tensor; None where the file no longer holds what was written."""
        if self.map.size() != len(self._bytes):  # cut since it was mapped: to touch what is gone would end the process
            return None
        key, place, size, checksum, dims = _RECORD.unpack_from(self._bytes, self._index + row * _RECORD.size)
        start = place + _head_bytes(dims)
        if start + size > self._index:
            return None
        if zlib.crc32(self._bytes[place : start + size]) != checksum or _HEAD.unpack_from(self._bytes, place) != (key, dims):
            return None
        shape = struct.unpack_from(f"<{dims}q", self._bytes, place + _HEAD.size)
        return (shape, start) if math.prod(shape) * self._itemsize == size else None

    def touch(self) -> None:
        """Note in the file's modification time that it is in use, at most once a minute."""
        if (now := time.time()) - self.touched > _TOUCH_SECONDS:
            self.touched = now
            with suppress(OSError):  # removed meanwhile, or the folder is another user's
                os.utime(self.path)


@final
class SegmentWriter:
    """Writes one segment aside; `publish` renames it, `discard` removes it. What is left of a killed one is never read."""

    def __init__(self, folder: Path, shelf: bytes, dtype: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{time.time_ns():x}-{secrets.token_hex(4)}{SUFFIX}"
        self.aside = folder / f".{self.path.name}{ASIDE}"
        self.size, self.reserved = HEADER_BYTES, 0
        self._shelf, self._dtype = shelf, list(DTYPES).index(dtype)
        self._records = bytearray()
        self._file = self.aside.open("xb", buffering=1 << 20)
        self._file.write(bytes(HEADER_BYTES))

    def add(self, key: bytes, tensor: Tensor) -> None:
        """Write one tensor on the CPU, of any shape."""
        import torch  # here, since `thawline store` need not wait for it

        content: Any = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        head = _HEAD.pack(key, tensor.dim()) + struct.pack(f"<{tensor.dim()}q", *tensor.shape)
        head = head.ljust(_head_bytes(tensor.dim()), b"\0")
        for part in (head, content, bytes(-content.nbytes % _ALIGNMENT)):
            self._file.write(part)
        self._records += _RECORD.pack(key, self.size, content.nbytes, zlib.crc32(content, zlib.crc32(head)), tensor.dim())
        self.size += size_in_file(tensor) - _RECORD.size

    @property
    def end(self) -> int:
        """The bytes that the file will have, published now."""
        return self.size + len(self._records)

    def reserve(self, size: int) -> None:
        """Have the file count as one of `size` bytes among all of the store, until it is published."""
        self._file.flush()
        os.truncate(self._file.fileno(), size)
        self.reserved = size

    def publish(self) -> None:
        """Finish the file, sync it and give it its name."""
        self._file.seek(self.size)  # an interrupted `add` may have left more
        self._file.truncate()
        self._file.write(self._records)
        count = len(self._records) // _RECORD.size
        header = _HEADER.pack(_MAGIC, VERSION, self._dtype, self._shelf, count, self.size, self.end, zlib.crc32(self._records))
        self._file.seek(0)
        self._file.write(header + struct.pack("<I", zlib.crc32(header)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.aside, self.path)

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(OSError):  # the full disk speaks again where the buffer is flushed
            self._file.close()
        with suppress(OSError):
            self.aside.unlink()


def size_in_file(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes in a segment, its record in the index included."""
    return _head_bytes(tensor.dim()) + _aligned(tensor.nbytes) + _RECORD.size


def count_of(path: Path) -> int:
    """Return the number of tensors that a file's header promises; 0 where it has none."""
    try:
        with path.open("rb") as file:
            header = _header(file.read(HEADER_BYTES))
    except OSError:
        return 0
    return header[2] if header else 0


def _header(start: Sequence[int]) -> tuple[str, bytes, int, int, int, int] | None:
    """Return dtype, shelf, count, start of the index, size of the file, checksum of the index; None where it is no header."""
    content = bytes(start)
    if len(content) != HEADER_BYTES or struct.pack("<I", zlib.crc32(content[:-4])) != content[-4:]:
        return None
    magic, version, dtype, *rest = _HEADER.unpack(content[:-4])
    if magic != _MAGIC or version != VERSION or dtype >= len(DTYPES):
        return None
    shelf, count, index, size, checksum = rest
    return list(DTYPES)[dtype], shelf, count, index, size, checksum


def _head_bytes(dims: int) -> int:
    return _aligned(_HEAD.size + 8 * dims)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
