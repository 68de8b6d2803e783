"""Comparing runs: differences and tests against scipy and a slow bootstrap, what changed, and sets that are not the same."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import binomtest

from thawline.cli.compare import runs_table
from thawline.errors import DataError
from thawline.evaluate.answered import Answered
from thawline.evaluate.compare import compare, holm, mcnemar
from thawline.types import Prediction

LABELS = ("a", "b", "c")


def answered(right: Sequence[bool] | np.ndarray, *, order: Sequence[int] | None = None, **change: object) -> Answered:
    """A model that is right where it is said to be; `change` are other values of example 3."""
    examples = [{"id": f"e{i}", "text": f"text {i}", "label": LABELS[i % 3]} for i in range(len(right))]
    said: list[Prediction] = [
        {"id": f"e{i}", "label": LABELS[(i if r else i + 1) % 3], "score": 0.5 + i / 1000} for i, r in enumerate(right)
    ]
    if change:
        examples[3] |= change  # type: ignore[arg-type]
        said[3]["id"] = examples[3]["id"]
    places = range(len(right)) if order is None else order
    return Answered([examples[i] for i in places], [said[i] for i in places], "single_label_classification", LABELS)


def random(share: float, seed: int, n: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


@pytest.mark.parametrize("counts", [(0, 0), (0, 9), (3, 12), (200, 150), (40_000, 40_500)])
def test_mcnemar_is_the_binomial_test(counts: tuple[int, int]) -> None:
    expected = binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    assert mcnemar(*counts) == pytest.approx(expected, rel=1e-6)


def test_holm_never_falls_below_or_out_of_order() -> None:
    assert holm([0.02, 0.001, 0.6]) == pytest.approx([0.04, 0.003, 0.6])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_pair_against_a_slow_bootstrap() -> None:
    one, other = random(0.7, 0), random(0.8, 1)
    pair = compare({"old": answered(one), "new": answered(other)}, main="accuracy")["pairs"][0]
    rng = np.random.default_rng(5)
    minus = [np.mean((other.astype(float) - one)[rng.integers(0, 300, 300)]) for _ in range(2000)]
    found = pair["differences"]["accuracy"]
    assert found["value"] == pytest.approx(other.mean() - one.mean())
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(minus, [0.025, 0.975]).tolist(), abs=0.015)
    assert pair["changed"] == {"to_wrong": int((one & ~other).sum()), "to_right": int((~one & other).sum())}
    assert pair["mcnemar"]["p"] == pytest.approx(mcnemar(*pair["changed"].values()))
    first = pair["to_wrong"][0]
    place = int(np.flatnonzero(one & ~other)[-1])  # the most confident one
    assert (first["id"], first["text"], first["before"], first["after"]) == (
        f"e{place}",
        f"text {place}",
        first["label"],
        LABELS[(place + 1) % 3],
    )


def test_ranking_says_what_is_undecided() -> None:
    runs = {"weak": answered(random(0.5, 0)), "good": answered(random(0.9, 1)), "twin": answered(random(0.89, 2))}
    found = compare(runs, facts={"good": {"seconds": 12.0}})
    assert json.loads(json.dumps(found)) == found
    assert found["ranking"]["undecided"] == [found["ranking"]["order"][:2]]
    assert set(found["ranking"]["best"]) == {"good", "twin"}
    assert found["ranking"]["order"][2] == "weak"
    assert "does not show that it is better than" in found["ranking"]["words"]
    assert all(pair["mcnemar"]["p_holm"] >= pair["mcnemar"]["p"] for pair in found["pairs"])
    assert runs_table(found).row_count == 3


def test_equal_models_differ_nowhere() -> None:
    found = compare({"one": answered(random(0.7, 0)), "same": answered(random(0.7, 0))})["pairs"][0]
    assert found["changed"] == {"to_wrong": 0, "to_right": 0}
    assert {name: entry["p"] for name, entry in found["differences"].items()} == dict.fromkeys(found["differences"], 1.0)


def test_order_and_labels_of_the_model_do_not_matter() -> None:
    one, other = random(0.7, 0), random(0.8, 1)
    plain = compare({"one": answered(one), "other": answered(other)})
    turned = answered(other, order=np.random.default_rng(0).permutation(300).tolist())
    turned = Answered(turned.examples, turned.predictions, turned.problem, ("c", "a", "z", "b"))
    assert compare({"one": answered(one), "other": turned}) == plain


def test_groups_widen_the_interval() -> None:
    right = np.repeat(random(0.5, 0, 30), 10)
    runs = {"one": answered(right), "other": answered(random(0.5, 3))}
    plain, grouped = (
        compare({name: replace(one, groups=groups) for name, one in runs.items()}, main="accuracy")["pairs"][0]["differences"][
            "accuracy"
        ]
        for groups in (None, np.repeat(np.arange(30), 10))
    )
    assert grouped["high"] - grouped["low"] > 1.5 * (plain["high"] - plain["low"])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (answered([True] * 9), "3 are only in one ('e9', 'e10', 'e11')"),
        (answered([True] * 15), "12 are in both, 3 are only in other ('e12', 'e13', 'e14')"),
        (answered([True] * 12, label="b"), "1 examples have another label in other than in one ('e3'); e3: 'a' in one, 'b' in"),
        (answered([True] * 12, text="what"), "another text in other than in one ('e3'); e3: 'text 3' in one, 'what' in other"),
        (answered([True] * 12, id="e4"), "other has 1 ids more than once, such as 'e4'"),
        (Answered([{"id": "e1", "label": 1.0}], [{"id": "e1", "value": 1.0}], "regression", ()), "other of regression"),
    ],
)
def test_other_examples_are_refused(other: Answered, said: str) -> None:
    with pytest.raises(DataError) as error:
        compare({"one": answered([True] * 12), "other": other})
    assert said in str(error.value)


def asked(name: str, *values: Any, **more: Sequence[Any]) -> Answered:
    """One model on examples with an input of this name, and other columns."""
    rows = [{"id": f"e{i}", "label": "a", name: value} for i, value in enumerate(values)]
    for column, own in more.items():
        rows = [{**row, column: value} for row, value in zip(rows, own, strict=True)]
    said: list[Prediction] = [{"id": row["id"], "label": "a"} for row in rows]
    return Answered(rows, said, "single_label_classification", LABELS)


def test_other_conversations_pictures_and_sounds_are_refused() -> None:
    turns = [[{"role": "user", "content": text}] for text in ("hi", "on")]
    with pytest.raises(DataError, match="1 examples have another messages"):
        compare({"one": asked("messages", *turns), "other": asked("messages", turns[0], turns[0])})
    for kind, noun in (("image", "picture"), ("audio", "sound")):
        files = [{"bytes": None, "path": f"/{i}"} for i in range(2)]
        one, same, other = (asked(kind, *files, content=hashes) for hashes in ([1, 2], [1, 2], [1, 3]))
        with pytest.raises(DataError, match=rf"1 examples have another {noun} \(hash of its content\) in other than in one"):
            compare({"one": one, "other": other})
        assert compare({"one": one, "same": same})["n"] == 2
        assert compare({"one": one, "unknown": asked(kind, *files)})["n"] == 2
    texts = [asked("text", "x", "y", content=column) for column in ([1, 2], [1, 3])]
    assert compare(dict(zip(("one", "other"), texts, strict=True)))["n"] == 2, "a column of the user's own"


def test_one_run_and_an_unknown_metric_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to compare one with"):
        compare({"one": answered([True] * 3)})
    with pytest.raises(DataError, match="no metric 'rouge' of these runs; known: accuracy"):
        compare({"one": answered([True] * 3), "other": answered([True] * 3)}, main="rouge")


def test_numbers_and_several_labels() -> None:
    examples = [{"id": str(i), "text": "x", "label": float(i)} for i in range(40)]
    near, far = (
        Answered(examples, [{"id": str(i), "value": i + off * (-1) ** i} for i in range(40)], "regression", ())
        for off in (0.1, 2.0)
    )
    found = compare({"far": far, "near": near})
    assert found["ranking"]["words"] == "near is best in rmse."
    assert found["pairs"][0]["changed"] == {"worse": 0, "better": 40}
    several = [{"id": str(i), "text": "x", "label": ["a"] if i % 2 else ["a", "b"]} for i in range(20)]
    both, one = (
        Answered(several, [{"id": str(i), "labels": say(i)} for i in range(20)], "multi_label_classification", ("a", "b"))
        for say in (lambda i: several[i]["label"], lambda i: ["a"])
    )
    assert compare({"one": one, "both": both})["pairs"][0]["changed"] == {"to_wrong": 0, "to_right": 10}


MADE: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "token_classification": (
        [["B-x", "O"], ["O"]] * 10,
        {"tags": [["B-x", "O"], ["O"]] * 10},
        {"tags": [["O", "O"], ["O"]] * 10},
    ),
    "speech_recognition": (["one two", "three"] * 10, {"text": ["one two", "three"] * 10}, {"text": ["one too", "three"] * 10}),
    "text_generation": (
        ["a", None] * 10,
        {"loss": [1.0, 3.0] * 10, "tokens": [2] * 20},
        {"loss": [2.0, 3.0] * 10, "tokens": [2] * 20},
    ),
}


@pytest.mark.parametrize("problem", MADE)
def test_other_answers_than_labels(problem: str) -> None:
    targets, good, bad = MADE[problem]
    examples = [{"id": str(i), "label": target} for i, target in enumerate(targets)]
    runs = {}
    for name, said in (("bad", bad), ("good", good)):
        rows: list[Any] = [{"id": str(i), **{key: values[i] for key, values in said.items()}} for i in range(len(targets))]
        runs[name] = Answered(examples, rows, problem, ())
    found = compare(runs)
    assert json.loads(json.dumps(found)) == found
    assert found["ranking"]["words"] == f"good is best in {found['main']}."
    assert found["pairs"][0]["changed"] == {"worse": 0, "better": 10}
    assert [one["id"] for one in found["pairs"][0]["better"][:2]] == ["0", "2"]
    low, high = found["runs"][0]["intervals"][found["main"]]
    assert low <= found["runs"][0]["metrics"][found["main"]] <= high


def test_only_texts_that_all_runs_generated_are_compared() -> None:
    rows = [{"id": str(i), "messages": [{"role": "user", "content": "?"}], "label": f"text {i}"} for i in range(30)]

    def model(texts: int, right: int) -> Answered:
        said = [{"id": str(i), "loss": 1.0, "tokens": 2} for i in range(30)]
        for i in range(texts):
            said[i]["text"] = f"text {i}" if i < right else "no"
        return Answered(rows, cast(list[Prediction], said), "text_generation", ())

    found = compare({"many": model(20, 10), "few": model(10, 10)})
    assert all(run["metrics"]["exact_match"] == 1.0 for run in found["runs"])
    for one, other in (("many", "none"), ("none", "many")):
        runs = {"many": model(20, 10), "none": model(0, 0)}
        (pair,) = compare({name: runs[name] for name in (one, other)})["pairs"]
        assert set(pair["differences"]) == {"loss", "perplexity"}
