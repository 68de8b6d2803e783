"""Tables that name or hold pictures or sounds: their column becomes "image" or "audio", with absolute paths."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.errors import DataError

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How a picture or a sound is stored, as by `datasets`: bytes, or an absolute path; a path beside bytes is only a name."""

_ENDINGS = {
    "image": "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm jp2 avif heic",
    "audio": "wav flac ogg oga opus mp3 aif aiff au sph m4a aac wma amr",
}
_KINDS = {f".{ending}": kind for kind, endings in _ENDINGS.items() for ending in endings.split()}
_MARKS = {
    "image": (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*"),
    "audio": (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"FORM"),
}
_IN_RIFF = {b"WEBP": "image", b"WAVE": "audio"}
_NAMES = (  # columns that are there for their files, the likeliest first
    "image audio img picture photo sound recording clip wav speech audio_filepath audio_path audio_file image_path "
    "image_file img_path wav_path path file filename file_name filepath file_path image_filename audio_filename"
)
_FOLDERS = "wavs wav clips audio audios sounds recordings flac mp3 images image img imgs pictures photos data"
_SPLITS = {"train": "train", "val": "validation", "dev": "validation", "test": "test"}
_SAMPLE = 256  # values looked at to see what a column holds, and where its files lie
_MANY = 256  # folders beside the table, above which the rest is not looked into
_DEEP = 16  # folders at the front of a path that may be those of another machine
_SHOWN = 5
_UNUSUAL = len(_NAMES)
_LOST = 0.5  # share of files that are not there, above which it is a mistake and not a gap

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Found(NamedTuple):
    """A table, what is to be told, and the rows whose file is not there, bool [N]; None where no column has files."""

    table: pa.Table
    notes: tuple[str, ...] = ()
    missing: Mask | None = None

    def present(self) -> pa.Table:
        """Return the table without the rows whose file is not there."""
        return self.table if self.missing is None or not self.missing.any() else self.table.filter(pa.array(~self.missing))


class _Place(NamedTuple):
    """Where files lie: in `base`, under their name without its first `dropped` folders. Like folders have one `rank`."""

    base: Path
    rank: int
    dropped: int = 0

    def of(self, name: str) -> str:
        path = os.path.join(self.base, name.split("/", self.dropped)[-1] if self.dropped else name)
        return os.path.normpath(path) if "/." in path else path


def with_files(table: pa.Table, folder: Path, *, split: str = "") -> Found:
    """Turn the column that names or holds pictures into "image", the one of sounds into "audio", each a struct `MEDIA`.

    `folder` is where the table lies; `split` its name, which says in which of two like folders (train/, test/) to look.
    Files are looked for as named, from the folder, from folders beside the table (wavs/, clips/, images/) and, where the table
    comes from another machine, without the first folders of their path. A table without any comes back as it is. Raises
    DataError where most files are not there, or where a name could be one of two files.

    >>> with_files(pa.table({"text": ["good", "bad"]}), Path()).missing is None
    True
    """
    kinds = {name: _kind(table, name) for name in table.column_names}
    found = Found(
        table, tuple(f"{n!r} holds addresses, which are not fetched" for n, kind in kinds.items() if kind == "address")
    )
    for kind in _ENDINGS:
        columns = sorted((name for name, own in kinds.items() if own == kind), key=_rank)
        if columns:
            found = _with(found, columns, kind, look=lambda names: located(names, folder, split=split))
    return found


def located(names: Sequence[str | None], folder: Path, *, split: str = "") -> tuple[list[str | None], tuple[str, ...]]:
    """Return the absolute path of each named file, None where there is none, and what is to be told of where they lie.

    As `with_files` looks for them. Raises DataError where a name could be one of two files.
    """
    wanted = [name.strip().replace("\\", "/") if name else "" for name in names]
    paths: list[str | None] = [None] * len(names)
    left = [row for row, name in enumerate(wanted) if name]
    places = _places(folder.resolve(), split, max((wanted[row].count("/") for row in left), default=0))
    listed = cache(lambda base: frozenset(os.listdir(base)) if os.path.isdir(base) else frozenset())
    used: list[_Place] = []
    while left and (place := _best([wanted[row] for row in _spread(left)], places)):
        for row in left:
            path = place.of(wanted[row])
            base, name = os.path.split(path)
            if name in listed(base):
                paths[row] = path
        used.append(place)
        left = [row for row in left if paths[row] is None]
        places = [other for other in places if other != place and not other.dropped]  # one guess at another machine's folders
    return paths, tuple(_told(place, folder.resolve()) for place in used if place.rank)


def _with(found: Found, columns: Sequence[str], kind: str, *, look: Callable[..., Any]) -> Found:
    column, *others = columns
    values = found.table.column(column)
    names, content = _parts(values)
    paths, notes = look([None if held else name for name, held in zip(names, content, strict=True)])
    missing = np.array([not held and path is None for path, held in zip(paths, content, strict=True)], np.bool_)
    told = [f"{kind}: {column!r}"] * (column != kind) + [
        *notes,
        *(f"{name!r} names files too, which are not read" for name in others),
    ]
    if missing.any():
        text = _lost(column, names, missing)
        if missing.mean() > _LOST and _rank(column) == _UNUSUAL and _has_words(found.table, columns):
            return found._replace(notes=(*found.notes, f"{text}; the column stays as it is"))
        if missing.mean() > _LOST:
            raise DataError(
                f"{text}. They were looked for from where the table lies, and in the folders there. Put them there, write the "
                "paths as seen from the table, or take the column away if its files are not to be read."
            )
        told.append(text)
    kept = [name if held else path for name, path, held in zip(names, paths, content, strict=True)]
    table = _put(found.table, column, kind, array=_joined(values, kept))
    return Found(table, (*found.notes, *told), missing if found.missing is None else found.missing | missing)


def _lost(column: str, names: Sequence[str | None], missing: Mask) -> str:
    rows = np.flatnonzero(missing)
    first = ", ".join(f"{names[row] or 'no name'} in row {row + 1}" for row in rows[:_SHOWN])
    return f"{len(rows)} of {len(names)} files that {column!r} names are not there ({first}{', …' * (len(rows) > _SHOWN)})"


def _told(place: _Place, folder: Path) -> str:
    if place.dropped:
        return f"files are found without the first {place.dropped} folders of their paths"
    return f"files are found in {os.path.relpath(place.base, folder)}"


def _rank(name: str) -> int:
    names = _NAMES.split()
    return names.index(name.lower()) if name.lower() in names else _UNUSUAL


def _places(folder: Path, split: str, depth: int) -> list[_Place]:
    """Return where files may lie, the likeliest first: as named, the split's folder, usual folders, other ones, and so on."""
    usual = _FOLDERS.split()
    inner = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())[:_MANY]
    beside = [base for name in usual if (base := folder.parent / name).is_dir() and base != folder]
    others = [base for base in inner if split and _split_of(base) not in ("", split)] if split in _SPLITS.values() else []
    ranks = {folder.parent: 4, **dict.fromkeys(beside, 5)} | {
        base: 1 if split and _split_of(base) == split else 2 if base.name.lower() in usual else 3 for base in inner
    }
    ranks[folder] = 0
    places = [_Place(base, rank) for base, rank in ranks.items() if base not in others]
    places += [_Place(folder, 5 + dropped, dropped) for dropped in range(1, min(depth, _DEEP) + 1)]
    return sorted(places, key=lambda place: place.rank)


def _split_of(base: Path) -> str:
    return next((split for start, split in _SPLITS.items() if base.name.lower().startswith(start)), "")


def _best(sample: Sequence[str], places: Sequence[_Place]) -> _Place | None:
    """Return the place where most files of the sample lie, among those of the first rank where any lies."""
    best: tuple[int, _Place] | None = None
    seen: dict[str, _Place] = {}
    for place in places:
        if best and place.rank > best[1].rank:
            break
        here = [name for name in sample if os.path.isfile(place.of(name))]
        if twice := next((name for name in here if name in seen), None):
            one, other = seen[twice].base.name, place.base.name
            raise DataError(
                f"{twice!r} is in {one}/ and in {other}/; write the folder in front of the names, as in {one}/{twice}"
            )
        seen |= dict.fromkeys(here, place)
        if here and (best is None or len(here) > best[0]):
            best = len(here), place
    return best and best[1]


def _kind(table: pa.Table, name: str) -> str:
    """Return "image", "audio", "address" or "" for what the column holds, from a sample."""
    kind, sample = table.field(name).type, _sampled(table.column(name))
    if pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}:
        return (
            _declared(table.schema, name)
            or _kind_of(pc.struct_field(sample, "path"))
            or _marked(pc.struct_field(sample, "bytes"))
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _marked(sample)
    return _kind_of(sample) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""


def _declared(schema: pa.Schema, name: str) -> str:
    """Return what `datasets` says of the column in the schema."""
    info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info") or {}
    feature = (info.get("features") or {}).get(name)
    declared = str(feature.get("_type", "")).lower() if isinstance(feature, dict) else ""
    return declared if declared in _ENDINGS else ""


def _kind_of(sample: pa.ChunkedArray) -> str:
    """Return the kind that more than half of the values have by their ending."""
    values = [value.strip() for value in sample.to_pylist() if value]
    kinds = [_KINDS.get(os.path.splitext(value.partition("?")[0])[1].lower(), "") for value in values]
    kind = max(_ENDINGS, key=kinds.count)
    if not kinds or kinds.count(kind) <= len(kinds) / 2:
        return ""
    return "address" if sum("://" in value for value in values) > len(values) / 2 else kind


def _marked(sample: pa.ChunkedArray) -> str:
    """Return the kind that the first bytes of the first value say."""
    value = next((chunk[0].as_py() for chunk in sample.drop_null().chunks if len(chunk)), b"")
    kind = _IN_RIFF.get(value[8:12], "") if value.startswith(b"RIFF") else ""
    return kind or next((kind for kind, marks in _MARKS.items() if value.startswith(marks)), "")


def _spread(values: list[int]) -> list[int]:
    return values[:: max(1, len(values) // _SAMPLE)]


def _sampled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return some stretches of the column; what is far apart is seen, and little is read."""
    parts = [column.slice(start, 32) for start in range(0, len(column), max(32, len(column) // 8))]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], column.type)


def _has_words(table: pa.Table, without: Sequence[str]) -> bool:
    texts = [n for n in table.column_names if n not in without and pa.types.is_string(table.field(n).type)]
    return any((pc.mean(pc.count_substring(_sampled(table.column(name)), " ")).as_py() or 0) >= 1 for name in texts)


def _parts(column: pa.ChunkedArray) -> tuple[list[str | None], list[bool]]:
    """Return the name of each value's file, and whether its bytes are there."""
    if pa.types.is_struct(column.type):
        return pc.struct_field(column, "path").to_pylist(), pc.struct_field(column, "bytes").is_valid().to_pylist()
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None] * len(column), column.is_valid().to_pylist()
    return column.to_pylist(), [False] * len(column)


def _joined(column: pa.ChunkedArray, paths: Sequence[str | None]) -> pa.ChunkedArray:
    """Return the column in the form `MEDIA`, with these paths."""
    chunks, start = [], 0
    for chunk in column.chunks:
        content = pc.struct_field(chunk, "bytes") if pa.types.is_struct(chunk.type) else chunk
        content = pa.nulls(len(chunk), pa.binary()) if _is_text(content.type) else content.cast(pa.binary())
        names = pa.array(paths[start : start + len(chunk)], pa.string())
        chunks.append(pa.StructArray.from_arrays([content, names], fields=list(MEDIA)))
        start += len(chunk)
    return pa.chunked_array(chunks, MEDIA)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _put(table: pa.Table, column: str, kind: str, *, array: pa.ChunkedArray) -> pa.Table:
    """Put the array where the column stood; another column of that name gets another one."""
    names = [f"{name}_column" if name == kind != column else name for name in table.column_names]
    place = table.column_names.index(column)
    return table.rename_columns(names).set_column(place, pa.field(kind, MEDIA), array)
