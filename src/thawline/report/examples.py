"""Sections that show examples: mistakes, and groups of examples on which the model is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thawline.report.blocks import Block, Case, Cases, Interval, Marked, Num, Paragraph, Strong, Table, Word
from thawline.report.facts import Facts, get
from thawline.report.plainly import plainly, told
from thawline.report.svg import Bars

MAX_CASES = 30
"""Examples in a list."""
_OPEN = 8  # of them are shown without being asked for
_INPUTS = ("text", "text_pair", "tokens", "messages", "image", "audio")
_TITLES = {
    "confident": "The most confident wrong answers",
    "hardest": "The hardest examples: the true answer has the least score",
    "uncertain": "The least certain examples",
    "largest": "The largest errors",
}


def mistakes(found: Facts, path: str) -> Sequence[Block]:
    """The examples that an analysis lists, with their texts, and which words mattered where that is known."""
    blocks = [*told(found), *_how_marked(found)]
    for name, rows in found.items():
        if _are_examples(rows):
            title, cases = _TITLES.get(name, name.replace("_", " ").capitalize()), [case(row) for row in rows[:MAX_CASES]]
            blocks.append(Cases(title, cases[:_OPEN]))
            if cases[_OPEN:]:
                blocks.append(Cases(f"{len(cases) - _OPEN} more", cases[_OPEN:], folded=True))
    blocks += _pairs(found, path)
    for label in found.get("labels", []):
        there = [case(row) for name in ("confident", "uncertain") for row in label.get(name, [])]
        if there:
            blocks.append(Cases(f"{label['label']}: wrong by the most, and the least certain", there[:MAX_CASES], folded=True))
    rest = {name: value for name, value in found.items() if name not in ("words", "notes", "note", "pairs")}
    rest = {name: value for name, value in rest.items() if not _are_examples(value)}
    return [*blocks, *plainly(rest, path)]


def _how_marked(found: Facts) -> Sequence[Block]:
    """Say what the colours mean, where any example has them."""
    lists = [*found.values(), *(rows for label in found.get("labels", []) for rows in label.values())]
    rows = [row for rows in lists if _are_examples(rows) for row in rows]
    methods = {method for row in rows if (method := get(row, "attribution", "method", default=None))}
    if not methods:
        return []
    about = "Colours show what the answer that was given, or the label that is named, rests on, by "
    said = f"{about}{' or '.join(sorted(methods))}: green speaks for it, red (underlined in texts) against it."
    return [Paragraph([said], "quiet")]


def _pairs(found: Facts, path: str) -> Sequence[Block]:
    """Which labels are taken for which, with examples of each."""
    rows, blocks = [], list[Block]()
    for place, pair in enumerate(found.get("pairs", [])):
        key = f"{path}.pairs.{place}"
        rows.append([pair["true"], pair["answer"], Num(pair["n"], ",.0f", f"{key}.n"), Num(pair["of"], ",.0f", f"{key}.of")])
        if pair.get("examples"):
            title = f"{pair['true']} taken for {pair['answer']}"
            blocks.append(Cases(title, [case(one) for one in pair["examples"]], folded=True))
    columns = ["true", "answered", "examples", "of that true label"]
    return [Table("What was taken for what", columns, rows, total=found.get("pairs_in_all")), *blocks] if rows else []


def case(row: Facts) -> Case:
    """Return an example as it is listed: what is true, what was answered, how surely."""
    said: list[Word] = []
    for keys, word in ((("true", "label", "target"), "true"), (("predicted", "answer", "after"), "answered")):
        value = next((row[key] for key in keys if row.get(key) is not None), None)
        if value is not None:
            said += [" · " if said else "", f"{word}: ", Strong(_labels(value))]
    if isinstance(row.get("score"), (int, float)):
        said += [" · score ", Num(row["score"])]
    for key in ("error", "loss", "margin"):
        if isinstance(row.get(key), (int, float)):
            signed = key == "error" and isinstance(row.get("true"), float)
            said += [f" · {key} ", Num(row[key], "+.3f" if signed else ".3f")]
    said += _explained(row)
    media = row.get("thumbnail") or row.get("sound")
    regions = get(row, "attribution", "regions", default=())
    most = max((abs(value) for line in regions for value in line), default=0.0) or 1.0
    scaled = [[value / most for value in line] for line in regions]
    return Case(str(row.get("id", "")), said, text_marked(row), media if isinstance(media, str) else None, scaled)


def _explained(row: Facts) -> list[Word]:
    """Say which of several labels the colours are about, and what they leave out."""
    found = get(row, "attribution", default={})
    several = isinstance(row.get("answer"), list) and found.get("target") is not None
    return [*([f" · colours: {found['target']}"] if several else []), *(f" · {note}" for note in found.get("notes", []))]


def text_of(row: Facts) -> str:
    """Return what an example says, as one text."""
    return "".join(piece for piece, _ in text_marked(row).pieces)


def text_marked(row: Facts) -> Marked:
    """Return the text of an example with what each word contributed, where an attribution is beside it."""
    parts = [row[key] for key in _INPUTS if row.get(key) is not None]
    weighed = [one for one in get(row, "attribution", "words", default=[]) if {"start", "end", "contribution"} <= set(one)]
    if not weighed or not all(isinstance(part, str) for part in parts):
        return Marked([("\n".join(_shown(part) for part in parts), None)] if parts else [])
    most = max(abs(one["contribution"]) for one in weighed) or 1.0
    pieces: list[tuple[str, float | None]] = []
    for side, text in enumerate(parts):
        done = 0
        for one in sorted((one for one in weighed if one.get("side", 0) == side), key=lambda one: one["start"]):
            pieces.append((text[done : one["start"]], None))
            pieces.append((text[one["start"] : one["end"]], one["contribution"] / most))
            done = one["end"]
        pieces.append((text[done:] + ("\n" if side + 1 < len(parts) else ""), None))
    return Marked([piece for piece in pieces if piece[0]])


def low_high(path: str) -> tuple[str, str]:
    """Return the keys of an interval that is kept as "low" and "high"."""
    return f"{path}.low", f"{path}.high"


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
                Interval(difference, row.get("low"), row.get("high"), low_high(key)),
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


def _labels(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value)) or "none"
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("content") or value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ("\n" if any(isinstance(one, Mapping) for one in value) else " ").join(_shown(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
