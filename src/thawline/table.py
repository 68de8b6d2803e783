"""Tables of parts: a name, or `package.module:object`, becomes the object it stands for, imported when asked for."""

from __future__ import annotations

import hashlib
import importlib
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from thawline.errors import UserError, did_you_mean

T = TypeVar("T")
_NOT_OWN = {"thawline", *sys.stdlib_module_names}
_NOW = secrets.token_hex(8)


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


def code_of(*parts: Any) -> str:
    """Return a text that changes with the files in which some parts of one's own are written, the bases of a class too.

    It is "" where all are Thawline's or Python's. Of code that is in no file, as what is typed at a prompt, nothing is known:
    it counts as other code in every process. What a file imports does not count.

    >>> code_of(dict), code_of(Table)
    ('', '')
    """
    kinds = [kind for part in parts for kind in (part.__mro__ if isinstance(part, type) else (part,))]
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] not in _NOT_OWN]
    files = {getattr(sys.modules.get(kind.__module__), "__file__", None) or f"{_NOW}{id(kind)}" for kind in own}
    contents = [Path(file).read_bytes() if Path(file).is_file() else file.encode() for file in sorted(files)]
    return "".join(hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents)
