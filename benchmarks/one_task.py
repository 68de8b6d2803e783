"""One training run of a task, of Thawline or of its peer, in a process of its own; writes one JSON object to a file.

usage: one_task.py '{"task": "token-classification", "tool": "thawline" | "trainer-best", "seed": 0, …}' RESULT.json
The keys of a run are those that tasks.py writes: settings are the same for all tools. The last model is tested.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from one_run import facts
from peer_tasks import MEASURED, PEERS
from results import SHARED

WHOLE_WINDOW = "thawline-30s"
"""The tool's name where Whisper keeps its whole window."""
KEYS = ("seconds", "examples_per_second", "tokens_per_second", "peak_memory_mb")


def thawline(run: dict[str, Any], data: Path) -> dict[str, Any]:
    """Train with Thawline, and measure what it predicts of the test split as the peer's predictions are measured."""
    import thawline as tl

    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        done = tl.finetune(
            str(data),
            task={"name": run["task"], "options": {"window": 30} if run["tool"] == WHOLE_WINDOW else {}},
            model=run["model"],
            strategy=run["strategy"],
            data={"validation_size": 0},
            train={
                **{key: run[key] for key in ("learning_rate", "epochs", "batch_size", "seed")},
                "train_sampling_strategy": "group_by_length",
                "eval_strategy": "no",
                "load_best_model_at_end": False,
            },
            evaluate={"baselines": False, "bootstrap_samples": 20},
            output={"dir": f"{folder}/run"},
            progress=False,
        )
        whole, metrics = time.monotonic() - start, done.metrics
        found = MEASURED[run["task"]](done.folder, data)
    return found | {key: metrics["train"][key] for key in KEYS} | {"whole_seconds": whole}


def main(run: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run and return what came of it, beside what it began with."""
    before, data = facts(), SHARED / "data" / run["data"]
    run = {**run, "model": os.path.expandvars(run["model"])}
    return before | (thawline(run, data) if run["tool"] in ("thawline", WHOLE_WINDOW) else PEERS[run["task"]](run, data))


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))))
