"""Tables of parts: a name, or `package.module:object`, becomes the object it stands for, imported when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from thawline.errors import UserError, did_you_mean

T = TypeVar("T")


class Table(Generic[T]):
    """One explicit, lazy table of the parts of one kind.

    `kind` is the word used in messages ("strategy"); `entries` maps a name to `package.module:object`.

    >>> codecs: Table[Any] = Table("codec", {"json": "json:dumps"})
    >>> codecs["json"]([1])
    '[1]'
    >>> codecs["math:sqrt"](9)
    3.0
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self.entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        """Return the part called `name`; raises UserError where there is none."""
        place = name if ":" in name else self.entries.get(name)
        if place is None:
            known = ", ".join(self.entries)
            hint = did_you_mean(name, self.entries)
            own = "one of your own is named package.module:object"
            raise UserError(f"There is no {self.kind} called {name!r}{hint or '.'} Known: {known}; {own}.")
        return cast(T, _load(self.kind, place))

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries


def _load(kind: str, place: str) -> Any:
    module_name, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"The {kind} {place!r} cannot be imported ({error}); expected package.module:object.") from error
