"""How time and memory grow with the data: 1,000, 10,000 and 100,000 examples, sst2's texts repeated under running numbers.

usage: growth.py [--table] [--examples N]    Appends one line a run to results/speed_growth.jsonl.
`head`: one epoch. `full`: 30 steps, so that what grows is preparing, the order of the examples and what is held in memory;
`whole` is all of `tl.finetune`, from reading to measuring on 200 rows.
"""

from __future__ import annotations

from side_by_side import Rows, arguments, conditions, markdown, measured, middle, shown, wanted_run

SIZES = (1_000, 10_000, 100_000)
KINDS = {"head": {}, "full": {"max_steps": 30}}


def runs(repeats: int, sizes: tuple[int, ...] = SIZES) -> Rows:
    """Return the runs, small ones first."""
    return [
        wanted_run("thawline", "sst2", seed, strategy=kind, epochs=1) | {"model": "minilm", "examples": size, **beside}
        for seed in range(repeats)
        for size in sizes
        for kind, beside in KINDS.items()
    ]


def table(rows: Rows) -> str:
    """Return the table: time of an example, peak memory while training, and all seconds, by size."""
    header = ["strategy", "examples", "ms an example", "peak MB", "training, s", "whole, s"]
    lines = []
    for kind in KINDS:
        for size in sorted({row["examples"] for row in rows}):
            which = {"strategy": kind, "examples": size}
            speed = middle("examples_per_second", rows, **which)
            others = [("peak_memory_mb", ".0f"), ("seconds", ".1f"), ("whole_seconds", ".1f")]
            cells = [shown(middle(key, rows, **which), form) for key, form in others]
            lines.append([kind, f"{size:,}", shown(1000 / speed if speed else None, ".2f"), *cells])
    return f"{markdown(header, lines)}\n{conditions(rows)}"


if __name__ == "__main__":
    options = arguments(__doc__, repeats=1).parse_args()
    sizes = (options.examples,) if options.examples else SIZES
    print(table(measured(options, runs(options.repeats, sizes), name="speed_growth")))
