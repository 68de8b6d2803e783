"""Entities as seqeval reads them, and metrics by type."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities

from libraries import tagging
from made_up import TAGS, halves, several, tagged
from thawline.evaluate.intervals import bootstrap
from thawline.evaluate.scores.entities import by_type, entities, token_classification

Pair = tuple[np.ndarray, np.ndarray]
answers = several(st.integers(0, 6).flatmap(tagged)).map(halves)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*TAGS, "B", "I"]), max_size=12))
def test_every_sequence_reads_as_in_seqeval(tags: list[str]) -> None:
    seqevals = [(kind.replace("_", ""), start, end + 1) for kind, start, end in get_entities(tags)]
    assert [tuple(entity) for entity in entities(tags)] == seqevals


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-x L-x U-x", [("x", 0, 2), ("x", 2, 3)]),  # BILOU
        ("x x O x y", [("x", 0, 2), ("x", 3, 4), ("y", 4, 5)]),  # types alone
        ("EVENT EVENT O LOC", [("EVENT", 0, 2), ("LOC", 3, 4)]),  # a type is not a prefix
        ("B_x I_x", [("x", 0, 2)]),
        ("O O", []),
        ("", []),
    ],
)
def test_other_schemes(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == found


@settings(max_examples=30, deadline=None)
@given(answers)
def test_by_type_is_seqevals_report(pair: Pair) -> None:
    once = np.ones((1, len(pair[0])))
    found = {name: float(value) for name, (value,) in by_type(*pair)(once).items()}
    said = classification_report(*map(list, pair), output_dict=True, zero_division=0) if found else {}
    types = [name for name in said if not name.endswith(" avg")]
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
    assert found == pytest.approx({f"{our}_{kind}": said[kind][their] for kind in types for our, their in names.items()})


def test_metrics_by_type_have_intervals() -> None:
    true = [["B-x", "O", "B-y"]] * 40
    predicted = [["B-x", "O", "B-y"], ["B-x", "B-x", "O"]] * 20
    low, high = bootstrap(by_type(true, predicted), 40, samples=200)["f1_y"]
    assert low < 2 / 3 < high


def test_metrics_of_no_entities_and_of_one_example() -> None:
    assert token_classification([["O", "O"]], [["O", "O"]]) == {"precision": 0, "recall": 0, "f1": 0, "token_accuracy": 1}
    assert set(token_classification([[]], [[]]).values()) == {0}
    assert by_type([["O"]], [["O"]])(np.ones((1, 1))) == {}


def test_a_token_without_an_answer_is_caught() -> None:
    with pytest.raises(AssertionError, match="example 1 has 2 tokens, but 1 tags"):
        token_classification([["O"], ["O", "O"]], [["O"], ["O"]])


def test_real_sentences(shared: Path) -> None:
    blocks = (shared / "data/wnut17/test.conll").read_text("utf-8").strip().split("\n\n")
    true = [[line.split("\t")[1] for line in block.splitlines()] for block in blocks]
    rng = np.random.default_rng(0)
    known = sorted({tag for tags in true for tag in tags})
    predicted: Any = [[str(rng.choice(known)) if rng.random() < 0.1 else tag for tag in tags] for tags in true]
    assert token_classification(true, predicted) == pytest.approx(tagging(true, predicted), rel=1e-12)
