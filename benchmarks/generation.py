"""Instruction tuning beside the transformers Trainer: perplexity of held-out answers, time, peak memory; runs alternate.

usage: generation.py [--strategies full "lora(r=16)"] [--seeds 3] [--untimed]    SmolLM2's folder is in $THAWLINE_SMOLLM2.
Each finished run appends a line to results/generation.jsonl; what stands there is skipped. `--table` only prints the table.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import mean, median
from typing import Any

from alternate import fill, rows_of

NAME = "generation"
SCRIPT = Path(__file__).parent / "peer_generation.py"
RATES = {"full": 5e-5, "lora(r=16)": 2e-4}
SETTING = {"epochs": 2, "batch_size": 8, "max_length": 384}
WITHIN = {"full": 0.01, "lora(r=16)": 0.05}
TOOLS = ("thawline", "trainer-best")


def table(rows: list[dict[str, Any]]) -> str:
    """Return what has been measured, a line for each strategy and tool, and how that stands to the target."""
    lines = ["strategy     processor  tool          seeds  perplexity  before   seconds  peak MB"]
    for strategy in RATES:
        means = {}
        for tool in TOOLS:
            own = [row for row in rows if (row["strategy"], row["tool"]) == (strategy, tool)]
            if not own:
                continue
            means[tool], before = (mean(row[name] for row in own) for name in ("perplexity", "before_perplexity"))
            for processor in sorted({row["processor"] for row in own}):
                here = [row for row in own if row["processor"] == processor]
                timed = [row["seconds"] for row in here if row["timed"]]
                seconds, peak = median(timed) if timed else math.nan, median(row["peak_memory_mb"] for row in here)
                perplexity = f"{mean(row['perplexity'] for row in here):10.3f}  {before:6.3f}"
                lines.append(f"{strategy:12} {processor:10} {tool:13} {len(here):5}  {perplexity} {seconds:9.1f} {peak:8.0f}")
        if len(means) == len(TOOLS):
            more, most = means["thawline"] / means["trainer-best"] - 1, WITHIN[strategy]
            answer = "yes" if more <= most else "no"
            lines.append(f"{strategy}: perplexity {more:+.2%} of the Trainer's (no more than {most:+.0%}: {answer})")
    return "\n".join(lines)


def main() -> None:
    """Fill in what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="*", default=list(RATES), choices=list(RATES))
    parser.add_argument("--tools", nargs="*", default=list(TOOLS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--untimed", action="store_true", help="count for quality only: one thread, low priority")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    wanted = [
        {"tool": tool, "strategy": strategy, "seed": seed, "learning_rate": RATES[strategy], **SETTING}
        for seed in range(options.seeds)
        for strategy in options.strategies
        for tool in options.tools
    ]
    if not options.table:
        fill(NAME, wanted, timed=not options.untimed, script=SCRIPT)
    rows = rows_of(NAME, wanted)
    print(table(rows) if rows else "nothing is measured yet")


if __name__ == "__main__":
    main()
