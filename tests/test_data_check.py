"""What the check finds, and when it stops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thawline.data.check import stop_on, truncation
from thawline.data.dataset import Dataset, Options, load, load_one
from thawline.data.readable import left_out
from thawline.data.weights import class_weights
from thawline.errors import DataError
from thawline.run.prepare import tell
from thawline.types import LISTED, Finding

KNOWN = {"sst2": 2, "trec6": 10, "banking77": 6, "stsb": 7, "chnsenticorp_hotel": 0}


def rows(n: int = 40) -> list[dict[str, Any]]:
    return [{"text": f"text number {i}", "label": "ab"[i % 2]} for i in range(n)]


def found(data: Any, cache: Path, **options: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in load(data, Options(**options), cache=cache).findings}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("seed", [0, 1])
def test_texts_in_two_splits_of_real_data(name: str, seed: int, shared: Path, cache: Path) -> None:
    dataset = load(shared / "data" / name, Options(seed=seed), cache=cache)
    told = [f.text for f in dataset.findings if f.name == "shared_text" and " of test " in f.text and "in train too" in f.text]
    assert [int(text.split()[0]) for text in told] == ([KNOWN[name]] if KNOWN[name] else [])
    stop_on(dataset.findings)


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        ([{**row, "label": "a"} for row in rows()], "one_class", "one class only, 'a'"),
        ([*rows(), {"text": "odd", "label": "c"}], "single_example", "One example only in train for the class 'c'"),
        (
            [{"text": "xyz"[i % 3] * 3, "label": f"a long text, number {i}"} for i in range(99)],
            "swapped_columns",
            "look swapped: 'text'",
        ),
        ([{"text": f"{row['text']}", "label": 0.5} for row in rows()], "one_value", "All numbers in train are 0.5"),
        ([{"text": row["text"]} for row in rows()], "no_labels", "type task=text-generation to learn to go on writing"),
        ([{**row, "text": "" if i > 10 else row["text"]} for i, row in enumerate(rows())], "empty_text", "are empty"),
        (
            {"train": rows(), "test": rows()},
            "shared_text",
            "40 texts of test .100.0% of it. stand in train too, such as 'text number 0'",
        ),
        (
            {"train": rows(), "test": [{"text": "new", "label": "c"}]},
            "unseen_label",
            r"1 of 1 examples in test have labels .*\('c'\)",
        ),
    ],
)
def test_stops(data: Any, name: str, message: str, cache: Path) -> None:
    dataset = load(data, Options(), cache=cache)
    assert name in {finding.name for finding in dataset.findings if finding.level == "stop"}
    with pytest.raises(DataError, match=message):
        stop_on(dataset.findings)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"text": "ab"[i % 2], "label": f"a long text, number {i}"} for i in range(40)], "The columns look swapped: 'text'"),
        ([{**row, "label": f"class {i}"} for i, row in enumerate(rows())], "One example only in train for 40 classes"),
        ([{**row, "text": ""} for row in rows()], "40 of 40 texts in train are empty"),
        ([{**row, "text": "always one"} for row in rows()], "40 examples .1 different texts. are too few to"),
    ],
)
@pytest.mark.parametrize("folds", [None, 5])
def test_data_that_cannot_be_divided_is_told_why(data: Any, message: str, folds: int | None, cache: Path) -> None:
    with pytest.raises(DataError, match=message):
        stop_on(load(data, Options(folds=folds), cache=cache).findings)


def test_numbers_of_each_split_are_told(cache: Path) -> None:
    data = {"train": [{"text": f"text {i}", "label": i / 7} for i in range(40)], "test": [{"text": "odd", "label": 1e300}]}
    told = [finding.text for finding in load(data, cache=cache).findings if finding.name == "targets"]
    assert "test: 1 numbers from 1e+300 to 1e+300, mean 1e+300" in told and len(told) == 3


def test_warnings_and_notes(cache: Path) -> None:
    many = [{"text": f"text number {i}", "label": "b" if i % 12 == 0 else "a"} for i in range(240)]
    assert found(many, cache)["class_balance"].level == "warning"
    assert found(rows(), cache)["class_balance"] == Finding(
        "note", "class_balance", "train: 28 examples, 2 classes: a 14 (50.0%), b 14 (50.0%)"
    )
    assert (
        found({"train": rows(), "test": [*rows(99)[50:], {"text": "x", "label": "c"}]}, cache)["unseen_label"].level
        == "warning"
    )
    assert found([*rows(), {"text": " ", "label": "a"}], cache, validation_size=0, test_size=0)["empty_text"].level == "warning"
    repeated = found(rows() + rows()[:1], cache, test_size=0, validation_size=0)
    assert repeated["duplicate_text"].text.startswith("1 of 41 texts in train repeat")
    assert "conflicting_labels" not in repeated
    torn = found([*rows(), {"text": "text number 0", "label": "b"}], cache, test_size=0, validation_size=0)
    assert torn["conflicting_labels"].text.startswith("1 texts in train have different labels")
    assert "targets" in found([{"text": row["text"], "label": i / 7} for i, row in enumerate(rows())], cache)


def test_rows_without_labels_are_dropped_and_told(cache: Path) -> None:
    data = {"train": [*rows(), {"text": "bare", "label": None}, {"text": "bare too", "label": " "}], "test": [{"text": "t"}]}
    dataset = load(data, Options(validation_size=0), cache=cache)
    assert {split: len(examples) for split, examples in dataset.splits.items()} == {"train": 40}
    told = [finding.text for finding in dataset.findings if finding.name == "missing_label"]
    assert told == [
        "2 of 42 rows in train have no label and are dropped",
        "test has no labels, so nothing is measured on it: it is left out",
    ]
    with pytest.raises(DataError, match="No row of train has a label"):
        load({"train": [{"text": "a", "label": ""}], "test": rows()}, cache=cache)


def test_duplicates_are_dropped_and_told(cache: Path) -> None:
    data = [
        *rows(),
        {"text": "text number 0 ", "label": "b"},
        {"text": "text number 0", "label": "b"},
        {"text": "text number 1", "label": "b"},
    ]
    dataset = load(data, Options(drop_duplicates=True, validation_size=0, test_size=0), cache=cache)
    (told,) = [finding.text for finding in dataset.findings if finding.name == "dropped_duplicates"]
    assert told.startswith("3 of 43 rows in the data are dropped")
    assert "1 of the texts' labels disagreed" in told
    assert {e["text"].strip(): e["label"] for e in dataset.splits["train"]} == {r["text"]: r["label"] for r in rows()} | {
        "text number 0": "b"
    }


def test_truncation() -> None:
    assert truncation(np.array([5, 20]), 20) is None
    note, warning = truncation(np.array([100] * 99 + [120]), 100), truncation(np.array([100, 50]), 60)
    assert note is not None
    assert warning is not None
    assert (note.level, warning.level) == ("note", "warning")


def test_class_weights(cache: Path) -> None:
    data = [{"text": f"text {i}", "label": "aab"[i % 3]} for i in range(30)]
    examples = load(data, Options(validation_size=0, test_size=0), cache=cache).splits["train"]
    assert class_weights(examples, "auto") == {"a": 0.75, "b": 1.5}
    assert class_weights(examples, "none") == {"a": 1.0, "b": 1.0}
    assert class_weights(examples, {"b": 3}) == {"a": 1.0, "b": 3.0}
    assert class_weights([["x"], ["x", "y"], []], "auto") == {"x": 0.75, "y": 1.5}
    for spec, message in (
        ({"bb": 1}, "names 'bb', which no example has, did you mean 'b'"),
        ({"b": -1}, "at least 0"),
        ("auot", "expected none"),
    ):
        with pytest.raises(DataError, match=message):
            class_weights(examples, spec)


def test_real_data(shared: Path, cache: Path) -> None:
    def of(name: str) -> Dataset:
        return load(shared / "data" / name, cache=cache)

    sst2, trec6, stsb, hotel = map(of, ("sst2", "trec6", "stsb", "chnsenticorp_hotel"))
    assert {split: len(examples) for split, examples in sst2.splits.items()} == {"train": 6920, "validation": 872, "test": 1821}
    assert (sst2.name, sst2.columns.labels) == ("sst2", ("negative", "positive"))
    assert trec6.columns.label == "label"
    assert {split: len(examples) for split, examples in trec6.splits.items()} == {"train": 4907, "validation": 545, "test": 500}
    assert trec6.splits["test"][0]["fine_label"] == "NUM:dist"
    assert (stsb.columns.inputs, stsb.columns.label) == (("sentence1", "sentence2"), "score")
    assert stsb.columns.problem == "regression"
    assert stsb.splits["test"][0]["label"] == 2.5
    assert hotel.columns.problem == "single_label_classification"
    assert len(of("banking77").columns.labels) == 77
    assert of("sst2").fingerprint == sst2.fingerprint


def test_data_for_a_trained_model(shared: Path, tmp_path: Path, cache: Path) -> None:
    columns = load(shared / "data" / "sst2", cache=cache).columns
    test, _ = load_one(shared / "data" / "sst2", columns, cache=cache)
    assert (len(test), test[0]["label"]) == (1821, "negative")
    (tmp_path / "new.csv").write_text("review\nwhat a film\ndull\n")
    new, findings = load_one(tmp_path / "new.csv", columns, cache=cache)
    assert [e["text"] for e in new] == ["what a film", "dull"]
    assert "label" not in new.table.column_names
    assert findings[-1].text == "text: 'review', in the place of 'text'"
    assert len(load_one(["a film"], columns, cache=cache)[0]) == 1
    for content, message in (
        ("review\ndull\n", "No row of the data has a label"),
        ("text,label\ndull,bad\n", "does not know .*: 'bad' .first in example .*-0.. It knows: neg"),
    ):
        (tmp_path / "a.csv").write_text(content)
        with pytest.raises(DataError, match=message):
            load_one(tmp_path / "a.csv", columns, labelled=True, cache=cache)
    (tmp_path / "a.csv").write_text("text,label\ndull,negative\nfine,\n")
    rest, findings = load_one(tmp_path / "a.csv", columns, labelled=True, cache=cache)
    assert (len(rest), findings[-1].text) == (1, "1 of 2 rows in the data have no label and are dropped")
    pairs = load(shared / "data" / "stsb", cache=cache).columns
    with pytest.raises(DataError, match="no column sentence1 or sentence2"):
        load_one(tmp_path / "new.csv", pairs, cache=cache)


def test_of_many_files_that_cannot_be_read_all_are_listed_and_some_are_told() -> None:
    faults = [(place, f"{place}.png is empty.") for place in range(25)]
    mask, found = left_out(faults, 30, split="train", noun="pictures")
    assert mask.sum() == 5
    assert [finding.level for finding in found] == ["warning"] * 20 + [LISTED] * 5 + ["warning"]
    assert "24.png is empty. It is left out of train." in [finding.text for finding in found]
    told = list[str]()
    tell(found, told.append)
    assert len(told) == 21 and told[-1] == "warning: 5 more pictures of train are left out likewise."
