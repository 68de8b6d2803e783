"""Slices: what is planted is found, what is not there is not."""

import csv
import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from scipy.stats import hypergeom

from thawline.data.examples import Examples
from thawline.evaluate.answered import Answered
from thawline.evaluate.slice_candidates import candidates
from thawline.evaluate.slice_search import held, search
from thawline.evaluate.slice_words import words
from thawline.evaluate.slices import slices

Read = Callable[..., list[str]]


@pytest.fixture(scope="module")
def read(shared: Path) -> Read:
    def texts(name: str, split: str = "test") -> list[str]:
        with (shared / "data" / name / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            return [row["text"] for row in csv.DictReader(stream)]

    return texts


def answered(texts: Sequence[str], wrong: Any, **columns: Sequence[Any]) -> Answered:
    """Every second example is of each label; where `wrong` holds, the other one was answered."""
    n = len(texts)
    names = [f"e{i}" for i in range(n)]
    labels = ["yes" if i % 2 else "no" for i in range(n)]
    table = pa.table({"id": names, "text": list(texts), "label": labels, **columns})
    other = {"yes": "no", "no": "yes"}
    said: list[Any] = [
        {"id": own, "label": other[label] if bad else label} for own, label, bad in zip(names, labels, wrong, strict=True)
    ]
    return Answered(Examples(table), said, "single_label_classification", ("no", "yes"))


def numbers(texts: Sequence[str], errors: Any, **columns: Sequence[Any]) -> Answered:
    names = [f"e{i}" for i in range(len(texts))]
    table = pa.table({"id": names, "text": list(texts), "label": [0.0] * len(texts), **columns})
    said: list[Any] = [{"id": own, "value": float(error)} for own, error in zip(names, errors, strict=True)]
    return Answered(Examples(table), said, "regression", ())


def columns(n: int, rng: np.random.Generator) -> dict[str, list[Any]]:
    return {"product": rng.choice(["bed", "kettle", "lamp", "rug"], n).tolist(), "price": rng.gamma(2, 10, n).tolist()}


def test_mislabelled_reviews_of_one_product_are_found(read: Read) -> None:
    texts, rng = read("sst2"), np.random.default_rng(0)
    own = columns(len(texts), rng)
    of_kettles = np.array(own["product"]) == "kettle"
    found = slices(answered(texts, rng.random(len(texts)) < np.where(of_kettles, 0.3, 0.1), **own))
    (row,) = found["slices"]
    assert (row["name"], row["kind"], row["by"], row["n"]) == ('product is "kettle"', "column", ["product"], of_kettles.sum())
    assert row["low"] < row["difference"] < row["high"]
    assert row["low"] < 0.2 < row["high"]
    assert row["p"] <= 0.01
    assert row["sentence"].startswith(f'product is "kettle" (n={of_kettles.sum()}): ')
    assert row["held_label"] is True
    assert len(row["ids"]) == 5
    json.dumps(found, allow_nan=False)


def test_planted_word_is_found_and_copies_of_it_are_merged(read: Read) -> None:
    texts, rng = read("sst2"), np.random.default_rng(0)
    planted = rng.random(len(texts)) < 0.05
    texts = [f"{text} Refund requested" if bad else text for text, bad in zip(texts, planted, strict=True)]
    found = slices(answered(texts, rng.random(len(texts)) < np.where(planted, 0.5, 0.1)))
    (row,) = found["slices"]
    assert {row["name"], *row["also"]} == {'texts with "refund"', 'texts with "requested"'}
    assert any("same examples" in note for note in found["notes"])


def test_planted_characters_are_found_in_unspaced_text(read: Read) -> None:
    texts, rng = read("chnsenticorp_hotel"), np.random.default_rng(0)
    of_breakfast = np.array(["早餐" in text for text in texts])
    found = slices(answered(texts, rng.random(len(texts)) < np.where(of_breakfast, 0.4, 0.05)))
    assert found["slices"][0]["name"] == 'texts with "早餐"'


def test_planted_length_and_pair(read: Read) -> None:
    texts, rng = read("sst2"), np.random.default_rng(0)
    own = columns(len(texts), rng)
    price, lamp = np.array(own["price"]), np.array(own["product"]) == "lamp"
    cheap = lamp & (price < np.quantile(price, 0.2))
    found = slices(answered(texts, rng.random(len(texts)) < np.where(cheap, 0.7, 0.08), **own))
    assert found["slices"][0]["kind"] == "pair"
    assert set(found["slices"][0]["by"]) == {"product", "price"}
    long = np.array([len(text.split()) > 27 for text in texts])
    found = slices(answered(texts, rng.random(len(texts)) < np.where(long, 0.3, 0.08)))
    assert found["slices"][0]["kind"] == "length"
    assert found["slices"][0]["name"].endswith("words")


def test_planted_number_errors_are_found(read: Read) -> None:
    texts, rng = read("sst2"), np.random.default_rng(0)
    own = columns(len(texts), rng)
    scale = np.where(np.array(own["product"]) == "rug", 2.0, 1.0)
    found = slices(numbers(texts, scale * rng.normal(size=len(texts)), **own))
    assert [row["name"] for row in found["slices"]] == ['product is "rug"']
    assert "mean absolute error" in found["slices"][0]["sentence"]
    assert found["slices"][0]["low"] > 0
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_nothing_is_found_where_nothing_is(read: Read, kind: str) -> None:
    """The family-wise error is 1 %, and these seeds are fixed: none of them finds anything."""
    texts, finds = read("sst2"), list[int]()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        own = columns(len(texts), rng)
        if kind == "labels":
            given = answered(texts, rng.permutation(np.arange(len(texts)) < 0.12 * len(texts)), **own)
        else:
            given = numbers(texts, rng.normal(size=len(texts)), **own)
        finds += [seed] if slices(given, seed=seed)["slices"] else []
    assert finds == []


def test_search_knows_the_exact_probability_of_one_slice() -> None:
    """With one slice there is one look, so the corrected p is that of Fisher's test, to the number of permutations."""
    wrong = np.repeat([1.0, 0.0], [30, 170])
    members = np.zeros((1, 200), dtype=bool)
    members[0, 18:58] = True  # 12 wrong of 40
    exact = float(hypergeom.sf(11, 200, 30, 40))
    found = search(sp.csr_matrix(members), wrong)
    assert found.permutations == 999
    assert found.p[0] == pytest.approx(exact, abs=4 * np.sqrt(exact / 999))


def test_search_is_stronger_than_bonferroni_where_slices_overlap() -> None:
    """Five hundred names of one slice are one look."""
    wrong = np.repeat([1.0, 0.0], [30, 170])
    members = np.zeros((500, 200), dtype=bool)
    members[:, 17:57] = True  # 13 wrong of 40
    one = float(hypergeom.sf(12, 200, 30, 40))
    found = search(sp.csr_matrix(members), wrong)
    assert found.p.max() <= 0.01 < 500 * one


def test_search_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    members, values = sp.csr_matrix(rng.random((50, 300)) < 0.2), rng.normal(size=300)
    one, other = search(members, values, seed=3), search(members, values, seed=3)
    assert (one.p == other.p).all()


def test_held_is_the_statistic_of_mantel_and_haenszel() -> None:
    rng = np.random.default_rng(0)
    members, wrong, strata = rng.random(400) < 0.3, (rng.random(400) < 0.2).astype(float), rng.integers(0, 3, 400)
    above = spread = 0.0
    for stratum in range(3):
        inside = strata == stratum
        n, k, m = int(inside.sum()), int(wrong[inside].sum()), int((members & inside).sum())
        above += wrong[inside & members].sum() - hypergeom.mean(n, k, m)
        spread += hypergeom.var(n, k, m)
    assert held(members, wrong, strata) == pytest.approx(above / np.sqrt(spread))


def test_candidates_by_kind_of_column() -> None:
    n = 200
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(n)]
    given = answered(
        ["Don't panic"] * n,
        [False] * n,
        stars=[1 + i % 3 for i in range(n)],
        price=[None if i < 20 else float(i) for i in range(n)],
        fresh=[i % 4 == 0 for i in range(n)],
        day=days,
        code=[f"c{i}" for i in range(n)],
        parts=[["x"]] * n,
        label_id=[i % 2 for i in range(n)],
    )
    found, notes = candidates(given, least=10, words=words(given))
    names = [one.name for one in found]
    assert {"stars is 2", "price is missing", "price 164 to 199", "fresh is true", "day 2024-01-01 to 2024-02-09"} <= set(names)
    assert not any("code" in name or "parts" in name or "label_id" in name for name in names)
    assert len(notes) == 3
    assert not any(one.kind in {"word", "length"} for one in found), "in all texts, so in no slice"
    for one in found:
        assert 10 <= len(one.rows) <= n - 10
        assert (np.diff(one.rows) > 0).all()


def test_words_are_those_of_plain_python() -> None:
    texts = ["It's a dog's life, isn't it?", "'quoted' 42 a A a", "", "…", "ÉTÉ été"] * 10
    given = answered(texts, [False] * len(texts))
    found = words(given)
    assert set(found.names) == {"it's", "a", "dog's", "life", "isn't", "it", "quoted", "42", "été"}
    there = dict(zip(found.names, found.presence.getnnz(axis=0), strict=True))
    assert (there["a"], there["it"], there["été"]) == (20, 10, 10)
    assert found.lengths is not None
    assert found.lengths[:5].tolist() == [6, 5, 0, 0, 2]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [([False] * 40, "no answer is wrong"), ([True] * 40, "every answer is wrong"), ([True] * 9, "too few")],
)
def test_nothing_to_look_for_is_told(wrong: list[bool], reason: str) -> None:
    found = slices(answered(["a b"] * len(wrong), wrong))
    assert found["slices"] == []
    assert reason in found["notes"][-1]


def test_several_labels_and_dicts_without_text() -> None:
    rng = np.random.default_rng(0)
    bad = np.arange(300) < 60
    wrong = rng.random(300) < np.where(bad, 0.6, 0.05)
    examples = [{"id": str(i), "label": ["x"], "camera": "old" if bad[i] else "new"} for i in range(300)]
    said: list[Any] = [{"id": str(i), "labels": ["x", "y"] if wrong[i] else ["x"]} for i in range(300)]
    found = slices(Answered(examples, said, "multi_label_classification", ("x", "y")))
    assert [row["name"] for row in found["slices"]] == ['camera is "old"']
    assert found["slices"][0]["labels"][0]["label"] == "x"
