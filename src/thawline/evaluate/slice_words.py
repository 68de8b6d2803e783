"""Which words stand in which texts, and how long the texts are; quick for 10^5 texts, since no loop is Python's."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from thawline.data.sounds import seconds
from thawline.errors import DataError
from thawline.evaluate.answered import Answered
from thawline.evaluate.baselines import unspaced

Array = NDArray[Any]
_AT_ONCE = 20_000
_SHIFT = 21  # bits of a code point


@dataclass(frozen=True)
class Words:
    """The words of N texts: `presence`, sparse [N, W] by columns, None without texts; `lengths`, float [N], in `unit`.

    `what` the examples are called: "texts" or "examples".
    """

    names: Sequence[str]
    presence: Any
    lengths: Array | None
    unit: str
    what: str


def words(answered: Answered) -> Words:
    """Return the words of the examples' texts, in lower case; pairs of characters where words are not set apart.

    Of a pair of texts, of tokens and of a chat all text counts. Words that stand in fewer than 10 texts are left out.
    """
    texts = texts_of(answered)
    if texts is None:
        there = answered.examples[0].get("audio") is not None
        heard = np.array([_rounded_seconds(example["audio"]) for example in answered.examples]) if there else None
        return Words((), None, heard, "s", "examples")
    spaced = not unspaced(texts)
    names, parts, counted = dict[Any, int](), list[Array](), list[Array]()
    for start in range(0, len(texts), _AT_ONCE):
        counts, pieces = (_split if spaced else _bigrams)(texts[start : start + _AT_ONCE])
        coded = pc.dictionary_encode(pieces)
        codes = np.array([names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()], dtype=np.int32)
        parts.append(codes[coded.indices.to_numpy()])
        counted.append(counts)
    counts = np.concatenate(counted)
    kept, presence = _frequent(np.concatenate(parts), counts, len(names))
    lengths = counts if spaced else np.array([len(text) for text in texts])
    spelled = list(names)
    return Words(
        [_spelled(spelled[i]) for i in kept], presence, lengths.astype(float), "words" if spaced else "characters", "texts"
    )


def texts_of(answered: Answered) -> list[str] | None:
    """Return all text of each example; None where the examples have none."""
    columns = [answered.column(name) for name in ("text", "text_pair", "tokens", "messages")]
    there = [column for column in columns if any(value is not None for value in column)]
    if not there:
        return None
    return ["\n".join(_joined(value) for value in row if value is not None) for row in zip(*there, strict=True)]


def _rounded_seconds(recording: Any) -> float:
    """Return how long a recording lasts, NaN where its header does not say."""
    try:
        return round(seconds(recording), 1)
    except DataError:
        return math.nan


def _joined(value: Any) -> str:
    if isinstance(value, str):
        return value
    return " ".join(part if isinstance(part, str) else str(part.get("content") or "") for part in value)


def _split(texts: list[str]) -> tuple[Array, Any]:
    """Return how many words each text has, and all words one after another, in lower case."""
    clean = pc.utf8_lower(pa.array(texts, pa.large_string()))
    clean = pc.replace_substring(clean, "’", "'")
    clean = pc.utf8_trim(pc.replace_substring_regex(clean, r"(?:'*[^\p{L}\p{N}\p{M}_']+'*)+", " "), " '")
    split = pc.split_pattern(clean, " ")
    counts = np.where(pc.utf8_length(clean).to_numpy() == 0, 0, pc.list_value_length(split).to_numpy())
    pieces = pc.list_flatten(split)
    return counts, pieces.filter(pc.not_equal(pieces, ""))


def _bigrams(texts: list[str]) -> tuple[Array, Any]:
    """Return how many pairs of neighbouring letters each text has, and all of them one after another, as numbers."""
    lower = [text.lower() for text in texts]
    points = np.frombuffer("".join(lower).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in lower])
    letters = np.zeros(sys.maxunicode + 1, dtype=bool)
    different = np.flatnonzero(np.bincount(points, minlength=1))
    letters[different] = [chr(point).isalnum() for point in different]
    letter = letters[points]
    beside = letter[:-1] & letter[1:] & (owner[:-1] == owner[1:])
    codes = (points[:-1] << _SHIFT | points[1:])[beside]
    return np.bincount(owner[:-1][beside], minlength=len(texts)), pa.array(codes)


def _spelled(name: Any) -> str:
    return name if isinstance(name, str) else chr(name >> _SHIFT) + chr(name & ((1 << _SHIFT) - 1))


def _frequent(codes: Array, counts: Array, n_words: int) -> tuple[list[int], Any]:
    """Return the words in at least 10 texts and a sparse matrix [N, W] of these; `codes` says which words, text after text."""
    from scipy.sparse import csc_matrix, csr_matrix

    starts = np.concatenate([[0], np.cumsum(counts)])
    by_word = csr_matrix((np.ones(len(codes), dtype=np.int8), codes, starts), shape=(len(counts), n_words)).tocsc()
    word = np.repeat(np.arange(n_words, dtype=np.int32), np.diff(by_word.indptr))
    first = np.ones(len(codes), dtype=bool)  # of this word in this text: rows stand in order within a column
    first[1:] = (by_word.indices[1:] != by_word.indices[:-1]) | (word[1:] != word[:-1])
    sizes = np.bincount(word[first], minlength=n_words)
    ample = sizes >= 10
    rows = by_word.indices[first & ample[word]]
    ends = np.concatenate([[0], np.cumsum(sizes[ample])])
    presence = csc_matrix((np.ones(len(rows), dtype=np.float32), rows, ends), shape=(len(counts), int(ample.sum())))
    return np.flatnonzero(ample).tolist(), presence
