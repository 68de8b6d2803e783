"""What examples are made of: texts, pictures, sounds, tokens or conversations; how columns of each kind are found and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import texts
from thawline.data.cache import cache_folder
from thawline.data.ids import Keys, content_keys
from thawline.errors import DataError
from thawline.table import Table
from thawline.types import Finding

Shaped = tuple[pa.Table, Sequence[Finding]]
Fault = tuple[int, str]
_LOOKED_AT = 20  # rows by which a kind is recognised


def _as_it_is(table: pa.Table) -> Shaped | None:
    del table
    return None


def _no_faults(values: Sequence[Any]) -> list[Fault]:
    del values
    return []


@dataclass(frozen=True)
class Inputs:
    """One kind of input.

    `noun` names examples in messages; `columns` are the canonical ones; `target` is what is usually learned of it, an entry of
    `thawline.data.columns.TARGETS`. `find` returns the user's columns that hold it, none where there are none; `shape` brings a
    table of another form into canonical columns, None where it is of no such form, `of_texts` a table of texts that is to be
    answered for; `known` are the names by which `shape` looks for columns first, by the keys of the recipe that name them,
    and their types;
    `convert` brings one column (its name, its split) into canonical form; `keys` hashes contents, as they stand and
    normalised; `faults` tells which cannot be read.
    """

    name: str
    noun: str
    columns: tuple[str, ...]
    target: str
    find: Callable[[pa.Table, set[str | None], bool], tuple[str, ...]]
    convert: Callable[[pa.ChunkedArray, str, str], pa.ChunkedArray]
    keys: Callable[[pa.Table], tuple[Keys, Keys]]
    shape: Callable[[pa.Table], Shaped | None] = _as_it_is
    of_texts: Callable[[pa.Table], Shaped | None] = _as_it_is
    known: Mapping[str, Callable[[pa.DataType], str]] = field(default_factory=dict)
    faults: Callable[[Sequence[Any]], list[Fault]] = _no_faults


def shaped(table: pa.Table, inputs: Inputs, names: Mapping[str, str]) -> Shaped | None:
    """Return what `inputs.shape` makes of a table, from the columns that the user names, by key of the recipe.

    Raises DataError for one that does not hold what it is named for.

    >>> table = pa.table({"tokens": [["Oslo"]], "ner_tags": [["B-city"]], "upos": [["NOUN"]]})
    >>> shaped(table, INPUTS["tokens"], {"label": "upos"})[0].column("label").to_pylist()
    [['NOUN']]
    """
    of = {key: name for key, name in names.items() if key in inputs.known and name in table.column_names}
    known = {name: inputs.known[key](table.schema.field(name).type) for key, name in of.items()}
    aside = {new: f"{new}_original" for name, new in known.items() if name != new}
    given = table.rename_columns([known.get(name) or aside.get(name, name) for name in table.column_names])
    found = inputs.shape(given)
    label = of.get("label")
    if label is not None and found is not None and known[label] in found[0].column_names:  # left as it was
        kind = table.schema.field(label).type
        raise DataError(f"Column {label!r} (data.label) holds {kind}; expected a list of tags, one a token, or spans.")
    return found


def is_media(kind: pa.DataType) -> bool:
    """Tell whether a column holds files: structs of bytes and path, as `datasets` keeps pictures and sounds."""
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


Fits = Callable[[pa.DataType], bool]


def _of_type(name: str, fits: Fits) -> Callable[[pa.Table, set[str | None], bool], tuple[str, ...]]:
    def find(table: pa.Table, taken: set[str | None], labelled: bool) -> tuple[str, ...]:
        del labelled
        there = name in table.column_names and name not in taken and fits(table.schema.field(name).type)
        return (name,) if there else ()

    return find


def _same(column: pa.ChunkedArray, name: str, split: str) -> pa.ChunkedArray:
    if column.null_count:
        raise DataError(f"Column {name!r} of {split} is empty in {column.null_count} rows; fill them, or leave them out.")
    return column


def _text(column: pa.ChunkedArray, name: str, split: str) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise DataError(f"Column {name!r} of {split} holds {column.type}; expected texts.")
    found = column.cast(pa.string())
    return pc.fill_null(found, "") if found.null_count else found


def _hashed(contents: Any) -> tuple[Keys, Keys]:
    rows = [blake2b(content, digest_size=8).digest() for content in contents]
    keys = np.frombuffer(b"".join(rows), ">u8").astype(np.uint64)
    return keys, keys


def _file_keys(table: pa.Table) -> tuple[Keys, Keys]:
    from thawline.data.digests import digests

    keys = np.array([int(one[:16], 16) for one in digests(table.column(0).to_pylist(), cache_folder())], np.uint64)
    return keys, keys


def _json_keys(table: pa.Table) -> tuple[Keys, Keys]:
    rows = table.column(0).to_pylist()
    return _hashed(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in rows)


def _unreadable_pictures(values: Sequence[Any]) -> list[Fault]:
    from thawline.data.images import unreadable

    return list(unreadable(values))


def _unreadable_sounds(values: Sequence[Any]) -> list[Fault]:
    from thawline.data.sounds import unreadable

    return list(unreadable(values))


def _tagged(table: pa.Table) -> Shaped | None:
    from thawline.data.tagged import tagged

    return tagged(table)


def _untagged(table: pa.Table) -> Shaped:
    from thawline.data.untagged import untagged

    return untagged(table)


def _conversations(table: pa.Table) -> Shaped | None:
    from thawline.data.conversations import conversations

    return conversations(table)


def _texts(table: pa.Table, taken: set[str | None], labelled: bool) -> tuple[str, ...]:
    return texts.find_texts(table, taken, labelled=labelled)


TEXT = Inputs("text", "texts", ("text", "text_pair"), "label", _texts, _text, content_keys)
_images, _sounds = (_of_type(name, is_media) for name in ("image", "audio"))
_tokens, _messages = (_of_type(name, pa.types.is_list) for name in ("tokens", "messages"))
IMAGE = Inputs("image", "pictures", ("image",), "label", _images, _same, _file_keys, faults=_unreadable_pictures)
AUDIO = Inputs("audio", "recordings", ("audio",), "label", _sounds, _same, _file_keys, faults=_unreadable_sounds)
_TAGGED: dict[str, Callable[[pa.DataType], str]] = {
    "tokens": lambda kind: "tokens" if pa.types.is_list(kind) else "text",
    "label": lambda kind: "ner_tags" if pa.types.is_list(kind) and not pa.types.is_nested(kind.value_type) else "entities",
}
TOKENS = Inputs(
    "tokens", "sentences", ("tokens",), "tags", _tokens, _same, _json_keys, _tagged, of_texts=_untagged, known=_TAGGED
)
MESSAGES = Inputs("messages", "conversations", ("messages",), "answer", _messages, _same, _json_keys, _conversations)

_KINDS = ("text", "image", "audio", "tokens", "messages")
INPUTS: Table[Inputs] = Table("kind of input", {kind: f"thawline.data.inputs:{kind.upper()}" for kind in _KINDS})


def recognise(table: pa.Table, named: Sequence[str] = ()) -> Inputs:
    """Return what the examples of a table are made of; `named` are the kinds whose columns the user names.

    >>> recognise(pa.table({"text": ["good"], "label": ["yes"]})).name
    'text'
    """
    for name in named:
        return INPUTS[name]
    for kind in (IMAGE, AUDIO, TOKENS):
        if kind.find(table, set(), False) or kind.shape(table.slice(0, _LOOKED_AT)) is not None:
            return kind
    if _labelled_texts(table) or len(table.column_names) == 1:
        return TEXT  # a text alone could be a document to go on writing, too
    return MESSAGES if MESSAGES.find(table, set(), False) or MESSAGES.shape(table.slice(0, _LOOKED_AT)) else TEXT


def _labelled_texts(table: pa.Table) -> bool:
    """Tell whether a table has plain labels beside texts: then it is one of texts, whatever else its columns could be."""
    name = texts.named_label(table.column_names)
    plain = name is not None and not pa.types.is_nested(table.schema.field(name).type)
    return plain and "text" in map(str.lower, table.column_names)
