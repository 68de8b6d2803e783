"""Whether a score of 0.8 is right 8 times of 10, and the temperature that brings it nearer to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.evaluate.intervals import bootstrap
from thawline.evaluate.reliability import BINS, calibration_error, reliability
from thawline.evaluate.resample import Sums
from thawline.types import Prediction

_LEAST = 6e-8  # float32 cannot tell a sigmoid's 1 - p from 0 below this
_RANGE = (0.05, 20.0)


def fit_temperature(answered: Answered) -> Array:
    """Return the temperature that makes the true labels likeliest: float [1], or with several labels one for each, [C].

    Minimises the negative log likelihood of softmax(z / T), or sigmoid(z / T), over log T (Guo et al. 2017, section 4.2), plus
    (log T)² / 2: a normal prior that hundreds of examples overrule and that keeps T finite where a few are all right. Of
    examples with a label that the model does not know nothing is learned. Scores suffice, since their logarithms (with
    several labels: logits) are the model's logits up to a constant. What fitted a temperature must not judge it: see `parts`.

    >>> scores = {"a": 0.99, "b": 0.01}
    >>> examples = [{"id": str(i), "label": "ab"[i % 4 == 0]} for i in range(400)]
    >>> said: list[Any] = [{"id": str(i), "label": "a", "scores": scores} for i in range(400)]
    >>> found = fit_temperature(Answered(examples, said, "single_label_classification", ("a", "b")))
    >>> rescale(np.array([[0.99, 0.01]]), found).round(2).tolist()  # three of four are right
    [[0.75, 0.25]]
    """
    if answered.several:
        return np.array([_fit(answered.scores[:, [c]], answered.true[:, c], True) for c in range(len(answered.labels))])
    known = ~answered.unknown
    return np.array([_fit(answered.scores[known], answered.true[known], False)])


def rescale(scores: Array, temperature: Array, *, several: bool = False) -> Array:
    """Return the scores, [N, C], that the model would give with its logits divided by `temperature`, [1] or [C]."""
    logits = _logits(scores, several) / temperature
    if several:
        return np.asarray(1 / (1 + np.exp(-logits)))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def rescaled(answered: Answered, temperature: Array) -> Answered:
    """Return the same answers with the scores that `temperature` gives them."""
    scores = rescale(answered.scores, temperature, several=answered.several).astype(np.float32)
    predictions: list[Prediction] = []
    for old, row in zip(answered.predictions, scores.tolist(), strict=True):
        new = Prediction(**{**old, "scores": dict(zip(answered.labels, row, strict=True))})
        if "score" in old:
            new["score"] = new["scores"].get(old.get("label", ""), 0.0)
        predictions.append(new)
    return replace(answered, predictions=predictions)


def fold_temperature(layer: Any, temperature: Sequence[float] | Array) -> None:
    """Divide the weight, [C, H], and the bias, [C], of a model's last linear layer by `temperature`, [1] or [C], in place.

    Its softmax or sigmoid then gives the calibrated scores by itself, in whatever loads the model. The layer must be the last
    one, linear, and share its weight with no other.

    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> before = layer(torch.ones(3))
    >>> fold_temperature(layer, [2.0])
    >>> bool(torch.allclose(layer(torch.ones(3)), before / 2))
    True
    """
    import torch

    with torch.no_grad():
        factor = torch.as_tensor(np.asarray(temperature), dtype=torch.float64, device=layer.weight.device)
        layer.weight.copy_(layer.weight.double() / factor[:, None])
        if layer.bias is not None:
            layer.bias.copy_(layer.bias.double() / factor)


def calibration(
    answered: Answered, temperature: Array | None = None, *, folded: bool = False, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return how well the scores are calibrated, "before" and, with `temperature`, "after" it, on data that did not fit it.

    With `folded` the scores are of a model that has the temperature in it: they are "after", and it is taken out for "before".

    Of both: `ece` and `ece_equal_mass`, the expected calibration error of the answer's score (several labels: of every label's)
    with "_debiased" and "_ci95" (see `reliability`), `brier` (the squared distance of scores and truth, 0 to 2; several: their
    mean over labels), `nll` (natural logarithm, of examples with known labels) with bootstrap intervals, and the bins of the
    reliability diagrams. "change" has after minus before, paired. With several labels, "labels" has the like for each.
    """
    sides = {"before": np.asarray(answered.scores, dtype=float)}
    if temperature is not None:
        other = rescale(answered.scores, 1 / temperature if folded else temperature, several=answered.several)
        sides = {"before": other, "after": sides["before"]} if folded else {**sides, "after": other}
    result: dict[str, Any] = {"n": len(answered), "unknown": int(answered.unknown.sum()), "bins": BINS}
    result["temperature"] = None if temperature is None else _named(answered, temperature)
    result["notes"] = answered.notes
    ends = _proper(answered, sides, samples=samples, seed=seed)
    for side, scores in sides.items():
        result[side] = {**_errors(answered, scores), **ends[side]}
    if temperature is not None:
        result["change"] = ends["change"]
    if answered.several:
        result["labels"] = [
            {"label": label, **{side: _of_label(answered.true[:, c], scores[:, c]) for side, scores in sides.items()}}
            for c, label in enumerate(answered.labels)
        ]
    return result


def _fit(scores: Array, true: Array, several: bool) -> float:
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logits = _logits(scores, several)

    def loss(log_t: float) -> float:
        z = logits * np.exp(-log_t)
        if several:
            each = np.logaddexp(0.0, np.where(true, -z[:, 0], z[:, 0]))
        else:
            each = logsumexp(z, axis=1) - z[np.arange(len(z)), true]
        return float(each.sum(dtype=float)) + log_t**2 / 2

    found = minimize_scalar(loss, bounds=np.log(_RANGE), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def _logits(scores: Array, several: bool) -> Array:
    """Return logits, up to a constant in each row, of the scores that a softmax, or sigmoids, made of them."""
    if several:
        clipped = np.clip(scores, _LEAST, 1 - _LEAST, dtype=float)
        return np.asarray(np.log(clipped) - np.log1p(-clipped))
    return np.log(np.maximum(scores, np.finfo(np.float32).tiny, dtype=float))


def _named(answered: Answered, temperature: Array) -> Any:
    values = np.asarray(temperature, dtype=float).tolist()
    return dict(zip(answered.labels, values, strict=True)) if answered.several else values[0]


def _confidence(answered: Answered, scores: Array) -> tuple[Array, Array]:
    """Return scores and whether what they stand for is so: [N, 1] of the answers, or [N, C] of all labels."""
    if answered.several:
        return scores, answered.true
    chosen = np.take_along_axis(scores, np.maximum(answered.predicted, 0)[:, None], axis=1)
    return chosen, answered.right[:, None]


def _errors(answered: Answered, scores: Array) -> dict[str, Any]:
    said, so = _confidence(answered, scores)
    result: dict[str, Any] = {"confidence": float(said.mean()), "accuracy": float(so.mean()), "reliability": {}}
    for name, equal_mass in (("ece", False), ("ece_equal_mass", True)):
        error = calibration_error(said, so, equal_mass=equal_mass)
        result |= {name: error.value, f"{name}_debiased": error.debiased, f"{name}_ci95": [error.low, error.high]}
        result["reliability"]["equal_mass" if equal_mass else "equal_width"] = reliability(said, so, equal_mass=equal_mass)
    return result


def _of_label(true: Array, scores: Array) -> dict[str, Any]:
    error = calibration_error(scores[:, None], true[:, None])
    brier, nll = _brier(scores[:, None], true[:, None], True), _nll(scores[:, None], true[:, None])
    ece = {"ece": error.value, "ece_debiased": error.debiased, "ece_ci95": [error.low, error.high]}
    return {**ece, "brier": float(brier.mean()), "nll": float(nll.mean())}


def _proper(answered: Answered, sides: dict[str, Array], *, samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return Brier score and NLL of each side, and of "change", the last minus the first, with intervals of one bootstrap."""
    known = ~answered.unknown
    columns = [np.ones(len(answered)), known.astype(float)]
    for scores in sides.values():
        nll = _nll(scores, answered.true) if answered.several else _nll_of_one(scores, answered.true)
        columns += [_brier(scores, answered.hot, answered.several), np.where(known, nll, 0.0)]

    def finish(sums: Array) -> dict[str, Array]:
        of_all, of_known = sums[:, 0], np.maximum(sums[:, 1], 1)
        found: dict[str, Array] = {}
        for place, side in enumerate(sides):
            found |= {f"{side} brier": sums[:, 2 + 2 * place] / of_all, f"{side} nll": sums[:, 3 + 2 * place] / of_known}
        if len(sides) > 1:
            found |= {f"change {name}": found[f"after {name}"] - found[f"before {name}"] for name in ("brier", "nll")}
        return found

    statistic = Sums(np.column_stack(columns), finish)
    values = statistic(np.ones((1, len(answered))))
    ends = bootstrap(statistic, len(answered), samples=samples, seed=seed, groups=answered.groups) if samples else {}
    result: dict[str, dict[str, Any]] = {}
    for key, (value,) in values.items():
        side, name = key.split()
        missing = name == "nll" and not known.any()
        section = result.setdefault(side, {})
        section[name] = None if missing else float(value)
        if ends:
            section[f"{name}_ci95"] = None if missing else list(ends[key])
    return result


def _brier(scores: Array, hot: Array, several: bool) -> Array:
    squares = (scores - hot) ** 2
    return np.asarray(squares.mean(axis=1) if several else squares.sum(axis=1))


def _nll(scores: Array, true: Array) -> Array:
    clipped = np.clip(scores, _LEAST, 1 - _LEAST)
    return np.asarray(-np.log(np.where(true, clipped, 1 - clipped)).mean(axis=1))


def _nll_of_one(scores: Array, true: Array) -> Array:
    own = scores[np.arange(len(true)), np.maximum(true, 0)]
    return np.asarray(-np.log(np.maximum(own, np.finfo(np.float32).tiny)))
