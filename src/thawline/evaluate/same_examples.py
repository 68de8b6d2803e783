"""Whether several sets of predictions are of the same examples: what is compared must have been asked the same questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from thawline.errors import DataError
from thawline.evaluate.answered import CLASSES, Answered

_INPUTS = ("text", "text_pair", "tokens", "messages")
_HOW = "To compare them on one labelled file, type: thawline compare RUN RUN --data FILE"


def same_examples(runs: Mapping[str, Answered]) -> dict[str, Answered]:
    """Return the runs with the examples of each in the order of the first, and with the labels of all of them.

    Raises DataError that says how they differ where their ids, labels, kinds of answer, or what was asked are not the same:
    texts, tokens, conversations, and pictures and sounds by the hashes of their content, where both have them.
    """
    assert runs, "there is nothing to compare"
    (name, first), *others = runs.items()
    places = _places(name, first)
    found = {name: first}
    for other, answered in others:
        if answered.problem != first.problem:
            raise DataError(f"{name} is of {first.problem}, {other} of {answered.problem}; they cannot be compared.")
        found[other] = _in_order(_places(other, answered), (name, places), (other, answered))
        _same(("label", _said(first)), _said(found[other]), (name, first, other))
        for column in _INPUTS:
            _same((column, first.column(column)), found[other].column(column), (name, first, other))
        _same_files((name, first), (other, found[other]))
    labels = {label for answered in found.values() for label in answered.labels}
    if first.problem in CLASSES:
        said = [prediction.get("labels", prediction.get("label")) for one in found.values() for prediction in one.predictions]
        labels |= {label for some in (*first.targets, *said) for label in ([some] if isinstance(some, str) else some or ())}
    return {name: replace(answered, labels=tuple(sorted(labels))) for name, answered in found.items()}


def _places(name: str, answered: Answered) -> dict[str, int]:
    places = {own: place for place, own in enumerate(answered.ids)}
    if len(places) < len(answered):
        twice = next(own for place, own in enumerate(answered.ids) if places[own] != place)
        raise DataError(
            f"{name} has {len(answered) - len(places):,} ids more than once, such as {twice!r}; expected each once."
        )
    return places


def _in_order(own: dict[str, int], first: tuple[str, dict[str, int]], run: tuple[str, Answered]) -> Answered:
    (name, ids), (other, answered) = first, run
    if own.keys() != ids.keys():
        only = [(name, [one for one in ids if one not in own]), (other, [one for one in own if one not in ids])]
        said = " and ".join(f"{len(some):,} are only in {who} ({_few(some)})" for who, some in only if some)
        shared = len(own.keys() & ids.keys())
        raise DataError(f"{name} and {other} were measured on other examples: {shared:,} are in both, {said}. {_HOW}")
    order = [own[one] for one in ids]
    return answered if order == list(range(len(order))) else answered.select(order)


def _same(column: tuple[str, Sequence[object]], values: Sequence[object], of: tuple[str, Answered, str]) -> None:
    (what, expected), (name, first, other) = column, of
    differ = [place for place, (a, b) in enumerate(zip(expected, values, strict=True)) if a != b]
    if differ:
        at = differ[0]
        example = f"{first.ids[at]}: {_short(expected[at])} in {name}, {_short(values[at])} in {other}"
        where = _few(first.ids[place] for place in differ)
        raise DataError(f"{len(differ):,} examples have another {what} in {other} than in {name} ({where}); {example}. {_HOW}")


def _same_files(first: tuple[str, Answered], run: tuple[str, Answered]) -> None:
    """Raise DataError where pictures or sounds have another content; where a side has no hashes of it, nothing is known."""
    (name, one), (other, two) = first, run
    for kind, noun in (("image", "picture"), ("audio", "sound")):
        if all({kind, "content"} <= set(answered.examples[0]) for answered in (one, two)):
            _same((f"{noun} (hash of its content)", one.column("content")), two.column("content"), (name, one, other))


def _said(answered: Answered) -> list[object]:
    return list(map(sorted, answered.targets)) if answered.several else answered.targets


def _few(ids: Iterable[str]) -> str:
    shown = list(ids)
    return ", ".join(map(repr, shown[:3])) + (", …" if len(shown) > 3 else "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
