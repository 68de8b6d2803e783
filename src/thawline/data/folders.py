"""Folders of pictures or sounds, one folder a class: `train/cat/1.jpg`, or `cat/1.jpg` where nothing is split."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from thawline.data.cache import hash_bytes
from thawline.data.digests import digests
from thawline.errors import DataError

if TYPE_CHECKING:
    from thawline.data.read import Source

_ENDINGS = {
    "image": "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm pbm pnm avif",
    "audio": "wav flac ogg oga opus mp3 aif aiff au",
}
_KINDS = {f".{ending}": kind for kind, endings in _ENDINGS.items() for ending in endings.split()}
_NOUNS = {"image": "pictures", "audio": "sounds"}
_CONVERT = {
    f".{ending}": told
    for endings, told in {
        "heic heif svg cr2 nef dng arw": "they cannot be read; convert them to JPEG or PNG",
        "m4a mp4 aac wma amr mka webm": "they cannot be read; convert them, for example: ffmpeg -i IN OUT.flac",
    }.items()
    for ending in endings.split()
}
_HIDDEN = re.compile(r"\.|__MACOSX$|Thumbs\.db$|desktop\.ini$", re.IGNORECASE)
# Folders that say what the files in them are for, not which class they are of.
_ROLE = re.compile(
    r"((train|val|valid|validation|dev|test)[-_]?)?(jpeg)?(images?|imgs?|pictures?|photos?|frames?|img_dir|ann_dir|inputs?|targets?|"
    r"masks?|annot(ation)?s?|labels?|seg(mentation)?\w*|gt\w*|leftimg8bit|wavs?|audios?|clips?|recordings?|sounds?|data)\d*",
    re.IGNORECASE,
)
_NAMED = re.compile(rb"\.(" + "|".join(" ".join(_ENDINGS.values()).split()).encode() + rb")\b", re.IGNORECASE)
_HEAD = 1 << 16  # bytes of a table that are searched for names of pictures or sounds
_DEEP = 12
_SHOWN = 3

_Parts = tuple[str, ...]  # a path below the folder that is read


class _Tree(NamedTuple):
    files: list[_Parts]
    folders: list[_Parts]


def media(path: Path, cache: Path) -> Source | None:
    """Read a folder of class folders; None where it is something else, as where a table beside the files names them.

    Gives "image" or "audio" (a struct of bytes, null, and the absolute path) and "label", the name of the class folder. Class
    folders lie in folders named as splits, or side by side. What is ignored is told, by kind; hidden files are passed over.
    The fingerprint is of splits, labels and the files' bytes, not of their names. Raises DataError where two folders are the
    same split, a name is not Unicode, or there are such folders, but of files that cannot be read.
    """
    from thawline.data.read import SPLITS, Source  # which imports this module

    root = Path(os.path.abspath(path))  # not resolved: a linked file keeps the name that the user knows
    tree = _tree(root)
    kind = _kind(tree)
    if kind is None:
        _refuse_foreign(root, tree)
        return None
    of_kind = [file for file in tree.files if _kind_of(file) == kind]
    places = _places(of_kind, SPLITS, root)
    if any(file[-1].endswith(".trans.txt") for file in tree.files):  # LibriSpeech: a folder a speaker
        return None
    if any(_names_files(root.joinpath(*file)) for file in tree.files if _is_beside(file, places.values())):
        return None
    rows = {split: _rows(of_kind, place) for split, place in places.items()}
    labels = {label for found in rows.values() for label, _ in found}
    if len(labels) < 2 or all(_ROLE.fullmatch(label) or label.lower() in SPLITS for label in labels):
        return None
    splits = {split: _table(root, found, kind) for split, found in rows.items()}
    fingerprint = [kind]
    for split, table in splits.items():
        hashes = digests(table.column(kind).to_pylist(), cache)
        fingerprint += [split, *(part for row in zip(table.column("label").to_pylist(), hashes, strict=True) for part in row)]
    return Source(splits, tuple(_notes(tree, places, kind)), root.name, hash_bytes(*fingerprint))


def loose(path: Path, cache: Path) -> Source | None:
    """Read one picture or sound, or a folder of them whatever lies how deep, without labels; None where there are none.

    It is for predicting: ids are the files' paths below the folder.
    """
    from thawline.data.read import Source  # which imports this module

    if path.is_file():
        root, files = path.absolute().parent, list[_Parts]([(path.name,)] if _kind_of((path.name,)) else [])
    else:
        root = Path(os.path.abspath(path))
        files = [file for file in _tree(root).files if _kind_of(file)]
    counts = Counter(_kind_of(file) for file in files)
    if not counts:
        return None
    kind = max(counts, key=lambda name: counts[name]) or ""
    rows = sorted(("", file) for file in files if _kind_of(file) == kind)
    table = _table(root, rows, kind).drop_columns(["label"])
    table = table.add_column(0, "id", pa.array(["/".join(file) for _, file in rows]))
    return Source({"all": table}, (), path.stem, hash_bytes(kind, *digests(table.column(kind).to_pylist(), cache)))


def _tree(root: Path) -> _Tree:
    tree = _Tree([], [])
    try:
        _walk(str(root), (), (), tree=tree)
    except PermissionError as error:
        raise DataError(f"{error.filename} may not be read; give yourself the right to, or take it away.") from None
    return tree


def _walk(folder: str, parts: _Parts, above: _Parts, *, tree: _Tree) -> None:
    here = os.path.realpath(folder)
    if here in above or len(above) > _DEEP:  # a link to a folder that it lies in
        return
    with os.scandir(folder) as listed:
        entries = sorted((entry for entry in listed if not _HIDDEN.match(entry.name)), key=lambda entry: entry.name)
    for entry in entries:
        below = (*parts, entry.name)
        if entry.is_dir():
            tree.folders.append(below)
            _walk(entry.path, below, (*above, here), tree=tree)
        else:
            tree.files.append(below)


def _ending(file: _Parts) -> str:
    return os.path.splitext(file[-1])[1].lower()


def _kind_of(file: _Parts) -> str | None:
    return _KINDS.get(_ending(file))


def _kind(tree: _Tree) -> str | None:
    """Return the kind that most files in folders are of; pictures where there are as many sounds."""
    counts = Counter(kind for file in tree.files if len(file) > 1 and (kind := _kind_of(file)))
    return max(_NOUNS, key=lambda kind: counts[kind]) if counts else None


def _refuse_foreign(root: Path, tree: _Tree) -> None:
    from thawline.data.read import PARSERS

    foreign = [file for file in tree.files if _ending(file) in _CONVERT]
    if len({file[:-1] for file in foreign}) > 1 and not any(_ending(file) in PARSERS for file in tree.files):
        raise DataError(f"{root}: there is nothing but {_counted(foreign)}: {_CONVERT[_ending(foreign[0])]}.")


def _places(files: list[_Parts], splits: Mapping[str, str], root: Path) -> dict[str, _Parts]:
    """Return the folder that the class folders of each split lie in; "all" where there are no splits."""
    place: _Parts = ()
    while True:
        below = [file[len(place) :] for file in files if file[: len(place)] == place and len(file) > len(place) + 1]
        tops = {file[0] for file in below}
        named = sorted(top for top in tops if top.lower() in splits and any(file[0] == top and len(file) > 2 for file in below))
        if named:
            break
        if len(tops) != 1 or any(len(file) == 2 for file in below):
            return {"all": place}
        place += (*tops,)
    found: dict[str, _Parts] = {}
    for name in named:
        if (split := splits[name.lower()]) in found:
            raise DataError(
                f"{root.joinpath(*place)}: {found[split][-1]} and {name} are both the {split} split; keep one of them."
            )
        found[split] = (*place, name)
    return {split: found[split] for split in dict.fromkeys(splits.values()) if split in found}


def _is_beside(file: _Parts, places: Iterable[_Parts]) -> bool:
    """Tell whether a file lies beside the class folders of a split, or above them."""
    return any(place[: len(file) - 1] == file[:-1] for place in places)


def _names_files(path: Path) -> bool:
    """Tell whether this is a table that names pictures or sounds."""
    from thawline.data.read import PARSERS

    if path.suffix.lower() not in PARSERS or re.match(r"readme|manifest|dataset_infos?", path.name, re.IGNORECASE):
        return False
    try:
        with path.open("rb") as file:
            return _NAMED.search(file.read(_HEAD).replace(b"\0", b"")) is not None  # without the zeros of UTF-16
    except OSError:
        return False


def _rows(files: Iterable[_Parts], place: _Parts) -> list[tuple[str, _Parts]]:
    deep = len(place)
    inside = (file for file in files if file[:deep] == place and len(file) > deep + 1)
    # One name may be written in two ways (as by macOS); it is one class.
    return sorted((unicodedata.normalize("NFC", file[deep]), file) for file in inside)


def _table(root: Path, rows: list[tuple[str, _Parts]], kind: str) -> pa.Table:
    paths = [os.path.join(root, *file) for _, file in rows]
    try:
        array = pa.array(paths, pa.string())
        labels = pa.array([label for label, _ in rows], pa.string())
    except UnicodeEncodeError:
        odd = next(path for path in paths if re.search("[\ud800-\udfff]", path))
        raise DataError(f"{odd!r} has a name that is not Unicode (UTF-8); rename it.") from None
    files = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), array], ["bytes", "path"])
    return pa.table({kind: files, "label": labels})


def _notes(tree: _Tree, places: Mapping[str, _Parts], kind: str) -> Iterator[str]:
    base = next(iter(places.values()))
    if base := base if "all" in places else base[:-1]:
        yield f"read from {'/'.join(base)}, where the class folders lie"
    classes: set[_Parts] = set()
    deep: list[_Parts] = []
    ignored: dict[tuple[str, str], list[_Parts]] = {}
    for file in tree.files:
        place = next((place for place in places.values() if file[: len(place)] == place and len(file) > len(place) + 1), None)
        if place is None or _kind_of(file) != kind:
            ignored.setdefault(_why_not(file, kind), []).append(file)
            continue
        classes.add(file[: len(place) + 1])
        if len(file) > len(place) + 2:
            deep.append(file)
    if deep:
        yield f"what lies deeper is of the class whose folder it is in: {_counted(deep)}"
    for (_, why), files in ignored.items():
        yield f"{_counted(files)} {'is' if len(files) == 1 else 'are'} ignored{why}"
    if empty := [folder for folder in tree.folders if folder[:-1] in places.values() and folder not in classes]:
        yield f"without {_NOUNS[kind]}, so no class: {_some(empty)}"


def _why_not(file: _Parts, kind: str) -> tuple[str, str]:
    """Return what kind of file is ignored, and why where that does not go without saying."""
    if _kind_of(file) == kind:
        return "", ": outside the class folders"
    return _ending(file), f": {_CONVERT[_ending(file)]}" if _ending(file) in _CONVERT else ""


def _counted(files: list[_Parts]) -> str:
    if len(files) == 1:
        return "/".join(files[0])
    endings = {_ending(file) for file in files}
    kind = f"{min(endings)} files" if len(endings) == 1 and endings != {""} else "files"
    return f"{len(files)} {kind} ({_some(files)})"


def _some(files: list[_Parts]) -> str:
    return ", ".join("/".join(file) for file in files[:_SHOWN]) + (", …" if len(files) > _SHOWN else "")
