"""Wall time of `thawline train` beside its time budget, train.max_minutes: 0.5, 1 and 2 minutes on trec6 with MiniLM.

usage: budget.py [--minutes 0.5]    Appends one line a run to results/budget.jsonl.
From the start of the command to its end, with a cold cache; more epochs are asked for than fit, so that the budget is what ends
training. It is kept where the wall time is at most 5 % or 10 s, whichever is more, beyond it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import SHARED, append, missing

TRAIN = [sys.executable, "-m", "thawline", "train", str(SHARED / "data" / "trec6")]
SETTINGS = {"train.num_train_epochs": 100, "data.max_train_samples": 2000}


def measure(minutes: float, seed: int) -> dict[str, Any]:
    """Train for `minutes` and return the wall time, in seconds, beside what it came to."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {**SETTINGS, "train.max_minutes": minutes, "train.seed": seed}
        words = [*(f"{key}={value}" for key, value in settings.items()), "--output", f"{folder}/run"]
        start = time.monotonic()
        subprocess.run([*TRAIN, *words], check=True, env={**os.environ, "THAWLINE_CACHE": f"{folder}/cache"})
        wall = time.monotonic() - start
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    budget = minutes * 60
    return {
        "wall_seconds": round(wall, 1),
        "budget_seconds": budget,
        "kept": wall <= budget + max(10, 0.05 * budget),
        "train_seconds": round(metrics["train"]["seconds"], 1),
        "epochs": metrics["train"]["epochs"],
        "accuracy": metrics["test"]["accuracy"],
    }


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="*", default=[0.5, 1.0, 2.0])
    wanted = [{"minutes": minutes, "seed": 0} for minutes in parser.parse_args().minutes]
    for run in missing("budget", wanted):
        load = round(os.getloadavg()[0], 2)
        found = measure(run["minutes"], run["seed"])
        append("budget", {**run, **SETTINGS, **found, "load_at_start": load})
        print(run, found)


if __name__ == "__main__":
    main()
