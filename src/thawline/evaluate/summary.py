"""From predictions to one section of `metrics.json`: metrics, their intervals, and the baselines beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thawline.errors import DataError
from thawline.evaluate.baselines import Target
from thawline.evaluate.intervals import bootstrap, collapse
from thawline.evaluate.metrics import METRICS
from thawline.evaluate.resample import Array, Statistic, statistic
from thawline.types import Example, Finding, Prediction

_ANSWER = {"single_label_classification": "label", "multi_label_classification": "labels", "regression": "value"}


@dataclass(frozen=True)
class Summary:
    """One section of `metrics.json`, and what its reader should know."""

    section: dict[str, Any]
    findings: tuple[Finding, ...] = ()


def summarize(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    problem: str,
    labels: Sequence[str] = (),
    baselines: Mapping[str, Sequence[Target]] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Compare the predictions with the examples' "label", one prediction per example, in the same order.

    `labels` are those the model knows, by name; a label of the data that is not among them counts as wrong and is told.
    `baselines` are predictions by name, in the form of the targets. The model, and each baseline but "majority" minus it, get
    95 % intervals from `samples` paired resamples (none with 0). Raises DataError where there is nothing to compare with.

    >>> examples = [{"id": str(i), "label": "ab"[i % 2]} for i in range(10)]
    >>> predictions: list[Prediction] = [{"id": str(i), "label": "a" if i else "b"} for i in range(10)]
    >>> section = summarize(examples, predictions, problem="single_label_classification", labels=["a", "b"], samples=50).section
    >>> section["accuracy"], section["n"]
    (0.4, 10)
    """
    targets, answers = _targets(examples, predictions), _answers(predictions, problem)
    true, model, *others = _encode(problem, [targets, answers, *(baselines or {}).values()], labels)
    rivals = dict(zip(baselines or (), others, strict=True))
    assert all(len(rival) == len(true) for rival in rivals.values()), "a baseline has another number of predictions"

    own = METRICS[problem](true, model)
    beside = {name: METRICS[problem](true, rival) for name, rival in rivals.items()}
    intervals = _intervals(problem, [true, model], rivals, samples=samples, seed=seed) if samples else {}
    section: dict[str, Any] = {**own, "n": len(true)}
    section |= {f"{metric}_ci95": list(intervals[metric]) for metric in own if intervals}
    for name, theirs in beside.items():
        entry: dict[str, Any] = dict(theirs)
        for metric in own if name != "majority" else ():
            entry[f"{metric}_difference"] = own[metric] - theirs[metric]
            if intervals:
                entry[f"{metric}_difference_ci95"] = list(intervals[f"{name} {metric}"])
        section.setdefault("baseline", {})[name] = entry
    return Summary(section, _unknown(problem, targets, labels))


def _answers(predictions: Sequence[Prediction], problem: str) -> list[Any]:
    return [prediction[_ANSWER[problem]] for prediction in predictions]  # type: ignore[literal-required]


def _targets(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Any]:
    assert len(examples) == len(predictions), f"{len(examples)} examples, {len(predictions)} predictions"
    targets = []
    for place, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        assert example["id"] == prediction["id"], f"prediction {place} is of {prediction['id']!r}, not of {example['id']!r}"
        targets.append(example.get("label"))
    missing = sum(target is None for target in targets)
    if missing or not targets:
        what = f"{missing:,} of {len(targets):,} examples have no label" if targets else "There are no examples"
        raise DataError(f"{what}; predictions can only be measured on labelled ones. Without labels, use: thawline predict")
    return targets


def _encode(problem: str, columns: Sequence[Sequence[Any]], labels: Sequence[str]) -> list[Array]:
    """Return each column as an array that `METRICS[problem]` takes; labels are numbered by name, the same in all columns."""
    if problem == "regression":
        numbers = [np.asarray(column, dtype=float) for column in columns]
        assert all(np.isfinite(column).all() for column in numbers), "a target or prediction is not a finite number"
        return numbers
    if problem == "single_label_classification":
        index = {name: place for place, name in enumerate(sorted({label for column in columns for label in column}))}
        return [np.array([index[label] for label in column]) for column in columns]
    seen = {label for column in columns for several in column for label in several}
    index = {name: place for place, name in enumerate(sorted(seen | set(labels)))}
    return [_indicators(column, index) for column in columns]


def _indicators(column: Sequence[Sequence[str]], index: Mapping[str, int]) -> Array:
    there = np.zeros((len(column), len(index)), dtype=bool)
    for row, several in enumerate(column):
        there[row, [index[label] for label in several]] = True
    return there


def _intervals(
    problem: str, pair: Sequence[Array], rivals: Mapping[str, Array], *, samples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return intervals of the model's metrics and, as "name metric", of its differences from the rivals, from one bootstrap."""
    compared = [name for name in rivals if name != "majority"]
    columns = [*pair, *(rivals[name] for name in compared)]
    n: int | Array = len(pair[0])
    rows, inverse = collapse(*columns)
    if 2 * len(rows[0]) <= len(inverse):  # else a draw of rows costs more than a draw of examples
        columns, n = rows, np.bincount(inverse)
    true, model, *others = columns
    own = statistic(problem, true, model)
    theirs: dict[str, Statistic] = {name: statistic(problem, true, other) for name, other in zip(compared, others, strict=True)}

    def paired(counts: Array) -> dict[str, Array]:
        values = dict(own(counts))
        other = {name: compute(counts) for name, compute in theirs.items()}
        return values | {f"{name} {m}": values[m] - result[m] for name, result in other.items() for m in values}

    return bootstrap(paired, n, samples=samples, seed=seed)


def _unknown(problem: str, targets: Sequence[Any], labels: Sequence[str]) -> tuple[Finding, ...]:
    if problem == "regression" or not labels:
        return ()
    several = problem == "multi_label_classification"
    counts = Counter(label for target in targets for label in (target if several else [target]) if label not in set(labels))
    if not counts:
        return ()
    shown = ", ".join(f"{label!r} ({count:,})" for label, count in counts.most_common(5))
    more = f" and {len(counts) - 5:,} more" if len(counts) > 5 else ""
    text = f"The data has labels that the model does not know: {shown}{more}. They count as wrong."
    return (Finding("warning", "unknown-label", text),)
