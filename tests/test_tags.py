"""Tags and spans: the schemes, what ill-formed sequences mean, and the tables that hold them."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thawline.data.dataset import Options, load, load_one
from thawline.data.tagged import tagged
from thawline.data.tags import SCHEMES, of_spans, recognise, repair, scheme_of, spans
from thawline.data.words import words
from thawline.errors import DataError

TAGS = st.lists(st.sampled_from(["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in ("a", "b-c"))]), max_size=12)
PARTS = st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.integers(1, 3)), max_size=6)


@settings(deadline=None)  # seqeval is slow to import
@given(TAGS)
def test_spans_are_those_of_seqeval(tags: list[str]) -> None:
    sequence_labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sequence_labeling.get_entities(tags)
    assert spans(tags) == [(kind, begin, last + 1) for kind, begin, last in found]


@given(TAGS, st.sampled_from(SCHEMES))
def test_repairing_twice_is_repairing_once(tags: list[str], scheme: str) -> None:
    once = repair(tags, scheme)
    assert repair(once, scheme) == once
    if scheme != "IO":  # which cannot part neighbours
        assert spans(once) == spans(tags)


@given(PARTS, st.sampled_from([scheme for scheme in SCHEMES if scheme != "IO"]))
def test_there_and_back(parts: list[tuple[str, int]], scheme: str) -> None:
    made, place = [], 0
    for kind, length in parts:
        made += [(kind, place, place + length)] if kind else []
        place += length
    assert spans(of_spans(made, place, scheme)) == made


@pytest.mark.parametrize(
    ("sequences", "scheme"),
    [
        ([["B-a", "I-a", "O"]], "BIO"),
        ([["I-a", "B-a", "O"], ["O", "I-b"]], "IOB1"),
        ([["I-a", "O"], ["B-a", "O"]], "BIO"),
        ([["S-a", "O"]], "BIOES"),
        ([["B-a", "M-a", "E-a"]], "BIOES"),
        ([["B-a", "L-a", "U-b"]], "BILOU"),
        ([["I-a", "O", "I-b"]], "IO"),
        ([["O", "B", "I"]], "BIO"),
        ([["O"]], "BIO"),
        ([["NOUN", "B-a"]], None),
        ([["B", "S"]], None),
        ([], None),
    ],
)
def test_schemes_are_recognised(sequences: list[list[str]], scheme: str | None) -> None:
    assert recognise(sequences) == scheme
    names = {tag for tags in sequences for tag in tags}
    assert scheme_of(names) == (scheme if scheme != "IOB1" else "BIO")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. O'Neil's 5km", ["Dr", ".", "O", "'", "Neil", "'", "s", "5km"]),
        ("我在Paris。", ["我", "在", "Paris", "。"]),
        ("हिन्दी cafe\u0301 ❤️", ["हिन्दी", "cafe\u0301", "❤️"]),
        (" \n\u00a0", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert [text[begin:end] for begin, end in words(text)] == expected


def made(table: pa.Table, *names: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The columns of the one row and the text of each finding."""
    result = tagged(table, names)
    assert result is not None
    return result[0].to_pylist()[0], {finding.name: finding.text for finding in result[1]}


def doccano(kind: str, begin: int, end: int) -> dict[str, Any]:
    return {"id": begin, "label": kind, "start_offset": begin, "end_offset": end}


def studio(kind: str, begin: int, end: int) -> dict[str, Any]:
    return {"start": begin, "end": end, "text": "Al in Paris"[begin:end], "labels": [kind]}


STUDIO = [{"type": "labels", "value": studio("per", 0, 2)}, {"type": "labels", "value": studio("loc", 6, 11)}]


@pytest.mark.parametrize(
    "row",
    [
        {"text": "Al in Paris", "label": [[0, 2, "per"], [6, 11, "loc"]]},
        {"text": "Al in Paris", "labels": '[[6, 11, "loc"], [0, 2, "per"]]'},
        {"text": "Al in Paris", "entities": [doccano("per", 0, 2), doccano("loc", 6, 11)]},
        {"text": "Al in Paris", "spans": [{"start": 0, "end": 2, "label": "per"}, {"start": 6, "end": 11, "label": "loc"}]},
        {"text": "Al in Paris", "label": [studio("per", 0, 2), studio("loc", 6, 11)]},
        {
            "data": {"text": "Al in Paris"},
            "annotations": [{"was_cancelled": True, "result": STUDIO[:1]}, {"was_cancelled": False, "result": STUDIO}],
        },
    ],
)
def test_spans_of_every_tool(row: dict[str, Any]) -> None:
    from thawline.data.memory import to_table

    row, _ = made(to_table([row]))
    assert (row["tokens"], row["label"]) == (["Al", "in", "Paris"], ["B-per", "O", "B-loc"])
    assert row["offsets"] == [[0, 2], [3, 5], [6, 11]]


def test_what_spans_lose_is_told() -> None:
    text = "New York 😀 Bob-x"
    marks = [[0, 8, "loc"], [4, 8, "city"], [1, 3, "x"], [8, 9, "y"], [12, 12, "z"], [11, 12, "per"]]
    row, told = made(pa.table({"text": [text], "spans": [[{"start": b, "end": e, "label": k} for b, e, k in marks]]}))
    assert row["label"] == ["B-loc", "I-loc", "O", "B-per", "O", "O"]
    assert {name: told[name].split()[0] for name in told if name != "columns"} == {
        "widened": "1",
        "overlapping": "2",
        "empty": "2",
    }


def test_offsets_counted_by_javascript() -> None:
    mark = {"start": 3, "end": 6, "text": "Bob", "labels": ["per"]}
    row, told = made(pa.table({"text": ["😀 Bob"], "label": [[mark]]}))
    assert row["label"] == ["O", "B-per"] and "utf-16" in told


def test_rows_without_spans_have_no_label() -> None:
    result = tagged(pa.table({"text": ["a", "b", "c"], "entities": ["[]", None, '[[0, 1, "x"]]']}))
    assert result is not None
    assert result[0]["label"].to_pylist() == [["O"], None, ["B-x"]]


@pytest.mark.parametrize(
    ("entities", "message"),
    [('[[0, 9, "x"]]', "Row 2.*0 to 9.*1 characters"), ("[[0, 1, null]]", "Row 2.*no type"), ("[1]", "Row 2.*is no span")],
)
def test_bad_spans_are_named(entities: str, message: str) -> None:
    rows = ['[[0, 1, "x"]]', entities]
    table = pa.table({"text": ["a", "b"], "entities": rows})
    if entities == "[1]":  # not like spans at all where it is among the first
        table = pa.concat_tables([table.slice(0, 1)] * 100 + [table.slice(1)])
        message = message.replace("Row 2", "Row 101")
    with pytest.raises(DataError, match=message):
        tagged(table)


def test_classes_named_by_features() -> None:
    import datasets

    from thawline.data.memory import to_table

    names = ["O", "B-loc"]
    try:
        features = datasets.Features(
            {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(datasets.ClassLabel(names=names))}
        )
    except AttributeError:  # before datasets 4
        pytest.skip("datasets is old")
    data = datasets.Dataset.from_dict({"tokens": [["in", "Rome"]], "ner_tags": [[0, 1]]}, features=features)
    expected = {"tokens": ["in", "Rome"], "label": ["O", "B-loc"]}
    assert made(to_table(data))[0] == expected
    assert made(data.data.table)[0] == expected  # from the schema alone
    numbers = pa.table({"tokens": [["in", "Rome"]], "ner_tags": [[0, 1]]})
    assert made(numbers, *names)[0] == expected
    with pytest.raises(DataError, match="'ner_tags' holds numbers without names"):
        tagged(numbers)
    with pytest.raises(DataError, match="Row 1: a tag is missing, or its number has no name"):
        tagged(numbers, ["O"])


@pytest.mark.parametrize("column", ["ner_tags", "mine"])
def test_numbers_of_tags_are_named_by_the_recipe(column: str, tmp_path: Path, cache: Path) -> None:
    """As JSON Lines have them; the same names hold for data to measure on."""
    lines = [json.dumps({"tokens": ["in", "Rome", str(i)], column: [0, 1, 0], "pos_tags": [4, 9, 2]}) for i in range(30)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    asked = Options(label_names=["O", "B-loc"], label=None if column == "ner_tags" else column, test_size=0)
    dataset = load(str(path), asked, cache=cache)
    assert dataset.columns.labels == ("B-loc", "O")
    assert dataset.splits["train"][0]["label"] == ["O", "B-loc", "O"]
    rows, _ = load_one(str(path), dataset.columns, labelled=True, cache=cache)
    assert rows[0]["label"] == ["O", "B-loc", "O"]
    with pytest.raises(DataError, match=r"holds numbers without names; .* data\.label_names=\[O, B-person, I-person\]"):
        load(str(path), Options(inputs="tokens"), cache=cache)
    with pytest.raises(DataError, match="Row 1: a tag is missing, or its number has no name"):
        load(str(path), replace(asked, label_names=["O"]), cache=cache)


def test_numbers_of_labels_are_named_by_the_recipe(cache: Path) -> None:
    data = [{"text": f"text number {i}", "label": i % 2} for i in range(30)]
    dataset = load(data, Options(label_names=["bad", "good"]), cache=cache)
    assert dataset.columns.labels == ("bad", "good") and {row["label"] for row in dataset.splits["train"]} == {"bad", "good"}
    rows, _ = load_one(data, dataset.columns, labelled=True, cache=cache)
    assert [row["label"] for row in rows][:2] == ["bad", "good"]
    with pytest.raises(DataError, match="No column holds whole numbers that"):
        load([{"text": f"{i} words", "label": "ab"[i % 2]} for i in range(30)], Options(label_names=["x"]), cache=cache)


def test_schemes_are_made_one() -> None:
    row, told = made(
        pa.table({"tokens": [["a", "b", "c"]], "tags": [["I-x", "B-x", "O"]], "pos_tags": [["N", "N", "V"]], "label": ["u"]})
    )
    assert (row["label"], row["label_original"], row["pos_tags"]) == (["B-x", "B-x", "O"], "u", ["N", "N", "V"])
    assert told["rewritten"] == "IOB1 is rewritten as BIO" and "'pos_tags'" in told["other_tags"]
    row, told = made(pa.table({"tokens": [["a", "b"]], "tags": [["B-x", "L-x"]]}))
    assert row["label"] == ["B-x", "E-x"] and "ill_formed_tags" not in told
    row, told = made(pa.table({"tokens": [["a", "b", "c"]], "tags": [["B-x", "O", "I-x"]]}))
    assert row["label"] == ["B-x", "O", "B-x"] and "1 row (1)" in told["ill_formed_tags"]
    row, told = made(pa.table({"tokens": [["a", "b"]], "tags": [["NOUN", "VERB"]]}))
    assert row["label"] == ["NOUN", "VERB"] and "one class a token" in told["scheme"]


def test_tokens_alone_and_other_tables() -> None:
    row, told = made(pa.table({"tokens": [["a"]], "id": ["1"]}))
    assert row == {"tokens": ["a"], "id": "1"} and "no column holds their tags" in told["columns"]
    assert tagged(pa.table({"text": ["a"], "label": ["b"]})) is None
    assert tagged(pa.table({"text": ["a"], "labels": [["b", "c"]]})) is None


@pytest.mark.parametrize(
    ("tokens", "tags", "message"),
    [
        (["a", "b"], ["O"], "2 tokens, but 1 tags"),
        (["a", None], ["O", "O"], "a token is missing"),
        (None, ["O"], "a token is missing"),
    ],
)
def test_uneven_rows_are_named(tokens: Any, tags: Any, message: str) -> None:
    table = pa.table({"tokens": [["x"], tokens], "tags": [["O"], tags]})
    with pytest.raises(DataError, match=f"Row 2: {message}"):
        tagged(table)
