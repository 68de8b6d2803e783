"""What a label column means: one class, several, or a number; and its values in one canonical form."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.errors import DataError, did_you_mean

SINGLE, MULTI, REGRESSION, UNLABELLED = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "unlabelled",
)
_PROBLEMS = {name: name for name in (SINGLE, MULTI, REGRESSION)} | {"single_label": SINGLE, "multi_label": MULTI}
MOST_CLASSES = 100
"""Whole numbers with at most this many distinct values are classes, others are quantities."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NEARLY_ALL = 20  # numbers for each label that is none, from which on that is taken for a slip
_NO_NUMBER = ["nan", "NaN", "NA", "N/A", "null", "None"]
_SEPARATORS = ("|", ";", ",")


class Form(NamedTuple):
    """How label values are to be read: the problem, the separator of several labels in one text, and whether "1.0" is "1".

    With `documents` it is no answers that are learned, but whole texts. `numeric` classes are numbers, so that "NA" is none.
    """

    problem: str
    separator: str = ""
    whole: bool = False
    documents: bool = False
    numeric: bool = False


def problem_name(word: str | None) -> str | None:
    """Return transformers' name of a problem; raises DataError for a word that is none.

    >>> problem_name("multi_label")
    'multi_label_classification'
    """
    if word is None or word in _PROBLEMS:
        return None if word is None else _PROBLEMS[word]
    raise DataError(f"There is no problem {word!r}{did_you_mean(word, _PROBLEMS) or '.'} Known: {', '.join(_PROBLEMS)}.")


def recognise(values: pa.ChunkedArray, name: str, problem: str | None) -> tuple[Form, str]:
    """Return how the values of the label column `name` are to be read, and the sentence that says so."""
    if _is_list(values.type):
        if problem not in (None, MULTI):
            raise DataError(f"Column {name!r} holds lists of labels, which {problem} has no use for; leave task.problem out.")
        return Form(MULTI), f"{name!r} holds lists: several labels at once"
    if pa.types.is_nested(values.type):
        raise DataError(f"Column {name!r} holds {values.type}; expected a class, a number, or a list of classes in each row.")
    distinct = pc.unique(_text(values))
    distinct = distinct.filter(pc.fill_null(pc.not_equal(distinct, ""), False))
    bracketed = len(distinct) > 0 and pc.all(pc.match_substring_regex(distinct, r"^\[.*\]$")).as_py()
    if problem == MULTI or (problem is None and bracketed):
        separator = (
            "[]" if bracketed else next((s for s in _SEPARATORS if pc.any(pc.match_substring(distinct, s)).as_py()), " ")
        )
        how = "written as lists" if bracketed else f"separated by {separator!r}"
        return Form(MULTI, separator), f"{name!r} holds several labels at once, {how}"
    if problem == REGRESSION:
        return Form(REGRESSION), f"{name!r} holds numbers: regression"
    return _one_value(distinct, name, problem, is_float=pa.types.is_floating(values.type))


def _one_value(distinct: pa.Array, name: str, problem: str | None, *, is_float: bool) -> tuple[Form, str]:
    numbers = distinct.filter(pc.invert(pc.is_in(distinct, pa.array(_NO_NUMBER))))
    fits = pc.match_substring_regex(numbers, _NUMBER)
    if is_float and not pc.all(fits).as_py():
        raise DataError(f"Column {name!r} holds {numbers.filter(pc.invert(fits))[0].as_py()}; expected finite numbers.")
    if not len(numbers) or not pc.all(fits).as_py():
        odd = numbers.filter(pc.invert(fits)).to_pylist()
        if problem is None and MOST_CLASSES < len(numbers) >= _NEARLY_ALL * len(odd) > 0:
            shown = ", ".join(map(repr, odd[:3])) + (", …" if len(odd) > 3 else "")
            raise DataError(
                f"Column {name!r} holds {len(numbers) - len(odd)} distinct numbers, and {shown}; mend or empty those, "
                f"or type task.problem={SINGLE} if all of them are classes."
            )
        return Form(SINGLE), f"{name!r} holds {len(distinct)} classes"
    quantities = numbers.cast(pa.float64()).to_numpy()
    if not (whole := bool((quantities == np.floor(quantities)).all())) and problem is None:
        return Form(REGRESSION), f"{name!r} holds numbers with fractions: regression"
    count = len(np.unique(quantities))
    if count > MOST_CLASSES and problem is None:
        return Form(REGRESSION), f"{name!r} holds {count} distinct whole numbers, more than {MOST_CLASSES}: regression"
    dotted = whole and (is_float or bool(pc.any(pc.match_substring_regex(numbers, r"[.eE]")).as_py()))
    return Form(
        SINGLE, whole=dotted, numeric=True
    ), f"{name!r} holds {count} distinct whole numbers: classes (task.problem=regression makes them numbers)"


def canonical(values: pa.ChunkedArray, form: Form, *, name: str, split: str) -> pa.ChunkedArray:
    """Return the labels as string (one class), list<string> (several) or double (regression); null where there is none.

    Raises DataError for a value that is no number where one is needed, naming its row.
    """
    if form.problem == MULTI:
        return _lists(values, form.separator)
    texts = _text(values)
    if form.problem == REGRESSION or form.whole:
        numbers = _numbers(texts, name, split)
        return numbers.cast(pa.int64()).cast(pa.string()) if form.whole else numbers
    absent = pc.is_in(texts, pa.array(_NO_NUMBER if form.numeric else [""]))
    return pc.if_else(absent, pa.scalar(None, pa.string()), texts)


def indicators(columns: Sequence[pa.ChunkedArray], names: Sequence[str], split: str) -> pa.ChunkedArray:
    """Return, for columns of 0 and 1 (or false and true), the list of the names whose column says 1, for each row."""
    hot = np.zeros((len(columns[0]), len(names)), np.bool_)
    for place, (column, name) in enumerate(zip(columns, names, strict=True)):
        texts = pc.utf8_lower(_text(column))
        on = pc.is_in(texts, pa.array(["1", "true", "1.0"]))
        known = pc.or_(on, pc.is_in(texts, pa.array(["0", "false", "0.0", "", None])))
        if not pc.all(known).as_py():
            row = known.to_pylist().index(False)
            raise DataError(
                f"Column {name!r} has {texts[row].as_py()!r} in row {row + 1} of {split}; "
                "as one of several labels it holds 0 or 1."
            )
        hot[:, place] = on.to_numpy()
    offsets = np.concatenate([[0], hot.sum(1).cumsum()]).astype(np.int32)
    chosen = pa.array(names, pa.string()).take(pa.array(np.nonzero(hot)[1]))
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), chosen)])


def sort_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in their order: numbers by size, then texts, the numbers within them by size.

    >>> sort_names(["10", "2", "b", "class10", "class9"])
    ('2', '10', 'b', 'class9', 'class10')
    """
    return tuple(sorted(names, key=_rank))


def names_in(labels: pa.ChunkedArray) -> list[str]:
    """Return the distinct class names in a canonical label column."""
    flat = pc.list_flatten(labels) if _is_list(labels.type) else labels
    found: list[str] = pc.unique(flat).drop_null().to_pylist()
    return found


def _rank(name: str) -> tuple[int, float, list[str | int], str]:
    if re.match(_NUMBER, name):
        return 0, float(name), [], name
    return 1, 0.0, [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))], name


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim_whitespace(values.cast(pa.string()))


def _numbers(texts: pa.ChunkedArray, name: str, split: str) -> pa.ChunkedArray:
    missing = pc.or_(pc.equal(texts, ""), pc.is_in(texts, pa.array(_NO_NUMBER)))
    texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
    fits = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), True)
    if not pc.all(fits).as_py():
        row = fits.to_pylist().index(False)
        raise DataError(
            f"Column {name!r} has {texts[row].as_py()!r} in row {row + 1} of {split}; expected a number in each row."
        )
    return texts.cast(pa.float64())


def _lists(values: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    if _is_list(values.type):
        inner = pa.list_(pa.string())
        return values.cast(inner)
    texts: list[str | None] = _text(values).to_pylist()
    return pa.chunked_array(
        [pa.array([None if text is None else _split(text, separator) for text in texts], pa.list_(pa.string()))]
    )


def _split(text: str, separator: str) -> list[str]:
    if separator != "[]":
        return [part.strip() for part in text.split(separator) if part.strip()]
    try:
        return [str(part) for part in ast.literal_eval(text)]
    except (ValueError, SyntaxError):  # [a, b] or [a b], as numpy prints
        inside = text.strip("[]").replace(",", " " if "," not in text else ",")
        return [part.strip().strip("'\"") for part in re.split(r",|(?<=')\s+(?=')", inside) if part.strip()]
