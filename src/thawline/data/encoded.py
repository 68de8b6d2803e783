"""Examples as the model sees them: encoded once, kept by content in the cache, memory-mapped, never padded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import pyarrow as pa

from thawline.data.cache import written_aside
from thawline.types import Example, Item

_TYPES = {"u1": (np.uint8, pa.uint8()), "f": (np.float32, pa.float32())}
_WHOLE = (np.int32, pa.int32())
_APART = ("length", "full_length", "owner")
_SHAPE = " shape"


def length_of(item: Item) -> int:
    """Return what an item counts for in a batch: its "length", else the length of its first array.

    >>> length_of({"input_ids": [1, 2, 3]}), length_of({"pixels": np.zeros((3, 8, 8)), "length": 16})
    (3, 16)
    """
    return int(item["length"]) if "length" in item else len(next(iter(item.values())))


class _View(NamedTuple):
    """One column of a piece of the file: numbers, where each item's begin, and their shapes where these have several axes."""

    values: np.ndarray
    offsets: np.ndarray
    shapes: np.ndarray | None

    def __getitem__(self, row: Any) -> Any:
        values = self.values[self.offsets[row] : self.offsets[row + 1]]
        return values if self.shapes is None else values.reshape(self.shapes[row])


@final
class Encoded(Sequence[Item]):
    """Items in an Arrow file: arrays by name, read as numpy views of the mapped file.

    `lengths` is what each item counts for (tokens, say), `full_lengths` the same before it was cut, both of shape [N]; `owners`
    is the place of the example that each item is of, None where each example is one item.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.lengths = table["length"].to_numpy()
        self.full_lengths = table["full_length"].to_numpy()
        self.owners = table["owner"].to_numpy() if "owner" in table.column_names else None
        names = [name for name in table.column_names if name not in _APART and not name.endswith(_SHAPE)]
        self._views = [{name: _view(batch, name) for name in names} for batch in table.to_batches()]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in table.to_batches())])
        self._places: np.ndarray | None = None

    def select(self, examples: np.ndarray) -> Encoded:
        """Return the items of the examples at these places, int [M], in this order; nothing is copied or computed."""
        other, places = copy.copy(self), examples
        if self.owners is not None:
            first, last = (np.searchsorted(self.owners, examples, side=side) for side in ("left", "right"))
            other.owners = np.repeat(np.arange(len(examples)), last - first)
            places = np.concatenate([np.arange(one, end) for one, end in zip(first, last, strict=True)])
        other.lengths, other.full_lengths = self.lengths[places], self.full_lengths[places]
        other._places = places if self._places is None else self._places[places]
        return other

    def __len__(self) -> int:
        return len(self.lengths)

    def values(self, name: str) -> list[np.ndarray] | None:
        """Return all numbers of one column of the file, in chunks that are views of it; None where there is no such column."""
        return [views[name].values for views in self._views] if name in self._views[0] else None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = index if self._places is None else int(self._places[index])
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - self._starts[chunk]
        return {name: view[row] for name, view in self._views[chunk].items()}


def _view(batch: pa.RecordBatch, name: str) -> _View:
    column, shape = batch.column(name), name + _SHAPE
    shapes = np.stack(batch.column(shape).to_numpy(zero_copy_only=False)) if shape in batch.schema.names else None
    return _View(column.values.to_numpy(), column.offsets.to_numpy(), shapes)


def encoded(
    batches: Iterable[Sequence[Example]],
    encode: Callable[[Sequence[Example]], list[Item]],
    *,
    key: str,
    cache: Path,
    told: Callable[[int], object] = lambda done: None,
) -> Encoded:
    """Return the encoded examples for `key`, computing and storing them where they are not there yet.

    `batches` gives the examples in order; `key` stands for their content and for everything that `encode` depends on; `told` is
    called with the number of examples done.
    """
    path = cache / "encoded" / f"{key}.arrow"
    try:
        return Encoded(path)
    except (FileNotFoundError, pa.ArrowInvalid):  # not there, or torn
        with written_aside(path) as aside:
            _write(aside, batches, encode, told=told)
        return Encoded(path)


def _write(path: Path, batches: Iterable[Sequence[Example]], encode: Any, *, told: Callable[[int], object]) -> None:
    writer, done = None, 0
    for examples in batches:
        batch = _batch(encode(examples), done)
        writer = writer or pa.ipc.new_file(str(path), batch.schema)
        writer.write_batch(batch)
        done += len(examples)
        told(done)
    assert writer is not None, "there is nothing to encode"
    writer.close()


def _batch(items: Sequence[Item], before: int) -> pa.RecordBatch:
    columns: dict[str, pa.Array] = {}
    for name in (name for name in items[0] if name not in _APART):
        columns |= _column(name, [item[name] for item in items])
    lengths = [length_of(item) for item in items]
    columns["length"] = pa.array(lengths, pa.int32())
    columns["full_length"] = pa.array([item.get("full_length", n) for item, n in zip(items, lengths, strict=True)], pa.int32())
    if "owner" in items[0]:
        columns["owner"] = pa.array([before + item["owner"] for item in items], pa.int64())
    return pa.record_batch(columns)


def _column(name: str, values: list[Any]) -> dict[str, pa.Array]:
    if not isinstance(values[0], np.ndarray):
        return {name: pa.array(values, type=pa.list_(_WHOLE[1]))}
    kind = values[0].dtype
    dtype, arrow = _TYPES.get(kind.str[1:], _TYPES.get(kind.kind, _WHOLE))
    offsets = np.cumsum([0, *(value.size for value in values)], dtype=np.int32)
    flat = np.concatenate([value.ravel() for value in values]).astype(dtype, copy=False)
    found = {name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, arrow))}
    if values[0].ndim > 1:
        found[name + _SHAPE] = pa.array([list(value.shape) for value in values], pa.list_(pa.int32()))
    return found
