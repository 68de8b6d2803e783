"""What is in memory already: frames, lists, dicts of columns, `datasets` objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from thawline.data.columnar import class_names, named
from thawline.data.json_rows import merged, schema_of, to_batch
from thawline.errors import DataError

SHAPES = (
    "a file, a folder, a pandas frame, a datasets.Dataset, a list of dicts, a list of texts, a tuple (texts, labels), "
    "a dict of columns, or a dict of splits"
)


def to_table(data: object) -> pa.Table:
    """Return the table that an object in memory stands for; raises DataError for what is none."""
    if isinstance(data, pa.Table):
        return named(data, class_names(data.schema))
    if type(data).__module__.startswith("datasets.") and hasattr(data, "features"):
        return of_dataset(data)
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return _of_frame(data)
    if isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], (str, Mapping)):
        return _of_pair(*map(_listed, data))
    if isinstance(data, Mapping):
        return _of_columns({str(name): _listed(values) for name, values in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _of_rows(list(data))
    if hasattr(data, "tolist"):
        return _of_rows(_listed(data))
    raise DataError(f"A {type(data).__name__} is not something examples can be read from; expected {SHAPES}.")


def of_dataset(data: Any) -> pa.Table:
    """Return the (memory-mapped) table of a `datasets.Dataset`, in its order, with class names instead of numbers."""
    table = (data if data._indices is None else data.flatten_indices()).data.table
    classes = {name: getattr(feature, "feature", feature) for name, feature in data.features.items()}
    names = {name: list(feature.names) for name, feature in classes.items() if getattr(feature, "names", None)}
    return named(table, names)


def _of_frame(frame: Any) -> pa.Table:
    frame = frame.rename(columns=str)
    try:
        return named(pa.Table.from_pandas(frame, preserve_index=False), {})
    except pa.ArrowException:  # a column of mixed types
        return _of_columns(
            {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns}
        )


def _of_pair(texts: list[Any], labels: list[Any]) -> pa.Table:
    if len(texts) != len(labels):
        raise DataError(f"There are {len(texts)} texts but {len(labels)} labels; expected one label for each text.")
    return _of_columns({**_texts(texts), "label": labels})


def _of_rows(rows: list[Any]) -> pa.Table:
    if rows and all(isinstance(row, Mapping) for row in rows):
        return _of_columns(
            {str(name): [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}
        )
    return _of_columns(_texts(rows))


def _texts(texts: list[Any]) -> dict[str, list[Any]]:
    if all(isinstance(text, str) or text is None for text in texts):
        return {"text": texts}
    if all(isinstance(text, (tuple, list)) and len(text) == 2 for text in texts):
        return {"text": [text[0] for text in texts], "text_pair": [text[1] for text in texts]}
    odd = next(text for text in texts if not isinstance(text, str))
    raise DataError(f"A list of texts holds {odd!r}, a {type(odd).__name__}; expected strings, pairs of strings, or dicts.")


def _of_columns(columns: Mapping[str, list[Any]]) -> pa.Table:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"The columns differ in length ({lengths}); expected one value for each row in each.")
    if not any(lengths.values()):
        raise DataError("The data is empty; expected at least one row.")
    arrays = [_column(values) for values in columns.values()]
    return pa.table(arrays, names=list(columns))


def _column(values: list[Any]) -> pa.Array:
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        rows = [{"x": value} for value in values]
        return to_batch(rows, schema_of(merged({}, rows))).column(0)
    return array.cast(pa.string()) if array.type == pa.null() else array


def _listed(values: Any) -> list[Any]:
    """Return a list of Python values from a list, tuple, array or series; numpy scalars would not be recognised below."""
    if isinstance(values, str):
        raise DataError(f"{values[:60]!r} stands where a list of values was expected.")
    return list(values.tolist() if hasattr(values, "tolist") else values)
