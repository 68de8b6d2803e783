"""The groups of examples that are looked at: by length, by the user's columns, by pairs of these, and by words."""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.data.examples import Examples
from thawline.evaluate.answered import Answered
from thawline.evaluate.slice_words import Words

Array = NDArray[Any]

BINS = 5
MAX_VALUES = 1000
_MAX_WORDS, _MAX_PAIRS, _MAX_PAIRED = 10_000, 2_000, 5_000_000
_EPOCH = datetime.datetime(1970, 1, 1)
_NOT_COLUMNS = {"id", "label", "weight", "text", "text_pair", "image", "audio", "tokens", "messages", "tools"}


@dataclass(frozen=True)
class Slice:
    """A group of examples: what it is in words, of which kind ("length", "column", "pair", "word"), by what, and which rows.

    `by` names the columns, or is "length" or "word"; `rows`, int [n], are in order.
    """

    name: str
    kind: str
    by: tuple[str, ...]
    rows: Array


def candidates(answered: Answered, *, least: int, words: Words) -> tuple[list[Slice], list[str]]:
    """Return all slices with at least `least` examples inside and outside, and notes of what was left out.

    They are chosen without a look at the answers, pairs of columns too: only so does the correction of `search` hold.
    """
    notes: list[str] = []
    single = _bins("length", words.lengths, unit=words.unit, kind="length") if words.lengths is not None else []
    for name in _names(answered):
        single += _of_column(name, answered.column(name), answered.targets, notes=notes)
    most = len(answered) - least
    single = [one for one in single if least <= len(one.rows) <= most]
    return single + _pairs(single, len(answered), least=least, notes=notes) + _of_words(words, least, most, notes=notes), notes


def _names(answered: Answered) -> list[str]:
    if isinstance(answered.examples, Examples):
        names = list(answered.examples.table.column_names)
    else:
        names = list(dict.fromkeys(name for example in answered.examples for name in example))
    return [name for name in names if name not in _NOT_COLUMNS]


def _of_column(name: str, values: list[Any], targets: Sequence[Any], *, notes: list[str]) -> list[Slice]:
    """Return the slices of one column: its values, or bins of its numbers or dates; a missing value is a value."""
    plain = [_plain(value) for value in values]
    there = [value for value in plain if value is not None]
    kinds = {type(value) for value in there}
    if not there:
        return []
    if not kinds <= {str, float, bool, datetime.datetime}:
        notes.append(f"The column {name!r} is not looked at: it holds neither texts, numbers, dates nor yes and no.")
        return []
    different = len(set(there))
    if different > BINS and len(kinds) == 1 and not kinds <= {str, bool}:
        numbers = np.array([_number(value) for value in plain])
        return _bins(name, numbers, date=kinds == {datetime.datetime}) + _equal(name, plain, missing=True)
    if different > min(MAX_VALUES, max(BINS, len(there) // 5)):
        notes.append(f"The column {name!r} is not looked at: {different:,} different values are too many for slices.")
        return []
    if _renames(plain, targets):
        notes.append(f"The column {name!r} is not looked at: it is the label under another name.")
        return []
    return _equal(name, plain)


def _plain(value: Any) -> Any:
    """Return a text, a float, a bool, a date with time, None for what is missing, or else the value as it is."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Real | Decimal):
        return None if math.isnan(value) else float(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    return (str(value) or None) if isinstance(value, str) else value


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    return (value - _EPOCH).total_seconds() if isinstance(value, datetime.datetime) else float(value)


def _renames(values: list[Any], targets: Sequence[Any]) -> bool:
    """Whether each value goes with one label and each label with one value."""
    if not targets or not isinstance(targets[0], str):
        return False
    pairs = set(zip(values, targets, strict=True))
    return len(pairs) > 1 and len(pairs) == len(set(values)) == len(set(targets))


def _equal(name: str, values: list[Any], *, missing: bool = False) -> list[Slice]:
    """Return a slice for each value, or only the one where it is `missing`."""
    rows = defaultdict[Any, list[int]](list)
    for row, value in enumerate(values):
        if value is None or not missing:
            rows[value].append(row)
    return [
        Slice(f"{name} is {_shown(value)}", "column", (name,), np.array(rows[value]))
        for value in sorted(rows, key=lambda value: (value is None, str(value)))
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:59] + "…"}"'
    return f"{value:g}" if isinstance(value, float) else f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _bins(name: str, values: Array, *, unit: str = "", kind: str = "column", date: bool = False) -> list[Slice]:
    """Return up to BINS slices of like size, by quantiles; where many values are equal they are fewer."""
    known = np.sort(values[~np.isnan(values)])
    edges = np.unique(known[(np.arange(1, BINS) * len(known)) // BINS]) if len(known) else known
    place = np.searchsorted(edges, values, side="right")
    found = []
    for number in np.unique(place[~np.isnan(values)]):
        rows = np.flatnonzero((place == number) & ~np.isnan(values))
        ends = float(values[rows].min()), float(values[rows].max())
        low, high = (_shown(_EPOCH + datetime.timedelta(seconds=end)) if date else f"{end:.6g}" for end in ends)
        span = low if low == high else f"{low} to {high}"
        found.append(Slice(f"{span} {unit}" if unit else f"{name} {span}", kind, (name,), rows))
    return found


def _pairs(single: list[Slice], total: int, *, least: int, notes: list[str]) -> list[Slice]:
    """Return what two slices of different columns (or a column and the length) have in common."""
    both = [(one, other) for one, other in combinations(single, 2) if one.by != other.by]
    cost = np.cumsum([min(len(one.rows), len(other.rows)) for one, other in both])
    kept = min(_MAX_PAIRS, int(np.searchsorted(cost, _MAX_PAIRED, side="right")))
    if kept < len(both):
        notes.append(f"Of {len(both):,} pairs of columns' slices the first {kept:,} are looked at, to stay quick.")
    found, inside = [], np.zeros(total, dtype=bool)
    for one, other in both[:kept]:
        inside[one.rows] = True
        rows = other.rows[inside[other.rows]]
        inside[one.rows] = False
        if least <= len(rows) < min(len(one.rows), len(other.rows)):
            found.append(Slice(f"{one.name} and {other.name}", "pair", one.by + other.by, rows))
    return found


def _of_words(words: Words, least: int, most: int, *, notes: list[str]) -> list[Slice]:
    """Return a slice for each word in at least 1 % of the texts and in `least`; the most frequent where they are many."""
    if words.presence is None:
        return []
    sizes = np.diff(words.presence.indptr)
    kept = np.flatnonzero((sizes >= max(least, math.ceil(0.01 * words.presence.shape[0]))) & (sizes <= most))
    if len(kept) > _MAX_WORDS:
        notes.append(f"Of {len(kept):,} frequent words the {_MAX_WORDS:,} most frequent are looked at, to stay quick.")
        kept = np.sort(kept[np.argsort(-sizes[kept], kind="stable")[:_MAX_WORDS]])
    starts, rows = words.presence.indptr.tolist(), words.presence.indices
    return [
        Slice(f'{words.what} with "{words.names[i]}"', "word", ("word",), np.sort(rows[starts[i] : starts[i + 1]]))
        for i in kept.tolist()
    ]
