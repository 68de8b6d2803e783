"""Seconds of `thawline --help`, and from `thawline train` to the end of the first training step, with cold and warm caches.

usage: start.py    Appends one line a measurement to results/start.jsonl; medians of five.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from results import SHARED, append, missing

COMMAND = [sys.executable, "-m", "thawline"]


def help_seconds() -> float:
    """Return the seconds of `thawline --help`."""
    start = time.monotonic()
    subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def first_step_seconds(cache: str, data: Path = SHARED / "data" / "sst2") -> float:
    """Return the seconds until history.jsonl has its first line; the run is stopped there."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = ["train", str(data), "--output", str(run)]
        environment = {**os.environ, "THAWLINE_CACHE": cache}
        start = time.monotonic()
        process = subprocess.Popen([*COMMAND, *words], env=environment, stderr=subprocess.DEVNULL)
        history = run / "history.jsonl"
        while not (history.is_file() and history.stat().st_size):
            time.sleep(0.005)
            assert process.poll() is None, "the run ended before its first step"
        seconds = time.monotonic() - start
        process.send_signal(signal.SIGKILL)
        process.wait()
    return seconds


def main() -> None:
    """Measure what is missing."""
    wanted = [{"what": what} for what in ("help", "first step, cold cache", "first step, warm cache")]
    for run in missing("start", wanted):
        seconds = []
        with tempfile.TemporaryDirectory() as warm:
            if run["what"] == "help":
                help_seconds()
            elif "warm" in run["what"]:
                first_step_seconds(warm)
            for _ in range(5):
                with tempfile.TemporaryDirectory() as cold:
                    place = warm if "warm" in run["what"] else cold
                    seconds.append(help_seconds() if run["what"] == "help" else first_step_seconds(place))
        append("start", {**run, "seconds": median(seconds), "all": [round(s, 3) for s in seconds]})
        print(run, median(seconds))


if __name__ == "__main__":
    main()
