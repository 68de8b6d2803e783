"""The lists of values that `vary` gives to keys: which keys may have one, and what may stand in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_DATA = "trials are compared by what they make of the same data; start a run for each"
_SAME = "it does not change what is learnt"
_AFTER = "it is about the best trial's model, which is measured once"
FIXED = {
    "task": "trials are compared by how well they do the same task; start a run for each",
    "data.path": _DATA,
    "data.label": _DATA,
    "data.id": _SAME,
    "data.weight": _DATA,
    "data.encoding": _SAME,
    "data.folds": "folds are compared with one another; start a run for each number of them",
    "data.fold": "data.folds lets it go over all folds; type data.folds=5",
    "train.seeds": "it says how many seeds there are; type train.seeds=5",
    "train.device": _SAME,
    "train.threads": _SAME,
    "train.checkpoint_minutes": _SAME,
    "train.report_to": _SAME,
    "train.metric_for_best_model": "trials are compared by one metric",
    "store": _SAME,
    "evaluate": _AFTER,
    "predict": _AFTER,
    "output": "all trials are kept in the run's one folder",
}
"""Sections and keys that cannot vary, and why."""

_CALLS = ("strategy", "regularize", "data.split")


def why_fixed(section: str, key: str) -> str | None:
    """Return why a key cannot vary; None where it can.

    >>> why_fixed("output", "dir"), why_fixed("train", "seed")
    ("all trials are kept in the run's one folder", None)
    """
    return FIXED.get(section) or FIXED.get(f"{section}.{key}")


def listed(path: str, value: Any) -> list[Any]:
    """Return the values that a key is to have, as they can stand in YAML; `value` is a list, a tuple, a range or an array.

    Raises ValueError.

    >>> listed("strategy", ["head", "gradual(full", "until=0.5)"])
    ['head', 'gradual(full, until=0.5)']
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if hasattr(value, "spec") or not isinstance(value, list | tuple | range):
        shown = str(_plain(value)) if value is not None else "null"
        raise ValueError(f"{shown[:60]} was given; expected a list of values; for example vary.{path}=[{shown[:60]}]")
    if not value:
        raise ValueError("an empty list was given; expected at least one value in it")
    values = [_plain(one) for one in value]
    return _rejoined(values) if path in _CALLS else values


def _plain(value: Any) -> Any:
    """Return a value as YAML would have it: call forms as text, numbers of any library as Python's."""
    if hasattr(value, "spec"):
        return str(value.spec)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{type(value).__name__} was given; expected a list of texts, numbers and the like")


def _rejoined(values: list[Any]) -> list[Any]:
    """Put together what YAML cut at the commas of a call."""
    whole = list[Any]()
    for value in values:
        if whole and isinstance(whole[-1], str) and whole[-1].count("(") > whole[-1].count(")"):
            whole[-1] = f"{whole[-1]}, {value}"
        else:
            whole.append(value)
    return whole
