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
    from thawline.run.api import Run
    from thawline.run.pick import picked

    opened = Run(run)
    _ = opened.model  # first, since it says where a run is not finished
    examples = opened.examples(file, say=show.say)
    with show.progress("answering", len(examples)) as told:
        found = picked(opened, examples, most, told=told, say=show.say)
    rows = [{key: value for key, value in one.items() if key != "place"} for one in found]
    write_rows(rows, output, ("id", "label", "next", "margin"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("margin", "label", "next", "example"):
        table.add_column(name, overflow="fold")
    for one in found[:_SHOWN]:
        table.add_row(f"{one['margin']:.3f}", Text(one["label"]), Text(one["next"]), Text(said(one)))
    show.result(table)
    show.say(f"\n{len(found):,} of {len(examples):,} are in {output}, what to label first on top.")
