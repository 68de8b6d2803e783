"""Seconds from the start of the process to the end of the first training step, caches empty: sst2 with MiniLM.

usage: first_step.py [--table] [--examples N]    Appends one line a run to results/speed_first_step.jsonl.
Thawline's is `thawline train`, up to the first line of history.jsonl; the Trainer's is a script that reads, tokenises, loads
and trains.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from side_by_side import (
    TOOLS,
    Rows,
    Target,
    arguments,
    conditions,
    is_one_run,
    markdown,
    measured,
    middle,
    shown,
    verdict,
    wanted_run,
)

TARGET = Target(1, 1, least=False)


def runs(repeats: int) -> Rows:
    """Return the runs in the order in which they alternate."""
    return [
        wanted_run(tool, "sst2", seed, strategy="full", epochs=1) | {"model": "minilm", "until": "first step"}
        for seed in range(repeats)
        for tool in TOOLS
    ]


def measure(run: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of one run; the Trainer is measured in this process, Thawline in one that is started here."""
    import one_run
    from start import first_step_seconds

    if run["tool"] != "thawline":
        return one_run.main(run)
    facts = one_run.facts()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        return {"seconds": first_step_seconds(cache, one_run.data_of(run, Path(folder))), **facts}


def table(rows: Rows) -> str:
    """Return the table: seconds of each, and Thawline's over the Trainer's."""
    ours, *peers = (middle("seconds", rows, tool=tool) for tool in TOOLS)
    ratios = [verdict(ours / peer if ours and peer else None, 1, TARGET) for peer in peers]
    lines = [
        [tool, shown(seconds, ".1f"), told] for tool, seconds, told in zip(TOOLS, [ours, *peers], ["", *ratios], strict=True)
    ]
    return f"{markdown(['tool', 'seconds', 'thawline / it'], lines)}\n{conditions(rows)}"


if __name__ == "__main__":
    if not is_one_run(measure):
        options = arguments(__doc__).parse_args()
        print(table(measured(options, runs(options.repeats), name="speed_first_step", script=Path(__file__))))
