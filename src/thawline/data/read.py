"""One way in: whatever the user has becomes a `Source`, tables by split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from thawline.data import columnar, conll, delimited, folders, json_rows, lines, memory, paths, speech
from thawline.data.cache import hash_bytes, hash_table
from thawline.data.tables import Parser, through_cache
from thawline.errors import DataError, did_you_mean

PARSERS: Mapping[str, Parser] = {
    ".csv": delimited.parse,
    ".tsv": delimited.parse,
    ".tab": delimited.parse,
    ".jsonl": json_rows.parse,
    ".ndjson": json_rows.parse,
    ".json": json_rows.parse,
    ".parquet": columnar.parse_parquet,
    ".arrow": columnar.parse_arrow,
    ".feather": columnar.parse_arrow,
    ".conll": conll.parse,
    ".bio": conll.parse,
    ".iob": conll.parse,
    ".iob2": conll.parse,
    ".txt": lines.parse,
    ".conllu": conll.parse,
}
_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
SPLITS: Mapping[str, str] = {alias: split for split, aliases in _ALIASES.items() for alias in aliases}
_SHARD = re.compile(r"^(?P<split>[a-z]+)(?:[-_.]\d+(?:-of-(?P<of>\d+))?(?:-[0-9a-f]{8,})?)?$")
_BESIDE = re.compile(r"^(readme|licen[cs]e|copying|notice|manifest|dataset_infos?|\.)", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Data as the user has it.

    `splits` maps "train", "validation", "test" to tables, or "all" to the one table of a file, a frame, or lists; `notes` are
    to be told; `name` is for the run's default folder; `fingerprint` is a content hash.
    """

    splits: Mapping[str, pa.Table]
    notes: tuple[str, ...]
    name: str
    fingerprint: str


def read(data: object, *, encoding: str | None = None, cache: Path) -> Source:
    """Read a file, a folder, or something in memory; raises DataError that names the file and, where it can, the line."""
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)):
        path = Path(data).expanduser()
        if path.is_dir():
            return _of_folder(path, encoding, cache)
        alone = (speech.layout(path, cache, encoding=encoding) or folders.loose(path, cache)) if path.is_file() else None
        return alone or _located(_file(path, encoding, cache), path.parent)
    if isinstance(data, Mapping) and data and all(isinstance(key, str) and key.lower() in SPLITS for key in data):
        return _several(data, encoding, cache)
    if type(data).__module__.startswith("datasets.") and isinstance(data, Mapping):
        known = {name: part for name, part in data.items() if name.lower() in SPLITS}
        source = _several(known or {"train": next(iter(data.values()))}, encoding, cache)
        return _with_notes(source, [f"split {name!r} is ignored" for name in data if name not in known])
    table = memory.to_table(data)
    if table.num_rows == 0:
        raise DataError("The data is empty; expected at least one row.")
    return _located(Source({"all": table}, (), "data", hash_table(table)), Path())


def _of_folder(path: Path, encoding: str | None, cache: Path) -> Source:
    if _is_saved(path):
        return _located(_saved(path), path)
    of_files = speech.layout(path, cache, encoding=encoding) or folders.media(path, cache)
    if of_files is None and not any(_is_table(entry) for entry in path.iterdir() if entry.is_file()):
        of_files = _of_folders(path, encoding, cache) or folders.loose(path, cache)
    return of_files or _located(_folder(path, encoding, cache), path)


def _located(source: Source, folder: Path) -> Source:
    """Return a source whose tables hold the files that they name; rows whose file is not there are left out, and told."""
    found = {split: paths.with_files(table, folder, split=split) for split, table in source.splits.items()}
    notes = list(dict.fromkeys(note for one in found.values() for note in one.notes))
    return _with_notes(replace(source, splits={split: one.present() for split, one in found.items()}), notes)


def _with_notes(source: Source, notes: list[str]) -> Source:
    return replace(source, notes=(*source.notes, *notes))


def _file(path: Path, encoding: str | None, cache: Path) -> Source:
    parser = _parser(path)
    file = through_cache(path, parser, encoding=encoding, cache=cache)
    return Source({"all": file.table}, tuple(f"{path.name}: {note}" for note in file.notes), path.stem, file.digest)


def _parser(path: Path) -> Parser:
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hub = f" A data set of the hub: datasets.load_dataset({str(path)!r}).save_to_disk({path.name!r}), then that folder."
        if path.is_symlink():
            raise DataError(f"{path} is a link to {path.readlink()}, where there is nothing; expected a table, or a folder.")
        hint = did_you_mean(path.name, beside) or "." + hub * bool(len(path.parts) == 2 and not beside and not path.suffix)
        raise DataError(f"There is no file or folder {path}{hint} Expected a table such as reviews.csv, or a folder of them.")
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        what = f"files ending in {path.suffix!r} are not read" if path.suffix else "its name has no ending that says what it is"
        raise DataError(f"{path}: {what}; expected {', '.join(PARSERS)}.")
    return parser


def _folder(path: Path, encoding: str | None, cache: Path) -> Source:
    entries = sorted(entry for entry in path.iterdir() if entry.is_file())
    tables = [entry for entry in entries if _is_table(entry)]
    of_split: dict[str, list[Path]] = {}
    for entry in tables:
        if (shard := _SHARD.match(entry.stem.lower())) and shard["split"] in SPLITS:
            of_split.setdefault(SPLITS[shard["split"]], []).append(entry)
    if not of_split:
        if len(tables) != 1:
            found = ", ".join(entry.name for entry in tables) or "no table"
            raise DataError(
                f"{path} holds {found}; expected train, validation and test files ({', '.join(PARSERS)}), one table, "
                "or a folder of pictures or sounds for each class."
            )
        of_split = {"all": tables}
    for split, some in of_split.items():
        _refuse_missing(path, split, some)
    used = {entry for files in of_split.values() for entry in files}
    notes = [f"{entry.name} is ignored" for entry in entries if entry not in used]
    splits, digests = {}, []
    for split in sorted(of_split, key=["all", *_ALIASES].index):
        files = [
            through_cache(entry, _parser(entry), encoding=encoding, cache=cache)
            for entry in _one_format(of_split[split], split)
        ]
        splits[split] = _joined([file.table for file in files], path, split)
        notes += [f"{entry.name}: {note}" for entry, file in zip(of_split[split], files, strict=True) for note in file.notes]
        digests += [split, *(file.digest for file in files)]
    return Source(splits, tuple(notes), path.resolve().name, hash_bytes(*digests))


def _refuse_missing(path: Path, split: str, files: Sequence[Path]) -> None:
    """Raise DataError where files say that they are some of more than there are, as after a broken download."""
    shards = [shard["of"] for file in files if (shard := _SHARD.match(file.stem.lower()))]
    totals = {int(total) for total in shards if total}
    if totals and totals != {len(files)}:
        raise DataError(
            f"{path} has {len(files)} of {max(totals)} files of {split}; the others are missing, so get them again."
        )


def _of_folders(path: Path, encoding: str | None, cache: Path) -> Source | None:
    """Read a folder for each split with one table in it, beside the files that it names; None where it is not so."""
    folders = {
        entry: SPLITS[entry.name.lower()] for entry in sorted(path.iterdir()) if entry.is_dir() and entry.name.lower() in SPLITS
    }
    tables = {entry: [file for file in sorted(entry.iterdir()) if file.is_file() and _is_table(file)] for entry in folders}
    if "train" not in folders.values() or any(len(found) != 1 for found in tables.values()):
        return None
    if len(set(folders.values())) < len(folders):
        raise DataError(f"{path}: two of {', '.join(entry.name for entry in folders)} are the same split; keep one of them.")
    sources = {folders[entry]: _located(_file(found[0], encoding, cache), entry) for entry, found in tables.items()}
    splits = {split: sources[split].splits["all"] for split in _ALIASES if split in sources}
    notes = [f"{split}: {note}" for split in splits for note in sources[split].notes]
    digests = [part for split in splits for part in (split, sources[split].fingerprint)]
    return Source(splits, tuple(notes), path.resolve().name, hash_bytes(*digests))


def _is_table(file: Path) -> bool:
    """Tell whether a file of a folder is data; a text file, which may be anything, is if it is called like a split."""
    if file.suffix.lower() == ".txt" and file.stem.lower() not in SPLITS:
        return False
    return file.suffix.lower() in PARSERS and not _BESIDE.match(file.name)


def _one_format(files: list[Path], split: str) -> list[Path]:
    stems = {file.stem.lower() for file in files}
    if len(stems) < len(files) or (len(files) > 1 and any(stem in SPLITS for stem in stems)):
        raise DataError(
            f"{files[0].parent}: {', '.join(file.name for file in files)} are all the {split} split; keep one of them."
        )
    return files


def _joined(tables: list[pa.Table], path: Path, split: str) -> pa.Table:
    try:
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{path}: the files of the {split} split do not have the same columns ({error}).") from None


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def _saved(path: Path) -> Source:
    from datasets import load_from_disk  # slow to import, and only these folders need it

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} looks like a folder saved with datasets, but cannot be loaded: {error}") from None
    source = read(loaded, cache=path)
    return Source(source.splits, source.notes, path.resolve().name, source.fingerprint)


def _several(parts: Mapping[str, object], encoding: str | None, cache: Path) -> Source:
    splits: dict[str, pa.Table] = {}
    notes: list[str] = []
    for name, part in parts.items():
        source = read(part, encoding=encoding, cache=cache)
        split = SPLITS[name.lower()]
        if split in splits:
            raise DataError(f"{', '.join(parts)}: two of these are the {split} split; keep one of them.")
        if set(source.splits) != {"all"}:
            raise DataError(f"The {split} split is itself a folder of splits ({', '.join(source.splits)}); expected one table.")
        splits[split] = source.splits["all"]
        notes += source.notes
    ordered = {split: splits[split] for split in _ALIASES if split in splits}
    return Source(ordered, tuple(notes), "data", hash_bytes(*(part for s, t in ordered.items() for part in (s, hash_table(t)))))
