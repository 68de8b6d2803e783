"""Files that cannot be read, or that a model cannot take, are left out, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thawline.data.columns import Columns
from thawline.data.divide import Parts
from thawline.data.examples import FILES, Examples
from thawline.data.inputs import INPUTS, Fault
from thawline.errors import DataError
from thawline.types import LISTED, Finding

_NAMED = 20  # told by name in each split; of the others the number is, and data.json lists them


def readable(parts: Parts, columns: Columns) -> tuple[Parts, list[Finding]]:
    """Drop what cannot be read; raises DataError where nothing is left of a split."""
    inputs, kept, findings = INPUTS[columns.kind], {}, list[Finding]()
    for split, part in parts.items():
        faults = inputs.faults(part.examples.column(inputs.columns[0]).to_pylist()) if inputs.name in FILES else []
        left, told = left_out(faults, len(part), split=split, noun=inputs.noun)
        findings += told
        kept[split] = part.select(left) if faults else part
    return kept, findings


def left_out(faults: Sequence[Fault], total: int, *, split: str, noun: str) -> tuple[np.ndarray, list[Finding]]:
    """Return which of `total` examples are kept, bool [N], and what there is to tell; `faults` are places and sentences.

    Raises DataError where none is kept.

    >>> left_out([(1, "b.png is empty.")], 3, split="train", noun="pictures")[1][0].text
    'b.png is empty. It is left out of train.'
    """
    where = "the data" if split == "all" else split
    levels = ["warning" if place < _NAMED else LISTED for place in range(len(faults))]
    found = [
        Finding(level, "unreadable", f"{reason} It is left out of {where}.")
        for level, (_, reason) in zip(levels, faults, strict=True)
    ]
    if len(faults) > _NAMED:
        found.append(Finding("warning", "unreadable", f"{len(faults) - _NAMED} more {noun} of {where} are left out likewise."))
    if faults and len(faults) == total:
        raise DataError(f"None of the {total} {noun} can be read. {faults[0][1]}")
    mask = np.ones(total, np.bool_)
    mask[[place for place, _ in faults]] = False
    return mask, found


def without(rows: Examples, faults: Sequence[Fault], *, split: str, noun: str) -> tuple[Examples, list[Finding]]:
    """Return examples without those that have faults, and what there is to tell; raises DataError where none is left."""
    mask, told = left_out(faults, len(rows), split=split, noun=noun)
    return rows.select(mask) if faults else rows, told
