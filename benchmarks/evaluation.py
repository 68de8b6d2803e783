"""Time and memory of evaluating and of the report, on 10^3, 10^4 and 10^5 examples: sst2's test texts with running numbers.

usage: evaluation.py [--sizes 1000 10000 100000]    Appends two lines a size to results/evaluation.jsonl; skips what is there.
A small run is trained first. Then `thawline evaluate RUN --data FILE` (predictions, metrics, intervals, all analyses, the
report) and `thawline report RUN` run as processes of their own; memory is the peak of the process's anonymous memory (RssAnon).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import SHARED, append, missing

from thawline.memory import PeakMemory

NAME = "evaluation"
THAWLINE = [sys.executable, "-m", "thawline"]


def train(folder: Path, cache: Path) -> Path:
    """Train a small model of sst2, whose answers are then evaluated."""
    run = folder / "run"
    words = ["data.max_train_samples=500", "train.epochs=1", "--output", str(run)]
    command = [*THAWLINE, "train", str(SHARED / "data" / "sst2"), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment(cache))
    return run


def repeated(size: int, path: Path) -> None:
    """Write so many test rows of sst2; what is repeated has a number behind its text."""
    with (SHARED / "data" / "sst2" / "test.csv").open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    text = names.index("text")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for number, row in zip(range(size), itertools.cycle(rows), strict=False):
            repeat = number // len(rows)
            writer.writerow([*row[:text], f"{row[text]} {repeat}" if repeat else row[text], *row[text + 1 :]])


def measured(command: list[str], cache: Path) -> dict[str, float]:
    """Run a command and return its seconds and its peak anonymous memory, in MB (10^6 bytes)."""
    start, quiet = time.monotonic(), subprocess.DEVNULL
    started = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=_environment(cache))
    with started as process, PeakMemory(0.02, process.pid) as memory:
        failed = process.wait()
    if failed:
        raise SystemExit(f"{' '.join(command)} failed")
    return {"seconds": round(time.monotonic() - start, 2), "peak_memory_mb": round(memory.peak_mb, 1)}


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "THAWLINE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def main() -> None:
    """Measure what is missing, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    wanted: list[dict[str, Any]] = [
        {"what": what, "examples": size} for size in parser.parse_args().sizes for what in ("evaluate", "report")
    ]
    sizes = sorted({run["examples"] for run in missing(NAME, wanted)})
    if not sizes:
        return
    with tempfile.TemporaryDirectory() as place:
        folder, cache = Path(place), Path(place) / "cache"
        run = train(folder, cache)
        for size in sizes:
            data = folder / f"repeated-{size}.csv"
            repeated(size, data)
            commands = {"evaluate": ["evaluate", str(run), "--data", str(data)], "report": ["report", str(run), "--no-open"]}
            for what, words in commands.items():
                found = measured([*THAWLINE, *words], cache)
                found["report_kb"] = round((run / "report.html").stat().st_size / 1000, 1)
                append(NAME, {"what": what, "examples": size, **found})
                print(what, size, found, flush=True)


if __name__ == "__main__":
    main()
