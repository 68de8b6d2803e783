"""Classification in depth: each class, what is taken for what, the curves, and how far scores can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thawline.report.blocks import Block, Interval, Num, Paragraph, Side, Table
from thawline.report.facts import Facts, get
from thawline.report.svg import Bars, Heat, Lines, Series

MAX_CLASSES = 24
"""Classes in a picture; tables have more."""
_MEASURES = ("precision", "recall", "f1")
_FEW = "The means, and the classes of least average precision."


def classes(found: Facts, path: str) -> Sequence[Block]:
    """Precision, recall and F1 of each class, and the confusion matrix."""
    rows = list(enumerate(found.get("classes", [])))
    table = []
    for place, row in rows:
        cells: list[Any] = [row["label"], Num(row["support"], ",.0f", f"{path}.classes.{place}.support")]
        cells.append(Num(row.get("predicted"), ",.0f", f"{path}.classes.{place}.predicted"))
        for name in _MEASURES:
            number = Num(row.get(name), key=f"{path}.classes.{place}.{name}")
            cells.append(Interval(number, *(row.get(f"{name}_ci95") or ())))
        table.append(cells)
    worst = sorted((row for _, row in rows if row.get("f1") is not None), key=lambda row: row["f1"])[:MAX_CLASSES]
    shown = "F1 by class" if len(worst) == len(rows) else f"F1 of the {len(worst)} classes where it is least"
    ends = [tuple(row["f1_ci95"]) if row.get("f1_ci95") else None for row in worst]
    bars = Bars(shown, [row["label"] for row in worst], [row["f1"] for row in worst], "F1", ends, (0.0, 1.0))
    blocks: list[Block] = [Side([bars, *_matrix(found)])]
    title = "Every class, with 95 % intervals" if any(ends) else "Every class"
    blocks.append(Table(title, ["class", "examples", "answered", "precision", "recall", "F1"], table))
    return [*blocks, *_pairs(found, path), *_counts(found, path)]


def _matrix(found: Facts) -> Sequence[Block]:
    labels, counts = get(found, "confusion", "labels", default=[]), get(found, "confusion", "counts", default=[])
    if not labels:
        return []
    kept, title = list(range(len(labels))), "Confusion matrix"
    if len(labels) > MAX_CLASSES:
        mistaken = [sum(counts[k]) + sum(row[k] for row in counts) - 2 * counts[k][k] for k in kept]
        kept = sorted(sorted(kept, key=lambda k: -mistaken[k])[:MAX_CLASSES])
        title += f" of the {MAX_CLASSES} classes with most confusions, of {len(labels)}"
    return [Heat(title, [labels[k] for k in kept], [[counts[row][column] for column in kept] for row in kept])]


def _pairs(found: Facts, path: str) -> Sequence[Block]:
    rows = []
    for place, pair in enumerate(found.get("confused", [])):
        key = f"{path}.confused.{place}"
        share = Interval(Num(pair["share"], ".1%", f"{key}.share"), *(pair.get("share_ci95") or ()))
        rows.append([pair["true"], pair["predicted"], Num(pair["count"], ",.0f", f"{key}.count"), share])
    columns = ["true", "answered", "examples", "share of the true class"]
    return [Table("Most confused pairs", columns, rows, total=found.get("confused_pairs"))] if rows else []


def _counts(found: Facts, path: str) -> Sequence[Block]:
    rows = [
        [row["label"], *(Num(row[name], ",.0f", f"{path}.two_by_two.{place}.{name}") for name in ("tp", "fp", "fn", "tn"))]
        for place, row in enumerate(found.get("two_by_two", []))
    ]
    columns = ["label", "rightly there", "wrongly there", "missed", "rightly not there"]
    return [Table("Each label by itself", columns, rows)] if rows else []


def curves(found: Facts, path: str) -> Sequence[Block]:
    """ROC and precision-recall curves of few classes, or of the mean and the worst of many; areas of all."""
    rows = found.get("classes", [])
    known = [row for row in rows if row.get("average_precision") is not None]
    drawn = sorted((row for row in known if row.get("roc")), key=lambda row: row["average_precision"])
    drawn = drawn if len(drawn) <= 5 else drawn[:4]
    means = [(name, found[name]) for name in ("macro", "micro") if name in found] if len(rows) > 2 else []
    named = [(f"{name} average", one) for name, one in means[:2]] + [(row["label"], row) for row in drawn]
    charts: list[Block] = []
    for key, title, x, y, diagonal in (
        ("roc", "ROC", "false positive rate", "true positive rate", True),
        ("precision_recall", "Precision and recall", "recall", "precision", False),
    ):
        series = [Series(name, [(a, b) for a, b in one[key]], form="curve") for name, one in named if one.get(key)]
        unit = (0.0, 1.0)
        if series:
            charts.append(Lines(title, series[:6], x, y, unit, unit, diagonal=diagonal))
    table = [
        [
            row["label"],
            *(
                Interval(Num(row.get(area), key=f"{path}.classes.{place}.{area}"), *(row.get(f"{area}_ci95") or ()))
                for area in ("roc_area", "average_precision")
            ),
        ]
        for place, row in enumerate(rows)
    ]
    about = "Each class against the rest." if len(drawn) == len(known) else _FEW
    if found.get("draws"):
        about += f" Brackets hold 95 % intervals of the areas, of {found['draws']} draws."
    areas = Table("Areas", ["class", "area under ROC", "average precision"], table)
    return [Paragraph([about, f" {found['note']}" if found.get("note") else ""], "quiet"), Side(charts), areas]
