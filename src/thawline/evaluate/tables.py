"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from thawline.evaluate.intervals import Difference, verdict
from thawline.evaluate.metrics import GREATER


def metrics_table(section: Mapping[str, Any], *, main: str, title: str = "") -> Group:
    """Return a section of `metrics.json` as a table, with one sentence for each baseline that was compared in `main`.

    >>> from rich.console import Console
    >>> section = {"accuracy": 0.8, "n": 50, "accuracy_ci95": [0.68, 0.9], "baseline": {"majority": {"accuracy": 0.5}}}
    >>> Console(width=60).print(metrics_table(section, main="accuracy"))
    n = 50, [95 % intervals]
    metric                     model  majority
    accuracy    0.800 [0.680, 0.900]     0.500
    """
    rivals: Mapping[str, Mapping[str, Any]] = section.get("baseline", {})
    metrics = [name for name in section if name in GREATER]
    compared = [name for name in rivals if _difference(rivals[name], main) is not None]
    brackets = ", [95 % intervals]" * any(f"{name}_ci95" in section for name in metrics)
    heading = f"{title}, n = {section['n']:,}{brackets}".removeprefix(", ")
    table = Table(title=Text(heading), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    for name in ["model", *rivals, *(f"model - {name}" for name in compared)]:
        table.add_column(Text(name), justify="right")
    for metric in metrics:
        cells = [_interval(section[metric], *section.get(f"{metric}_ci95", ()))]
        cells += [_number(rivals[name][metric]) if metric in rivals[name] else "" for name in rivals]
        for name in compared:
            found = _difference(rivals[name], metric)
            cells.append(_interval(found.value, found.low, found.high, sign="+") if found else "")
        table.add_row(Text(metric, style="bold" if metric == main else ""), *map(Text, cells))
    return Group(table, *(Text(line) for line in sentences(section, main=main)))


def sentences(section: Mapping[str, Any], *, main: str) -> list[str]:
    """Return what the paired differences of a section in the metric `main` show, one sentence a baseline."""
    found = {name: _difference(entry, main) for name, entry in section.get("baseline", {}).items()}
    return [verdict(main, one, other=name, greater=GREATER[main]) for name, one in found.items() if one is not None]


def _difference(entry: Mapping[str, Any], metric: str) -> Difference | None:
    value = entry.get(f"{metric}_difference")
    between = entry.get(f"{metric}_difference_ci95")
    return None if value is None or between is None else Difference(value, *between)


def _interval(value: float, *bounds: float, sign: str = "") -> str:
    within = ", ".join(_number(bound, sign) for bound in bounds)
    return f"{_number(value, sign)} [{within}]" if bounds else _number(value, sign)


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if abs(value) < 1000 else f"{value:{sign}.4g}"
