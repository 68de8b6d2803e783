"""Splits that are made: by content and seed, equal texts together, classes in proportion."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawline.data.dataset import Dataset, Options, load
from thawline.data.split import quotas
from thawline.errors import DataError, UserError

METHODS = ["stratified", "random", "group(author)", "time(day)", "hash"]


def rows(n: int = 400) -> list[dict[str, Any]]:
    """Every text stands there twice; 40 authors; a day each; classes 70 : 20 : 10."""
    return [
        {
            "text": f"text number {i // 2}",
            "label": "aaaaaaabbc"[i // 2 % 10],
            "author": f"author {i // 2 % 40}",
            "day": f"2024-{i % 12 + 1:02}-{i % 28 + 1:02}",
        }
        for i in range(n)
    ]


def made(data: Any, cache: Path, **options: Any) -> Dataset:
    return load(data, Options(**options), cache=cache)


def texts(dataset: Dataset) -> dict[str, set[str]]:
    return {split: {e["text"] for e in examples} for split, examples in dataset.splits.items()}


def note(dataset: Dataset, name: str) -> str:
    return " ".join(finding.text for finding in dataset.findings if finding.name == name)


@pytest.mark.parametrize("method", METHODS)
def test_made_from_one_table(method: str, cache: Path) -> None:
    dataset = made(rows(), cache, split=method)
    sizes = {split: len(examples) for split, examples in dataset.splits.items()}
    assert list(sizes) == ["train", "validation", "test"]
    assert sum(sizes.values()) == 400
    assert sizes["test"] == pytest.approx(80, abs=20)
    assert sizes["validation"] == pytest.approx(40, abs=16)
    parts = list(texts(dataset).values())
    assert all(not one & other for one in parts for other in parts if one is not other)
    mixed = [rows()[i] for i in np.random.default_rng(1).permutation(400)]
    assert texts(made(mixed, cache, split=method)) == texts(dataset)
    assert "no validation split was given" in note(dataset, "split")
    if method in ("stratified", "random"):
        assert texts(made(rows(), cache, split=method, seed=1)) != texts(dataset)


def test_stratified_keeps_proportions(cache: Path) -> None:
    for examples in made(rows(), cache).splits.values():
        counts = Counter(e["label"] for e in examples)
        assert {label: count / len(examples) for label, count in counts.items()} == pytest.approx(
            {"a": 0.7, "b": 0.2, "c": 0.1}, abs=0.02
        )


def test_more_data_moves_few_texts(cache: Path) -> None:
    less, more = (texts(made(rows(n), cache, split="hash")) for n in (300, 400))
    assert all(less[split] <= more[split] for split in less)


def test_group_stays_together(cache: Path) -> None:
    dataset = made(rows(), cache, split="group(author)")
    authors = [{e["author"] for e in examples} for examples in dataset.splits.values()]
    assert sum(map(len, authors)) == len(set.union(*authors)) == 40
    assert len(dataset.splits["test"]) == 80
    tied = [{**row, "author": f"author {(i // 2 + i % 2) % 40}"} for i, row in enumerate(rows())]
    with pytest.raises(DataError, match=r"data\.drop_duplicates=true"):
        made(tied, cache, split="group(author)")
    assert len(made(tied, cache, split="group(author)", drop_duplicates=True).splits["test"]) == pytest.approx(40, abs=5)


@pytest.mark.parametrize("kind", [str, int, float])
def test_time_trains_on_the_past(kind: type, cache: Path) -> None:
    data = [
        {"text": f"text {i}", "label": "ab"[i % 2], "when": kind(i) if kind is not str else f"2024-01-01 10:{i:02}:00"}
        for i in range(60)
    ]
    dataset = made(data, cache, split="time(when)")
    order = [[int(e["text"][5:]) for e in dataset.splits[split]] for split in ("train", "validation", "test")]
    assert max(order[0]) < min(order[1]) <= max(order[1]) < min(order[2])


def test_sizes(cache: Path) -> None:
    dataset = made(rows(), cache, test_size=100, validation_size=0)
    assert {split: len(examples) for split, examples in dataset.splits.items()} == {"train": 300, "test": 100}
    with pytest.raises(DataError, match="nothing is left"):
        made(rows(), cache, test_size=0.6, validation_size=0.4)


def test_given_splits(cache: Path) -> None:
    train, test = rows(), [{"text": f"other {i}", "label": "ab"[i % 2]} for i in range(20)]
    dataset = made({"train": train, "test": test}, cache)
    assert {split: len(e) for split, e in dataset.splits.items()} == {"train": 360, "validation": 40, "test": 20}
    dataset = made({"train": train, "validation": test}, cache)
    assert {split: len(e) for split, e in dataset.splits.items()} == {"train": 400, "validation": 20}
    assert "there is no test split" in note(dataset, "split")
    dataset = made({"train": train, "validation": test}, cache, test_size=0.5)
    assert {split: len(e) for split, e in dataset.splits.items()} == {"train": 200, "validation": 20, "test": 200}
    with pytest.raises(DataError, match="no train split, only test"):
        made({"test": test}, cache)


def test_rare_classes_stay_in_train(cache: Path) -> None:
    data = [*rows(), {"text": "rare one", "label": "rare"}, {"text": "rare two", "label": "rare"}]
    dataset = made(data, cache)
    assert sum(e["label"] == "rare" for e in dataset.splits["train"]) == 2
    assert "fewer than 4 examples), so all in train: rare" in note(dataset, "split")


def test_more_classes_than_places(cache: Path) -> None:
    data = [{"text": f"text {i}", "label": f"class {i % 30}"} for i in range(150)]
    dataset = made(data, cache)
    assert {split: len(e) for split, e in dataset.splits.items()} == {"train": 105, "validation": 15, "test": 30}
    assert len({e["label"] for e in dataset.splits["train"]}) == 30


def test_samples(cache: Path) -> None:
    dataset = made(rows(), cache, max_train_samples=50, max_eval_samples=20)
    assert {split: len(e) for split, e in dataset.splits.items()} == {"train": 50, "validation": 20, "test": 20}
    assert Counter(e["label"] for e in dataset.splits["train"]) == {"a": 35, "b": 10, "c": 5}
    assert "train: 50 of 280 rows are used (data.max_train_samples)" in note(dataset, "sample")
    mixed = made(rows()[::-1], cache, max_train_samples=50, max_eval_samples=20)
    assert Counter(e["text"] for e in mixed.splits["train"]) == Counter(e["text"] for e in dataset.splits["train"])
    few = made(rows(), cache, max_train_samples=6)
    assert Counter(e["label"] for e in few.splits["train"]) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("stratifed", "did you mean 'stratified'"),
        ("group", r"takes one column, as in group\(author\)"),
        ("random(3)", "takes no arguments"),
        ("group(autor)", "no column 'autor'.*did you mean 'author'"),
        ("time(author)", r"not all of its values are times \('author"),
        ("time(", "is not a name or a call"),
    ],
)
def test_faults(method: str, message: str, cache: Path) -> None:
    with pytest.raises(UserError, match=message):
        made(rows(), cache, split=method)


def test_little_data(cache: Path) -> None:
    six = [{"text": f"film number {i}", "label": "ab"[i % 2]} for i in range(6)]
    assert Counter(e["label"] for e in made(six, cache).splits["train"]) == {"a": 2, "b": 2}
    with pytest.raises(DataError, match="less than 2 in train"):
        made(six[:4], cache)
    assert len(made(six[:4], cache, test_size=0, validation_size=0).splits["train"]) == 4


def test_too_few_to_split(cache: Path) -> None:
    with pytest.raises(DataError, match=r"2 examples \(2 different texts\) are too few"):
        made([{"text": "a b c d", "label": "x"}, {"text": "e f g h", "label": "y"}], cache, split="random")


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 100))
def test_quotas(counts: list[int], total: int) -> None:
    high = np.array(counts)
    shares = quotas(high, total, low=np.zeros_like(high), high=high)
    assert shares.sum() == min(total, high.sum())
    assert ((shares >= 0) & (shares <= high)).all()


def test_what_is_held_back_for_promises_is_a_sample_of_all(tmp_path: Path) -> None:
    """Rare classes come into it as often as they come at all, and groups stay together."""
    names = ["common"] * 300 + [f"rare {i % 40}" for i in range(100)]
    rows = {"text": [f"text {i}" for i in range(400)], "label": names, "who": [f"w{i % 50}" for i in range(400)]}
    train = {**rows, "text": [f"other {i}" for i in range(400)]}
    for split in ("auto", "group(who)"):
        splits = load({"train": train, "validation": rows}, Options(split=split, calibration_size=0.5), cache=tmp_path).splits
        held = splits["calibration"]
        rare = sum(label.startswith("rare") for label in held.column("label").to_pylist()) / len(held)
        assert 0.15 < rare < 0.35, split
        if split != "auto":
            one, other = (set(splits[name].column("who").to_pylist()) for name in ("calibration", "validation"))
            assert one and other and not one & other
