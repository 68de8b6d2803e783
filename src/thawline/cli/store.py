"""`thawline store`: what is kept of frozen stages, how fast its folder is, and how to be rid of it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli import show
from thawline.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.thaw.store import ShelfInfo, Store

_DAY = 86400.0

verbs = typer.Typer(help="List what is kept of frozen stages, measure the folder, or prune it.")
Gigabytes = Annotated[
    float | None, typer.Option("--max-gb", min=0, metavar="N", show_default=False, help="go down to so many GB, oldest first")
]
Days = Annotated[
    float | None, typer.Option("--older-than", min=0, metavar="DAYS", show_default=False, help="what was not used for so long")
]


@verbs.callback(invoke_without_command=True)
def listed(context: typer.Context) -> None:
    """List what is kept of frozen stages; `measure` and `prune` do more."""
    if context.invoked_subcommand is not None:
        return
    store = _store()
    shelves = store.shelves()
    if shelves:
        show.result(shelves_table(shelves))
    cap = f" of {_size(store.max_bytes)} (store.max_gb)" if store.max_bytes is not None else ""
    show.result(f"total: {_size(store.size())}{cap} in {store.folder}")


@verbs.command()
def measure() -> None:
    """Measure how fast the folder takes and gives features, in MB/s; takes some seconds on a slow disk."""
    from thawline.thaw.store import bandwidth

    store = _store()
    found = bandwidth(store.folder)
    show.result(
        f"write {found.write:,.0f} MB/s, read {found.read:,.0f} MB/s, from memory {found.cached:,.0f} MB/s in {store.folder}"
    )


@verbs.command()
def prune(
    max_gb: Gigabytes = None,
    older_than: Days = None,
    everything: Annotated[bool, typer.Option("--all", help="all of it, also what is being written")] = False,
) -> None:
    """Remove features: the oldest above --max-gb (without any option: above the cap), the unused, or all."""
    for name, value in (("--max-gb", max_gb), ("--older-than", older_than)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"{name} is {value}; expected a number of at least 0, such as {name} 5.")
    store = _store()
    cap = store.max_bytes if max_gb is older_than is None else None
    freed = store.prune(
        max_bytes=cap if max_gb is None else round(max_gb * 1e9),
        older_than=None if older_than is None else older_than * _DAY,
        everything=everything,
    )
    show.result(f"freed {_size(freed.size)} ({freed.segments:,} files); {_size(store.size())} are left in {store.folder}")


def shelves_table(shelves: list[ShelfInfo]) -> Table:
    """Return one line a shelf: whose features, how many, how large, when used."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "depth", "dtype"):
        table.add_column(name, overflow="fold")
    for name in ("examples", "size", "last used"):
        table.add_column(name, justify="right", no_wrap=True)
    for shelf in shelves:
        facts = [str(shelf.facts.get(name, "?")) for name in ("model", "depth", "dtype")]
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(shelf.used))
        table.add_row(*map(Text, facts), f"{shelf.examples:,}", _size(shelf.size), used)
    return table


def _store() -> Store:
    from thawline.data.cache import cache_folder
    from thawline.recipe.schema import Store as Section
    from thawline.thaw.store import Store

    max_gb = Section().max_gb
    return Store(Path(cache_folder()) / "features", max_bytes=None if max_gb is None else round(max_gb * 1e9))


def _size(size: float) -> str:
    """Return bytes in the unit that suits them.

    >>> _size(19_200), _size(2.5e9)
    ('0.019 MB', '2.5 GB')
    """
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 or not size else f"{size / 1e6:.2g} MB"
