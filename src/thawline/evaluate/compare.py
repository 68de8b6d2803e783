"""Models beside one another on the same examples: how far apart, how sure that is, and what changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from thawline.errors import DataError
from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.intervals import LEVEL, bootstrap, collapse
from thawline.evaluate.metrics import GREATER, METRICS, main_metric
from thawline.evaluate.resample import Array, Sums
from thawline.evaluate.same_examples import same_examples
from thawline.types import Prediction

_PER_PAIR = 100  # resamples for each pair, so that a p value can be small enough to stand Holm's correction


def compare(
    runs: Mapping[str, Answered],
    *,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    main: str | None = None,
    shown: int = 20,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare what several models said of the same examples, matched by id; returns a dict for JSON.

    "runs" has the metrics, their 95 % intervals and the `facts` (seconds, memory, size) of each; "pairs" has, for each two, the
    differences "after" minus "before" with 95 % intervals from paired resamples (of whole groups where the
    first run has any), McNemar's exact test, and up to `shown` examples that became wrong and right, of other
    answers than labels worse and better; "ranking" is by the metric `main` and says which pairs it leaves undecided: those
    whose p value of that metric, from the same resamples and corrected by Holm over the pairs, is not below 0.05. Raises
    DataError where the examples are not the same.
    Sources: McNemar 1947; Holm 1979; Efron & Tibshirani 1993, chapters 13 and 16.
    """
    if len(runs) < 2:
        raise DataError(f"There is nothing to compare {', '.join(runs) or 'it'} with; expected two runs or more.")
    aligned = _written_by_all(same_examples(runs))
    first = next(iter(aligned.values()))
    main = main or main_metric(first.problem)
    values = {name: METRICS[first.problem](first.true, one.predicted) for name, one in aligned.items()}
    if main not in values[next(iter(values))]:
        raise DataError(f"There is no metric {main!r} of these runs; known: {', '.join(next(iter(values.values())))}.")
    couples = list(combinations(aligned, 2))
    drawn = _drawn(aligned, samples=max(samples, _PER_PAIR * len(couples)), seed=seed)
    pairs = [
        {"before": a, "after": b, "differences": _differences(values, drawn, (a, b)), **_changes(aligned, (a, b), shown=shown)}
        for a, b in couples
    ]
    intervals = {name: {metric: list(_interval(each)) for metric, each in metrics.items()} for name, metrics in drawn.items()}
    _correct(pairs, main)
    for pair in pairs:
        pair["words"] = _sentence(pair, main)
    return {
        "n": len(first),
        "problem": first.problem,
        "main": main,
        "runs": [
            {"name": name, "metrics": values[name], "intervals": intervals[name], "facts": dict((facts or {}).get(name, {}))}
            for name in aligned
        ],
        "pairs": pairs,
        "ranking": _ranking(values, pairs, main),
    }


def _written_by_all(aligned: Mapping[str, Answered]) -> Mapping[str, Answered]:
    """Leave out generated texts that not every run has: one writes as many as it is told to, and only like is compared."""
    if next(iter(aligned.values())).problem in CLASSES:  # whose predictions are in files, and are not read once more
        return aligned
    apart = [
        len({"text" in one for one in row}) > 1 for row in zip(*(one.predictions for one in aligned.values()), strict=True)
    ]
    if not any(apart):
        return aligned

    def without(prediction: Prediction) -> Prediction:
        return {key: value for key, value in prediction.items() if key != "text"}  # type: ignore[return-value]

    return {
        name: replace(one, predictions=[without(p) if gone else p for p, gone in zip(one.predictions, apart, strict=True)])
        for name, one in aligned.items()
    }


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the p value of McNemar's exact test: how often were one right and the other wrong, and the reverse.

    >>> round(mcnemar(2, 12), 4), mcnemar(5, 5)
    (0.0129, 1.0)
    """
    n, least = only_one + only_other, min(only_one, only_other)
    whole = math.lgamma(n + 1) - n * math.log(2)
    tail = math.fsum(math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1)) for k in range(least + 1))
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1))
    found = np.empty(len(order))
    found[order] = np.minimum(corrected, 1)
    return [float(p) for p in found]


def collapsed(columns: list[Array]) -> tuple[list[Array], int | Array]:
    """Return what is to be drawn from, for examples in columns: distinct rows with their counts, where that is less work."""
    rows, inverse = collapse(*columns)
    if 2 * len(rows[0]) <= len(inverse):  # else a draw of rows costs more than a draw of examples
        return rows, np.bincount(inverse)
    return columns, len(columns[0])


def _drawn(aligned: Mapping[str, Answered], *, samples: int, seed: int) -> dict[str, dict[str, Array]]:
    """Return each metric of each run in each resample, [S]; all runs see the same draws."""
    first = next(iter(aligned.values()))
    scoring, n = METRICS[first.problem], len(first)
    kept: list[Array] = [scoring.terms(first.true, one.predicted) for one in aligned.values()]
    drawn_from: int | Array = n
    if first.groups is None:
        kept, drawn_from = collapsed(kept)
    each = {name: scoring.statistic(terms) for name, terms in zip(aligned, kept, strict=True)}
    seen: list[dict[str, Mapping[str, Array]]] = []

    def look(counts: Array) -> dict[str, Array]:
        seen.append({name: compute(counts) for name, compute in each.items()})
        return {}

    bootstrap(look, drawn_from, samples=samples, seed=seed, groups=first.groups)
    return {name: {m: np.concatenate([some[name][m] for some in seen]) for m in seen[0][name]} for name in aligned}


def _differences(
    values: Mapping[str, Mapping[str, float]], drawn: Mapping[str, Mapping[str, Array]], pair: tuple[str, str]
) -> dict[str, Any]:
    before, after = pair
    found: dict[str, Any] = {}
    for metric in values[before]:
        minus = drawn[after][metric] - drawn[before][metric]
        low, high = _interval(minus)
        beyond = min(int((minus <= 0).sum()), int((minus >= 0).sum()))
        found[metric] = {
            "value": values[after][metric] - values[before][metric],
            "low": low,
            "high": high,
            "p": min(1.0, 2 * (1 + beyond) / (1 + len(minus))),
        }
    return found


def _interval(drawn: Array) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _changes(aligned: Mapping[str, Answered], pair: tuple[str, str], *, shown: int) -> dict[str, Any]:
    """Return how many examples became wrong and right, McNemar's test of that, and the most confident of them.

    Of other answers than labels: how many became worse and better by themselves, and those that moved most.
    """
    before, after = (aligned[name] for name in pair)
    if before.problem in CLASSES:
        lost, won = (_surest(after, before.right & ~after.right), _surest(before, after.right & ~before.right))
        test, worse, better = {"mcnemar": {"p": mcnemar(len(lost), len(won))}}, "to_wrong", "to_right"
    else:
        moved = _loss_of_each(after) - _loss_of_each(before)
        places = np.argsort(-moved, kind="stable"), np.argsort(moved, kind="stable")
        lost, won = (order[some[order]] for order, some in zip(places, (moved > 0, moved < 0), strict=True))
        test, worse, better = {}, "worse", "better"
    return {
        "changed": {worse: len(lost), better: len(won)},
        **test,
        worse: [_example(before, after, int(place)) for place in lost[:shown]],
        better: [_example(before, after, int(place)) for place in won[:shown]],
    }


def _loss_of_each(answered: Answered) -> Array:
    """Return how bad each answer is by itself, float [N]: how far off a number is, else the main metric of that example."""
    if answered.problem == "regression":
        return np.asarray(abs(answered.predicted - answered.true))
    scoring = METRICS[answered.problem]
    sums = scoring.statistic(scoring.terms(answered.true, answered.predicted))
    assert isinstance(sums, Sums), "an example alone has no metric"
    return np.asarray(sums.finish(sums.terms)[scoring.main] * (-1 if GREATER[scoring.main] else 1))


def _surest(wrong: Answered, where: Array) -> Array:
    """Return these positions, the most confident answers first."""
    places = np.flatnonzero(where)
    scores = [wrong.predictions[place].get("score", 0.0) for place in places.tolist()]
    return places[np.argsort(-np.asarray(scores, dtype=float), kind="stable")]


def _example(before: Answered, after: Answered, place: int) -> dict[str, Any]:
    example = before.examples[place]
    shown = {key: example[key] for key in ("id", "text", "text_pair", "tokens", "label") if example.get(key) is not None}
    return {**shown, "before": _answer(before, place), "after": _answer(after, place)}


def _answer(answered: Answered, place: int) -> Any:
    said = answered.predictions[place]
    return next((value for key, value in said.items() if key in ("label", "labels", "value", "tags", "text")), None)


def _correct(pairs: Sequence[dict[str, Any]], main: str) -> None:
    """Write the p values that are corrected for the number of pairs beside the others, and what is decided."""
    for metric in pairs[0]["differences"]:
        entries = [pair["differences"][metric] for pair in pairs]
        for entry, p in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
            entry |= {"p_holm": p, "decided": p < 1 - LEVEL and not entry["low"] <= 0 <= entry["high"]}
    if "mcnemar" in pairs[0]:
        for pair, p in zip(pairs, holm([pair["mcnemar"]["p"] for pair in pairs]), strict=True):
            pair["mcnemar"]["p_holm"] = p


def _ranking(values: Mapping[str, Mapping[str, float]], pairs: Sequence[dict[str, Any]], main: str) -> dict[str, Any]:
    sign = -1 if GREATER[main] else 1
    order = sorted(values, key=lambda name: (sign * values[name][main], list(values).index(name)))
    open_pairs = [[pair["before"], pair["after"]] for pair in pairs if not pair["differences"][main]["decided"]]
    open_pairs = [sorted(pair, key=order.index) for pair in open_pairs]
    equals = [name for name in order[1:] if [order[0], name] in open_pairs]
    if equals:
        words = f"{order[0]} has the best {main}, but this data does not show that it is better than {', '.join(equals)}."
    else:
        words = f"{order[0]} is best in {main}."
    return {"metric": main, "order": order, "undecided": open_pairs, "best": [order[0], *equals], "words": words}


def _sentence(pair: Mapping[str, Any], main: str) -> str:
    found = pair["differences"][main]
    said = f"{main}: {pair['after']} minus {pair['before']} is {found['value']:+.3f}, 95 % interval"
    said += f" {found['low']:+.3f} to {found['high']:+.3f}"
    if not found["decided"]:
        return f"{said}; this data does not show which is better."
    return f"{said}; {pair['after' if (found['value'] > 0) == GREATER[main] else 'before']} is better."
