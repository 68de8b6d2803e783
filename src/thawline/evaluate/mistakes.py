"""Single examples worth a look: confidently wrong, hard, unsure, and the labels that are taken for one another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.evaluate.answered import Answered
from thawline.evaluate.mistakes_listed import SHOWN, first, rows_of, shown
from thawline.evaluate.mistakes_structured import structured

Array = NDArray[Any]

MAX_LABELS = 50
_OF_LABEL = 5
_SMALLEST = 1e-12  # a score of 0 would have an endless loss


def mistakes(answered: Answered, *, limit: int = 20, pairs: int = 20, samples: int = 3) -> dict[str, Any]:
    """Return the examples worth a look, at most `limit` of each kind; equal ones are in the order of their ids.

    One label: `confident` (wrong, by score), `hardest` (by loss, -log of the true label's score), `uncertain` (by the margin
    between the two highest scores), `pairs` (of true label and answer, the most frequent first, `samples` examples each).
    Several labels: `labels` with `confident` and `uncertain` (nearest to one half), at most 5 for each label, `hardest` by mean
    loss over the labels, `pairs` of a label that was missed and one that was wrongly given. Numbers: `largest` errors. Of
    other problems what `structured` finds. Texts are shortened here for display, and `notes` says so; an example whose row says
    `shortened` is longer than shown.

    >>> examples = [{"id": "1", "text": "good", "label": "yes"}, {"id": "2", "text": "bad", "label": "no"}]
    >>> said = [{"id": i, "label": "yes", "score": 0.8, "scores": {"no": 0.2, "yes": 0.8}} for i in "12"]
    >>> found = mistakes(Answered(examples, said, "single_label_classification", ("no", "yes")))
    >>> found["wrong"], found["confident"][0]
    (1, {'id': '2', 'text': 'bad', 'true': 'no', 'answer': 'yes', 'score': 0.8})
    """
    kind = _KINDS.get(answered.problem, structured)
    found = kind(answered, limit, pairs, samples=samples)
    notes = found.pop("notes", [])
    cut = {row["id"] for row in rows_of(found) if row.get("shortened")}
    if cut:
        notes.append(f"Texts are shown up to {SHOWN} characters; {len(cut)} of those shown here are longer.")
    return {"n": len(answered), **found, "notes": notes}


def _single(answered: Answered, limit: int, pairs: int, *, samples: int) -> dict[str, Any]:
    wrong = ~answered.right
    out: dict[str, Any] = {"wrong": int(wrong.sum()), "notes": []}
    if unknown := int(answered.unknown.sum()):
        names = sorted({str(answered.targets[i]) for i in np.flatnonzero(answered.unknown)})
        more = ", …" if len(names) > 5 else ""
        out["notes"].append(
            f"{unknown:,} examples have labels that the model does not know ({', '.join(names[:5])}{more}); "
            "it cannot be right about them, and they have no loss."
        )
    if answered.has_scores:
        scores, some = answered.scores, np.arange(len(answered))
        top = np.sort(scores, axis=1)[:, -2:]
        margin = top[:, 1] - top[:, 0] if scores.shape[1] > 1 else np.ones(len(some))
        entropy = -(scores * np.log(np.maximum(scores, _SMALLEST))).sum(axis=1)
        loss = -np.log(np.maximum(scores[some, answered.true], _SMALLEST))
        every = np.ones(len(some), dtype=bool)
        out["confident"] = [_row(answered, i) for i in first(answered, -answered.confidence, wrong, limit=limit)]
        out["hardest"] = [
            {**_row(answered, i), "loss": float(loss[i])} for i in first(answered, -loss, ~answered.unknown, limit=limit)
        ]
        out["uncertain"] = [
            {**_row(answered, i), "margin": float(margin[i]), "entropy": float(entropy[i])}
            for i in first(answered, margin, every, limit=limit)
        ]
    said = answered.answers
    taken = defaultdict[tuple[str, str], list[int]](list)
    for i in np.flatnonzero(wrong).tolist():
        taken[str(answered.targets[i]), said[i]].append(i)
    of = Counter(map(str, answered.targets))
    return out | _pairs(answered, taken, of, limit=pairs, samples=samples)


def _pairs(
    answered: Answered, taken: dict[tuple[str, str], list[int]], of: Counter[str], *, limit: int, samples: int
) -> dict[str, Any]:
    """Return the most frequent pairs with their surest examples, `of` how many with that true label, and how many pairs."""
    order = sorted(taken, key=lambda pair: (-len(taken[pair]), pair))
    sure = answered.confidence if answered.has_scores else np.zeros(len(answered))
    rows = []
    for true, answer in order[:limit]:
        places = sorted(taken[true, answer], key=lambda i: (-sure[i], answered.ids[i]))[:samples]
        examples = [_row(answered, i) for i in places]
        rows.append({"true": true, "answer": answer, "n": len(taken[true, answer]), "of": of[true], "examples": examples})
    return {"pairs": rows, "pairs_in_all": len(order)}


def _row(answered: Answered, place: int) -> dict[str, Any]:
    prediction, target = answered.predictions[place], answered.targets[place]
    row = shown(answered.examples[place])
    if answered.several:
        return {**row, "true": list(target), "answer": list(prediction["labels"])}
    score = {"score": float(answered.confidence[place])} if answered.has_scores else {}
    if "score" in prediction:
        score = {"score": float(prediction["score"])}
    return {**row, "true": str(target), "answer": prediction["label"], **score}


def _several(answered: Answered, limit: int, pairs: int, *, samples: int) -> dict[str, Any]:
    missed, given = answered.true & ~answered.predicted, answered.predicted & ~answered.true
    out: dict[str, Any] = {"wrong": int((~answered.right).sum()), "notes": []}
    errors = (missed | given).sum(axis=0)
    order = sorted(range(len(answered.labels)), key=lambda c: (-errors[c], answered.labels[c]))
    if len(order) > MAX_LABELS:
        out["notes"].append(f"Of {len(order):,} labels the {MAX_LABELS} with the most mistakes are listed.")
    if answered.has_scores:
        scores = np.clip(answered.scores, _SMALLEST, 1)
        loss = -np.where(answered.true, np.log(scores), np.log(np.clip(1 - scores, _SMALLEST, 1))).mean(axis=1)
        places = first(answered, -loss, np.ones(len(answered), dtype=bool), limit=limit)
        out["hardest"] = [{**_row(answered, i), "loss": float(loss[i])} for i in places]
    out["labels"] = [_of_label(answered, c, missed[:, c], given=given[:, c], limit=limit) for c in order[:MAX_LABELS]]
    taken = defaultdict[tuple[str, str], list[int]](list)
    for i in np.flatnonzero(missed.any(axis=1) & given.any(axis=1)).tolist():
        for true in _names(answered, missed[i]):
            for answer in _names(answered, given[i]):
                taken[true, answer].append(i)
    of = Counter(dict(zip(answered.labels, answered.true.sum(axis=0).tolist(), strict=True)))
    return out | _pairs(answered, taken, of, limit=pairs, samples=samples)


def _names(answered: Answered, there: Array) -> Sequence[str]:
    return [answered.labels[c] for c in np.flatnonzero(there)]


def _of_label(answered: Answered, c: int, missed: Array, *, given: Array, limit: int) -> dict[str, Any]:
    """Return what is to be seen of one label: how often it was missed and wrongly given, and examples with its score."""
    row: dict[str, Any] = {"label": answered.labels[c], "missed": int(missed.sum()), "wrongly_given": int(given.sum())}
    if not answered.has_scores:
        return row
    score = answered.scores[:, c]
    unsure = np.abs(score - 0.5)
    for name, key, among in (("confident", -unsure, missed | given), ("uncertain", unsure, np.ones(len(score), dtype=bool))):
        places = first(answered, key, among, limit=min(limit, _OF_LABEL))
        row[name] = [{**_row(answered, i), "score": float(score[i])} for i in places]
    return row


def _numbers(answered: Answered, limit: int, pairs: int, *, samples: int) -> dict[str, Any]:
    error = answered.predicted - answered.true
    finite = np.isfinite(error)
    notes = [] if finite.all() else [f"{int((~finite).sum()):,} answers are no finite numbers; they are not listed."]
    rows = [
        {
            **shown(answered.examples[i]),
            "true": float(answered.true[i]),
            "answer": float(answered.predicted[i]),
            "error": float(error[i]),
        }
        for i in first(answered, -np.abs(error), finite, limit=limit)
    ]
    return {
        "largest": rows,
        "mean_absolute_error": float(np.abs(error[finite]).mean()) if finite.any() else None,
        "notes": notes,
    }


_KINDS = {"single_label_classification": _single, "multi_label_classification": _several, "regression": _numbers}
