"""Which of many unlabelled examples to label next: those between whose two likeliest labels the model is least decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import nsmallest
from typing import Any

from thawline.errors import DataError
from thawline.types import Example, Prediction


def what_to_label(pairs: Iterable[tuple[Example, Prediction]], n: int = 100) -> list[dict[str, Any]]:
    """Return the `n` examples to label first, the least decided on top; memory grows with `n` and the number of texts alone.

    Each is a dict of the example's id and inputs, the model's "label" and "next" likeliest, and the "margin" of their scores
    (Scheffer, Decomain, Wrobel 2001, "Active hidden Markov models for information extraction", §3); with several labels at once
    it is that of the least decided one, between given and not. Of equal inputs the first counts. Raises DataError where
    predictions have no scores. benchmarks/what_to_label.py has what this brings, and what it is better than.

    >>> examples = [{"id": "1", "text": "fine"}, {"id": "2", "text": "well"}]
    >>> said: list[Prediction] = [{"scores": {"good": 0.9, "bad": 0.1}}, {"scores": {"good": 0.4, "bad": 0.6}}]
    >>> [(one["id"], one["label"], round(one["margin"], 3)) for one in what_to_label(zip(examples, said, strict=True))]
    [('2', 'bad', 0.2), ('1', 'good', 0.8)]
    """
    return nsmallest(n, _each(pairs), key=lambda one: one["margin"])


def _each(pairs: Iterable[tuple[Example, Prediction]]) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    for example, prediction in pairs:
        inputs = {key: _shown(example[key]) for key in ("text", "text_pair", "image", "audio") if example.get(key) is not None}
        content = hash(example["content"] if "content" in example else tuple(inputs.values()))
        if content not in seen:
            seen.add(content)
            yield {"id": example["id"], **inputs, **_decision(prediction)}


def _shown(value: Any) -> str:
    return str(value.get("path") or "") if isinstance(value, Mapping) else str(value)


def _decision(prediction: Prediction) -> dict[str, Any]:
    scores = prediction.get("scores")
    if not scores:
        raise DataError("What to label next is picked by the scores of labels, and this model's answers have none.")
    if "labels" in prediction:
        least = min(scores, key=lambda label: abs(scores[label] - 0.5))
        return {"label": "|".join(prediction["labels"]), "next": least, "margin": abs(2 * scores[least] - 1)}
    first, second, *_ = [*sorted(scores, key=scores.__getitem__, reverse=True)[:2], ""]
    return {"label": first, "next": second, "margin": scores[first] - scores.get(second, 0.0)}
