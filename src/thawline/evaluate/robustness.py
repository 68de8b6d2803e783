"""How much worse a model is when its inputs are mistyped, cut, blurred or noisy: the drop for each, and how sure it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from thawline.errors import DataError
from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.baselines import unspaced
from thawline.evaluate.compare import collapsed, mcnemar
from thawline.evaluate.intervals import paired_difference
from thawline.evaluate.metrics import GREATER, METRICS, main_metric
from thawline.evaluate.perturb import USUAL, Perturbation, input_of, perturbation, perturbed
from thawline.evaluate.resample import Array
from thawline.types import Example, Prediction, Predictor

_CHUNK = 256  # perturbed examples in memory at a time


def robustness(
    answered: Answered,
    predictor: Predictor,
    perturbations: Sequence[str] = (),
    *,
    main: str | None = None,
    shown: int = 3,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how much the metric `main` drops when the examples are perturbed, each with a paired 95 % interval; for JSON.

    `answered` is what the model said of the examples as they are; `perturbations` are call forms such as `typos(0.1)` of
    `perturb.PERTURBATIONS`, by default the usual ones of the kind of input. A drop above 0 is worse, whichever way the metric
    goes. "changed" is the share of other answers; up to `shown` examples that became wrong stand beside it, and their
    perturbed text. Source of the idea: Ribeiro et al. 2020, "Beyond accuracy: behavioral testing of NLP models with CheckList",
    invariance tests; Hendrycks & Dietterich 2019. Raises UserError for a perturbation that is none before anything is
    predicted.
    """
    kind = input_of(answered.examples[0])
    names = list(perturbations) or usual(answered.examples, kind)
    changes = {name: perturbation(name, kind) for name in names}
    main = main or main_metric(answered.problem)
    before = METRICS[answered.problem](answered.true, answered.predicted)[main]
    found = []
    for name, change in changes.items():
        start = time.perf_counter()
        after = replace(answered, predictions=_predictions(answered, predictor, change, kind=kind, seed=seed))
        seconds = time.perf_counter() - start
        drop = _drop(answered, after, main, samples=samples, seed=seed)
        examples = _became_wrong(answered, after, change, kind=kind, shown=shown, seed=seed)
        changed = np.mean(np.any(np.reshape(answered.predicted != after.predicted, (len(answered), -1)), axis=1))
        found.append({"name": name, **drop, "changed": float(changed), "seconds": seconds, **examples})
    return {
        "input": kind,
        "n": len(answered),
        "metric": main,
        "value": before,
        "perturbations": found,
        "words": _words(found, main),
    }


def usual(examples: Sequence[Example], kind: str) -> list[str]:
    """Return the perturbations that suit the examples; texts without spaces between words lose characters instead of typos."""
    texts = [str(example["text"]) for example in islice(iter(examples), 200)] if kind == "text" else []
    return list(USUAL["unspaced" if texts and unspaced(texts) else kind])


def _predictions(answered: Answered, predictor: Predictor, change: Perturbation, *, kind: str, seed: int) -> list[Prediction]:
    found: list[Prediction] = []
    stream = (perturbed(example, change, kind=kind, seed=seed) for example in answered.examples)
    for chunk in _chunks(stream):
        said = predictor(chunk)
        # The answer alone is kept, so that a thousand scores an example do not fill the memory.
        found += [_answer(prediction) for prediction in said]
    if len(found) != len(answered):
        raise DataError(f"The predictor gave {len(found):,} answers to {len(answered):,} examples; expected one each.")
    return found


def _chunks(stream: Iterator[Example]) -> Iterable[list[Example]]:
    while chunk := list(islice(stream, _CHUNK)):
        yield chunk


def _answer(prediction: Prediction) -> Prediction:
    return {key: value for key, value in prediction.items() if key != "scores"}  # type: ignore[return-value]


def _drop(before: Answered, after: Answered, main: str, *, samples: int, seed: int) -> dict[str, Any]:
    scoring = METRICS[before.problem]
    kept: list[Array] = [scoring.terms(before.true, one.predicted) for one in (before, after)]
    n: int | Array = len(before)
    if before.groups is None:
        kept, n = collapsed(kept)
    one, other = map(scoring.statistic, kept if GREATER[main] else reversed(kept))
    found = paired_difference(one, other, n, samples=samples, seed=seed, groups=before.groups)[main]
    value = scoring(before.true, after.predicted)[main]
    return {
        "value": value,
        "drop": found.value,
        "low": found.low,
        "high": found.high,
        "decided": found.decided,
    }


def _became_wrong(
    before: Answered, after: Answered, change: Perturbation, *, kind: str, shown: int, seed: int
) -> dict[str, Any]:
    if before.problem not in CLASSES:
        return {}
    lost, won = before.right & ~after.right, after.right & ~before.right
    examples = []
    for place in np.flatnonzero(lost)[:shown].tolist():
        example = perturbed(before.examples[place], change, kind=kind, seed=seed)
        said = (one.predictions[place].get("labels", one.predictions[place].get("label")) for one in (before, after))
        held = {key: example[key] for key in ("id", "text", "text_pair", "tokens", "label") if example.get(key) is not None}
        examples.append({**held, **dict(zip(("before", "after"), said, strict=True))})
    p = mcnemar(int(lost.sum()), int(won.sum()))
    return {"to_wrong": int(lost.sum()), "to_right": int(won.sum()), "mcnemar_p": p, "examples": examples}


def _words(found: Sequence[dict[str, Any]], main: str) -> str:
    sure = [one for one in found if one["decided"] and one["drop"] > 0]
    if not sure:
        return f"None of {len(found)} perturbations shows a drop of {main} on this data."
    worst = max(sure, key=lambda one: one["drop"])
    said = f"{len(sure)} of {len(found)} perturbations {'lower' if GREATER[main] else 'raise'} {main}"
    return f"{said}; the worst, {worst['name']}, by {worst['drop']:.3f} ({worst['low']:.3f} to {worst['high']:.3f})."
