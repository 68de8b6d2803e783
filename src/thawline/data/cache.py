"""Where computed things are kept, how they are named by their content, and how they are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from thawline.errors import MachineError

_PART = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.part")  # what `written_aside` gives to write to
_LEFT = 24 * 3600  # seconds without a write, after which the process of a part is not alive any more
_ROWS = 8192  # columns are hashed in pieces of this many rows, so that equal content has one hash however it is chunked


def cache_folder() -> Path:
    """Return $THAWLINE_CACHE, else the user's cache folder (XDG base directory specification); it need not exist yet."""
    if chosen := os.environ.get("THAWLINE_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "thawline"
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "thawline"


def hash_bytes(*parts: bytes | str) -> str:
    """Return the BLAKE2b hash, 32 hex digits, of the parts, each with its length in front.

    >>> hash_bytes("ab", "c") == hash_bytes("a", "bc")
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Return the BLAKE2b hash, 32 hex digits, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def hash_table(table: pa.Table) -> str:
    """Return the BLAKE2b hash, 32 hex digits, of a table's names, types and values; chunks and offsets do not count.

    >>> whole = pa.table({"a": [1, 2, 3]})
    >>> hash_table(whole.slice(1)) == hash_table(pa.table({"a": [2, 3]}))
    True
    """
    return hash_pieces(table.schema, [table])


def hash_pieces(schema: pa.Schema, pieces: Iterable[pa.Table]) -> str:
    """Return what `hash_table` says of the pieces joined; each but the last has a multiple of 8192 rows."""
    digest = hashlib.blake2b(repr([(field.name, str(field.type)) for field in schema]).encode(), digest_size=16)
    for table in pieces:
        for start in range(0, table.num_rows, _ROWS):
            for column in table.slice(start, _ROWS).combine_chunks().columns:
                for piece in column.chunks:
                    digest.update(pa.record_batch([piece], ["x"]).serialize())
    return digest.hexdigest()


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends well it is synced and renamed to `path`, else removed.

    Parts in the same folder that a killed process left, not written to for a day, are removed. Raises MachineError where the
    disk is full.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with written_aside(target) as aside:
    ...     _ = aside.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"The disk is full: {path} could not be written. "
                "Free some room there, or set THAWLINE_CACHE to a folder on another disk."
            ) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # others sweep too
            if _PART.fullmatch(part.name) and time.time() - part.stat().st_mtime > _LEFT:
                part.unlink()


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches to `path` as an Arrow IPC file, aside first, then renamed."""
    with written_aside(path) as aside, pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def open_arrow(path: Path) -> pa.Table | None:
    """Return the memory-mapped table of an Arrow IPC file; None where there is no file or it is torn."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
