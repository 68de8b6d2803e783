"""Resident memory and time of reading, recognising, splitting and checking a CSV of 10^4, 10^5 and 10^6 rows.

    python benchmarks/memory_of_preparing.py

Appends {rows, bytes, seconds, peak_rss_mb, peak_anonymous_mb} to benchmarks/results/preparing.jsonl; sizes that are there are
skipped. Each size is prepared in a process of its own, with an empty cache. peak_rss_mb counts mapped pages of the cache's
files, which the system takes back when it needs them; peak_anonymous_mb does not.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "preparing.jsonl"
WORDS = [f"word{number}" for number in range(20_000)]


def write(path: Path, rows: int) -> None:
    numbers = random.Random(0)
    with path.open("w") as file:
        file.write("text,label\n")
        for _ in range(rows):
            text = " ".join(numbers.choices(WORDS, k=numbers.randint(5, 35)))
            file.write(f'"{text}, and so on",class{numbers.randrange(20)}\n')


def memory() -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(status[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon")}


def measure(path: Path, cache: Path, rows: int) -> dict[str, float]:
    from thawline.data.dataset import load

    peak, done = memory(), threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            now = memory()
            for key in peak:
                peak[key] = max(peak[key], now[key])

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    dataset = load(path, cache=cache)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    assert sum(map(len, dataset.splits.values())) == rows
    return {
        "rows": rows,
        "bytes": path.stat().st_size,
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(peak["VmRSS"]),
        "peak_anonymous_mb": round(peak["RssAnon"]),
    }


def main() -> None:
    there = {json.loads(line)["rows"] for line in RESULTS.read_text().splitlines()} if RESULTS.exists() else set()
    for rows in (10**4, 10**5, 10**6):
        if rows in there:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.csv"
            write(path, rows)
            command = [sys.executable, __file__, str(path), str(rows)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(line, end="")
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(line)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        source = Path(sys.argv[1])
        print(json.dumps(measure(source, source.parent / "cache", int(sys.argv[2]))))
    else:
        main()
