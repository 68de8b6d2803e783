"""Any analysis as it is: its sentences, its numbers by name, its lists of rows as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thawline.report.blocks import Block, Cell, Interval, Num, Paragraph, Table
from thawline.report.facts import Facts

_TOLD = ("words", "sentences", "notes", "note", "text")


def told(found: Facts) -> Sequence[Block]:
    """Return the sentences that an analysis itself says."""
    said = found.get("words") or found.get("sentences") or []
    notes = found.get("notes") or ([found["note"]] if isinstance(found.get("note"), str) else [])
    return [
        *(Paragraph([one]) for one in ([said] if isinstance(said, str) else said)),
        *(Paragraph([one], "quiet") for one in notes),
    ]


def plainly(found: Facts, path: str) -> Sequence[Block]:
    """Return any analysis as tables: its numbers by name, and each list of rows."""
    blocks = list(told(found))
    single: list[list[Cell]] = [[_title(name), cell] for name, cell in cells(found, path).items() if name not in _TOLD]
    if single:
        blocks.append(Table("In numbers", ["what", "value"], single))
    for name, rows in found.items():
        if isinstance(rows, Sequence) and rows and all(isinstance(row, Mapping) for row in rows):
            blocks.append(rows_table(_title(name), rows, f"{path}.{name}"))
    return blocks


def rows_table(caption: str, rows: Sequence[Facts], path: str) -> Table:
    """Return rows as a table; what is nested in a row becomes columns of its own, an interval stands with its number."""
    flat = [cells(row, f"{path}.{place}") for place, row in enumerate(rows)]
    columns = list(dict.fromkeys(name for row in flat for name in row if name not in _TOLD))
    return Table(caption, [_title(name) for name in columns], [[row.get(name) for name in columns] for row in flat])


def cells(row: Facts, path: str) -> dict[str, Cell]:
    """Return the cells of a row by name.

    >>> {name: str(cell) for name, cell in cells({"n": 3, "test": {"share": 0.5, "share_ci95": [0.4, 0.6]}}, "a").items()}
    {'n': '3', 'test.share': '0.500 [0.400, 0.600]'}
    """
    return dict(_cells(row, path, ""))


def _cells(row: Facts, path: str, before: str) -> Iterator[tuple[str, Cell]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _cells(value, f"{path}.{name}", f"{before}{name}.")
        elif isinstance(value, bool):
            yield f"{before}{name}", "yes" if value else "no"
        elif isinstance(value, (int, float)):
            number = Num(value, ",.0f" if isinstance(value, int) else ".3f", f"{path}.{name}")
            yield f"{before}{name}", Interval(number, *(row.get(f"{name}_ci95") or ()))
        elif isinstance(value, str) or value is None:
            yield f"{before}{name}", value


def _title(name: Any) -> str:
    return str(name).replace("_", " ").replace(".", ": ")
