"""From the user's columns to the canonical table: id, text, label, weight, then the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import ids, labels
from thawline.data.columns import Columns, expect
from thawline.data.examples import CANONICAL, FILES, Examples
from thawline.data.ids import Keys
from thawline.data.inputs import INPUTS
from thawline.errors import DataError

_ROWS = 65536


@dataclass(frozen=True)
class Part:
    """Examples with the hash of each one's normalised text, uint64 [N]: what splitting and checking work on."""

    examples: Examples
    keys: Keys

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Part:
        """Return the rows at these positions (integers [M] or a mask, bool [N])."""
        chosen = np.asarray(indices)
        return Part(self.examples.select(chosen), self.keys[chosen])

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""
        return name in self.examples.table.column_names


def canonical(table: pa.Table, columns: Columns, split: str) -> Part:
    """Return the rows of `table` in canonical form; labels and weights only where the table has their columns.

    Texts and untouched columns stay memory-mapped. Raises DataError for a missing text column, a bad id, label or weight.
    """
    inputs = INPUTS[columns.kind]
    for name in columns.inputs:
        expect(name, table.column_names, f"data.{inputs.name}, in {split}")
    table = pa.Table.from_batches(table.to_batches(max_chunksize=_ROWS), table.schema)
    values = {
        canon: inputs.convert(table.column(name), name, split)
        for canon, name in zip(inputs.columns, columns.inputs, strict=False)
    }
    plain, keys = inputs.keys(pa.table(values))
    has_id = columns.id is not None and columns.id in table.column_names
    made: dict[str, Any] = {
        "id": ids.given_ids(table.column(columns.id), name=str(columns.id), split=split) if has_id else ids.content_ids(plain)
    }
    made |= values
    if inputs.name in FILES:
        made["content"] = pa.array(plain)
    label = (columns.label,) if isinstance(columns.label, str) else columns.label or ()
    if label and all(name in table.column_names for name in label):
        made["label"] = _targets([table.column(name) for name in label], label, columns, split=split)
    elif columns.target == "answer":
        made["label"] = _last_answers(made["messages"])
    if columns.weight and columns.weight in table.column_names:
        made["weight"] = _weights(table.column(columns.weight), columns.weight, split)
    used = {*columns.inputs, *label, columns.id, columns.weight}
    rest = {
        name if name not in CANONICAL else f"{name}_original": table.column(name)
        for name in table.column_names
        if name not in used
    }
    return Part(Examples(pa.table(made | {name: column for name, column in rest.items() if name not in made})), keys)


def labelled(part: Part) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows have a label, bool [N]."""
    if not part.has("label"):
        return np.zeros(len(part), np.bool_)
    mask: np.ndarray[Any, np.dtype[np.bool_]] = pc.is_valid(part.examples.column("label")).to_numpy()
    return mask


def label_codes(part: Part) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a number for each row's label, equal for equal labels and in no particular order, int64 [N]."""
    column = part.examples.column("label")
    if pa.types.is_list(column.type):
        column = pc.binary_join(column, "\x1f")
    codes = pc.index_in(column, value_set=pc.unique(column))
    return np.asarray(codes.to_numpy(), np.int64)


def class_codes(part: Part, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the place in `names` of each row's one label, int64 [N]."""
    codes = pc.index_in(part.examples.column("label"), value_set=pa.array(names, pa.string()))
    return np.asarray(codes.to_numpy(), np.int64)


def _targets(values: Sequence[pa.ChunkedArray], names: Sequence[str], columns: Columns, *, split: str) -> pa.ChunkedArray:
    if not columns.plainly:
        kind = values[0].type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)  # a transcript of digits
        return values[0].cast(pa.string()) if number else values[0]
    if len(values) > 1:
        return labels.indicators(values, names, split)
    return labels.canonical(values[0], columns.form, name=names[0], split=split)


def _last_answers(messages: pa.ChunkedArray) -> pa.Array:
    """Return the last answer of each conversation: what an answer of one's own is compared with."""
    turns = ([turn["content"] for turn in row if turn["role"] == "assistant"] for row in messages.to_pylist())
    return pa.array([answers[-1] if answers else None for answers in turns], pa.string())


def _weights(column: pa.ChunkedArray, name: str, split: str) -> pa.ChunkedArray:
    try:
        weights = column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"Column {name!r} of {split} is to hold weights, but {error}; expected a number of at least 0 in each row."
        ) from None
    good = pc.fill_null(pc.and_(pc.is_finite(weights), pc.greater_equal(weights, 0.0)), False).to_numpy()
    if not good.all():
        row = int(good.argmin())
        raise DataError(
            f"Column {name!r} has the weight {weights[row].as_py()} in row {row + 1} of {split}; "
            "expected a number of at least 0 in each row."
        )
    return weights
