"""Predictions as files, JSON lines or CSV: written as they come, put in place whole, and read back as they were."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, cast, final, overload

import numpy as np

from thawline.errors import MachineError, UserError
from thawline.types import Prediction

_SCORE = "score:"
_MEASURED = {"loss", "tokens"}
_GENERATED = {"id", "text", *_MEASURED}


def write_predictions(predictions: Iterable[Prediction], path: Path) -> int:
    """Write predictions to `path`, one at a time, and return how many they were.

    A `.jsonl` file has one prediction a line. A `.csv` file has the columns `id`, then `label`, `labels` (joined by "|"; a "|"
    or "\\" of a label is written after a "\\") or `value`, then `score` and `score:<label>`; of texts `text`, `loss` and
    `tokens`, empty where there are none. `path` appears only when all is written. Raises UserError for another suffix,
    MachineError where the disk is full.
    """
    write = _format(path)[0]
    with _aside(path) as stream:
        return write(stream, predictions)


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Yield the predictions of a file that `write_predictions` wrote."""
    read = _format(path)[1]
    with path.open(encoding="utf-8", newline="") as stream:
        yield from read(stream)


@final
class PredictionFile(Sequence[Prediction]):
    """The predictions of a `.jsonl` file that `write_predictions` wrote; one is in memory only while it is looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            self._starts = np.cumsum(np.fromiter(chain([0], map(len, stream)), dtype=np.int64))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Prediction]:
        return read_predictions(self.path)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        with self.path.open("rb") as stream:
            stream.seek(self._starts[range(len(self))[index]])
            return cast(Prediction, json.loads(stream.readline()))


def write_jsonl(stream: TextIO, predictions: Iterable[Prediction]) -> int:
    """Write predictions to an open stream as JSON lines and return how many they were.

    >>> import sys
    >>> write_jsonl(sys.stdout, [{"id": "7", "label": "good", "score": 0.9}])
    {"id": "7", "label": "good", "score": 0.9}
    1
    """
    count = 0
    for prediction in predictions:
        stream.write(json.dumps(prediction, ensure_ascii=False) + "\n")
        count += 1
    return count


def _read_jsonl(stream: TextIO) -> Iterator[Prediction]:
    for line in stream:
        yield cast(Prediction, json.loads(line))


def _write_csv(stream: TextIO, predictions: Iterable[Prediction]) -> int:
    # Lines end in \r\n (RFC 4180): with \n alone the csv module leaves a \r inside a label unquoted.
    rows = map(_flat, predictions)
    first = next(rows, {"id": None})
    if first.keys() <= _GENERATED and first["id"] is not None:
        return _write_generated(stream, chain([first], rows))
    writer = csv.DictWriter(stream, list(first), lineterminator="\r\n")
    writer.writeheader()
    if first["id"] is None:
        return 0
    count = 0
    for row in chain([first], rows):
        assert row.keys() == first.keys(), f"prediction {row['id']!r} has {list(row)}, the first had {list(first)}"
        writer.writerow(row)
        count += 1
    return count


def _write_generated(stream: TextIO, rows: Iterable[dict[str, Any]]) -> int:
    """Write what is generated: an answer has a loss, and a text, where there was something to measure and room to write."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as aside:  # the columns are known when all rows are
        names, count = dict[str, None](), 0
        for row in rows:
            assert row.keys() <= _GENERATED, f"prediction {row['id']!r} has {list(row)}, others are of generated texts"
            names |= dict.fromkeys(row)
            aside.write(json.dumps(row) + "\n")
            count += 1
        aside.seek(0)
        writer = csv.DictWriter(stream, list(names), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(map(json.loads, aside))
    return count


def _flat(prediction: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in prediction.items():
        if key == "scores":
            row |= {f"{_SCORE}{label}": score for label, score in cast(dict[str, float], value).items()}
        elif key == "labels":
            row[key] = "|".join(re.sub(r"[\\|]", r"\\\g<0>", label) for label in cast(list[str], value))
        else:
            row[key] = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return row


def _read_csv(stream: TextIO) -> Iterator[Prediction]:
    for row in csv.DictReader(stream):
        prediction: dict[str, Any] = {}
        for key, text in row.items():
            if key.startswith(_SCORE):
                prediction.setdefault("scores", {})[key.removeprefix(_SCORE)] = float(text)
            elif text or key not in _MEASURED:
                prediction[key] = _VALUE.get(key, str)(text)
        yield cast(Prediction, prediction)


def _split(text: str) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", label, flags=re.DOTALL) for label in re.findall(r"(?:[^\\|]|\\.)+", text, re.DOTALL)]


_LISTS: dict[str, Callable[[str], Any]] = {"labels": _split, "tags": json.loads, "spans": json.loads}
_VALUE: dict[str, Callable[[str], Any]] = {"score": float, "value": float, "loss": float, "tokens": int, **_LISTS}
_Write = Callable[[TextIO, Iterable[Prediction]], int]
_Read = Callable[[TextIO], Iterator[Prediction]]
_FORMATS: dict[str, tuple[_Write, _Read]] = {".jsonl": (write_jsonl, _read_jsonl), ".csv": (_write_csv, _read_csv)}


def _format(path: Path) -> tuple[_Write, _Read]:
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"Predictions are written as .jsonl or .csv, and {str(path)!r} is neither; name it {path.stem}.jsonl.")
    return _FORMATS[path.suffix.lower()]


@contextmanager
def _aside(path: Path) -> Iterator[TextIO]:
    """Open a file beside `path` that takes its place, synced, when the context ends well, and goes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise MachineError(f"The disk is full: {path} could not be written. Make room, or give another place.") from error
        raise
