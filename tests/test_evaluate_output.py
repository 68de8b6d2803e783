"""Files of predictions: read back as they were written, whole or not at all."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thawline.errors import MachineError, UserError
from thawline.evaluate.output import read_predictions, write_jsonl, write_predictions
from thawline.types import Prediction

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
finite = st.floats(allow_nan=False, allow_infinity=False)
Made = list[dict[str, Any]]


@st.composite
def predictions(draw: st.DrawFn) -> Made:
    """Some predictions of one kind, all with scores for the same labels."""
    labels = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    scores = st.fixed_dictionaries(dict.fromkeys(labels, finite))
    kinds: list[dict[str, st.SearchStrategy[Any]]] = [
        {"label": st.sampled_from(labels), "score": finite, "scores": scores},
        {"labels": st.lists(st.sampled_from(labels), unique=True), "scores": scores},
        {"value": finite},
    ]
    return draw(st.lists(st.fixed_dictionaries({"id": words, **draw(st.sampled_from(kinds))}), max_size=4))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=predictions())
def test_what_is_read_is_what_was_written(suffix: str, made: Made, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    assert write_predictions((Prediction(**one) for one in made), path) == len(made)  # type: ignore[typeddict-item]
    assert list(read_predictions(path)) == made
    assert os.listdir(tmp_path) == [path.name]


def test_columns_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions([Prediction(id="1", label="a", score=0.75, scores={"a": 0.75, "b": 0.25})], path)
    assert path.read_text().splitlines() == ["id,label,score,score:a,score:b", "1,a,0.75,0.75,0.25"]
    write_predictions(
        [Prediction(id="1", labels=["a", "x|y"], scores={"a": 0.5}), Prediction(id="2", labels=[], scores={"a": 0})], path
    )
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["labels"] for row in rows] == [r"a|x\|y", ""]


def test_lines_of_json_keep_other_scripts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "p.JSONL"
    write_predictions([Prediction(id="1", value=0.1), Prediction(id="二", value=2.0)], path)
    assert path.read_text("utf-8") == '{"id": "1", "value": 0.1}\n{"id": "二", "value": 2.0}\n'


def test_predictions_are_taken_as_they_come(tmp_path: Path) -> None:
    """The first is on its way before the third is made."""
    stream = io.StringIO()
    seen = []

    def slowly() -> Iterator[Prediction]:
        for number in range(3):
            seen.append(len(stream.getvalue().splitlines()))
            yield Prediction(id=str(number), value=0.0)

    assert write_jsonl(stream, slowly()) == 3
    assert seen == [0, 1, 2]
    assert json.loads(stream.getvalue().splitlines()[2])["id"] == "2"


def broken(error: BaseException) -> Iterator[Prediction]:
    yield Prediction(id="1", value=1.0)
    raise error


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_is_whole_or_as_it_was(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"
    write_predictions([Prediction(id="old", value=0.0)], path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_predictions(broken(KeyboardInterrupt()), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left") as found, full.open("w") as stream:
        write_jsonl(stream, [Prediction(id="1", value=1.0)])
    with pytest.raises(MachineError, match="disk is full"):
        write_predictions(broken(found.value), tmp_path / "p.csv")
    assert os.listdir(tmp_path) == []


def test_mixed_predictions_are_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="prediction '2' has"):
        write_predictions([Prediction(id="1", value=1.0), Prediction(id="2", label="a")], tmp_path / "p.csv")


def test_generated_texts_need_not_all_have_the_same(tmp_path: Path) -> None:
    path, last = tmp_path / "p.csv", {"id": "3", "text": "a\r\nb", "loss": 1.0, "tokens": 2}
    said = [{"id": "1", "loss": 2.5, "tokens": 3}, {"id": "2", "text": ""}, last]
    assert write_predictions([cast(Prediction, one) for one in said], path) == 3
    found = list(read_predictions(path))
    assert found[1:] == said[1:] and {**said[0], "text": ""} == found[0]


@pytest.mark.parametrize("name", ["p.txt", "p"])
def test_other_suffixes_are_the_users_mistake(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"name it p\.jsonl"):
        write_predictions([], tmp_path / name)
    assert os.listdir(tmp_path) == []
