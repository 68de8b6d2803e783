"""`thawline plan`: what training would take, on one screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from thawline.cli import show

if TYPE_CHECKING:
    from thawline.recipe import Recipe

_PARTS = {
    "program": "program",
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser state",
    "activations": "activations",
    "workspace": "workspace",
}


def show_plan(recipe: Recipe, words: str, *, as_json: bool) -> None:
    """Print the plan of a recipe: a table of stages and one of what it takes, or JSON."""
    from thawline.run.plan import plan_of

    plan = plan_of(recipe, show.say)
    if as_json:
        print(json.dumps(plan, indent=1, ensure_ascii=False))
        return
    show.result("", stages_table(plan["stages"]), "", costs_table(plan))
    show.say(f"\nNothing was trained. To train, type: thawline train {words}")


def stages_table(stages: Sequence[Mapping[str, Any]]) -> Table:
    """Return what learns, when, and how fast; like neighbours share a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "parameters", "learns", "learning rate"):
        table.add_column(name, justify="right" if name == "parameters" else "left")
    for _, run in groupby(stages, lambda stage: {key: value for key, value in stage.items() if key != "stage"}.items()):
        alike = list(run)
        first, last = alike[0], alike[-1]
        many = f"{first['stage']} to {last['stage']}" if len(alike) > 1 else first["stage"]
        each = "each " if len(alike) > 1 else ""
        table.add_row(many, f"{each}{first['parameters']:,}", *learns(first))
    return table


def learns(stage: Mapping[str, Any]) -> tuple[Text, str]:
    """Return in words from and until which share of the training a stage learns, and its rate.

    >>> [str(cell) for cell in learns({"parameters": 9, "learning": 9, "since": 0.25, "until": 1.0, "learning_rates": [1e-4]})]
    ['from 25 %', '0.0001']
    """
    if stage["since"] is None:
        return Text("frozen", "dim"), ""
    since = f"from {stage['since']:.0%}" if stage["since"] > 0 else ""
    until = f"until {stage['until']:.0%}" if stage["until"] < 1 else ""
    when = " ".join(filter(None, (since, until))).replace("%", " %") or "throughout"
    if stage["learning"] < stage["parameters"]:
        when += f", {stage['learning']:,} of them"
    return Text(when), ", ".join(f"{rate:.3g}" for rate in stage["learning_rates"])


def costs_table(plan: Mapping[str, Any]) -> Table:
    """Return what training takes, one line a kind."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in costs(plan):
        table.add_row(name, Text(text))
    return table


def costs(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and texts of what training takes."""
    memory, seconds, padding = plan["memory_mb"], plan["seconds"], plan["padding"]
    learning = sum(stage["learning"] for stage in plan["stages"])
    whole = sum(stage["parameters"] for stage in plan["stages"])
    parts = ", ".join(f"{word} {memory[key]:,.0f}" for key, word in _PARTS.items())
    trials = f" in each of {plan['trials']} trials, of which this is the first" if plan["trials"] > 1 else ""
    steps = f"{plan['steps']:,} of {plan['steps_per_epoch']:,} an epoch ({plan['epochs']:g} epochs){trials}"
    rows = [
        ("parameters", f"{learning:,} of {whole:,} learn ({learning / whole:.0%})".replace("%", " %")),
        ("steps", steps),
        ("time", f"{_time(seconds['epoch'])} an epoch, {_time(seconds['total'])} in all: {_times(plan)}"),
        ("memory", f"{memory['peak']:,.0f} MB at the peak ({plan['memory_available_mb']:,.0f} MB are free): {parts}"),
        ("padding", f"{padding['used']:.0%} of the tokens, {padding['plain']:.0%} in plain batches".replace("%", " %")),
    ]
    if padding["saved"] > 0:
        rows[-1] = (rows[-1][0], f"{rows[-1][1]}: {padding['saved']:.0%} of it saved".replace("0%", "0 %"))
    return [*rows, ("store", _store(plan["store"]))]


def _times(plan: Mapping[str, Any]) -> str:
    seconds = plan["seconds"]
    found = [f"starting {_time(seconds['start'])}"]
    if seconds["fill"]:
        found.append(f"filling the store {_time(seconds['fill'])}")
    found.append(f"a step {seconds['step']:.3g} s")
    if seconds["evaluation"]:
        found.append(f"an evaluation {_time(seconds['evaluation'])}")
    return ", ".join([*found, f"measuring at the end {_time(seconds['ending'])}"])


def _store(store: Sequence[Mapping[str, Any]]) -> str:
    if not store:
        return "nothing is stored: no frozen part is run more than once, or store.features is false"
    kept = [one for one in store if one["stored"]]
    compared = kept or store
    depths = ", ".join(str(one["depth"]) for one in compared)
    size = sum(one["size_mb"] for one in compared)
    with_, without = (sum(one[key] for one in compared) for key in ("seconds_with", "seconds_without"))
    what = f"{size:,.1f} MB of outputs of the frozen part (depth {depths})"
    return f"{what} are {'' if kept else 'not '}stored: predicted {with_:.1f} s with, {without:.1f} s without"


def _time(seconds: float) -> str:
    """Return seconds in the unit that suits them.

    >>> _time(4.21), _time(300), _time(9000)
    ('4.2 s', '5.0 minutes', '2.5 hours')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
