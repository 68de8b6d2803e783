"""Mistakes where an answer is more than a label or a number: entities, transcripts, generated texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered
from thawline.evaluate.example_errors import errors
from thawline.evaluate.mistakes_listed import first, shown
from thawline.evaluate.scores.entities import Entity, entities
from thawline.evaluate.scores.words import normalize, words
from thawline.types import Example

NOTHING = "nothing"
"""What stands in a pair where something was missed, or said where nothing is."""
Pairs = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class _Kind:
    """How true and answered values of one problem are written, what they consist of, and what was taken for what."""

    written: Callable[[Any, Example], str]
    parts: Callable[[Any], Iterable[str]] = lambda true: ()
    pairs: Callable[[Any, Any], Pairs] = lambda true, answer: iter(())


def structured(answered: Answered, limit: int, pairs: int, *, samples: int) -> dict[str, Any]:
    """Return the `largest` errors with what was answered, and the `pairs` that were taken for one another most often.

    An error is that of `example_errors.errors`; `measure` says what it is, `error` its mean. Pairs are types of entities, or
    words of transcripts, "nothing" where one was missed or made up; of generated texts there are none.

    >>> examples = [{"id": "1", "tokens": ["in", "Rome"], "label": ["O", "B-place"]}]
    >>> said = [{"id": "1", "tags": ["O", "B-person"]}]
    >>> found = structured(Answered(examples, said, "token_classification", ()), 5, 5, samples=1)
    >>> found["largest"][0]["true"], found["largest"][0]["answer"], found["pairs"][0]["true"], found["pairs"][0]["answer"]
    ('place: Rome', 'person: Rome', 'place', 'person')
    """
    kind, found = _KINDS.get(answered.problem, _Kind(_text)), errors(answered)

    def row(place: int) -> dict[str, Any]:
        example = answered.examples[place]
        true, said = (kind.written(one[place], example) for one in (answered.targets, answered.answers))
        return {**shown(example), "true": true, "answer": said, "error": float(found.size[place])}

    of = Counter(part for target in answered.targets for part in kind.parts(target))
    taken = defaultdict[tuple[str, str], list[int]](list)
    for place in np.flatnonzero(found.size > 0).tolist():
        for pair in kind.pairs(answered.targets[place], answered.answers[place]):
            taken[pair].append(place)
    order = sorted(taken, key=lambda pair: (-len(taken[pair]), pair))
    listed = [
        {
            "true": true,
            "answer": answer,
            "n": len(taken[true, answer]),
            "of": max(of[true], len(taken[true, answer])),
            "examples": [row(place) for place in list(dict.fromkeys(taken[true, answer]))[:samples]],
        }
        for true, answer in order[:pairs]
    ]
    largest = [row(place) for place in first(answered, -found.size, found.size > 0, limit=limit)]
    measured = {"measure": found.measure, "error": float(found.size.mean()), "largest": largest, "notes": list[str]()}
    return measured | ({"pairs": listed, "pairs_in_all": len(order)} if order else {})


def _entities_written(tags: Any, example: Example) -> str:
    tokens = example["tokens"]
    return "; ".join(f"{one.type}: {' '.join(tokens[one.start : one.end])}" for one in entities(tags)) or "no entity"


def _types(tags: Any) -> Iterable[str]:
    return (one.type for one in entities(tags))


def _entities_taken(tags: Any, answer: Any) -> Pairs:
    """Yield types that were taken for one another: of spans that overlap, each with the first one that is left."""
    there, said = set(entities(tags)), set(entities(answer))
    missed, wrong = sorted(there - said, key=_place), sorted(said - there, key=_place)
    for one in missed:
        other = next((two for two in wrong if two.start < one.end and one.start < two.end), None)
        if other is not None:
            wrong.remove(other)
        yield one.type, f"{other.type}, other words" if other and other.type == one.type else other.type if other else NOTHING
    for other in wrong:
        yield NOTHING, other.type


def _place(one: Entity) -> tuple[int, int]:
    return one.start, one.end


def _words(text: str) -> Iterable[str]:
    return words(normalize(text))


def _words_taken(true: str, answer: str) -> Pairs:
    """Yield words that were taken for others, after the normalisation of the metric."""
    one, other = words(normalize(true)), words(normalize(answer))
    for what, start, end, begin, stop in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if what != "equal":
            yield " ".join(one[start:end]) or NOTHING, " ".join(other[begin:stop]) or NOTHING


def _text(value: Any, example: Example) -> str:
    del example
    return str(value)


def _generated(value: Any, example: Example) -> str:
    """Return a reference, or the text of an answer: only some examples are answered in full."""
    del example
    if isinstance(value, Mapping):
        value = value.get("text")
        return "not answered in full" if value is None else str(value)
    return "no reference" if value is None else str(value)


_KINDS = {
    "token_classification": _Kind(_entities_written, _types, _entities_taken),
    "speech_recognition": _Kind(_text, _words, _words_taken),
    "text_generation": _Kind(_generated),
}
