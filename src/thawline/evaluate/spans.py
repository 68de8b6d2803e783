"""Words as ranges of characters, and which word each token of a text belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from thawline.evaluate.baselines import UNSPACED

_WORD = re.compile(rf"{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})[\w'’])+|[^\w\s]")


class Span(NamedTuple):
    """Characters `start` to `end` of a text; `side` is 1 for the second text of a pair."""

    side: int
    start: int
    end: int


def split_words(text: str, side: int = 0) -> list[Span]:
    """Return the words of a text; of scripts without spaces each character, as no one says where words end.

    >>> [tuple(span)[1:] for span in split_words("It's 天气.")]
    [(0, 4), (5, 6), (6, 7), (7, 8)]
    """
    return [Span(side, *match.span()) for match in _WORD.finditer(text)]


def spans_of(tokenizer: Any, texts: Sequence[str], ids: Sequence[int]) -> tuple[list[Span], list[int | None]] | None:
    """Return words and, for each of the tokens `ids` of these texts, the number of its word; None for special tokens.

    A token of nothing but white space goes with the word before it. Tokens that follow on one another without a space are one
    word, unless one is punctuation or of a script without spaces; then a word is what the tokenizer makes it. Returns None
    where the tokenizer does not keep track of characters.
    """
    if not getattr(tokenizer, "is_fast", False):
        return None
    length = {"truncation": True, "max_length": len(ids)}
    found = tokenizer(*texts, return_offsets_mapping=True, return_special_tokens_mask=True, **length)
    if list(found["input_ids"]) != list(ids):
        return None
    words: list[Span] = []
    place: list[int | None] = []
    sides = found.sequence_ids()
    for side, (start, end), special in zip(sides, found["offset_mapping"], found["special_tokens_mask"], strict=True):
        inner = "" if side is None or special else texts[side][start:end]
        if not inner.strip():  # white space goes with the word before it
            place.append(len(words) - 1 if words and not special else None)
            continue
        span = Span(side, start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip()))
        if words and _joins(texts[side], words[-1], span):
            words[-1] = words[-1]._replace(end=max(words[-1].end, span.end))
        else:
            words.append(span)
        place.append(len(words) - 1)
    return words, place


def _joins(text: str, word: Span, span: Span) -> bool:
    """Whether the token goes on with the word."""
    if word.side != span.side or span.start > word.end:
        return False
    if span.start < word.end:  # two tokens of one character, as byte-level tokenizers have them
        return True
    before, after = text[word.end - 1], text[span.start]
    return all((c.isalnum() or c in "_'’") and not UNSPACED.match(c) for c in (before, after))
