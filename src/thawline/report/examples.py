"""Sections that show examples: mistakes, and groups of examples on which the model is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thawline.report.blocks import Block, Case, Cases, Interval, Marked, Num, Paragraph, Strong, Table, Word
from thawline.report.facts import Facts
from thawline.report.plainly import plainly, told
from thawline.report.svg import Bars

MAX_CASES = 30
"""Examples in a list."""
_TITLES = {
    "confident": "The most confident wrong answers",
    "hardest": "The hardest examples: the true answer has the least score",
    "uncertain": "The least certain examples",
    "least_certain": "The least certain examples",
}


def mistakes(found: Facts, path: str) -> Sequence[Block]:
    """The examples that an analysis lists, with their texts, and which words mattered where that is known."""
    blocks = list(told(found))
    for name, rows in found.items():
        if _are_examples(rows):
            title = _TITLES.get(name, name.replace("_", " ").capitalize())
            blocks.append(Cases(title, [case(row) for row in rows[:MAX_CASES]]))
    rest = {name: value for name, value in found.items() if not _are_examples(value) and name not in ("words", "notes", "note")}
    return [*blocks, *plainly(rest, path)]


def case(row: Facts) -> Case:
    """Return an example as it is listed: what is true, what was answered, how surely."""
    said: list[Word] = []
    for keys, word in ((("true", "label", "target"), "true"), (("predicted", "answer", "after"), "answered")):
        value = next((row[key] for key in keys if row.get(key) is not None), None)
        if value is not None:
            said += [" · " if said else "", f"{word}: ", Strong(_shown(value))]
    if isinstance(row.get("score"), (int, float)):
        said += [" · score ", Num(row["score"])]
    return Case(str(row.get("id", "")), said, text_marked(row))


def text_of(row: Facts) -> str:
    """Return what an example says, as one text."""
    return "".join(piece for piece, _ in text_marked(row).pieces)


def text_marked(row: Facts) -> Marked:
    """Return the text of an example with what each piece contributed, where an attribution is beside it."""
    weighed = row.get("attribution") or row.get("attributions")
    if isinstance(weighed, Sequence) and weighed and all(isinstance(one, Mapping) for one in weighed):
        return Marked([(str(one.get("text", one.get("word", ""))), one.get("weight")) for one in weighed])
    parts = [row[key] for key in ("text", "text_pair", "tokens", "messages") if row.get(key) is not None]
    return Marked([("\n".join(_shown(part) for part in parts), None)])


def changed(row: Facts) -> Cases:
    """Return the examples that became wrong under a perturbation."""
    return Cases(f"Became wrong under {row['name']}", [case(one) for one in row["examples"]], folded=True)


def slices(found: Facts, path: str) -> Sequence[Block]:
    """The groups of examples on which the model errs more than elsewhere."""
    rows = found.get("slices", [])
    measure, shares = found.get("measure", "error"), found.get("measure") == "error rate"
    looks = sum(found.get("candidates", {}).values())
    blocks = list(told(found))
    if looks:
        sure = f"the chance that one is reported where there is none is {found.get('level', 0.01):.0%}"
        many = (
            f"{len(rows)} of {looks:,} groups that were looked at" if rows else f"None of {looks:,} groups that were looked at"
        )
        blocks.insert(0, Paragraph([f"{many} {'have' if len(rows) > 1 else 'has'} more errors than the rest; {sure}."]))
    if not rows:
        return blocks
    form = ".1%" if shares else ".3f"
    table = []
    for place, row in enumerate(rows):
        key = f"{path}.slices.{place}"
        difference = Num(row["difference"], f"+{form}", f"{key}.difference")
        table.append(
            [
                row["name"],
                Num(row["n"], ",.0f", f"{key}.n"),
                Num(row["error"], form, f"{key}.error"),
                Num(row["elsewhere"], form, f"{key}.elsewhere"),
                Interval(difference, row.get("low"), row.get("high")),
                Num(row.get("p"), ".3f", f"{key}.p"),
                ", ".join(row.get("ids", [])[:5]),
            ]
        )
    ends = [(row["low"], row["high"]) for row in rows]
    blocks.append(Bars(f"{measure}: more than elsewhere", [row["name"] for row in rows], [row["difference"] for row in rows],
                       f"difference in {measure}", ends))  # fmt: skip
    columns = ["slice", "examples", measure, "elsewhere", "difference", "p, adjusted", "such as"]
    return [*blocks, Table("Slices that are worse than the rest", columns, table)]


def _are_examples(rows: Any) -> bool:
    return isinstance(rows, Sequence) and bool(rows) and all(isinstance(row, Mapping) and "id" in row for row in rows)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("content") or value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ("\n" if any(isinstance(one, Mapping) for one in value) else " ").join(_shown(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
