"""What can be said of labels before anything is trained: which look wrong, which examples leak, what more would bring.

All of it rests on features of a pretrained model that has not seen the labels, and on logistic regressions over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.data.dataset import Dataset
from thawline.data.examples import FILES
from thawline.data.inputs import INPUTS
from thawline.errors import DataError
from thawline.evaluate.folds import out_of_fold
from thawline.evaluate.label_errors import label_errors
from thawline.evaluate.learning_curve import learning_curve, on_features, refuse_few, steps_to
from thawline.evaluate.near_duplicates import near_duplicates, near_features
from thawline.run.features import Features
from thawline.types import Example

Array = NDArray[Any]
Vectors = Mapping[str, Array]
"""Features by split, float32 [N, D] each, in the order of its examples."""
Told = Callable[[int], object]

FOLDS, SEEDS = 5, 5
_SINGLE = "single_label_classification"


def refuse_unlabelled(dataset: Dataset, *, curve: bool = False) -> None:
    """Raise DataError where examples have no labels to check, or for a curve not one class each, or no set to measure on."""
    columns = dataset.columns
    if not columns.plainly or columns.problem == "unlabelled":
        what = "without labels" if columns.problem == "unlabelled" else f"of {columns.problem.replace('_', ' ')}"
        raise DataError(f"Labels are checked where they are classes or numbers; {dataset.name} is data {what}.")
    if curve and columns.problem != _SINGLE:
        kind = columns.problem.replace("_", " ")
        raise DataError(f"A learning curve is measured where each example has one class; {dataset.name} is data of {kind}.")
    if curve and not {"test", "validation"} & set(dataset.splits):
        raise DataError("A learning curve is measured on a test or validation split, and there is neither; set data.test_size.")
    if curve:
        refuse_few(sum(len(dataset.splits[split]) for split in _learned(dataset)))


def by_split(features: Features, dataset: Dataset, told: Told = lambda done: None) -> dict[str, Array]:
    """Return the features of each split of the data that `features` are of."""
    ends = np.cumsum([len(rows) for rows in dataset.splits.values()])
    return dict(zip(dataset.splits, np.split(features.matrix(told), ends[:-1]), strict=True))


def suspects(dataset: Dataset, vectors: Vectors, *, seed: int = 0, told: Told = lambda done: None) -> dict[str, Any] | None:
    """Return the labels of all splits that look wrong, as `label_errors` does; None where examples have not one class each.

    `told` is called with the number of folds, of FOLDS, that are done.
    """
    if dataset.columns.problem != _SINGLE:
        return None
    rows = [one for split, examples in dataset.splits.items() for one in shown(examples, split)]
    given = _numbers(dataset, dataset.splits)
    scores = out_of_fold(np.concatenate(list(vectors.values())), given, FOLDS, seed=seed, told=told)
    return label_errors(rows, scores, dataset.columns.labels)


def leaks(dataset: Dataset, vectors: Vectors) -> dict[str, Any]:
    """Return the examples of other splits that are near duplicates of training examples, for JSON.

    Texts are near by their characters, pictures and sounds by their features. Each stands beside the training example that is
    most like it, as "like".
    """
    others = [one for split, examples in dataset.splits.items() if split != "train" for one in shown(examples, split)]
    train = list(shown(dataset.splits["train"], "train"))
    if not others:
        pairs = []
    elif dataset.columns.kind in FILES:
        held = np.concatenate([rows for split, rows in vectors.items() if split != "train"])
        pairs = near_features(vectors["train"], held)
    else:
        pairs = near_duplicates(_texts(train), _texts(others))
    found = [{**others[p["other"]], "similarity": p["similarity"], "like": train[p["one"]]} for p in pairs]
    differ = sum(one["label"] != one["like"]["label"] for one in found)
    return {
        "n": len(others),
        "found": len(found),
        "examples": found,
        "words": _words(len(found), len(others), differ, noun=INPUTS[dataset.columns.kind].noun),
    }


def curve_work(dataset: Dataset) -> int:
    """Return on how many examples, in all its trainings, a learning curve learns."""
    *smaller, whole = steps_to(sum(len(dataset.splits[split]) for split in _learned(dataset)))
    return whole + SEEDS * sum(smaller)


def curve(dataset: Dataset, vectors: Vectors, *, seed: int = 0, told: Told = lambda done: None) -> dict[str, Any]:
    """Return what more labels would bring: `learning_curve` of logistic regression on features, on the test split.

    Where there is none it is measured on validation. `told` is called with how much is done, of `curve_work`.
    """
    learned, done = _learned(dataset), 0
    held = _held(dataset)
    train = np.concatenate([vectors[split] for split in learned]), _numbers(dataset, learned)
    measure = on_features(train, (vectors[held], _numbers(dataset, [held])))

    def told_of(size: int, draw: int) -> Array:
        nonlocal done
        losses = measure(size, draw)
        done += size
        told(done)
        return losses

    return {**learning_curve(told_of, len(train[0]), seeds=SEEDS, seed=seed), "measured_on": held}


def shown(examples: Iterable[Example], split: str) -> Iterable[dict[str, Any]]:
    """Yield what is shown of examples: id, split, texts or the path of a file, label."""
    for example in examples:
        inputs = {key: example[key] for key in ("text", "text_pair") if example.get(key) is not None}
        inputs |= {key: example[key].get("path") or "" for key in FILES if example.get(key) is not None}
        yield {"id": example["id"], "split": split, **inputs, "label": example["label"]}


def _held(dataset: Dataset) -> str:
    return "test" if "test" in dataset.splits else "validation"


def _learned(dataset: Dataset) -> list[str]:
    return [split for split in ("train", "validation", "calibration") if split in dataset.splits and split != _held(dataset)]


def _numbers(dataset: Dataset, splits: Iterable[str]) -> Array:
    place = {label: number for number, label in enumerate(dataset.columns.labels)}
    return np.array([place[label] for split in splits for label in dataset.splits[split].column("label").to_pylist()], np.int64)


def _texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [" ".join(row[key] for key in ("text", "text_pair") if key in row) for row in rows]


def _words(found: int, n: int, differ: int, *, noun: str) -> str:
    if not n:
        return "There is no other split than train, so nothing can leak."
    if not found:
        return f"None of {n:,} {noun} of other splits is a near duplicate of one of train."
    labels = f"; {differ:,} of them {'have' if differ > 1 else 'has'} another label there" if differ else ""
    return f"{found:,} of {n:,} {noun} of other splits ({found / n:.1%}) are near duplicates of ones of train{labels}."
