"""The examples that are shown as mistakes."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from thawline.data.examples import Examples
from thawline.evaluate.answered import Answered
from thawline.evaluate.mistakes import mistakes
from thawline.evaluate.mistakes_listed import SHOWN, shown

LABELS = ("a", "b", "c")


def one_label(rows: list[tuple[str, str, list[float]]]) -> Answered:
    """Rows of id, true label and scores."""
    examples = [{"id": own, "text": f"text {own}", "label": true} for own, true, _ in rows]
    said: list[Any] = []
    for own, _, scores in rows:
        best = int(np.argmax(scores))
        said.append({"id": own, "label": LABELS[best], "score": scores[best], "scores": dict(zip(LABELS, scores, strict=True))})
    return Answered(examples, said, "single_label_classification", LABELS)


ROWS = [
    ("4", "a", [0.1, 0.8, 0.1]),
    ("3", "a", [0.1, 0.8, 0.1]),
    ("1", "a", [0.04, 0.06, 0.9]),
    ("2", "b", [0.3, 0.4, 0.3]),
    ("5", "c", [0.5, 0.3, 0.2]),
]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_one_label() -> None:
    found = mistakes(one_label(ROWS))
    assert (found["n"], found["wrong"]) == (5, 4)
    assert ids(found["confident"]) == ["1", "3", "4", "5"]
    assert found["confident"][0] == {"id": "1", "text": "text 1", "true": "a", "answer": "c", "score": pytest.approx(0.9)}
    assert ids(found["hardest"]) == ["1", "3", "4", "5", "2"]
    assert found["hardest"][0]["loss"] == pytest.approx(-np.log(0.04), rel=1e-5)
    assert ids(found["uncertain"])[:2] == ["2", "5"]
    assert found["uncertain"][0]["margin"] == pytest.approx(0.1, abs=1e-6)
    first = found["pairs"][0]
    assert (first["true"], first["answer"], first["n"], first["of"], ids(first["examples"])) == ("a", "b", 2, 3, ["3", "4"])
    assert found["pairs_in_all"] == 3
    json.dumps(found, allow_nan=False)


def test_order_of_rows_does_not_matter() -> None:
    assert mistakes(one_label(ROWS), limit=2, pairs=1) == mistakes(one_label(ROWS[::-1]), limit=2, pairs=1)


def test_bounds() -> None:
    rows = [(f"{i:03}", "a", [0.2, 0.5, 0.3]) for i in range(100)]
    found = mistakes(one_label(rows), limit=7, samples=2)
    assert ids(found["confident"]) == [f"{i:03}" for i in range(7)]
    assert len(found["uncertain"]) == len(found["hardest"]) == 7
    assert len(found["pairs"][0]["examples"]) == 2


def test_unknown_label_is_told() -> None:
    found = mistakes(one_label([*ROWS, ("6", "z", [0.3, 0.3, 0.4])]))
    assert "1 examples have labels that the model does not know (z)" in found["notes"][0]
    assert "6" in ids(found["confident"])
    assert "6" not in ids(found["hardest"])


def test_answers_without_scores() -> None:
    said: list[Any] = [{"id": "1", "label": "b"}]
    found = mistakes(Answered([{"id": "1", "text": "x", "label": "a"}], said, "single_label_classification", LABELS))
    assert "confident" not in found
    assert found["pairs"][0]["examples"] == [{"id": "1", "text": "x", "true": "a", "answer": "b"}]


def test_long_text_is_shortened_and_told() -> None:
    long = Answered(
        [{"id": "1", "text": "word " * 200, "label": "a"}],
        [{"id": "1", "label": "b", "scores": {"a": 0.2, "b": 0.7, "c": 0.1}}],
        "single_label_classification",
        LABELS,
    )
    found = mistakes(long)
    assert len(found["confident"][0]["text"]) == SHOWN
    assert found["confident"][0]["shortened"] is True
    assert found["notes"] == [f"Texts are shown up to {SHOWN} characters; 1 of those shown here are longer."]


def test_what_is_shown_of_other_inputs() -> None:
    assert shown({"id": "1", "image": {"bytes": b"x", "path": "/p.png"}}) == {"id": "1", "image": "/p.png"}
    assert shown({"id": "1", "audio": {"bytes": None, "path": "/s.wav"}}) == {"id": "1", "audio": "/s.wav"}
    assert shown({"id": "1", "tokens": ["to", "be"]}) == {"id": "1", "text": "to be"}
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}]
    assert shown({"id": "1", "messages": chat}) == {"id": "1", "text": "user: hi\nassistant: "}


def test_several_labels() -> None:
    truth = {"1": ["a"], "2": ["a", "b"], "3": []}
    scores = {"1": [0.1, 0.9, 0.2], "2": [0.9, 0.45, 0.1], "3": [0.2, 0.1, 0.6]}
    said: list[Any] = [
        {
            "id": i,
            "labels": [n for n, p in zip(LABELS, row, strict=True) if p >= 0.5],
            "scores": dict(zip(LABELS, row, strict=True)),
        }
        for i, row in scores.items()
    ]
    examples = Examples(pa.table({"id": list(truth), "text": list("xyz"), "label": list(truth.values())}))
    found = mistakes(Answered(examples, said, "multi_label_classification", LABELS))
    assert found["wrong"] == 3
    assert [(row["label"], row["missed"], row["wrongly_given"]) for row in found["labels"]] == [
        ("b", 1, 1),
        ("a", 1, 0),
        ("c", 0, 1),
    ]
    assert ids(found["labels"][0]["confident"]) == ["1", "2"]
    assert ids(found["hardest"])[0] == "1"
    assert [(pair["true"], pair["answer"], pair["n"]) for pair in found["pairs"]] == [("a", "b", 1)]
    json.dumps(found, allow_nan=False)


def test_numbers() -> None:
    said: list[Any] = [{"id": i, "value": v} for i, v in zip("123", (1.5, -2.0, float("nan")), strict=True)]
    found = mistakes(Answered([{"id": i, "text": i, "label": 1.0} for i in "123"], said, "regression", ()))
    assert [(row["id"], row["error"]) for row in found["largest"]] == [("2", -3.0), ("1", 0.5)]
    assert found["notes"] == ["1 answers are no finite numbers; they are not listed."]
    json.dumps(found, allow_nan=False)
