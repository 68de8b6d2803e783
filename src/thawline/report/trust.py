"""How far the scores can be trusted: calibration, abstention, and sets of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thawline.report.blocks import Block, Interval, Num, Paragraph, Table, Word
from thawline.report.facts import Facts, get
from thawline.report.plainly import plainly, rows_table, told
from thawline.report.svg import Lines, Series

_SIDES = (("before", "before the temperature"), ("after", "with it, as saved"))
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
    there = _sides(found)
    about = "A score of 0.8 should be right 8 times of 10: points on the broken line are. Points below it are over-confident."
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
    said: list[Block] = [Paragraph([about], "quiet"), *_temperature(found, path), *told(found)]
    return [*said, chart, table, *_by_label(found, path)]


def _sides(found: Facts) -> list[tuple[str, str]]:
    """Return the sides that are there with their names; without a temperature there is one, of the scores as they are."""
    there = [(side, name) for side, name in _SIDES if side in found]
    return there if len(there) > 1 else [(side, "as saved") for side, _ in there]


def _temperature(found: Facts, path: str) -> Sequence[Block]:
    temperature, n = found.get("temperature"), get(found, "fitted", "n")
    if temperature is None:
        return []
    of: list[Word] = [", fitted on ", Num(n, ",.0f", f"{path}.fitted.n"), " validation examples,"] if n else []
    if isinstance(temperature, Mapping):
        return [Paragraph(["Each label has a temperature", *of, " in the saved model; below they stand with the labels."])]
    return [Paragraph(["A temperature of ", Num(temperature, key=f"{path}.temperature"), *of, " is in the saved model."])]


def _by_label(found: Facts, path: str) -> Sequence[Block]:
    rows, there, temperature = [], _sides(found), found.get("temperature")
    fitted = temperature if isinstance(temperature, Mapping) else {}
    for place, one in enumerate(found.get("labels", [])):
        label, key = one["label"], f"{path}.labels.{place}"
        fit = [Num(fitted[label], key=f"{path}.temperature.{label}")] if label in fitted else []
        rows.append([label, *fit, *(Num(one[side].get("ece"), key=f"{key}.{side}.ece") for side, _ in there)])
    columns = ["label", *(["temperature"] if fitted else []), *(f"calibration error, {name}" for _, name in there)]
    return [Table("Calibration of each label", columns, rows)] if rows else []


def abstention(found: Facts, path: str) -> Sequence[Block]:
    """From which score on answers are right often enough, and how many are answered then."""
    rows = found.get("targets", [])
    if not rows:
        return plainly(found, path)
    blocks: list[Block] = [*(Paragraph([row["text"]]) for row in rows if row.get("text")), *told(found)]
    curve = [(point[0], point[1]) for point in found.get("curve", [])]
    if curve:
        title = "Accuracy among the answered, the surest first"
        least = min(y for _, y in curve)
        span = (max(0.0, least - 0.05), 1.0)
        blocks.append(Lines(title, [Series("", curve, form="curve")], "share answered", "accuracy", (0.0, 1.0), span))
    return [*blocks, rows_table("Thresholds", rows, f"{path}.targets")]


def conformal(found: Facts, path: str) -> Sequence[Block]:
    """Sets of labels that hold the true one with a chosen probability."""
    rows = found.get("levels", [])
    if not rows:
        return plainly(found, path)
    about = "The set of an example holds its true label with the chosen probability, on average over examples like these."
    texts = [Paragraph([row["text"]]) for row in rows if row.get("text")]
    return [Paragraph([about], "quiet"), *texts, *told(found), rows_table("Sets at each level", rows, f"{path}.levels")]
