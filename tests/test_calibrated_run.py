"""A run that holds examples back: its model is calibrated as it is saved, and what is promised was found on them."""

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import thawline as tl
from families import LABELS, SENTENCES, folder_of
from test_report import Page
from thawline.report import facts_of
from thawline.report.blocks import plain
from thawline.report.summary import summarize

HELD = 110  # of 220 validation examples
Run = Callable[..., tl.Run]


def write(folder: Path, sizes: dict[str, int], *, several: bool) -> dict[str, str]:
    """Write splits whose labels can half be learned, and return the text of each id."""
    rng, texts = np.random.default_rng(0), dict[str, str]()
    folder.mkdir()
    for split, size in sizes.items():
        rows = []
        for i in range(size):
            place = int(rng.integers(3))
            text = f"{('awful', 'fine', 'lovely')[place]} {SENTENCES[i % 5][: 9 + i % 30]} {split} {i}"
            true = place if i % 4 else int(rng.integers(3))
            labels = {name: int(k == true or (i % 5 == 0 and k == 0)) for k, name in enumerate(LABELS)}
            rows.append({"id": f"{split}-{i}", "text": text, **(labels if several else {"label": LABELS[true]})})
            texts[f"{split}-{i}"] = text
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return texts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    @cache
    def train(several: bool, test: int = 80, validation: int = 220) -> tl.Run:
        home = tmp_path_factory.mktemp("run")
        sizes = {"train": 80, "validation": validation, "test": test}
        write(home / "data", {split: size for split, size in sizes.items() if size}, several=several)
        return tl.finetune(
            home / "data",
            model=str(folder_of("bert")),
            **({"label": list(LABELS)} if several else {}),
            train={"max_steps": 30, "batch_size": 16, "lr": 5e-3, "bf16": False, "device": "cpu"},
            evaluate={"baselines": False, "bootstrap_samples": 20, "attributions": 0},
            output=str(home / "run"),
            say=lambda text: None,
            progress=False,
        )

    return train


def rows(run: tl.Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "predictions" / f"{name}.jsonl").read_text("utf-8").splitlines()]


def given(run: tl.Run) -> dict[str, dict[str, str]]:
    """The rows of the test split by id."""
    with (run.folder.parent / "data" / "test.csv").open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def analysis(run: tl.Run) -> Any:
    return json.loads((run.folder / "analysis.json").read_text("utf-8"))


def logits(run: tl.Run, texts: list[str]) -> torch.Tensor:
    """What plain transformers says of the saved model."""
    folder = run.folder / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found: torch.Tensor = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    return found


def likelihood(scores: torch.Tensor, run: tl.Run, several: bool) -> float:
    """Mean negative log likelihood of the test labels."""
    true = given(run)
    each = []
    for row, p in zip(rows(run, "test"), scores.double(), strict=True):
        own = true[row["id"]]
        if several:
            hits = [q if own[name] == "1" else 1 - q for name, q in zip(LABELS, p, strict=True)]
            each.append(float(-torch.log(torch.stack(hits)).mean()))
        else:
            each.append(float(-torch.log(p[LABELS.index(own["label"])])))
    return float(np.mean(each))


@pytest.mark.parametrize("several", [False, True])
def test_what_is_held_back_chooses_nothing(trained: Run, several: bool) -> None:
    run = trained(several)
    held, chosen, test = ({row["id"] for row in rows(run, name)} for name in ("calibration", "validation", "test"))
    assert len(held) == HELD and not held & chosen and not test & (held | chosen)
    assert held | chosen == {f"validation-{i}" for i in range(220)}
    found = analysis(run)["test"]
    assert found["calibration"]["fitted"]["n"] == len(chosen)
    assert (found["abstention"]["n"], found["abstention"]["n_test"]) == (HELD, 80) and found["abstention"]["targets"]
    assert (found["conformal"]["n"], found["conformal"]["n_test"]) == (HELD, 80) and found["conformal"]["levels"]
    cuts = run.folder / "model" / "thresholds.json"
    assert cuts.is_file() == several
    if several:
        by_label = json.loads(cuts.read_text())
        for row in rows(run, "test"):
            assert row["labels"] == [name for name in LABELS if row["scores"][name] >= by_label[name]]


@pytest.mark.parametrize("several", [False, True])
def test_the_saved_model_has_the_temperature_in_it(trained: Run, several: bool) -> None:
    run = trained(several)
    texts = {own: row["text"] for own, row in given(run).items()}
    said, link = rows(run, "test"), torch.sigmoid if several else lambda z: torch.softmax(z, dim=-1)
    plainly = logits(run, [texts[row["id"]] for row in said])
    scores = torch.tensor([[row["scores"][name] for name in LABELS] for row in said])
    torch.testing.assert_close(scores, link(plainly), atol=1e-5, rtol=0)
    found = analysis(run)["test"]["calibration"]
    temperature = torch.tensor(found["fitted"]["temperature"], dtype=torch.float64)
    assert len(temperature) == (3 if several else 1) and (temperature != 1).all()
    assert found["temperature"] == (dict(zip(LABELS, temperature.tolist(), strict=True)) if several else temperature[0].item())
    assert found["after"]["nll"] == pytest.approx(likelihood(scores, run, several), rel=1e-4)
    assert found["before"]["nll"] == pytest.approx(likelihood(link(plainly * temperature), run, several), rel=1e-3)
    html = (run.folder / "report.html").read_text("utf-8")
    assert "before the temperature" in html and "with it, as saved" in html and "as trained" not in html
    keys = {key for key, _, _ in Page(html).numbers if key.startswith("analysis.test.calibration.temperature")}
    assert len(keys) == len(temperature)


@pytest.mark.parametrize("several", [False, True])
def test_other_data_is_judged_with_the_same_temperature(trained: Run, several: bool, tmp_path: Path) -> None:
    run = trained(several)
    write(tmp_path / "more", {"other": 40}, several=several)
    run.evaluate(tmp_path / "more" / "other.csv", say=lambda text: None)
    found = analysis(run)
    assert found["on-other"]["calibration"]["temperature"] == found["test"]["calibration"]["temperature"]


@pytest.mark.parametrize("several", [False, True])
def test_without_a_test_split_the_temperature_is_judged_on_what_was_held_back(trained: Run, several: bool) -> None:
    run = trained(several, test=0)
    found = analysis(run)["validation"]
    assert found["calibration"]["n"] == HELD and found["calibration"]["fitted"]["n"] == 220 - HELD
    assert any("held back" in note for note in found["calibration"]["notes"])
    assert any("too good" in note for note in found["abstention"]["notes"])
    said = " ".join(plain(one) for one in summarize(facts_of(run.folder)).warnings)
    assert ("from which score on each label is given" in said) == several


def test_where_nothing_was_held_back_that_is_said(trained: Run) -> None:
    run = trained(False, validation=60)
    found, html = analysis(run)["test"], (run.folder / "report.html").read_text("utf-8")
    assert found["calibration"]["temperature"] is None and "before the temperature" not in html
    for name in ("abstention", "conformal"):
        assert found[name]["notes"][0].startswith("Nothing is promised") and "200 examples" in found[name]["notes"][0]
        assert name in Page(html).sections()
    assert html.count("Nothing is promised") == 2
