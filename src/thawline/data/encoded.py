"""Examples as the model sees them: encoded once, kept by content in the cache, memory-mapped, never padded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa

from thawline.data.cache import written_aside
from thawline.types import Example, Item

_VALUES = pa.list_(pa.int32())


@final
class Encoded(Sequence[Item]):
    """Items in an Arrow file: lists of token ids and the like, read as numpy views of the mapped file.

    `lengths` is the number of tokens of each item, `full_lengths` the number before truncation, both of shape [N].
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.lengths = table["length"].to_numpy()
        self.full_lengths = table["full_length"].to_numpy()
        chunks = [name for name in table.column_names if name not in ("length", "full_length")]
        self._views = [{name: _view(batch.column(name)) for name in chunks} for batch in table.to_batches()]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in table.to_batches())])

    def __len__(self) -> int:
        return len(self.lengths)

    def values(self, name: str) -> list[np.ndarray] | None:
        """Return all numbers of one column, in chunks that are views of the file; None where there is no such column."""
        return [views[name][0] for views in self._views] if name in self._views[0] else None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - self._starts[chunk]
        return {name: values[offsets[row] : offsets[row + 1]] for name, (values, offsets) in self._views[chunk].items()}


def _view(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    return column.values.to_numpy(), column.offsets.to_numpy()


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
    if not path.is_file():
        with written_aside(path) as aside:
            _write(aside, batches, encode, told=told)
    return Encoded(path)


def _write(path: Path, batches: Iterable[Sequence[Example]], encode: Any, *, told: Callable[[int], object]) -> None:
    writer, done = None, 0
    for examples in batches:
        items = encode(examples)
        names = [name for name in items[0] if name != "full_length"]
        columns = {name: pa.array([item[name] for item in items], type=_VALUES) for name in names}
        lengths = [len(item[names[0]]) for item in items]
        columns["length"] = pa.array(lengths, pa.int32())
        columns["full_length"] = pa.array(
            [item.get("full_length", n) for item, n in zip(items, lengths, strict=True)], pa.int32()
        )
        batch = pa.record_batch(columns)
        writer = writer or pa.ipc.new_file(str(path), batch.schema)
        writer.write_batch(batch)
        done += len(items)
        told(done)
    assert writer is not None, "there is nothing to encode"
    writer.close()
