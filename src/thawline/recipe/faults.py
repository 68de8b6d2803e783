"""Faults of a recipe in plain words: what happened, what was expected, what to type."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from thawline.recipe import names
from thawline.recipe.schema import Recipe

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_BOUNDS = {"ge": "of at least", "gt": "above", "lt": "below", "le": "up to"}


def hint_of(section: str, key: str = "") -> Any:
    """Return the annotation of a key with its ranges; of the section itself where it is one value."""
    owner, name = (Recipe, section) if section in names.WHOLE else (names.section_class(section), key)
    return get_type_hints(owner, include_extras=True)[name]


def expected(hint: Any) -> str:
    """Return in words which values an annotation takes.

    >>> expected(hint_of("train", "learning_rate")), expected(hint_of("data", "validation_size"))
    ('a number above 0 or auto', 'a number of at least 0 and below 1')
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        said = [extra for extra in inner[1:] if isinstance(extra, str)]
        return said[0] if said else " ".join([expected(inner[0]), " and ".join(_bounds(inner[1:]))]).strip()
    if origin is Literal:
        return _either([str(value) for value in inner])
    if origin in (Union, UnionType):
        return _either([expected(part) for part in inner])
    if origin is list:
        return "a list of texts"
    return _WORDS[hint]


def shown(value: Any) -> str:
    """Return a value as it would stand in YAML, cut to a readable length.

    >>> shown(None), shown(True), shown("a")
    ('null', 'true', "'a'")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    return short.repr(value)


def faults_of(error: ValidationError, given: Mapping[tuple[str, str], tuple[Any, str]]) -> list[str]:
    """Return one sentence for each key that pydantic faults; `given` has values and paths as they were typed."""
    faults: dict[tuple[str, str], str] = {}
    for fault in error.errors(include_url=False):
        section, key = (*map(str, fault["loc"]), "")[:2]
        place = (section, "" if section in names.WHOLE else key)
        value, path = given.get(place, (None, f"{section}.{key}"))
        own = str(fault.get("ctx", {}).get("error", "")) if fault["type"] == "value_error" else ""
        if own:
            faults[place] = f"{path}: {own}." if place in given else f"{own}."
        elif fault["type"] == "missing":
            faults[place] = f"{path}: is missing; expected {expected(hint_of(*place))}; type {section}=FILE or {path}=FILE."
        else:
            words = f"{shown(value)} was given; expected {expected(hint_of(*place))}; {_type(place, path)}"
            faults.setdefault(place, f"{path}: {words}.")
    return list(faults.values())


def _type(place: tuple[str, str], path: str) -> str:
    field = Recipe.model_fields[place[0]] if place[0] in names.WHOLE else names.fields(place[0])[place[1]]
    if field.is_required():
        return f"for example {path}=reviews.csv"
    if field.default is None:
        return "or leave it out"
    return f"for example {path}={field.default if isinstance(field.default, str) else shown(field.default)}"


def _bounds(extras: tuple[Any, ...]) -> list[str]:
    marks = [mark for extra in extras for mark in getattr(extra, "metadata", ())]
    found = {name: getattr(mark, name) for mark in marks for name in _BOUNDS if hasattr(mark, name)}
    if {"ge", "le"} <= found.keys():
        return [f"from {found['ge']} to {found['le']}"]
    return [f"{_BOUNDS[name]} {bound}" for name, bound in found.items()]


def _either(parts: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
