"""The same measured several times, by seed or by fold: how far results differ by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from thawline.evaluate.metrics import GREATER


def over(sections: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return for each metric that all sections have its mean, standard deviation (of a sample) and values, in their order.

    >>> over([{"accuracy": 0.5, "n": 8, "accuracy_ci95": [0, 1]}, {"accuracy": 0.75, "n": 8}])
    {'accuracy': {'mean': 0.625, 'sd': 0.1767766952966369, 'values': [0.5, 0.75]}}
    """
    first, *others = sections
    names = [name for name in first if (name in GREATER or name == "loss") and all(name in other for other in others)]
    columns = {name: [float(section[name]) for section in sections] for name in names}
    return {
        name: {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None, "values": values}
        for name, values in columns.items()
    }
