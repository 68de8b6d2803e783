"""Pictures: EfficientNet on trashnet, the head alone and the best strategy found: accuracy on the test split, and time.

usage: pictures.py [--seeds 3] [--table]    EfficientNet's folder is in $THAWLINE_EFFNET.
Each finished run appends a line to results/pictures.jsonl; what stands there is skipped. `seconds` are those of training and of
filling the store; `whole_seconds` are those of all of `tl.finetune`: decoding, evaluating, saving and measuring too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from statistics import mean
from typing import Any

from alternate import rows_of
from results import SHARED, append, missing

NAME, MODEL = "pictures", "$THAWLINE_EFFNET"
HEAD = {"strategy": "head", "learning_rate": 1e-3, "epochs": 10}
BEST = {
    "strategy": "layerwise(freeze(0.4), decay=0.85)",
    "learning_rate": 5e-4,
    "epochs": 10,
    "augment": ["flip"],
    "views": 2,
}
TARGETS = {HEAD["strategy"]: "85 in 60 s", BEST["strategy"]: "91 in 600 s"}


def carry_out(run: dict[str, Any]) -> dict[str, Any]:
    """Train and measure with an empty cache."""
    import thawline as tl

    with tempfile.TemporaryDirectory() as folder:
        os.environ["THAWLINE_CACHE"] = f"{folder}/cache"
        start = time.monotonic()
        done = tl.finetune(
            str(SHARED / "data" / "trashnet"),
            model=os.path.expandvars(MODEL),
            strategy=run["strategy"],
            data={"augment": run.get("augment", [])},
            store={"views": run["views"]} if "views" in run else {},
            train={"learning_rate": run["learning_rate"], "num_train_epochs": run["epochs"], "seed": run["seed"]},
            evaluate={"baselines": False, "analysis": False},
            output={"dir": f"{folder}/run"},
            progress=False,
        )
        whole, train, test = time.monotonic() - start, done.metrics["train"], done.metrics["test"]
    return {
        **{name: test[name] for name in ("accuracy", "f1_macro", "accuracy_top5") if name in test},
        **{name: train[name] for name in ("seconds", "examples_per_second", "peak_memory_mb")},
        "whole_seconds": whole,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return what has been measured: means over seeds, beside what is wanted."""
    lines = ["strategy                            seeds  accuracy  training, s  whole, s  peak MB  wanted"]
    for strategy, wanted in TARGETS.items():
        if own := [row for row in rows if row["strategy"] == strategy]:
            keys = ("accuracy", "seconds", "whole_seconds", "peak_memory_mb")
            accuracy, seconds, whole, peak = (mean(row[key] for row in own) for key in keys)
            shown = f"{100 * accuracy:8.1f}  {seconds:11.1f}  {whole:8.1f}  {peak:7.0f}"
            lines.append(f"{strategy:35} {len(own):5}  {shown}  {wanted}")
    return "\n".join(lines)


def main() -> None:
    """Fill in what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    wanted = [{"model": MODEL, **how, "seed": seed} for seed in range(options.seeds) for how in (HEAD, BEST)]
    for run in [] if options.table else missing(NAME, wanted):
        append(NAME, run | {"load_before": round(os.getloadavg()[0], 2)} | carry_out(run))
    rows = rows_of(NAME, wanted)
    print(table(rows) if rows else "nothing is measured yet")


if __name__ == "__main__":
    main()
