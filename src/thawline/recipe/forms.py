"""What a recipe's values may look like before they are checked: call forms as canonical text, numbers of any library."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeVar

from thawline.calls import Call, parse_call
from thawline.errors import UserError, did_you_mean
from thawline.regularize.base import REGULARIZERS, regularizer
from thawline.strategies import base as strategies
from thawline.table import Table
from thawline.train.schedule import check_schedule

T = TypeVar("T")

_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

SPLITS = {"auto": 0, "given": 0, "stratified": 0, "random": 0, "group": 1, "time": 1, "hash": 0}
"""Ways to split, with how many columns each takes."""


def whole(value: Any) -> Any:
    """Return `value` as int where it is a whole number of any kind (numpy's, 1e3), else unchanged.

    >>> whole(1e3), whole(2.5), whole(True)
    (1000, 2.5, True)
    """
    if isinstance(value, bool):
        return value
    exact = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return int(value) if exact else value


def number(value: Any) -> Any:
    """Return `value` as float where it is a real number of any library, else unchanged."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    try:
        return float(value)
    except OverflowError:
        return value


def path_text(value: Any) -> Any:
    """Return a path object as text, anything else unchanged."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def texts(value: Any) -> Any:
    """Return one text as a list of it, anything else unchanged.

    >>> texts("wandb"), texts(["a", "b"])
    (['wandb'], ['a', 'b'])
    """
    return [value] if isinstance(value, str) else value


def trackers(value: Any) -> Any:
    """Return a list of trackers; "none" and nothing are no trackers."""
    return [] if value in (None, "none", ["none"]) else texts(value)


def named_weights(value: Any) -> Any:
    """Return class weights with their keys as text, since a label 0 or true is the name of a class; None is "none"."""
    if isinstance(value, dict):
        return {str(key): weight for key, weight in value.items()}
    return "none" if value is None else value


def part(table: Table[Any], *also: str) -> Callable[[Any], Any]:
    """Return what lets a part's name through: of the table, of `also`, or a `package.module:object`, which is not imported.

    >>> part(Table("codec", {"json": "json:dumps"}), "auto")("jsn")
    Traceback (most recent call last):
    ValueError: there is no codec called 'jsn', did you mean 'json'? Expected auto, json or package.module:object
    """

    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in (*also, *table) and not _OWN.fullmatch(value):
            hint = did_you_mean(value, [*also, *table])
            raise ValueError(f"there is no {table.kind} called {value!r}{hint or '.'} Expected {parts(table, *also)}")
        return value

    return check


def parts(table: Table[Any], *also: str) -> str:
    """Return in words what `part` lets through."""
    return f"{', '.join([*also, *table])} or package.module:object"


def options(value: dict[str, Any], schedule: str) -> dict[str, Any]:
    """Return the options of a learning-rate schedule; raises ValueError where one of Thawline's own does not take them."""
    if ":" not in schedule:  # others' are not imported here
        try:
            check_schedule(schedule, value)
        except UserError as error:
            raise ValueError(str(error).rstrip(".")) from None
    return value


def optim(value: Any) -> Any:
    """Return transformers' names for AdamW as ours, anything else unchanged."""
    return "adamw" if value in ("adamw_torch", "adamw_torch_fused") else value


def strategy(value: Any) -> str:
    """Return the canonical text of a strategy: text, or an object with `.spec`. Raises ValueError.

    >>> strategy("gradual(layerwise(full,decay=.9))")
    'gradual(layerwise(full, decay=0.9), until=0.5)'
    """
    call = _call(value, "full or gradual(layerwise(full, decay=0.9), until=0.5)")
    if _is_ours(call, strategies.STRATEGIES):
        return _tried(lambda: strategies.strategy(str(call)).spec, call)
    return str(call)


def augmentations(value: Any) -> list[str]:
    """Return the canonical texts of augmentations: a list, or one text as `[flip, crop(0.7)]`. Raises ValueError.

    >>> augmentations("flip, crop(.7)")
    ['flip', 'crop(0.7)']
    """
    parts = value if isinstance(value, list | tuple) else [value]
    return list(map(str, _calls(", ".join(map(_spec, parts)))))


def regularizers(value: Any) -> list[str]:
    """Return the canonical texts of regularisers: a list, or one text as `[l1(1e-5), dropout(0.1)]`. Raises ValueError.

    >>> regularizers("l2(1e-4), dropout([0.1, 0.2])")
    ['l2(0.0001)', 'dropout([0.1, 0.2])']
    """
    parts = value if isinstance(value, list | tuple) else [value]
    # Joined before they are parsed: YAML's flow lists cut texts at every comma.
    calls = _calls(", ".join(map(_spec, parts)))
    for text, call in ((str(call), call) for call in calls if _is_ours(call, REGULARIZERS)):
        _tried(partial(regularizer, text), call)
    return list(map(str, calls))


def split(value: Any) -> str:
    """Return the canonical text of a split: a name, or group(column) and time(column). Raises ValueError.

    >>> split("group( column = author )"), split("time('sent at')")
    ('group(author)', "time('sent at')")
    """
    call = _call(value, "stratified or group(author)")
    if call.name not in SPLITS:
        raise ValueError(_no_such("split", call.name, SPLITS))
    columns = [*call.args, *(inner for key, inner in call.kwargs if key == "column")]
    given = len(call.args) + len(call.kwargs)
    if not len(columns) == given == SPLITS[call.name] or not all(map(_is_column, columns)):
        form = f"{call.name}(COLUMN), the column in quotes where it has a space" if SPLITS[call.name] else f"{call.name} alone"
        raise ValueError(f"{str(value)!r} was given; expected {form}")
    return str(Call(call.name, tuple(columns)))


def _is_column(value: Any) -> bool:
    return (isinstance(value, Call) and not value.args and not value.kwargs) or (isinstance(value, str) and value != "")


def _spec(value: Any) -> str:
    spec = getattr(value, "spec", value)
    if not isinstance(spec, str | Call):
        raise ValueError(f"{spec!r} was given; expected a name or a call such as layerwise(full, decay=0.9)")
    return str(spec).strip()


def _call(value: Any, example: str) -> Call:
    spec = _spec(value)
    try:
        return parse_call(spec)
    except (UserError, MemoryError):  # the parser's own answer to a thousand brackets
        raise ValueError(f"{_short(spec)} is not a name or a call; expected for example {example}") from None


def _calls(text: str) -> tuple[Call, ...]:
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        outer = parse_call(f"_({inside})")
    except (UserError, MemoryError):
        outer = Call("", (None,))
    if outer.name != "_" or outer.kwargs or not all(isinstance(call, Call) for call in outer.args):
        raise ValueError(f"{_short(text)} is not a list of calls; expected for example [l1(1e-5), dropout(0.1)]")
    return outer.args


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:76]} ...")


def _is_ours(call: Call, table: Table[Any]) -> bool:
    """Whether all parts are Thawline's own. Others' are not imported here: reading a recipe runs nothing that it names."""
    if call.name not in table and ":" not in call.name:
        raise ValueError(_no_such(table.kind, call.name, table))
    return not any(":" in name for name in _names(call))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Call):
        yield value.name
        yield from _names([*value.args, *(inner for _, inner in value.kwargs)])
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


def _tried(make: Callable[[], T], call: Call) -> T:
    try:
        return make()
    except UserError as error:
        raise ValueError(str(error).rstrip(".")) from None
    except (TypeError, ValueError, AttributeError):
        raise ValueError(f"{_short(str(call))} has an argument of the wrong kind") from None


def _no_such(kind: str, name: str, known: Iterable[str]) -> str:
    hint = did_you_mean(name, known)
    return f"there is no {kind} called {name!r}{hint or '.'} Expected {', '.join(known)}"
