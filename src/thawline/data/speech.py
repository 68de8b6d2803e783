"""Folders of speech as its own tools lay them out: LJSpeech's metadata.csv, the manifests of NeMo, the lists of Kaldi."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import encoding as encodings
from thawline.data.cache import hash_bytes, hash_table
from thawline.data.paths import located, with_files
from thawline.data.tables import Parsed, TableFile, through_cache
from thawline.errors import DataError

if TYPE_CHECKING:
    from thawline.data.read import Source

_COLUMNS = {1: ("id", "text"), 2: ("id", "text", "normalized_text")}
_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus")
_HEAD = 1 << 14  # bytes by which a file is recognised
_SEEN = 50  # of its first lines
_ROWS = 16384
_SEGMENTS = "{} names segments of longer recordings, which are not read; cut them into files of their own first."


def layout(path: Path, cache: Path, *, encoding: str | None = None) -> Source | None:
    """Read a folder, or one file, of speech; None where it is laid out in none of these ways.

    Tables have the column "audio", as `thawline.data.paths.with_files` makes it, and the transcripts under the names that they
    have there: "text", in LJSpeech's layout beside "normalized_text". Rows whose file is not there are left out, and told.
    Raises DataError for lines that do not fit, lists that hold commands, and segments of longer recordings.
    """
    from thawline.data.read import Source  # which imports this module

    folder = path if path.is_dir() else path.parent
    if encoding is not None:
        encodings.known(encoding)
    if not path.exists() or not (
        found := _piped(path, cache, encoding) or _kaldi(path, encoding) or _manifests(path, cache, encoding)
    ):
        return None
    splits, notes = {}, []
    for split, (name, file) in found.items():
        _refuse_segments(file.table, folder / name)
        media = with_files(file.table, folder / Path(name).parent, split=split)
        splits[split] = media.present()
        notes += [f"{name}: {note}" for note in (*file.notes, *media.notes)]
    digest = hash_bytes(*(part for split, (_, file) in found.items() for part in (split, file.digest)))
    return Source(splits, tuple(notes), path.resolve().stem, digest)


def parse_piped(path: Path, encoding: str | None) -> Parsed:
    """Parse lines of `name|text` or `name|text|normalised text`, without a header and without quoting, as LJSpeech's.

    Raises DataError for a line with another number of values than the first, naming it.
    """
    codec = encodings.detect(path, encoding)
    first = next(_lines(path, codec))[1]
    schema = pa.schema([(name, pa.string()) for name in _COLUMNS[first.count("|")]])
    return Parsed(schema, _batches(path, codec, schema), encodings.told(codec, encoding))


_Found = dict[str, tuple[str, TableFile]]  # by split: the name of the file as seen from the folder, and what is in it


def _piped(path: Path, cache: Path, encoding: str | None) -> _Found:
    found = []
    for file in _files(path, (".csv", ".txt", ".psv")):
        names = _first_names(file, encoding)
        if (ending := _ending(names, file.parent)) is not None:
            read = through_cache(file, parse_piped, encoding=encoding, cache=cache)
            found.append((_split(file.stem), file.name, read._replace(table=_with_audio(read.table, ending))))
    return _by_split(path, found)


def _first_names(file: Path, encoding: str | None) -> list[str]:
    """Return the first names of a file that has one or two `|` in each line; none of another file."""
    head = _head(file).decode(encoding or "utf-8", "replace").lstrip("\ufeff")
    whole = head.split("\n")[: -1 if len(head) > _HEAD // 4 else None]  # the last one may be cut
    lines = [line for line in whole if line.strip()][:_SEEN]
    bars = {line.count("|") for line in lines}
    return [line.partition("|")[0].strip() for line in lines] if len(bars) == 1 and bars <= set(_COLUMNS) else []


def _ending(names: Sequence[str], folder: Path) -> str | None:
    """Return what is to be put behind the names so that most are files; None where nothing does that."""
    for ending in ("", *_ENDINGS):
        paths, _ = located([name + ending for name in names], folder)
        if sum(path is not None for path in paths) * 2 > len(paths):
            return ending
    return None


def _with_audio(table: pa.Table, ending: str) -> pa.Table:
    names = pc.utf8_trim_whitespace(table.column("id"))
    if not ending:
        return table.rename_columns(["audio", *table.column_names[1:]]).set_column(0, "audio", names)
    return table.add_column(1, "audio", pc.binary_join_element_wise(names, ending, ""))


def _lines(path: Path, codec: str) -> Iterator[tuple[int, str]]:
    with path.open(encoding=codec) as file:
        yield from ((number, line.rstrip("\n")) for number, line in enumerate(file, 1) if line.strip())


def _batches(path: Path, codec: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    lines = _lines(path, codec)
    while block := list(itertools.islice(lines, _ROWS)):
        rows = []
        for number, line in block:
            values = line.split("|")
            if len(values) != len(schema):
                raise DataError(f"{path}, line {number}: {len(values)} values between |, but the first line has {len(schema)}.")
            rows.append(values)
        yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=schema)


def _kaldi(path: Path, encoding: str | None) -> _Found:
    lists = [file for file in (path / "wav.scp", *sorted(path.glob("*/wav.scp"))) if file.with_name("text").is_file()]
    split = {file: "all" if file.parent == path else _split(file.parent.name) for file in lists if file.is_file()}
    return _by_split(path, [(split[file], str(file.relative_to(path)), _of_lists(file, encoding)) for file in split])


def _of_lists(scp: Path, encoding: str | None) -> TableFile:
    """Join wav.scp, text and perhaps utt2spk by the name of the utterance."""
    if (scp.parent / "segments").is_file():
        raise DataError(_SEGMENTS.format(scp.parent / "segments"))
    files = {name: scp.with_name(name) for name in ("wav.scp", "text", "utt2spk")}
    read = {name: _listed(file, encoding) for name, file in files.items() if file.is_file()}
    if command := next((value for value in read["wav.scp"].values() if value.endswith("|")), None):
        raise DataError(
            f"{scp} holds commands ({command[:60]}), which are not run; write their results to files and name these."
        )
    names = [name for name in read["wav.scp"] if name in read["text"]]
    if not names:
        raise DataError(
            f"{scp} and {scp.with_name('text')} have no utterance in common; expected the same names first in each line."
        )
    columns = {"id": names, "audio": [read["wav.scp"][name] for name in names], "text": [read["text"][name] for name in names]}
    if "utt2spk" in read:
        columns["speaker"] = [read["utt2spk"].get(name, "") for name in names]
    table = pa.table(columns)
    lost = [
        (len(read["wav.scp"]) - len(names), "recordings have no text"),
        (len(read["text"]) - len(names), "texts no recording"),
    ]
    notes = tuple(f"{count} {what} and are left out" for count, what in lost if count)
    return TableFile(table, notes, hash_table(table))


def _listed(path: Path, encoding: str | None) -> dict[str, str]:
    parts = (line.split(None, 1) for _, line in _lines(path, encodings.detect(path, encoding)))
    return {part[0]: part[1].strip() if len(part) > 1 else "" for part in parts if part}


def _manifests(path: Path, cache: Path, encoding: str | None) -> _Found:
    from thawline.data.read import PARSERS

    files = _files(path, tuple(PARSERS))
    chosen = [file for file in files if "manifest" in file.stem.lower() or b'"audio_filepath"' in _head(file)]
    if any(_split(file.stem) != "all" for file in files if file not in chosen):
        return {}  # those are read like any table
    found = []
    for file in chosen:
        try:
            read = through_cache(file, PARSERS[file.suffix.lower()], encoding=encoding, cache=cache)
        except DataError:
            if b'"audio_filepath"' in _head(file):
                raise
            continue  # a manifest of something else
        if with_files(read.table, file.parent, split=_split(file.stem)).missing is not None:
            found.append((_split(file.stem), file.name, read))
    return _by_split(path, found)


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_HEAD)


def _refuse_segments(table: pa.Table, file: Path) -> None:
    offset = table.column("offset") if "offset" in table.column_names else pa.chunked_array([], pa.float64())
    number = pa.types.is_floating(offset.type) or pa.types.is_integer(offset.type)
    if number and pc.any(pc.greater(offset, 0)).as_py():
        raise DataError(_SEGMENTS.format(file))


def _files(path: Path, endings: tuple[str, ...]) -> list[Path]:
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in entries if file.suffix.lower() in endings and file.is_file()]


def _split(name: str) -> str:
    """Return which split a name speaks of.

    >>> _split("train_manifest"), _split("metadata-dev"), _split("metadata")
    ('train', 'validation', 'all')
    """
    from thawline.data.read import SPLITS

    return next((SPLITS[word] for word in re.split("[-_. ]", name.lower()) if word in SPLITS), "all")


def _by_split(path: Path, found: Sequence[tuple[str, str, TableFile]]) -> _Found:
    by_split: _Found = {}
    if path.is_file():
        found = [("all", name, file) for _, name, file in found]
    given = any(split != "all" for split, _, _ in found)  # then a list of everything beside the splits says it all again
    for split, name, file in found:
        if split in by_split:
            raise DataError(f"{path}: {by_split[split][0]} and {name} are both the {split} split; keep one of them.")
        if split != "all" or not given:
            by_split[split] = name, file
    return {split: by_split[split] for split in ("all", "train", "validation", "test") if split in by_split}
