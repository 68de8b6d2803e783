"""What it brings to choose what to label next: 200 labels drawn at random, 200 more chosen in several ways.

usage: what_to_label.py [--table]    Appends one line a seed to results/what_to_label.jsonl; features of MiniLM, never trained.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import mean

import numpy as np
from label_errors import features
from results import append, finished, missing

from thawline.evaluate.folds import linear
from thawline.evaluate.learning_curve import shuffled
from thawline.evaluate.what_to_label import TIMES, spread_out

FIRST, MORE, SEEDS, HELD = 200, 200, 10, 2000
DATA = ("sst2", "trec6", "banking77")
Chosen = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""From scores [N, C], features [N, D] and a generator to the positions that are labelled next, int [MORE]."""


def at_random(scores: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return any."""
    del vectors
    return rng.permutation(len(scores))[:MORE]


def margins(scores: np.ndarray) -> np.ndarray:
    """Return how far the likeliest label is from the next, [N]."""
    best = np.sort(scores, axis=1)
    return best[:, -1] - best[:, -2]


def by_margin(scores: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the least decided."""
    del vectors, rng
    return np.argsort(margins(scores), kind="stable")[:MORE]


def by_margin_and_cluster(scores: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what `thawline pick` does: of each cluster of the least decided the least decided one."""
    some = np.argsort(margins(scores), kind="stable")[: TIMES * MORE]
    return some[spread_out(vectors[some], MORE, seed=int(rng.integers(1 << 31)))]


def by_gradient(scores: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what k-means++ draws of the head's gradients (BADGE: Ash et al. 2020, section 3); they are never formed."""
    residual = scores - (np.arange(scores.shape[1]) == scores.argmax(1)[:, None])
    length = (residual**2).sum(1) * (vectors**2).sum(1)
    chosen, far = [int(length.argmax())], np.full(len(length), np.inf)
    while len(chosen) < MORE:
        last = chosen[-1]
        product = (residual @ residual[last]) * (vectors @ vectors[last])
        far = np.minimum(far, np.maximum(length + length[last] - 2.0 * product, 0))
        far[chosen] = 0
        sums = np.cumsum(far)
        chosen.append(min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), len(far) - 1))
    return np.array(chosen)


WAYS: dict[str, Chosen] = {
    "random": at_random,
    "margin": by_margin,
    "margin_clusters": by_margin_and_cluster,
    "badge": by_gradient,
}


def measure(vectors: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Return the accuracy on held-out rows with the first labels, and with those that each way adds."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    test, pool = order[:HELD], order[HELD:]
    first = pool[shuffled(labels[pool], seed)[:FIRST]]
    rest = np.setdiff1d(pool, first)
    classes = int(labels.max()) + 1
    scores = linear(vectors[first], labels[first], vectors[rest], n=classes)

    def accuracy(train: np.ndarray) -> float:
        return float((linear(vectors[train], labels[train], vectors[test], n=classes).argmax(1) == labels[test]).mean())

    found = {"before": accuracy(first)}
    for name, choose in WAYS.items():
        start = time.perf_counter()
        chosen = rest[choose(scores, vectors[rest], np.random.default_rng([seed, 1]))]
        assert len(set(chosen.tolist())) == MORE, name
        found |= {f"{name}_seconds": time.perf_counter() - start, name: accuracy(np.concatenate([first, chosen]))}
    return found


def main() -> None:
    """Measure what is missing, and print what there is."""
    for data in DATA if "--table" not in sys.argv else ():
        wanted = [{"data": data, "first": FIRST, "more": MORE, "seed": seed} for seed in range(SEEDS)]
        todo = missing("what_to_label", wanted)
        if todo:
            vectors, labels = features(data)
        for run in todo:
            append("what_to_label", {**run, **measure(vectors, labels, int(run["seed"]))})
    for data in DATA:
        runs = [run for run in finished("what_to_label") if run["data"] == data]
        if runs:
            gains = {name: [run[name] - run["random"] for run in runs] for name in WAYS if name != "random"}
            said = ", ".join(f"{name} {mean(run[name] for run in runs):.3f}" for name in ("before", *WAYS))
            over = ", ".join(f"{name} {mean(each):+.3f} ({min(each):+.3f} to {max(each):+.3f})" for name, each in gains.items())
            print(f"{data}, {FIRST} + {MORE} labels, mean of {len(runs)}: {said}; over random: {over}")


if __name__ == "__main__":
    main()
