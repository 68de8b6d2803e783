"""Words of a text with their place in it, and spans of characters as spans of words."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

# Scripts written without spaces: each character is a word of its own (Thai, Lao, Myanmar, Khmer, kana, Han).
_SINGLE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)

Span = tuple[str, int, int]
"""Type, begin, end: of characters or of words; the end is exclusive, as in a slice."""


class Aligned(NamedTuple):
    """Spans of words, in order and disjoint, and what became of the spans of characters.

    `widened` cut a word and were taken as the whole of it, `overlapping` shared a word with a longer one and were left out,
    `empty` held no word.
    """

    spans: list[Span]
    widened: int
    overlapping: int
    empty: int


def words(text: str) -> list[tuple[int, int]]:
    """Return begin and end (exclusive) of each word: letters and digits together, every other visible character alone.

    Characters of scripts written without spaces (Han, kana, Thai, …) are words of their own; combining marks stay with what
    they mark. The rule is that of BERT's basic tokenizer (Devlin et al. 2019, `tokenization.py`) without its normalisation.

    >>> [text[slice(*place)] for text in ["Dr. O'Neil, 5km 北京"] for place in words(text)]
    ['Dr', '.', 'O', "'", 'Neil', ',', '5km', '北', '京']
    """
    return [match.span() for match in _word().finditer(text)]


def align(places: Sequence[tuple[int, int]], spans: Sequence[Span]) -> Aligned:
    """Return spans of characters as spans of the words at `places`; a word belongs to a span that holds any of it.

    Of overlapping spans the longest is kept, of equally long ones the first.

    >>> align([(0, 3), (4, 8), (8, 9)], [("city", 0, 8), ("name", 4, 6)])
    Aligned(spans=[('city', 0, 2)], widened=0, overlapping=1, empty=0)
    """
    kept: list[Span] = []
    taken: set[int] = set()
    widened = overlapping = empty = 0
    for kind, begin, end in sorted(spans, key=lambda span: (span[1] - span[2], span[1])):
        held = [word for word, (left, right) in enumerate(places) if left < end and begin < right and begin < end]
        if not held:
            empty += 1
        elif taken & set(held):
            overlapping += 1
        else:
            widened += places[held[0]][0] < begin or places[held[-1]][1] > end
            taken.update(held)
            kept.append((kind, held[0], held[-1] + 1))
    return Aligned(sorted(kept, key=lambda span: span[1]), widened, overlapping, empty)


@cache
def _word() -> re.Pattern[str]:
    marks = "".join(letter for letter in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(letter)[0] == "M")
    return re.compile(rf"[^\W{_SINGLE}](?:[^\W{_SINGLE}]|[{marks}])*|\S[{marks}]*")
