"""What is told before training: truncation, memory, languages, weights without meaning; and the dtype of answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from test_cli import Thawline, settings, thawline, write_table
from test_cli_mistakes import write_rows
from thawline.run import carry_out

__all__ = ["thawline"]  # a fixture


def test_check_says_what_truncation_loses(thawline: Thawline) -> None:
    write_rows(Path("long.csv"), [(f"good film {i} " * (9 if i % 2 else 1), ("good", "bad")[i % 2]) for i in range(60)])
    done = thawline("check", "long.csv", *settings(**{"data.max_length": 12}))
    assert done.code == 0 and "truncation to 12 tokens cuts" in done.out, done
    assert "truncation" not in thawline("check", "long.csv", *settings()).out
    elsewhere = thawline("check", "long.csv", "model=/nowhere")
    assert elsewhere.code == 0 and "whether texts are cut off was not looked at" in elsewhere.out


def test_weights_of_classes_where_there_are_none(thawline: Thawline) -> None:
    write_rows(Path("numbers.csv"), [(f"a film of {i} minutes", f"{i / 7:.3f}") for i in range(60)])
    done = thawline("train", "numbers.csv", *settings(), "train.class_weights=auto", "--output", "run")
    assert done.code == 2 and "weighs classes" in done.err and not Path("run").exists()


def test_memory_is_foreseen_before_the_first_step(thawline: Thawline, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(Path("reviews.csv"))
    monkeypatch.setattr(carry_out, "available_bytes", lambda: 1 << 20)
    done = thawline("train", "reviews.csv", *settings(), "--output", "run")
    assert done.code == 1 and "Training needs about" in done.err and "1 MB are available" in done.err
    assert not Path("run", "history.jsonl").exists()


def test_texts_of_another_language_are_told(thawline: Thawline) -> None:
    rows = [(f"酒店 很好 {i}" if i % 2 else f"房间 太小 {i}", ("good", "bad")[i % 2]) for i in range(60)]
    write_rows(Path("chinese.csv"), rows)
    words = [word for word in settings() if not word.startswith("model=")]
    done = thawline("train", "chinese.csv", *words, "train.max_steps=1", "evaluate.analysis=false", "--output", "run")
    assert done.code == 0 and "do not look English" in done.err, done.err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_answers_are_computed_in_the_dtype_that_is_asked_for(dtype: str, thawline: Thawline) -> None:
    import torch

    import thawline as tl

    write_table(Path("reviews.csv"))
    done = thawline("train", "reviews.csv", *settings(**{"predict.dtype": dtype, "train.max_steps": 2}), "--output", "run")
    assert done.code == 0, done.err
    run = tl.load_run("run")
    assert next(run.model.model.parameters()).dtype == getattr(torch, dtype)
    first: dict[str, Any] = json.loads(Path("run/predictions/test.jsonl").read_text().splitlines()[0])
    assert run.model.dtype == dtype and sum(first["scores"].values()) == pytest.approx(1.0, abs=1e-2)
