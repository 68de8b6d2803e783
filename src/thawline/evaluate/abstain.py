"""When a model should keep silent: the score above which its answers are right as often as asked, and how often it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.evaluate.classes import share_interval
from thawline.evaluate.curves import thin

TARGETS = (0.99, 0.95, 0.9)
SURE = 0.95
_STARTS = 3  # of 1, 3, 5 and 10 starts, and of tests at 5 to 50 thresholds with Bonferroni's correction, what answers most
_STEP = 1.05


def abstention(
    calibration: Answered, test: Answered | None = None, *, targets: Sequence[float] = TARGETS, sure: float = SURE
) -> dict[str, Any]:
    """Return for each target the score above which answers are right that often, and what comes of it on `test`.

    An example is answered where its `confidence` > "threshold"; None says that no threshold can be vouched for. With
    probability `sure`, over draws of `calibration`, the accuracy among the answered is at least the target; this holds for
    each target by itself, for data like `calibration`, which must have chosen nothing: neither checkpoint nor temperature.
    "answered" is the share that is answered, "accuracy" that of the answered, both also of "test" where it is given. "curve"
    has [share answered, accuracy among them] of `test`, else of `calibration`, from the surest on.

    >>> examples = [{"id": str(i), "label": "a" if i < 80 else "b"} for i in range(100)]
    >>> said: list[Any] = [{"id": str(i), "label": "a", "scores": {"a": 1 - i / 200, "b": i / 200}} for i in range(100)]
    >>> found = abstention(Answered(examples, said, "single_label_classification", ("a", "b")), targets=[0.9])["targets"][0]
    >>> found["threshold"], found["answered"], found["accuracy"]
    (0.5899999737739563, 0.82, 0.975609756097561)
    """
    rows = []
    for target in targets:
        threshold = find_threshold(calibration.confidence, calibration.right, target=target, sure=sure)
        row: dict[str, Any] = {"target": target, "threshold": threshold}
        row |= {"answered": 0.0, "accuracy": None} if threshold is None else _outcome(calibration, threshold)
        if test is not None and threshold is not None:
            row["test"] = _outcome(test, threshold)
        row["text"] = _sentence(row, len(calibration), sure)
        rows.append(row)
    curve = _curve(calibration if test is None else test)
    found = {"n": len(calibration), "sure": sure, "targets": rows, "curve": curve, "notes": (test or calibration).notes}
    return found if test is None else {**found, "n_test": len(test)}


def find_threshold(confidence: Array, right: Array, *, target: float, sure: float = SURE) -> float | None:
    """Return the least threshold of which it is sure that answers with more confidence are right as often as `target`.

    A threshold passes where so few wrong answers among those above it would come by chance with probability 1 - sure at most,
    were the target missed: Clopper and Pearson's (1934) bound on their share. The search is paid for by testing in a fixed
    order, to the first failure: from as many surest examples as could pass at all, 5 % more at a time, with three starts that
    share 1 - sure among them (multi-start fixed sequence testing, Angelopoulos et al. 2021, "Learn then Test"; one
    start where the examples are few). Thresholds are the scores of given ranks: whatever the score, examples above it are
    independent draws of such. None passes: None. All may be answered: -1.

    >>> find_threshold(np.linspace(0.5, 1, 50), np.ones(50, bool), target=0.95) is None  # 59 right of 59 are needed
    True
    """
    from scipy.stats import binom

    assert 0 < target < 1 and 0 < sure < 1, f"target {target} and sure {sure} are shares, neither 0 nor 1"

    order = np.argsort(-confidence, kind="stable")
    scores = np.append(confidence[order].astype(float), -1.0)
    wrong = np.append(0, np.cumsum(~right[order]))
    best = 0
    for start, level in _starts(len(right), 1 - target, 1 - sure):
        numbers = np.array(list(_numbers(start, len(right))))
        above = np.searchsorted(-scores, -scores[numbers], side="left")  # of equal scores none is above
        numbers, above = numbers[above >= start], above[above >= start]
        passed = binom.cdf(wrong[above], above, 1 - target) <= level
        first_failure = len(passed) if passed.all() else int(np.argmin(passed))
        best = max(best, int(numbers[first_failure - 1])) if first_failure else best
    return float(scores[best]) if best else None


def _starts(n: int, risk: float, level: float) -> list[tuple[int, float]]:
    """Return with how many surest examples a sequence starts, and its share of the level."""
    few = _least(risk, level / _STARTS) > n / 2
    starts = 1 if few else _STARTS
    first = _least(risk, level / starts)
    return [(round(first * (n / first) ** (k / starts)), level / starts) for k in range(starts)] if first <= n else []


def _least(risk: float, level: float) -> int:
    """Return how many answers must be right, all of them, to show that fewer than `risk` are wrong."""
    return int(np.ceil(np.log(level) / np.log1p(-risk)))


def _numbers(start: int, n: int) -> Iterator[int]:
    while start < n:
        yield start
        start = max(start + 1, int(start * _STEP))
    yield n


def _outcome(answered: Answered, threshold: float) -> dict[str, Any]:
    chosen = answered.confidence > threshold
    number, right = int(chosen.sum()), int(answered.right[chosen].sum())
    shares = [share_interval(number, len(answered)), share_interval(right, number)]
    return {
        "answered": number / len(answered),
        "answered_ci95": [float(end) for end in shares[0]],
        "accuracy": right / number if number else None,
        "accuracy_ci95": [float(end) for end in shares[1]],
    }


def _sentence(row: dict[str, Any], n: int, sure: float) -> str:
    target = f"{row['target']:.4g}"
    if row["threshold"] is None:
        least = _least(1 - row["target"], 1 - sure)
        need = f"; it takes {least:,} right of {least:,} at least" if n < least else ""
        return f"No threshold makes an accuracy of {target} sure at {sure:.0%} with these {n:,} examples{need}."
    if row["threshold"] < 0:
        return f"All may be answered: the accuracy is at least {target}, with {sure:.0%} confidence."
    return (
        f"Answer where the score is above {row['threshold']:.4g}: {row['answered']:.1%} are answered, and the accuracy among "
        f"them is at least {target}, with {sure:.0%} confidence."
    )


def _curve(answered: Answered) -> list[list[float]]:
    order = np.argsort(-answered.confidence, kind="stable")
    scores, right = answered.confidence[order], np.cumsum(answered.right[order])
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # equal scores are answered together
    share, accuracy = thin((ends + 1) / len(scores), right[ends] / (ends + 1))
    return np.round(np.stack([share, accuracy], axis=1), 5).tolist()  # type: ignore[no-any-return]
