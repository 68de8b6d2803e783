"""How far the scores can be trusted: calibration, abstention, and sets of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thawline.report.blocks import Block, Interval, Num, Paragraph, Table
from thawline.report.facts import Facts, get
from thawline.report.plainly import plainly, rows_table
from thawline.report.svg import Lines, Series

_SIDES = (("before", "as trained"), ("after", "with the temperature"))
_ERRORS = (
    ("ece", "expected calibration error"),
    ("ece_debiased", "the same without its bias"),
    ("brier", "Brier score"),
    ("nll", "negative log likelihood"),
    ("confidence", "mean score"),
    ("accuracy", "share that is right"),
)


def calibration(found: Facts, path: str) -> Sequence[Block]:
    """The reliability diagram before and after the temperature, and the errors in numbers."""
    there = [(side, name) for side, name in _SIDES if side in found]
    about = "A score of 0.8 should be right 8 times of 10: points on the broken line are. Points below it are over-confident."
    temperature = found.get("temperature")
    said: list[Any] = [about]
    if isinstance(temperature, (int, float)):
        said += [" The temperature, fitted on validation data, is ", Num(temperature, key=f"{path}.temperature"), "."]
    unit, series = (0.0, 1.0), []
    for side, name in there:
        bins = get(found, side, "reliability", "equal_mass", default=[])
        points = [(one["confidence"], one["accuracy"]) for one in bins]
        series.append(Series(name, points, [(one["accuracy_ci95"][0], one["accuracy_ci95"][1]) for one in bins], "dots"))
    chart = Lines("Reliability, bins of equal size", series, "score", "share that is right", unit, unit, diagonal=True)
    rows = []
    for key, name in _ERRORS:
        cells: list[Any] = [name]
        for side, _ in there:
            one = found[side]
            cells.append(Interval(Num(one.get(key), key=f"{path}.{side}.{key}"), *(one.get(f"{key}_ci95") or ())))
        rows.append(cells)
    table = Table("Calibration in numbers", ["what", *(name for _, name in there)], rows)
    return [Paragraph(said, "quiet"), chart, table, *_by_label(found, path)]


def _by_label(found: Facts, path: str) -> Sequence[Block]:
    rows = []
    for place, one in enumerate(found.get("labels", [])):
        sides = [side for side, _ in _SIDES if side in one]
        rows.append([one["label"], *(Num(one[side].get("ece"), key=f"{path}.labels.{place}.{side}.ece") for side in sides)])
    columns = ["label", *(f"calibration error, {name}" for side, name in _SIDES if side in found)]
    return [Table("Calibration of each label", columns, rows)] if rows else []


def abstention(found: Facts, path: str) -> Sequence[Block]:
    """From which score on answers are right often enough, and how many are answered then."""
    rows = found.get("targets", [])
    blocks: list[Block] = [Paragraph([row["text"]]) for row in rows if row.get("text")]
    curve = [(point[0], point[1]) for point in found.get("curve", [])]
    if curve:
        title = "Accuracy among the answered, the surest first"
        least = min(y for _, y in curve)
        span = (max(0.0, least - 0.05), 1.0)
        blocks.append(Lines(title, [Series("", curve, form="curve")], "share answered", "accuracy", (0.0, 1.0), span))
    return [*blocks, rows_table("Thresholds", rows, f"{path}.targets")] if rows else plainly(found, path)


def conformal(found: Facts, path: str) -> Sequence[Block]:
    """Sets of labels that hold the true one with a chosen probability."""
    rows = found.get("levels", [])
    if not rows:
        return plainly(found, path)
    about = "The set of an example holds its true label with the chosen probability, on average over examples like these."
    texts = [Paragraph([row["text"]]) for row in rows if row.get("text")]
    return [Paragraph([about], "quiet"), *texts, rows_table("Sets at each level", rows, f"{path}.levels")]
