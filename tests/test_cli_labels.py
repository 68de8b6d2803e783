"""What is said of labels at the command line: check --labels and --curve, pick, and evaluate --robustness."""

import csv
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from families import folder_of
from test_cli import WORDS, Thawline, settings, thawline
from test_cli_mistakes import write_rows
from test_image_classification import folder as pictures
from test_image_classification import models
from thawline.cli import main
from thawline.data.examples import Examples
from thawline.errors import DataError
from thawline.evaluate.what_to_label import least_decided, spread_out
from thawline.run.folder import RunFolder
from thawline.run.kept import Kept
from thawline.run.robust import robust_aloud
from thawline.types import Prediction

__all__ = ["models", "pictures", "thawline"]  # fixtures

QUICK = [f"model={folder_of('bert')}", "train.bf16=false"]
FEW = {"evaluate.baselines": False}


def said(i: int, label: str) -> str:
    rng = np.random.default_rng(i)
    return f"{label} {label} {label} {label} {' '.join(rng.choice(WORDS, 3))} {i}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of splits whose texts say their label, but for five; and three test texts that all but stand in train."""
    base = tmp_path_factory.mktemp("splits")
    labels = [("good", "bad")[i % 2] for i in range(200)]
    wrong = dict.fromkeys(range(0, 50, 10), True)
    train = [(said(i, label), ("good", "bad")[1 - i % 2] if i in wrong else label) for i, label in enumerate(labels)]
    write_rows(base / "train.csv", train)
    near = [(f"{text}!", label) for text, label in train[60:63]]
    write_rows(base / "test.csv", near + [(said(i, ("good", "bad")[i % 2]), ("good", "bad")[i % 2]) for i in range(300, 340)])
    return base


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    words = settings(max_steps=20, **FEW, **{"evaluate.robustness": True})
    assert main(["train", str(folder), *words, "--output", str(run)]) == 0
    return run


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_labels_that_are_wrong_are_found(thawline: Thawline, folder: Path) -> None:
    done = thawline("check", folder, *QUICK, "--labels", "found.csv", "--curve")
    assert done.code == 0, done.err
    rows = rows_of("found.csv")
    errors = [row for row in rows if row["kind"] == "label"]
    planted = [row for row in errors if not row["text"].startswith(row["label"])]
    assert 3 <= len(planted) <= 5 and errors == planted  # confident learning counts with care
    assert {row["suggested"] for row in errors} <= {"good", "bad"} and errors[0]["split"] == "train"
    assert float(errors[0]["quality"]) < 0.5
    leaks = [row for row in rows if row["kind"] == "near duplicate"]
    assert {row["text"].rstrip("!") for row in leaks} >= {row["like"] for row in leaks} and len(leaks) == 3
    assert {row["split"] for row in leaks} == {"test"} and float(leaks[0]["similarity"]) == 1.0
    assert "labels that look wrong" in done.out and "near duplicates of ones of train" in done.out
    assert "Twice as many labels would" in done.out and "400 " in done.out
    assert "All" in done.err and "found.csv" in done.err


def test_a_run_shows_what_was_found_of_its_data(thawline: Thawline, finished: Path) -> None:
    done = thawline("check", finished, "--labels", "found.csv", "--curve")
    assert done.code == 0, done.err
    analysis = json.loads((finished / "analysis.json").read_text())
    assert {"test", "label_errors", "near_duplicates", "learning_curve"} <= set(analysis)
    report = (finished / "report.html").read_text()
    assert all(f'id="{name}"' in report for name in ("label-errors", "near-duplicates", "learning-curve", "robustness"))
    assert thawline("check", finished).code == 0
    assert "leave out data.folds=5" in thawline("check", finished, "data.folds=5").err


def test_robustness(thawline: Thawline, finished: Path, folder: Path) -> None:
    first = json.loads((finished / "analysis.json").read_text())["test"]["robustness"]  # made at the end of the run
    assert [one["name"] for one in first["perturbations"]][:3] == ["typos(0.05)", "typos(0.1)", "lower"]
    again = thawline("evaluate", finished, "--robustness")
    assert again.code == 0, again.err
    assert "typos(0.1)" in again.out and first["words"] in again.out
    found: dict[str, Any] = json.loads(thawline("evaluate", finished, "--robustness", "--json").out)
    for one in [*first["perturbations"], *found["robustness"]["perturbations"]]:
        del one["seconds"]
    assert found["robustness"] == first and found["n"] == 43
    other = thawline("evaluate", finished, "--data", folder / "train.csv", "--robustness")
    assert other.code == 0 and "n = 200" in other.out
    analysis = json.loads((finished / "analysis.json").read_text())
    assert {"metrics", "robustness", "mistakes"} <= set(analysis["on-train"]) and "mistakes" in analysis["test"]
    report = (finished / "report.html").read_text()
    assert "On other data: train" in report and 'data-key="analysis.on-train.metrics.accuracy"' in report


def test_pick(thawline: Thawline, finished: Path) -> None:
    texts = [said(i, ("good", "bad", "good bad")[i % 3]) for i in range(30)]
    write_rows(Path("unlabelled.csv"), [(text, "") for text in [*texts, *texts]])
    done = thawline("pick", finished, "unlabelled.csv", "--output", "next.csv", "--most", "40")
    assert done.code == 0, done.err
    rows = rows_of("next.csv")
    assert sorted(row["text"] for row in rows) == sorted(texts)  # each once
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins) and {rows[0]["label"], rows[0]["next"]} == {"good", "bad"}
    assert "30 of 60 are in next.csv" in done.err
    assert thawline("pick", finished, "unlabelled.csv", "--output", "few.csv", "--most", "4").code == 0
    few = [row["text"] for row in rows_of("few.csv")]
    assert len(few) == 4 and few[0] == rows[0]["text"] and set(few) <= {row["text"] for row in rows[:20]}


def test_several_labels_are_undecided_where_the_least_decided_one_is() -> None:
    said: list[Prediction] = [
        {"labels": ["a"], "scores": {"a": 0.9, "b": 0.1}},
        {"labels": ["a", "b"], "scores": {"a": 0.99, "b": 0.6}},
    ]
    found = least_decided(zip([{"id": "1", "text": "x"}, {"id": "2", "text": "y"}], said, strict=True), 1)
    assert found == [{"place": 1, "id": "2", "text": "y", "label": "a|b", "next": "b", "margin": pytest.approx(0.2)}]
    with pytest.raises(DataError, match="have none"):
        least_decided([({"id": "1", "text": "x"}, {"value": 1.0})], 1)
    assert least_decided([({"id": "1", "text": "x"}, {"label": "a", "scores": {"a": 1.0}})], 1)[0]["margin"] == 1.0


def test_of_each_sort_the_least_decided() -> None:
    sort = np.random.default_rng(0).integers(0, 4, 80)
    features = 10 * np.eye(4)[sort] + 0.1 * np.random.default_rng(1).standard_normal((80, 4))
    found = spread_out(features, 4)
    assert found == sorted(np.flatnonzero(sort == k)[0] for k in range(4)) == spread_out(features, 4)
    assert spread_out(np.ones((80, 4)), 5) == [0, 1, 2, 3, 4]
    assert spread_out(features, 80) == spread_out(features, 99) == list(range(80))


def test_mistakes(thawline: Thawline, finished: Path, folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "one.csv", [(f"words {i}", "good") for i in range(20)])
    write_rows(tmp_path / "few.csv", [(said(i, ("good", "bad")[i % 2]), ("good", "bad")[i % 2]) for i in range(40)])
    write_rows(tmp_path / "numbers.csv", [(said(i, "x"), str(i / 7)) for i in range(40)])
    write_rows(tmp_path / "header.csv", [])
    write_rows(tmp_path / "new.csv", [("words", "good"), ("more words", "grand")])
    (tmp_path / "sentences.jsonl").write_text(
        "".join(f'{{"tokens": ["Oslo", "{i}"], "ner_tags": ["B-x", "O"]}}\n' for i in range(30))
    )
    before = sorted(tmp_path.rglob("*"))
    for words, expected in (
        (["check", "one.csv", "--labels", "f.csv"], "stop the training"),
        (["check", "few.csv", "--labels", "few.csv"], "few.csv is there already"),
        (["check", "few.csv", "--labels", "f.txt"], "name it f.csv"),
        (["check", "few.csv", "--labels", "no/f.csv"], "There is no folder no"),
        (["check", "few.csv", "--curve", *QUICK], "needs 80 examples"),
        (["check", "few.csv", "--curve", "data.test_size=0", "data.validation_size=0"], "set data.test_size"),
        (["check", "few.csv", "--labels", "f.csv", f"model={finished}"], "has learned these labels"),
        (["check", "numbers.csv", "--curve"], "one class; numbers is data of regression"),
        (["check", "sentences.jsonl", "--labels", "f.csv"], "data of token classification"),
        (["check", "few.csv", "--labels", "f.csv", "data.text=txt"], "did you mean 'text'"),
        (["check", "header.csv", "--labels", "f.csv"], "header.csv"),
        (["evaluate", finished, "--data", "header.csv", "--robustness"], "header.csv"),
        (["evaluate", finished, "--data", "new.csv"], "does not know these labels of the data: 'grand'"),
        (["evaluate", "few.csv", "--robustness"], "is not a run's folder"),
        (["pick", finished, "few.csv"], "--output"),
        (["pick", finished, "few.csv", "--output", "f.jsonl"], "name it f.csv"),
        (["pick", finished, "none.csv", "--output", "f.csv"], "none.csv"),
        (["pick", finished, "few.csv", "--output", "f.csv", "--most", "0"], "--most"),
    ):
        code, _, err = thawline(*words)
        assert (code, expected in err, "Traceback" in err) == (2, True, False), (words, err)
    assert sorted(tmp_path.rglob("*")) == before


def test_numbers_have_no_classes_but_duplicates(thawline: Thawline) -> None:
    rows = [(f"{said(i, 'x')}{'!' if i % 2 else ''}", str(i // 2 / 7)) for i in range(80)]
    write_rows(Path("numbers.csv"), rows)
    done = thawline("check", "numbers.csv", *QUICK, "--labels", "f.csv")
    assert done.code == 0, done.err
    assert "one class; here only near duplicates are" in done.err
    assert {row["kind"] for row in rows_of("f.csv")} <= {"near duplicate"}


def test_pictures(thawline: Thawline, models: dict[str, str], pictures: Path) -> None:
    words = [f"model={models['resnet']}", "train.bf16=false", "train.max_steps=1", "evaluate.bootstrap_samples=20"]
    assert thawline("train", pictures, *words, "--output", "run").code == 0
    done = thawline("check", "run", "--labels", "f.csv")
    assert done.code == 0, done.err
    rows = rows_of("f.csv")
    assert all(Path(row["image"]).is_file() for row in rows)
    assert 'id="near-duplicates"' in Path("run/report.html").read_text()
    assert "needs 80 examples" in thawline("check", "run", "--curve").err
    done = thawline("evaluate", "run", "--robustness")
    assert (done.code, "jpeg(15)" in done.out) == (0, True), done.err
    assert thawline("pick", "run", pictures, "--output", "next.csv").code == 0
    assert len({row["image"] for row in rows_of("next.csv")}) == 60
    assert thawline("features", models["resnet"], pictures, "train.bf16=false", "--output", "v.parquet").code == 0
    assert parquet.read_table("v.parquet")["features"].type.list_size == 16  # channels: the mean over places


def test_a_run_does_not_end_where_nothing_can_be_perturbed(tmp_path: Path) -> None:
    chats = Examples(pa.table({"id": ["1"], "messages": [[{"role": "user", "content": "hello"}]]}))
    said: list[str] = []
    robust_aloud(cast(Any, None), Kept("test", chats, []), RunFolder(tmp_path), say=said.append)
    assert said == [
        "note: robustness is not measured: Nothing in the example '1' can be perturbed; expected a text, picture or sound."
    ]


def test_a_run_does_not_end_where_what_is_perturbed_cannot_be_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound that is long enough may not be when it is played faster."""

    def robust(*given: Any, **more: Any) -> None:
        raise DataError("a.wav is too short: 1500 samples at 16000 Hz; expected 1600 or more.")

    monkeypatch.setattr("thawline.run.robust.robust", robust)
    texts, said = Examples(pa.table({"id": ["1"], "text": ["a fine film"]})), list[str]()
    robust_aloud(cast(Any, None), Kept("test", texts, []), RunFolder(tmp_path), say=said.append)
    assert said[-1].startswith("note: robustness is not measured: a.wav is too short")
