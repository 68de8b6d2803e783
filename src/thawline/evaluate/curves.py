"""What a model could be at other thresholds: ROC and precision-recall curves, one class against the rest."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.evaluate.areas import DRAWS, MOST, area_intervals

MAX_POINTS = 100
MANY = 20
"""With more labels the micro-average, all decisions taken together, stands beside the macro-average."""
MAX_DRAWN = 100
_AREA = 5e-4  # half of what thinning may change
_Curve = tuple[Array, Array]


def curves(answered: Answered, *, samples: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Return the ROC and the precision-recall curve of each class against the rest, of their mean, and the areas.

    Areas are scikit-learn's `roc_auc_score` and `average_precision_score`, None where a class has no examples, or (ROC) has
    all; "_ci95" are their bootstrap intervals (see `area_intervals`) of "draws" draws, at most DRAWS; of more than MOST
    scores there are none. A curve is a list of points [x, y] to be joined by straight lines: x is the false positive rate, or
    recall. It has MAX_POINTS points or little more, and encloses the area to 1e-3. "macro" is the mean over classes that have a
    curve; with more than MANY classes "micro" takes the decisions of all for those of one. With more than MAX_DRAWN, only the
    classes of least average precision have points.

    >>> examples = [{"id": str(i), "label": "ab"[i % 2]} for i in range(4)]
    >>> scores = [0.9, 0.2, 0.4, 0.6]
    >>> said: list[Any] = [{"id": str(i), "label": "a", "scores": {"a": p, "b": 1 - p}} for i, p in enumerate(scores)]
    >>> found = curves(Answered(examples, said, "single_label_classification", ("a", "b")))
    >>> found["classes"][0]["roc_area"], found["classes"][0]["roc"]
    (0.75, [[0.0, 0.0], [0.0, 0.5], [0.5, 0.5], [0.5, 1.0], [1.0, 1.0]])
    """
    true, scores = answered.hot, answered.scores
    found = [_one(true[:, place], scores[:, place]) for place in range(len(answered.labels))]
    rows = [{"label": label, **_entry(one)} for label, one in zip(answered.labels, found, strict=True)]
    result: dict[str, Any] = {"n": len(answered), "classes": rows, "macro": _entry(_macro(found))}
    if len(rows) > MANY:
        result["micro"] = _entry(_one(true.ravel(), scores.ravel()))
    notes = _with_intervals(result, answered, samples=min(samples, DRAWS), seed=seed)
    if len(rows) > MAX_DRAWN:
        worst = sorted(range(len(rows)), key=lambda k: (rows[k]["average_precision"] is None, rows[k]["average_precision"]))
        for place in worst[MAX_DRAWN:]:
            rows[place] |= {"roc": None, "precision_recall": None}
        notes.append(f"Of {len(rows)} classes, the {MAX_DRAWN} of least average precision have curves.")
    return {**result, "note": " ".join(notes)} if notes else result


def _with_intervals(result: dict[str, Any], answered: Answered, *, samples: int, seed: int) -> list[str]:
    """Put intervals beside the areas of a result; return what is to be said where that would take too long."""
    decisions = len(answered) * len(answered.labels) * (2 if "micro" in result else 1)
    result["draws"] = samples if samples and decisions <= MOST else None
    if not samples:
        return []
    if decisions > MOST:
        return [f"The areas have no intervals: to draw {decisions:,} scores anew would take too long (over {MOST:,})."]
    found = area_intervals(answered, micro="micro" in result, samples=samples, seed=seed)
    entries = [(str(place), row) for place, row in enumerate(result["classes"])]
    entries += [(name, result[name]) for name in ("macro", "micro") if name in result]
    for name, entry in entries:
        entry.update(found[name])
    return []


def thin(x: Array, y: Array, *, most: int = MAX_POINTS, area: float = _AREA) -> _Curve:
    """Return few of the points of a curve of straight lines, x never falling, that enclose the same area.

    The stretch between two points that differs most from its chord, in area, is cut where it is furthest from the chord, until
    `most` points are there, and on until the area is that of the curve to within `area`. Source: Douglas & Peucker 1973, with
    area for distance.

    >>> x = np.linspace(0, 1, 5000)
    >>> few, heights = thin(x, np.sqrt(x))
    >>> len(few), round(float(np.trapezoid(heights, few)), 3)
    (100, 0.667)
    """

    def stretch(start: int, stop: int) -> tuple[float, float, int, int, int]:
        """Its areas to the chord, negative and signed, its ends, and where to cut it."""
        across, up = x[start : stop + 1] - x[start], y[start : stop + 1] - y[start]
        if not across[-1]:  # upright, and so are its parts
            return 0.0, 0.0, start, stop, start
        away = up - across * (up[-1] / across[-1])
        area = (np.diff(across) * np.stack([away[1:] + away[:-1], abs(away[1:]) + abs(away[:-1])])).sum(axis=1) / 2
        return -float(area[1]), float(area[0]), start, stop, start + int(np.argmax(abs(away)))

    heap, kept = [stretch(0, len(x) - 1)], {0, len(x) - 1}
    while heap and heap[0][0] < -1e-12 and (len(kept) < most or abs(sum(one[1] for one in heap)) > area):
        _, _, start, stop, middle = heappop(heap)
        kept.add(middle)
        for part in ((start, middle), (middle, stop)):
            if part[1] - part[0] > 1:
                heappush(heap, stretch(*part))
    chosen = sorted(kept)
    return x[chosen], y[chosen]


def _one(true: Array, scores: Array) -> dict[str, Any]:
    """Return the thinned curves and the areas of one class against the rest."""
    from sklearn.metrics import roc_curve

    positive = int(true.sum())
    negative = len(true) - positive
    if not positive:
        return {"roc_area": None, "average_precision": None, "roc": None, "precision_recall": None}
    if not negative:
        full = np.array([0.0, 1.0]), np.array([1.0, 1.0])
        return {"roc_area": None, "average_precision": 1.0, "roc": None, "precision_recall": full}
    false_rate, recall, _ = roc_curve(true, scores, drop_intermediate=False)
    precision = recall[1:] * positive / (recall[1:] * positive + false_rate[1:] * negative)
    steps = np.diff(recall)
    return {
        "roc_area": float(np.trapezoid(recall, false_rate)),
        "average_precision": float(steps @ precision),
        "roc": thin(false_rate, recall),
        "precision_recall": thin(*_stairs(recall, precision, steps > 0)),
    }


def _stairs(recall: Array, precision: Array, rising: Array) -> _Curve:
    """Return the step function whose area is the average precision as a line of level and upright pieces."""
    ends = recall[1:][rising]
    starts = np.concatenate([[0.0], ends[:-1]])
    return np.stack([starts, ends], axis=1).ravel(), np.repeat(precision[rising], 2)


def _macro(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of the curves, and of the areas, over the classes that have them."""
    result: dict[str, Any] = {}
    for area, curve in (("roc_area", "roc"), ("average_precision", "precision_recall")):
        areas = [one[area] for one in found if one[area] is not None]
        drawn = [one[curve] for one in found if one[curve] is not None]
        result |= {area: float(np.mean(areas)) if areas else None, curve: _mean(drawn) if drawn else None}
    return result


def _mean(drawn: list[_Curve]) -> _Curve:
    # An upright piece leans by a hair, so that each curve is a function and their mean at all corners is exact.
    leaning = [(x + 1e-12 * np.arange(len(x)), y) for x, y in drawn]
    corners = np.unique(np.concatenate([x for x, _ in leaning]))
    height = np.mean([np.interp(corners, x, y) for x, y in leaning], axis=0)
    return thin(np.minimum(corners, 1.0), height)


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    def points(curve: _Curve | None) -> list[list[float]] | None:
        return None if curve is None else np.round(np.stack(curve, axis=1), 5).tolist()

    return {
        **{name: found[name] for name in ("roc_area", "average_precision")},
        **{name: points(found[name]) for name in ("roc", "precision_recall")},
    }
