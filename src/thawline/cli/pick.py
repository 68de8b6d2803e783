"""`thawline pick`: which examples of a file without labels to label next, written as a table."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from thawline.cli import show
from thawline.cli.labels import refuse_output, said, write_rows

_SHOWN = 10


def pick(run: Path, file: str, output: Path, *, most: int) -> None:
    """Write what to label first, on top what the run's model is least decided of; raises UserError for a mistake."""
    refuse_output(output)
    from thawline.evaluate.what_to_label import what_to_label
    from thawline.run.api import Run

    opened = Run(run)
    model = opened.model  # first, since it says where a run is not finished
    examples = opened.examples(file, say=show.say)
    with show.progress("answering", len(examples)) as told:
        found = what_to_label(zip(examples, model.stream(iter(examples), told), strict=True), most)
    write_rows(found, output, ("id", "label", "next", "margin"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("margin", "label", "next", "example"):
        table.add_column(name, overflow="fold")
    for one in found[:_SHOWN]:
        table.add_row(f"{one['margin']:.3f}", Text(one["label"]), Text(one["next"]), Text(said(one)))
    show.result(table)
    show.say(f"\n{len(found):,} of {len(examples):,} are in {output}, what to label first on top.")
