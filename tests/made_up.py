"""Random truths and answers for each kind of problem, for tests of what metrics have in common."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

N = 15
TAGS = ["O", "B-x", "I-x", "E-x", "S-x", "B-y", "I-y", "I-z-z"]
TEXTS = ["", "a b c", "A, b; c!", "d", "b  a", "a b c d e f", "don't a", "a b d"]
NUMBERS = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    st.floats(-3, 3).map(lambda x: round(x, 2)),
    st.sampled_from([1e6, 1e6 + 1, 1e-3]),
)


def objects(rows: list[Any]) -> np.ndarray:
    """An array of objects, so that rows of any kind are drawn by index."""
    column = np.empty(len(rows), dtype=object)
    column[:] = rows
    return column


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(one, min_size=N, max_size=N)


def pairs(one: st.SearchStrategy[Any], other: st.SearchStrategy[Any] | None = None, dtype: Any = None) -> Any:
    make = objects if dtype is object else lambda rows: np.array(rows, dtype)
    return st.tuples(several(one).map(make), several(one if other is None else other).map(make))


def tagged(length: int) -> st.SearchStrategy[Any]:
    tags = st.lists(st.sampled_from(TAGS), min_size=length, max_size=length)
    return st.tuples(tags, tags)


def halves(rows: list[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    return objects([true for true, _ in rows]), objects([predicted for _, predicted in rows])


def generation() -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"text": st.sampled_from(TEXTS), "loss": st.floats(0, 50).map(lambda x: round(x, 2)), "tokens": st.integers(1, 20)}
    )


ANSWERS: dict[str, st.SearchStrategy[tuple[np.ndarray, np.ndarray]]] = {
    "single_label_classification": pairs(st.integers(0, 4), dtype=np.int64),
    "multi_label_classification": st.integers(1, 4).flatmap(
        lambda c: pairs(st.lists(st.booleans(), min_size=c, max_size=c), dtype=bool)
    ),
    "regression": pairs(NUMBERS, dtype=float),
    "token_classification": several(st.integers(0, 6).flatmap(tagged)).map(halves),
    "speech_recognition": pairs(st.sampled_from(TEXTS), dtype=object),
    "text_generation": pairs(st.sampled_from(TEXTS), generation(), dtype=object),
}
