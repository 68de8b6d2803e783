"""How examples are listed: which come first, and what is shown of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.evaluate.answered import Answered
from thawline.types import Example

Array = NDArray[Any]

SHOWN = 300
"""Characters of a text that are shown."""


def shown(example: Example) -> dict[str, Any]:
    """Return what is shown of an example: its id, its text cut to SHOWN characters, the path of its picture or sound.

    >>> shown({"id": "7", "text": "to be", "text_pair": "or not", "label": "x"})
    {'id': '7', 'text': 'to be', 'text_pair': 'or not'}
    """
    row: dict[str, Any] = {"id": example["id"]}
    texts = {name: example[name] for name in ("text", "text_pair") if example.get(name) is not None}
    if example.get("tokens") is not None:
        texts["text"] = " ".join(example["tokens"])
    if example.get("messages") is not None:
        texts["text"] = "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in example["messages"])
    row |= {name: text if len(text) <= SHOWN else text[: SHOWN - 1] + "…" for name, text in texts.items()}
    if any(len(text) > SHOWN for text in texts.values()):
        row["shortened"] = True
    row |= {name: example[name].get("path") for name in ("image", "audio") if example.get(name) is not None}
    return row


def first(answered: Answered, key: Array, among: Array, *, limit: int) -> list[int]:
    """Return up to `limit` places among those of the mask `among`, smallest `key` first, equal ones by id."""
    places = np.flatnonzero(among)
    if len(places) > limit:
        last = np.partition(key[places], limit - 1)[limit - 1]
        places = places[key[places] <= last]
    return sorted(places.tolist(), key=lambda i: (key[i], answered.ids[i]))[:limit]


def rows_of(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all examples in what was found, in the order in which they are shown."""
    if isinstance(value, dict) and "id" in value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from rows_of(inner)
