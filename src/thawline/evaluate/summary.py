"""From predictions to one section of `metrics.json`: metrics, their intervals, and the baselines beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered
from thawline.evaluate.baselines import Target
from thawline.evaluate.intervals import bootstrap, collapse
from thawline.evaluate.metrics import METRICS
from thawline.evaluate.resample import Array, Scoring
from thawline.evaluate.scores.labels import ranked
from thawline.types import Finding

_MODEL = "model"


@dataclass(frozen=True)
class Summary:
    """One section of `metrics.json`, and what its reader should know."""

    section: dict[str, Any]
    findings: tuple[Finding, ...] = ()


def summarize(
    given: Answered, *, baselines: Mapping[str, Sequence[Target]] | None = None, samples: int = 1000, seed: int = 0
) -> Summary:
    """Compare what was answered with the examples' "label".

    A label of the data that is not among those that the model knows counts as wrong and is told. `baselines` are predictions by
    name, in the form of the targets. The model, and each baseline but "majority" minus it, get 95 % intervals from `samples`
    paired resamples (none with 0): of examples, or of whole groups where there are any. Raises DataError where there is nothing
    to compare with.

    >>> examples = [{"id": str(i), "label": "ab"[i % 2]} for i in range(10)]
    >>> predictions: list[Prediction] = [{"id": str(i), "label": "a" if i else "b"} for i in range(10)]
    >>> answered = Answered(examples, predictions, "single_label_classification", ("a", "b"))
    >>> section = summarize(answered, samples=50).section
    >>> section["accuracy"], section["n"]
    (0.4, 10)
    """
    problem, labels, groups = given.problem, given.labels, given.groups
    scoring, targets = METRICS[problem], given.targets
    assert given.ids, "predictions are those of the examples"
    best = ranked(given.predictions) if problem == "single_label_classification" else None
    true, model, *others = _encode(problem, [targets, best or given.answers, *(baselines or {}).values()], labels)
    rivals = dict(zip(baselines or (), others, strict=True))
    assert all(len(rival) == len(true) for rival in rivals.values()), "a baseline has another number of predictions"

    kept = {name: scoring.terms(true, answers) for name, answers in {_MODEL: model, **rivals}.items()}
    own = scoring.metrics(kept[_MODEL])
    beside = {name: scoring.metrics(kept[name]) for name in rivals}
    compared = {name: terms for name, terms in kept.items() if name != "majority"}
    intervals = _intervals(scoring, compared, groups=groups, samples=samples, seed=seed) if samples else {}
    section: dict[str, Any] = {**own, "n": len(true)}
    section |= {"groups": len(np.unique(groups))} if groups is not None else {}
    section |= {f"{metric}_ci95": list(intervals[metric]) for metric in own if intervals}
    section |= scoring.details(true, model) if scoring.details else {}
    for name, theirs in beside.items():
        entry: dict[str, Any] = dict(theirs)
        for metric in (m for m in own if m in theirs and name in compared):
            entry[f"{metric}_difference"] = own[metric] - theirs[metric]
            if intervals:
                entry[f"{metric}_difference_ci95"] = list(intervals[f"{name} {metric}"])
        section.setdefault("baseline", {})[name] = entry
    if not own:
        return Summary(
            section, (Finding("warning", "nothing_measured", f"{len(true)} examples have nothing to be measured by"),)
        )
    return Summary(section, _unknown(problem, targets, labels))


def _encode(problem: str, columns: Sequence[Sequence[Any]], labels: Sequence[str]) -> list[Any]:
    """Return each column as `METRICS[problem]` takes it; labels are numbered by name, the same in all columns."""
    if problem == "regression":
        numbers = [np.asarray(column, dtype=float) for column in columns]
        assert all(np.isfinite(column).all() for column in numbers), "a target or prediction is not a finite number"
        return numbers
    if problem == "single_label_classification":
        seen = {label for column in columns for row in column for label in (row if isinstance(row, list) else [row])}
        index = {name: place for place, name in enumerate(sorted(seen))}
        return [
            np.array([[index[name] for name in row] if isinstance(row, list) else index[row] for row in column])
            for column in columns
        ]
    if problem != "multi_label_classification":
        return [list(column) for column in columns]
    seen = {label for column in columns for several in column for label in several}
    index = {name: place for place, name in enumerate(sorted(seen | set(labels)))}
    return [_indicators(column, index) for column in columns]


def _indicators(column: Sequence[Sequence[str]], index: Mapping[str, int]) -> Array:
    there = np.zeros((len(column), len(index)), dtype=bool)
    for row, several in enumerate(column):
        there[row, [index[label] for label in several]] = True
    return there


def _intervals(
    scoring: Scoring, kept: Mapping[str, Array], *, groups: Array | None, samples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return intervals of the model's metrics and, as "name metric", of its differences from the rivals, from one bootstrap."""
    n: int | Array = len(kept[_MODEL])
    if groups is None:
        rows, inverse = collapse(*kept.values())
        if 2 * len(rows[0]) <= len(inverse):  # else a draw of rows costs more than a draw of examples
            kept, n = dict(zip(kept, rows, strict=True)), np.bincount(inverse)
    statistics = {name: scoring.statistic(terms) for name, terms in kept.items()}

    def paired(counts: Array) -> dict[str, Array]:
        values = {name: dict(compute(counts)) for name, compute in statistics.items()}
        own = values.pop(_MODEL)
        return own | {f"{name} {m}": own[m] - their[m] for name, their in values.items() for m in own if m in their}

    return bootstrap(paired, n, samples=samples, seed=seed, groups=groups)


def _unknown(problem: str, targets: Sequence[Any], labels: Sequence[str]) -> tuple[Finding, ...]:
    if problem not in METRICS or not labels or problem == "regression":
        return ()
    several = problem != "single_label_classification"
    counts = Counter(label for target in targets for label in (target if several else [target]) if label not in set(labels))
    if not counts:
        return ()
    shown = ", ".join(f"{label!r} ({count:,})" for label, count in counts.most_common(5))
    more = f" and {len(counts) - 5:,} more" if len(counts) > 5 else ""
    text = f"The data has labels that the model does not know: {shown}{more}. They count as wrong."
    return (Finding("warning", "unknown-label", text),)
