"""Metrics of tagged tokens: entities are right where type and both ends are, as in the CoNLL shared tasks and seqeval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from thawline.evaluate.resample import Array, Scoring, Sums, quotient

Tags = Sequence[str]
_PREFIX = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}
_OUTSIDE = ("O", "")


class Entity(NamedTuple):
    """Tokens `start` to `end`, which is the first one after it, are of `type`."""

    type: str
    start: int
    end: int


def entities(tags: Tags) -> list[Entity]:
    """Return the entities of a sequence of tags: IOB1, IOB2, IOBES, BILOU, or plain types, where neighbours are one entity.

    No sequence is illegal: an I- that continues nothing begins an entity (Sang & Buchholz 2000, conlleval; seqeval's default).

    >>> entities(["B-person", "I-person", "O", "I-place", "I-person", "S-place"])
    [Entity(type='person', start=0, end=2), Entity(type='place', start=3, end=4), Entity(type='person', start=4, end=5),
     Entity(type='place', start=5, end=6)]
    """
    return list(_entities(tags))


def _entities(tags: Tags) -> Iterator[Entity]:
    start, (before, of) = 0, _OUTSIDE
    for place, tag in enumerate([*tags, "O"]):
        if tag == "O" == before:
            continue
        prefix, kind = _parts(tag)
        if before in ("B", "I") and prefix in ("I", "E") and kind == of:
            before = prefix
            continue
        if before != "O":
            yield Entity(of, start, place)
        start, before, of = place, prefix, kind


def _parts(tag: str) -> tuple[str, str]:
    if tag == "O":
        return _OUTSIDE
    if tag[:1] in _PREFIX and (len(tag) == 1 or tag[1] in "-_"):
        return _PREFIX[tag[0]], tag[2:]
    return "I", tag


def _terms(true: Sequence[Tags], predicted: Sequence[Tags]) -> Array:
    """Keep how many entities were right, said and there, and how many tags right and there: int [N, 5]."""
    assert len(true) == len(predicted), f"{len(true)} sequences of tags, {len(predicted)} predicted"
    terms = np.zeros((len(true), 5), np.int32)
    for row, (tags, answer) in enumerate(zip(true, predicted, strict=True)):
        assert len(tags) == len(answer), f"example {row} has {len(tags)} tokens, but {len(answer)} tags were predicted"
        there, said = set(_entities(tags)), set(_entities(answer))
        right = sum(tag == other for tag, other in zip(tags, answer, strict=True))
        terms[row] = len(there & said), len(said), len(there), right, len(tags)
    return terms


def _finish(sums: Array) -> dict[str, Array]:
    hit, said, there, right, tags = sums.T
    return {**_scores(hit, said, there), "token_accuracy": quotient(right, tags)}


def _scores(hit: Array, said: Array, there: Array) -> dict[str, Array]:
    return {"precision": quotient(hit, said), "recall": quotient(hit, there), "f1": quotient(2 * hit, said + there)}


def by_type(true: Sequence[Tags], predicted: Sequence[Tags]) -> Sums:
    """Return precision_, recall_, f1_ and support_ of each type of entity, such as f1_person, as a function of resamples.

    >>> found = by_type([["B-person", "O", "B-place"]], [["B-person", "O", "O"]])(np.ones((1, 1)))
    >>> {name: float(value) for name, (value,) in found.items() if name.startswith("f1")}
    {'f1_person': 1.0, 'f1_place': 0.0}
    """
    pairs = [(set(_entities(tags)), set(_entities(answer))) for tags, answer in zip(true, predicted, strict=True)]
    types = sorted({entity.type for there, said in pairs for entity in there | said})
    place = {name: column for column, name in enumerate(types)}
    terms = np.zeros((len(pairs), 3, len(types)))
    for row, (there, said) in enumerate(pairs):
        for part, found in enumerate((there & said, said, there)):
            for entity in found:
                terms[row, part, place[entity.type]] += 1

    def finish(sums: Array) -> dict[str, Array]:
        hit, said, there = sums.reshape(len(sums), 3, len(types)).swapaxes(0, 1)
        table: dict[str, Any] = _scores(hit, said, there) | {"support": there}
        return {f"{name}_{kind}": table[name][:, place[kind]] for kind in types for name in table}

    return Sums(terms.reshape(len(pairs), -1), finish)


def _types(true: Sequence[Tags], predicted: Sequence[Tags]) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, float]] = {}
    for name, (value,) in by_type(true, predicted)(np.ones((1, len(true)))).items():
        metric, _, kind = name.partition("_")
        table.setdefault(kind, {})[metric] = int(value) if metric == "support" else float(value)
    return {"types": table}


token_classification = Scoring(
    _terms,
    lambda terms: Sums(terms.astype(float), _finish),
    main="f1",
    greater={"precision": True, "recall": True, "f1": True, "token_accuracy": True},
    details=_types,
    error=lambda terms: (terms[:, 1] + terms[:, 2] - 2 * terms[:, 0]).astype(float),
    measure="wrong entities",
)
"""Precision, recall and F1 over all entities, whatever their type, and the share of tokens whose tag is right; beside them
"types", the same of each type with its support. An example's error is how many entities were missed or wrongly said. `true` and
`predicted` are one sequence of tags an example, of equal lengths. Where a quotient is 0/0 it is 0, as seqeval has it."""
