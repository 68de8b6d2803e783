"""Labelled examples beside predictions: views, parts, and what is refused."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from answers import ONE, drawn, drawn_several, odd_cases, several_labels
from thawline.data.examples import Examples
from thawline.errors import DataError
from thawline.evaluate.answered import Answered, deal, parts


def test_views_of_one_label() -> None:
    table = pa.table(
        {"id": ["a", "b", "c"], "text": ["x", "y", "z"], "label": ["no", "what", "yes"], "source": ["s", None, "t"]}
    )
    said: list[Any] = [{"id": i, "label": "yes", "score": 0.6, "scores": {"yes": 0.6, "no": 0.4}} for i in "abc"]
    for examples in (Examples(table), table.to_pylist()):
        answered = Answered(examples, said, ONE, ("no", "yes"))
        assert answered.true.tolist() == [0, -1, 1]
        assert answered.predicted.tolist() == [1, 1, 1]
        assert answered.right.tolist() == [False, False, True]
        assert answered.unknown.tolist() == [False, True, False]
        assert answered.hot.tolist() == [[True, False], [False, False], [False, True]]
        assert (answered.scores.dtype, answered.scores[0].tolist()) == (np.float32, pytest.approx([0.4, 0.6]))
        assert answered.confidence == pytest.approx([0.6] * 3)
        assert answered.column("source") == ["s", None, "t"]
        assert answered.column("absent") == [None] * 3
        some = answered.select(np.array([True, False, True]))
        assert (some.ids, some.true.tolist(), type(some.examples)) == (["a", "c"], [0, 1], type(examples))


def test_views_of_several_labels() -> None:
    answered = several_labels(np.array([[True, True], [False, False]]), np.array([[0.9, 0.7], [0.2, 0.6]]))
    assert answered.right.tolist() == [True, False]
    assert answered.confidence == pytest.approx([0.7, 0.6])
    assert answered.predicted.tolist() == [[True, True], [False, True]]
    strange = Answered([{"id": "0", "label": ["c0", "c1", "new"]}], answered.predictions[:1], answered.problem, ("c0", "c1"))
    assert (strange.unknown.tolist(), strange.right.tolist(), strange.true.tolist()) == ([True], [False], [[True, True]])


def test_views_of_numbers() -> None:
    answered = Answered([{"id": "a", "label": 1.5}], [{"id": "a", "value": 2.0}], "regression", ())
    assert (answered.true.tolist(), answered.predicted.tolist(), answered.has_scores) == ([1.5], [2.0], False)


def test_refusals() -> None:
    with pytest.raises(DataError, match="no examples"):
        Answered([], [], ONE, ("a",))
    with pytest.raises(DataError, match="1 of 2 examples have no label"):
        _ = Answered([{"id": "a", "label": "x"}, {"id": "b"}], [{"id": "a"}, {"id": "b"}], ONE, ("x",)).true
    with pytest.raises(DataError, match="no scores"):
        _ = Answered([{"id": "a", "label": "x"}], [{"id": "a", "label": "x"}], ONE, ("x",)).scores
    with pytest.raises(DataError, match="not finite"):
        _ = Answered(
            [{"id": "a", "label": "x"}], [{"id": "a", "label": "x", "scores": {"x": float("nan")}}], ONE, ("x",)
        ).scores
    with pytest.raises(AssertionError, match="is of 'b', not of 'a'"):
        _ = Answered([{"id": "a", "label": "x"}], [{"id": "b", "label": "x"}], ONE, ("x",)).ids


@pytest.mark.parametrize("answered", [drawn(401, 5), drawn_several(401, 3)], ids=["one", "several"])
def test_parts(answered: Answered) -> None:
    found = parts(answered, (0.5, 0.3, 0.2), seed=3)
    assert sorted(i for part in found for i in part.ids) == sorted(answered.ids)
    for part, share in zip(found, (0.5, 0.3, 0.2), strict=True):
        assert len(part) == pytest.approx(share * 401, abs=1)
        assert np.abs(part.hot.sum(axis=0) - share * answered.hot.sum(axis=0)).max() <= (2 if not answered.several else 12)
    turned = parts(answered.select(np.arange(401)[::-1]), (0.5, 0.3, 0.2), seed=3)
    assert [set(part.ids) for part in turned] == [set(part.ids) for part in found]
    assert set(parts(answered, (0.5, 0.3, 0.2), seed=4)[0].ids) != set(found[0].ids)


def test_deal_shares_out_even_the_smallest_strata() -> None:
    strata = [f"class {i // 2}" for i in range(40)]  # two of each
    dealt = deal([str(i) for i in range(40)], strata, fractions=[0.5, 0.5])
    assert dealt.reshape(20, 2).sum(axis=1).tolist() == [1] * 20


def test_odd_cases_have_views() -> None:
    for answered in odd_cases().values():
        assert answered.right.shape == answered.confidence.shape == (len(answered),)
        assert answered.scores.shape == answered.hot.shape
