"""How much each class counts in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow.compute as pc

from thawline.data.examples import Examples
from thawline.data.labels import sort_names
from thawline.errors import DataError, did_you_mean


def class_weights(labels: Examples | Iterable[str | Iterable[str]], spec: str | Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each class that occurs in `labels` (examples, class names, or lists of them).

    `spec` is "none" (all 1), "auto" (n / (k · count), scikit-learn's "balanced"), or a mapping from names to weights, 1 for
    those left out. Raises DataError for an unknown class or word, and for a weight below 0.

    >>> class_weights(["a", "a", "a", "b"], "auto")
    {'a': 0.6666666666666666, 'b': 2.0}
    """
    counts = _counts(labels)
    if isinstance(spec, str):
        if spec not in ("none", "auto"):
            raise DataError(
                f"class_weights={spec} is not known; expected none, auto, or a mapping from class names to weights."
            )
        total = sum(counts.values())
        return {name: 1.0 if spec == "none" else total / (len(counts) * count) for name, count in counts.items()}
    for name, weight in spec.items():
        if str(name) not in counts:
            raise DataError(
                f"class_weights names {name!r}, which no example has{did_you_mean(str(name), counts) or '.'} "
                f"Classes: {', '.join(counts)}."
            )
        if not float(weight) >= 0:
            raise DataError(f"class_weights gives {name!r} the weight {weight}; expected a number of at least 0.")
    given = {str(name): float(weight) for name, weight in spec.items()}
    return {name: given.get(name, 1.0) for name in counts}


def _counts(labels: Examples | Iterable[str | Iterable[str]]) -> dict[str, int]:
    if isinstance(labels, Examples):
        column = labels.column("label")
        flat = pc.list_flatten(column) if str(column.type).startswith("list") else column
        counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(flat.drop_null()).to_pylist()}
    else:
        counts = Counter(name for label in labels for name in ([label] if isinstance(label, str) else label))
    return {name: counts[name] for name in sort_names(counts)}
