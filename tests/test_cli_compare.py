"""`thawline compare`: runs beside one another, and what cannot be compared; runs of a newer version."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from test_cli import Thawline, settings, table, thawline, write_table
from test_cli_mistakes import write_rows
from thawline.cli import main

__all__ = ["table", "thawline"]  # fixtures


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, table: Path) -> dict[str, Path]:
    """Two runs on one table, one on another, and one on numbers."""
    base, few = tmp_path_factory.mktemp("runs"), {"evaluate.baselines": False, "evaluate.analysis": False}
    other, numbers = write_table(base / "other.csv", 50), base / "numbers.csv"
    with numbers.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"number {i}", i / 7) for i in range(60))])
    made = {
        "full": (table, settings(max_steps=12, **few)),
        "head": (table, settings(max_steps=1, strategy="head", **few)),
        "other": (other, settings(max_steps=1, **few)),
        "numbers": (numbers, settings(max_steps=1, **few)),
    }
    for name, (data, words) in made.items():
        assert main(["train", str(data), *words, "--output", str(base / name)]) == 0
    return {name: base / name for name in made}


def test_two_runs(thawline: Thawline, runs: dict[str, Path]) -> None:
    done = thawline("compare", runs["head"], runs["full"], f"{runs['full']}/")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("test, n = 12, [95 % intervals]")
    assert {"run", "f1_macro", "accuracy", "seconds", "peak", "model"} <= set(lines[1].split())
    assert f"{runs['full']} minus {runs['head']} is" in done.out and "McNemar's exact test: p =" in done.out
    found: dict[str, Any] = json.loads(thawline("compare", *list(runs.values())[:2], "--json").out)
    assert [run["name"] for run in found["runs"]] == [str(runs["full"]), str(runs["head"])]
    known = json.loads((runs["full"] / "metrics.json").read_text())
    first = found["runs"][0]
    assert (found["n"], first["metrics"]["accuracy"]) == (12, pytest.approx(known["test"]["accuracy"]))
    assert first["facts"]["seconds"] == known["train"]["seconds"] and first["facts"]["model_mb"] > 0
    changed = found["pairs"][0]["changed"]
    assert len(found["pairs"][0]["to_wrong"]) == changed["to_wrong"]


def test_on_other_data(thawline: Thawline, runs: dict[str, Path], table: Path) -> None:
    done = thawline("compare", runs["full"], runs["other"], "--data", table, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["n"] == 60
    assert thawline("compare", runs["full"], runs["other"], "--data", table).out.startswith("reviews, n = 60")
    kept = runs["full"] / "predictions" / "on-reviews.jsonl"
    assert len(kept.read_text().splitlines()) == 60


def test_what_cannot_be_compared(thawline: Thawline, runs: dict[str, Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "new.csv", [("words", "good"), ("more words", "grand")])
    write_rows(tmp_path / "unlabelled.csv", [("words", ""), ("more words", "")])
    write_rows(tmp_path / "header.csv", [])
    (tmp_path / "notext.csv").write_text("a,label\n,good\n,bad\n")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("data: reviews.csv\n")
    full, other = runs["full"], runs["other"]
    for words, said in (
        ([full], "compare needs two runs or more"),
        ([full, full], "compare needs two runs or more"),
        ([full, other], "were measured on other examples: 10 are in both, 2 are only in"),
        ([full, runs["numbers"]], "of single_label_classification"),
        ([full, "nowhere"], "nowhere does not exist"),
        ([full, tmp_path], "is not a run's folder"),
        ([full, "begun"], "thawline resume begun"),
        ([full, "begun", "--data", "new.csv"], "thawline resume begun"),
        ([full, other, "--data", "new.csv"], "does not know these labels of the data: 'grand'"),
        ([full, other, "--data", "unlabelled.csv"], "has a label"),
        ([full, other, "--data", "header.csv"], "header.csv"),
        ([full, other, "--data", "notext.csv"], "No column holds texts"),
        ([full, other, "--data", "none.csv"], "none.csv"),
    ):
        code, out, err = thawline("compare", *words)
        assert (code, out) == (2, ""), err
        assert said in err and err.splitlines()[-1].startswith("error: "), err


def test_a_run_of_another_version(thawline: Thawline, runs: dict[str, Path], tmp_path: Path) -> None:
    newer, facts = tmp_path / "newer", tmp_path / "facts"
    shutil.copytree(runs["full"], newer)
    shutil.copytree(runs["full"], facts)
    text = (newer / "recipe.yaml").read_text()
    (newer / "recipe.yaml").write_text(text.replace("train:\n", "train:\n  foresight: 3\n", 1))
    known = json.loads((facts / "data.json").read_text())
    known["columns"]["smell"] = "sweet"
    (facts / "data.json").write_text(json.dumps(known))
    for folder in (newer, facts):
        for words in (["compare", runs["head"], folder], ["evaluate", folder], ["check", folder, "--curve"]):
            code, out, err = thawline(*words)
            if words[0] == "check" and folder == facts:
                continue  # which reads its recipe and data alone
            assert (code, out, err.count("\n")) == (2, "", 1), err
            assert "of another version of Thawline" in err


def test_data_that_is_gone_or_another(thawline: Thawline, runs: dict[str, Path], tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(runs["other"], moved)
    data = write_table(tmp_path / "changed.csv", 40)
    text = (moved / "recipe.yaml").read_text()
    path = next(line.strip() for line in text.splitlines() if line.strip().startswith("path:"))
    (moved / "recipe.yaml").write_text(text.replace(path, f"path: {data}", 1))
    code, _, err = thawline("compare", moved, runs["full"])
    assert (code, "bring" in err and "--data FILE" in err) == (2, True), err
    (moved / "predictions" / "test.jsonl").unlink()
    assert "is gone" in thawline("compare", moved, runs["full"]).err
