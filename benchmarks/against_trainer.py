"""Thawline beside the transformers Trainer at its best documented setting: accuracy, time, peak memory; runs alternate.

usage: against_trainer.py [--data sst2 trec6 banking77] [--seeds 5] [--tools thawline trainer-best] [--strategy full]
Each finished run appends a line to results/against_trainer.jsonl; what stands there is skipped. `--table` prints the table.
`--untimed` is for a machine that does other work: one thread, low priority; such a run counts for quality, not for time.
"""

from __future__ import annotations

import argparse
import math
from statistics import mean, median, stdev

from alternate import fill, wanted_run
from results import finished

NAME = "against_trainer"


def table() -> None:
    """Print what has been measured, a line for each data set, strategy and tool."""
    runs = finished(NAME)
    groups = sorted({(r["data"], r["strategy"], r["epochs"], r["tool"]) for r in runs})
    print("data         strategy    epochs tool             seeds accuracy          seconds  peak MB")
    for data, strategy, epochs, tool in groups:
        own = [r for r in runs if (r["data"], r["strategy"], r["epochs"], r["tool"]) == (data, strategy, epochs, tool)]
        accuracy = [100 * r["accuracy"] for r in own]
        spread = f"± {stdev(accuracy):.2f}" if len(own) > 1 else ""
        timed = [r["seconds"] for r in own if r.get("timed", True)]
        seconds, peak = median(timed) if timed else math.nan, median(r["peak_memory_mb"] for r in own)
        name = f"{data:12} {strategy:11} {epochs:6} {tool:16} {len(own):5}"
        print(f"{name} {mean(accuracy):.2f} {spread:8} {seconds:10.1f} {peak:8.0f}")


def main() -> None:
    """Fill in what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=["sst2", "trec6", "banking77"])
    parser.add_argument("--tools", nargs="*", default=["thawline", "trainer-best"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--untimed", action="store_true", help="count for quality only: one thread, low priority")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    wanted = [
        wanted_run(tool, data, seed, epochs=options.epochs, strategy=options.strategy)
        for seed in range(options.seeds)
        for data in options.data
        for tool in options.tools
    ]
    if not options.table:
        fill(NAME, wanted, timed=not options.untimed)
    table()


if __name__ == "__main__":
    main()
