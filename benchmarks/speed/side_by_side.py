"""What the rows of the table have in common: Thawline beside the Trainer, three alternating runs, medians, targets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from alternate import SCRIPT, carry_out, fill, rows_of, wanted_run
from results import processor

NAME = "speed"
TOOLS = ("thawline", "trainer-default", "trainer-best")
Rows = list[dict[str, Any]]


class Target(NamedTuple):
    """What a ratio should be; `least` or else at most. None: no target."""

    against_default: float | None
    against_best: float | None
    least: bool = True


@final
@dataclass(frozen=True)
class Row:
    """A row of the table: `peer` is what the Trainer trains where that is something else; `targets` by measure.

    To the Trainer each epoch is like the first: it runs one, whose seconds are taken times `epochs`.
    """

    title: str
    strategy: str
    epochs: float
    data: tuple[str, ...] = ("sst2",)
    peer: str | None = None
    model: str = "minilm"
    targets: Mapping[str, Target] = field(default_factory=dict)

    def runs(self, repeats: int) -> Rows:
        """Return the runs in the order in which they alternate; the seed is the number of the repeat."""
        return [
            wanted_run(tool, data, seed, strategy=strategy, epochs=epochs) | {"model": self.model}
            for seed in range(repeats)
            for data in self.data
            for tool in TOOLS
            for strategy, epochs in [(self.strategy, self.epochs) if tool == "thawline" else (self.peer or self.strategy, 1)]
        ]


def arguments(doc: str | None, repeats: int = 3) -> argparse.ArgumentParser:
    """Return the options that all rows have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only print the table, of what is there")
    parser.add_argument("--repeats", type=int, default=repeats, help="runs of each kind")
    parser.add_argument("--processor", help="only print the table of another kind: times of two are not comparable")
    parser.add_argument("--examples", type=int, help="try it on so many training rows; nothing is written down")
    return parser


def measured(
    options: argparse.Namespace,
    runs: Rows,
    *,
    name: str = NAME,
    script: Path = SCRIPT,
    untimed: bool = False,
    anywhere: bool = False,
) -> Rows:
    """Carry out what is missing of the runs and return the rows of them; a trial is neither looked up nor written down.

    A run on another kind of processor is not one of them, unless it counts `anywhere`; none is carried out in its name.
    """
    only_shown = options.table or options.processor is not None
    if not anywhere:
        runs = [run | {"processor": options.processor or processor()} for run in runs]
    if options.examples and not only_shown:
        return [carry_out(run | {"examples": options.examples}, script=script) for run in runs]
    if not only_shown:
        fill(name, runs, timed=not untimed, script=script)
    return rows_of(name, runs)


def is_one_run(measure: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
    """Tell whether a script was started by `carry_out`, for one run in a process of its own; if so, that is carried out."""
    if not (sys.argv[1:2] and sys.argv[1].startswith("{")):
        return False
    Path(sys.argv[2]).write_text(json.dumps(measure(json.loads(sys.argv[1]))))
    return True


def main(row: Row, doc: str | None) -> None:
    """Measure and print one row of the table."""
    options = arguments(doc).parse_args()
    print(table(row, measured(options, row.runs(options.repeats))))


class Measure(NamedTuple):
    """A line of the table; `ratio` takes Thawline's median and the peer's."""

    key: str
    title: str
    form: str
    factor: float = 1.0
    ratio: str = "peer / ours"


MEASURES = (
    Measure("seconds", "seconds", ".1f"),
    Measure("examples_per_second", "examples/s", ".1f", ratio="ours / peer"),
    Measure("peak_memory_mb", "peak MB", ".0f", ratio="ours / peer"),
    Measure("accuracy", "accuracy", ".2f", 100.0, "ours - peer"),
)


def table(row: Row, rows: Rows) -> str:
    """Return the table of a row: medians, ratios, and the target beside what was reached."""
    done = [_whole(done, row.epochs) for done in rows]
    lines = [
        [data, *_line(measure, [one for one in done if one["data"] == data], row.targets)]
        for data in row.data
        for measure in MEASURES
    ]
    header = ["data", "", "thawline", "Trainer, default", "ratio", "Trainer, best", "ratio"]
    told = "" if row.epochs == 1 else f"; the Trainer's seconds are those of one epoch times {row.epochs:g}"
    return f"{row.title}{told}\n\n{markdown(header, lines)}\n{conditions(rows)}"


def _whole(done: dict[str, Any], epochs: float) -> dict[str, Any]:
    """Return a run as if it had gone on for all epochs; what came of it then is not known."""
    if done["epochs"] == epochs:
        return done
    known = {key: value for key, value in done.items() if key not in ("accuracy", "f1_macro")}
    return known | {"seconds": done["seconds"] * epochs / done["epochs"]}


def _line(measure: Measure, rows: Rows, targets: Mapping[str, Target]) -> list[str]:
    ours, *peers = (middle(measure.key, rows, factor=measure.factor, tool=tool) for tool in TOOLS)
    target, cells = targets.get(measure.key), [shown(ours, measure.form)]
    for place, peer in enumerate(peers):
        cells += [shown(peer, measure.form), verdict(_ratio(ours, peer, measure.ratio), target and target[place], target)]
    return [measure.title, *cells]


def _ratio(ours: float | None, peer: float | None, kind: str) -> float | None:
    if ours is None or peer is None:
        return None
    return {"peer / ours": peer / ours, "ours / peer": ours / peer, "ours - peer": ours - peer}[kind]


def middle(key: str, rows: Rows, *, factor: float = 1.0, **which: Any) -> float | None:
    """Return the median of a key over the rows of which `which` holds; None where there are none."""
    found = [done[key] for done in rows if key in done and all(done.get(k) == v for k, v in which.items())]
    return factor * median(found) if found else None


def shown(value: float | None, form: str) -> str:
    """Return a number as it stands in a table; – where there is none."""
    return "–" if value is None else f"{value:{form}}"


def verdict(ratio: float | None, wanted: float | None, target: Target | None) -> str:
    """Return a ratio beside its target.

    >>> verdict(3.5, 4.0, Target(4.0, 1.6)), verdict(0.7, 0.8, Target(0.8, 0.9, least=False))
    ('3.50 (≥ 4: no)', '0.70 (≤ 0.8: yes)')
    """
    if target is None or wanted is None:
        return shown(ratio, ".2f")
    sign = "≥" if target.least else "≤"
    if ratio is None:
        return f"– ({sign} {wanted:g})"
    reached = ratio >= wanted if target.least else ratio <= wanted
    return f"{ratio:.2f} ({sign} {wanted:g}: {'yes' if reached else 'no'})"


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table for people and for the docs: columns of equal width, numbers to the right."""
    widths = [max(3, *(len(line[place]) for line in [header, *lines])) for place in range(len(header))]
    rule = [("-" * width) if place < 1 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    aligned = [
        [
            cell.ljust(width) if place < 1 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in [header, *lines]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


def conditions(rows: Rows) -> str:
    """Return one line that says under which conditions the rows came about."""
    if not rows:
        return "nothing is measured yet"
    loads, told = [done["load_before"] for done in rows], [f"{len(rows)} runs"]
    for key in ("processor", "threads", "torch", "transformers", "thawline"):
        values = sorted({str(done[key]) for done in rows if key in done})
        told += [f"{key} {', '.join(values)}"] if values else []
    return "; ".join([*told, f"load before a run {median(loads):.1f}, at most {max(loads):.1f}"])
