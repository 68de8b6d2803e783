"""Which column is what, and what its values mean."""

from pathlib import Path
from typing import Any

import pytest

from thawline.data.columns import Asked, Columns, infer
from thawline.data.dataset import Options, load
from thawline.data.read import read
from thawline.errors import DataError

LONG = [f"this is text number {n} of many" for n in range(40)]
MANY = list(range(40))


def inferred(data: Any, cache: Path, **asked: Any) -> Columns:
    return infer(read(data, cache=cache), Asked(**asked))


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (["label", "text"], ("text",), "label"),
        (["text", "fine_label", "label"], ("text",), "label"),
        (["sentiment", "Review"], ("Review",), "sentiment"),
        (["idx", "sentence1", "sentence2", "score"], ("sentence1", "sentence2"), "score"),
        (["premise", "hypothesis", "label"], ("premise", "hypothesis"), "label"),
        (["question", "sentence", "label"], ("question", "sentence"), "label"),
        (["question1", "question2", "is_duplicate"], ("question1", "question2"), "is_duplicate"),
        (["question", "category"], ("question",), "category"),
        (["question", "answer"], ("question",), "answer"),
        (["文本", "标签"], ("文本",), "标签"),
        (["kind", "remark"], ("remark",), "kind"),
        (["remark"], ("remark",), None),
    ],
)
def test_by_name_then_by_content(names: list[str], text: tuple[str, ...], label: str | None, cache: Path) -> None:
    values = {name: ["a", "b"] * 20 if name == label else MANY if name == "idx" else LONG for name in names}
    columns = inferred(values, cache)
    assert (columns.inputs, columns.label) == (text, label)
    assert columns.notes[0].startswith("text: ")


def test_as_told(cache: Path) -> None:
    values = {"text": LONG, "other": LONG[::-1], "label": ["a", "b"] * 20, "mine": ["c", "d"] * 20, "w": MANY}
    columns = inferred(values, cache, named="other", label="mine", weight="w")
    assert (columns.inputs, columns.label, columns.weight, columns.labels) == (("other",), "mine", "w", ("c", "d"))
    assert columns.notes == ("'mine' holds 2 classes",)
    example = load(values, Options(text="other", label="mine", weight="w"), cache=cache).splits["train"][0]
    assert list(example) == ["id", "text", "label", "weight", "text_original", "label_original"]
    for asked in ({"named": "texd"}, {"label": "labl"}, {"id": "idx"}, {"weight": "ww"}):
        with pytest.raises(DataError, match=r"There is no column .* \(data\.(text|label|id|weight)\).*Columns: text, other"):
            inferred(values, cache, **asked)
    with pytest.raises(DataError, match="did you mean 'text'"):
        inferred(values, cache, named="texd")
    with pytest.raises(DataError, match="expected one, or two"):
        inferred(values, cache, named=["text", "other", "label"])


def test_no_header(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.csv").write_text("a good film indeed,positive\nit is dull,negative\nwell done,positive\n" * 3)
    with pytest.raises(DataError, match="'positive' holds its own name as a value, so the first line looks like data"):
        inferred(tmp_path / "a.csv", cache)


def test_nothing_holds_texts(cache: Path) -> None:
    with pytest.raises(DataError, match="No column holds texts"):
        inferred({"a": [1, 2], "b": ["x", "y"]}, cache)


@pytest.mark.parametrize(
    ("values", "problem", "labels"),
    [
        (["10", "2"] * 20, "single_label_classification", ("2", "10")),
        (["01", "2"] * 20, "single_label_classification", ("01", "2")),
        ([1, 0] * 20, "single_label_classification", ("0", "1")),
        ([1.0, 0.0] * 20, "single_label_classification", ("0", "1")),
        (["1.0", "0"] * 20, "single_label_classification", ("0", "1")),
        ([True, False] * 20, "single_label_classification", ("false", "true")),
        (["b10", "b9", " b9", "a"] * 10, "single_label_classification", ("a", "b9", "b10")),
        ([0.5, 1.0] * 20, "regression", ()),
        (["0.5", "nan"] * 20, "regression", ()),
        ([["x", "y"], []] * 20, "multi_label_classification", ("x", "y")),
        (["['x', 'y']", "[]"] * 20, "multi_label_classification", ("x", "y")),
    ],
)
def test_problem(values: list[Any], problem: str, labels: tuple[str, ...], cache: Path) -> None:
    columns = inferred({"text": LONG, "label": values}, cache)
    assert (columns.problem, columns.labels) == (problem, labels)
    assert "'label' holds" in columns.notes[-1]


@pytest.mark.parametrize(("distinct", "problem"), [(100, "single_label_classification"), (101, "regression")])
def test_whole_numbers_are_classes_up_to_a_hundred(distinct: int, problem: str, cache: Path) -> None:
    values = {"text": [f"text {n}" for n in range(303)], "label": [n % distinct for n in range(303)]}
    columns = inferred(values, cache)
    assert columns.problem == problem
    assert f"{distinct} distinct whole numbers" in columns.notes[-1]
    assert inferred(values, cache, problem="regression").problem == "regression"
    assert len(inferred(values, cache, problem="single_label").labels) == distinct


def test_numbers_with_a_slip_among_them_are_not_classes(cache: Path) -> None:
    values = {"text": [f"text {n}" for n in range(300)], "label": [f"{n / 7:.3f}" for n in range(299)] + ["3,5"]}
    with pytest.raises(DataError, match=r"'label' holds 299 distinct numbers, and '3,5'; mend or empty .*task\.problem=single"):
        inferred(values, cache)
    assert len(inferred(values, cache, problem="single_label").labels) == 300
    words = {**values, "label": [f"{n}" if n % 3 else f"w{n}" for n in range(300)]}
    assert inferred(words, cache).problem == "single_label_classification"


@pytest.mark.parametrize("separator", ["|", ";", ", ", " "])
def test_several_labels_in_one_text(separator: str, cache: Path) -> None:
    values = {"text": LONG, "label": [separator.join((["a", "b"], ["b", "c"])[n % 2]) for n in range(39)] + [""]}
    dataset = load(values, Options(problem="multi_label_classification"), cache=cache)
    assert dataset.columns.labels == ("a", "b", "c")
    assert sorted({tuple(e["label"]) for split in dataset.splits.values() for e in split}) == [(), ("a", "b"), ("b", "c")]


def test_several_columns_of_0_and_1(cache: Path) -> None:
    values = {"text": LONG, "toxic": ["1", "0"] * 20, "rude": ["1", "1", "0", "0"] * 10}
    dataset = load(values, Options(label=["toxic", "rude"]), cache=cache)
    assert (dataset.columns.problem, dataset.columns.labels) == ("multi_label_classification", ("toxic", "rude"))
    every = {tuple(e["label"]) for split in dataset.splits.values() for e in split}
    assert every == {("toxic", "rude"), ("rude",), ("toxic",), ()}
    with pytest.raises(DataError, match="'rude' has '2' in row 3"):
        load(values | {"rude": ["1", "0", "2", "0"] * 10}, Options(label=["toxic", "rude"]), cache=cache)


def test_faults_of_labels_and_weights(cache: Path) -> None:
    with pytest.raises(DataError, match="'label' has 'x' in row 2 of the data; expected a number"):
        load({"text": LONG, "label": ["1", "x"] * 20}, Options(problem="regression"), cache=cache)
    with pytest.raises(DataError, match="There is no problem 'regresion', did you mean 'regression'"):
        inferred({"text": LONG, "label": ["1", "0"] * 20}, cache, problem="regresion")
    with pytest.raises(DataError, match="'label' holds inf; expected finite numbers"):
        load({"text": LONG, "label": [0.5, float("inf")] * 20}, cache=cache)
    with pytest.raises(DataError, match="holds lists of labels"):
        inferred({"text": LONG, "label": [["x"]] * 40}, cache, problem="regression")
    for bad in (-1.0, None):
        with pytest.raises(DataError, match="in row 2 of the data; expected a number of at least 0"):
            load({"text": LONG, "label": ["a", "b"] * 20, "w": [1.0, bad] * 20}, Options(weight="w"), cache=cache)
    with pytest.raises(DataError, match="to hold weights"):
        load({"text": LONG, "label": ["a", "b"] * 20, "w": ["x"] * 40}, Options(weight="w"), cache=cache)


def test_id_column(cache: Path) -> None:
    values = {"text": LONG, "label": ["a", "b"] * 20, "ID": [n // 2 for n in MANY], "other": MANY}
    with pytest.raises(DataError, match=r"'ID' has the id '0' 2 times in the data \(20 ids repeat\)"):
        load(values, cache=cache)
    ids = {e["id"] for split in load(values, Options(id="other"), cache=cache).splits.values() for e in split}
    assert ids == {str(n) for n in MANY}
    assert load(values, Options(id="none"), cache=cache).splits["train"][0]["id"].endswith("-0")
