"""The report: its numbers are those of the run's files, its words are honest, and nothing in it can do harm."""

import base64
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from report_facts import HOSTILE, LABELS, PICTURE, history_of, made, write
from thawline.errors import RunError
from thawline.evaluate.tables import metrics_table
from thawline.report import RunFacts, facts_of, render
from thawline.report.blocks import Num, plain
from thawline.report.card import card
from thawline.report.examples import case
from thawline.report.summary import summarize

MB = 10**6


@cache
def run() -> RunFacts:
    return made()


@cache
def html_of_run() -> str:
    return render(run())


class Page(HTMLParser):
    """The elements of a page with their attributes, the numbers that have a key, and the texts of script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[tuple[str, str, str]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open: tuple[str, str] | None = None
        self._closed = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found, self._closed = dict(attrs), False
        self.elements.append((tag, found))
        if found.get("data-key"):
            self._open = (str(found["data-key"]), str(found.get("data-value")))

    def handle_data(self, data: str) -> None:
        if self.elements and (tag := self.elements[-1][0]) in self.raw and not self._closed:
            self.raw[tag].append(data)
        if self._open is not None:
            self.numbers.append((*self._open, data))
            self._open = None

    def handle_endtag(self, tag: str) -> None:
        self._closed = True

    def sections(self) -> list[str]:
        return [str(found["id"]) for tag, found in self.elements if tag == "section"]


def at(facts: RunFacts, key: str) -> Any:
    """Return what stands at a path such as "metrics.test.f1_macro_ci95.0"."""
    file, *path = key.split(".")
    value: Any = getattr(facts, file)
    while path:
        # Names of labels and call forms may hold points themselves, such as "typos(0.1)".
        taken = next(n for n in range(1, len(path) + 1) if isinstance(value, list) or ".".join(path[:n]) in value)
        value = value[int(path[0])] if isinstance(value, list) else value[".".join(path[:taken])]
        path = path[taken:]
    return value


def numbers_in(section: dict[str, Any], base: str) -> Iterator[tuple[str, float]]:
    for name, value in section.items():
        for place, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, (int, float)) and name != "n":
                yield f"{base}.{name}.{place}" if isinstance(value, list) else f"{base}.{name}", one


def test_each_number_is_the_one_in_the_files() -> None:
    facts, page = run(), Page(html_of_run())
    assert len(page.numbers) > 200
    wrong = [(key, value) for key, value, _ in page.numbers if repr(at(facts, key)) != value]
    assert wrong == []
    off = [(value, text) for _, value, text in page.numbers if not says(text, float(value))]
    assert off == []


def says(text: str, value: float) -> bool:
    """Whether a text is the value, rounded."""
    clean = text.replace("−", "-").replace(",", "")
    digits = len(clean.rstrip("%").partition(".")[2])
    return abs(float(clean.rstrip("%")) / (100 if "%" in clean else 1) - value) <= 0.51 * 10.0 ** -(digits + 2 * ("%" in clean))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_every_metric_is_shown(split: str) -> None:
    shown = {key for key, _, _ in Page(html_of_run()).numbers}
    assert {key for key, _ in numbers_in(run().metrics[split], f"metrics.{split}")} <= shown
    for name, entry in run().metrics[split].get("baseline", {}).items():
        assert {key for key, _ in numbers_in(entry, f"metrics.{split}.baseline.{name}")} <= shown


def test_numbers_are_those_of_the_predictions() -> None:
    from report_facts import examples_of, predictions_of

    examples = examples_of(300, LABELS)
    said = [one["label"] for one in predictions_of(examples, LABELS)]
    true = [one["label"] for one in examples]
    shown = {key: float(value) for key, value, _ in Page(html_of_run()).numbers}
    assert shown["metrics.test.accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(said, true, strict=True)]))
    for place, label in enumerate(LABELS):
        assert shown[f"analysis.test.classes.classes.{place}.support"] == true.count(label)
        hit = sum(a == b == label for a, b in zip(said, true, strict=True))
        assert shown[f"analysis.test.classes.classes.{place}.recall"] == pytest.approx(hit / true.count(label))


def test_nothing_of_the_users_becomes_markup() -> None:
    facts = made(60, labels=HOSTILE, name=HOSTILE[0])
    recipe = {**facts.recipe, "data": {"path": HOSTILE[1]}, "strategy": HOSTILE[2], "model": {"name": HOSTILE[3]}}
    data = {**facts.data, "findings": [["warning", HOSTILE[0], HOSTILE[1]]]}
    html = render(replace(facts, recipe=recipe, data=data, name=f"{HOSTILE[0]} \ud800"))
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == tags.count("style") == 1
    assert not {"b", "iframe", "object", "form", "base"} & set(tags)
    assert [found["src"] for tag, found in page.elements if tag == "img"] == [PICTURE]
    names = {name for _, found in page.elements for name in found}
    assert [name for name in names if name.startswith("on")] == []
    html.encode("utf-8")
    assert "\x00" not in html


def test_page_needs_nothing_from_elsewhere() -> None:
    html = html_of_run()
    page = Page(html)
    links = {str(found["href"]) for _, found in page.elements if "href" in found}
    assert all(link.startswith("#") for link in links)
    assert {link.removeprefix("#") for link in links} <= {str(found.get("id")) for _, found in page.elements}
    assert not [found for _, found in page.elements if {"srcset", "style", "action"} & set(found)]
    assert all(str(found["src"]).startswith("data:") for _, found in page.elements if "src" in found)
    assert "url(" not in html and "@import" not in html
    policy = next(str(found["content"]) for _, found in page.elements if found.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for name, texts in page.raw.items():
        digest = base64.b64encode(hashlib.sha256("".join(texts).encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_ids_are_unique_and_headings_in_order() -> None:
    page = Page(html_of_run())
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


SECTIONS = ["classes", "curves", "calibration", "abstention", "conformal", "mistakes", "slices", "robustness"]


def test_every_analysis_has_its_section() -> None:
    found = Page(html_of_run()).sections()
    assert found[:3] == ["summary", "metrics", "training"]
    assert found[3:] == [*SECTIONS, "label-errors", "learning-curve", "something-new", "plan", "data", "recipe"]


@pytest.mark.parametrize("left", SECTIONS)
def test_a_part_may_be_there_alone(left: str) -> None:
    facts = replace(run(), analysis={"test": {left: run().analysis["test"][left]}})
    assert left in Page(render(facts)).sections()


@pytest.mark.parametrize("gone", ["metrics", "history", "plan", "data", "decisions", "analysis", "recipe"])
def test_a_file_may_be_missing(gone: str) -> None:
    assert Page(render(replace(run(), **{gone: () if gone == "history" else {}}))).sections()[0] == "summary"


@pytest.mark.parametrize(
    ("media", "shown"),
    [
        (PICTURE, True),
        ("https://example.org/x.png", False),
        ("data:text/html;base64,AAAA", False),
        ("data:image/svg+xml;base64,AAAA", False),
        (f"data:image/png;base64,{'A' * 60_000}", False),
    ],
)
def test_only_small_pictures_of_the_run_are_shown(media: str, shown: bool) -> None:
    row = {"id": "1", "true": "a", "answer": "b", "thumbnail": media}
    html = render(RunFacts("x", analysis={"test": {"mistakes": {"confident": [row]}}}, metrics={"test": {"n": 1}}))
    assert ("<img" in html) == shown and (media in html) == shown


def test_an_empty_run_says_that_nothing_was_measured() -> None:
    assert "Nothing was measured" in render(RunFacts("empty"))


def test_numbers_that_are_none_are_dashes() -> None:
    assert [str(Num(value)) for value in (None, float("nan"), float("inf"), -0.5)] == ["–", "–", "–", "−0.500"]


def test_a_run_of_numbers() -> None:
    section = {"rmse": 1.5, "r2": -0.25, "n": 500, "rmse_ci95": [1.4, 1.6], "r2_ci95": [-0.3, -0.2]}
    rival = {"rmse": 1.0, "rmse_difference": 0.5, "rmse_difference_ci95": [0.4, 0.6]}
    recipe = {"task": {"name": "text-classification", "problem": "regression"}}
    facts = RunFacts("numbers", recipe, {"test": {**section, "baseline": {"tfidf": rival}}, "validation": section})
    said = " ".join(map(plain, summarize(facts).quality))
    assert "root mean squared error is 1.500 (95 % interval 1.400 to 1.600)" in said
    assert "the baseline is better" in said
    assert "metrics" in Page(render(facts)).sections()


def test_intervals_are_told_where_there_are_some() -> None:
    def bare(found: Any) -> Any:
        """Leave out what `evaluate.bootstrap_samples=0` does not compute."""
        if isinstance(found, dict):
            return {key: bare(value) for key, value in found.items() if not key.endswith("_ci95")}
        return [bare(value) for value in found] if isinstance(found, list) else found

    facts = made(100)
    test = facts.analysis["test"]
    analysis = {**facts.analysis, "test": {**test, "classes": {**test["classes"], "classes": bare(test["classes"]["classes"])}}}
    for told, shown in ((facts, True), (replace(facts, metrics=bare(facts.metrics), analysis=analysis), False)):
        assert ("Brackets hold 95 % intervals, of a bootstrap" in render(told)) == shown
        assert ("Brackets hold" in card(told)) == shown
        assert ("Every class, with 95 % intervals" in render(told)) == shown
        console = Console(width=100, file=(written := StringIO()))
        console.print(metrics_table(told.metrics["test"], main="accuracy"))
        assert ("[95 % intervals]" in written.getvalue()) == shown


def test_trials_are_shown() -> None:
    entry = {"varied": {"train.seed": 1}, "state": "finished", "validation": {"f1_macro": 0.5}, "seconds": 3.0}
    trials = {"metric": "f1_macro", "best": "002", "trials": [{"trial": "001", **entry}, {"trial": "002", **entry}]}
    html = render(replace(run(), trials=trials))
    assert "the best by validation of 2 trials" in html and "trials" in Page(html).sections()


def changed(**sections: Any) -> RunFacts:
    """Return the run with keys of its sections of metrics.json changed, None to leave a section out."""
    metrics: dict[str, Any] = {**run().metrics}
    for name, change in sections.items():
        metrics[name] = None if change is None else {**metrics[name], **change}
    return replace(run(), metrics={name: value for name, value in metrics.items() if value is not None})


def rival(low: float, high: float) -> dict[str, Any]:
    return {"tfidf": {"f1_macro": 0.5, "f1_macro_difference": (low + high) / 2, "f1_macro_difference_ci95": [low, high]}}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.01, 0.1), "the model is better"),
        ((-0.01, 0.1), "these examples do not show which is better"),
        ((-0.1, -0.01), "the baseline is better"),
    ],
)
def test_a_difference_is_said_as_far_as_it_is_decided(ends: tuple[float, float], expected: str) -> None:
    said = plain(summarize(changed(test={"baseline": rival(*ends)})).quality[-1])
    assert said.endswith(f"{expected}.") or f"{expected}, at a fraction of the cost." in said


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (changed(test={"n": 50}), "Only 50 examples were measured"),
        (changed(test=None), "There is no test split: these numbers are of the validation split"),
        (changed(validation=None), "There is no validation split"),
        (changed(test=None, validation=None), "Nothing was measured"),
        (changed(test={"f1_macro_ci95": None}), None),
        (run(), "The test set was cut from the same data"),
    ],
)
def test_warnings_follow_from_the_facts(facts: RunFacts, expected: str | None) -> None:
    said = [plain(sentence) for sentence in summarize(facts).warnings]
    assert expected is None or any(expected in one for one in said), said
    render(facts)


def test_warnings_about_the_data_are_repeated() -> None:
    assert [plain(one) for one in summarize(run()).findings] == ["truncation to 64 tokens cuts 9 of 800 examples (1.1%)."]


@pytest.mark.parametrize(
    ("facts", "expected", "not_expected"),
    [
        (run(), "Train longer", "over-fits"),
        (replace(run(), history=history_of(80, best=1)), "It over-fits", "Train longer"),
        (changed(test={"baseline": rival(-0.2, -0.1)}), "Do not use it yet", "may be as good"),
        (changed(test={"baseline": rival(-0.1, 0.1)}), "may be as good", "Do not use it yet"),
        (changed(test={"f1_macro_ci95": [0.3, 0.7]}), "To be surer, measure on more", "Do not use it yet"),
        (RunFacts("empty"), "thawline predict empty", "Train longer"),
    ],
)
def test_advice_follows_from_the_facts(facts: RunFacts, expected: str, not_expected: str) -> None:
    said = " ".join(plain(sentence) for sentence in summarize(facts).next)
    assert expected in said and not_expected not in said, said


def test_classes_that_are_missed_are_named() -> None:
    rows = [{"label": "ABBR", "recall": 0.1, "support": 20}, {"label": "rare", "recall": 1.0, "support": 2}]
    said = " ".join(plain(one) for one in summarize(replace(run(), analysis={"test": {"classes": {"classes": rows}}})).next)
    assert "ABBR (2 of 20 found); or set train.class_weights=auto." in said
    assert "Of rare there are fewer than 5 examples" in said


def test_a_large_run_stays_small() -> None:
    few = made(2000, labels=[f"class {k} with a long name" for k in range(150)], steps=20, deep=True)
    rows = [{"label": f"c{k}", "recall": 0.5, "support": 9, "f1": 0.5, "precision": 0.5} for k in range(5000)]
    analysis = {"test": {**few.analysis["test"], "classes": {**few.analysis["test"]["classes"], "classes": rows}}}
    long = [{"id": str(k), "text": "word " * 100_000, "true": "a", "predicted": "b"} for k in range(20)]
    analysis["test"]["mistakes"] = {"confident": long * 10}
    html = render(replace(few, history=history_of(20_000), analysis=analysis))
    assert len(html.encode()) < 2 * MB


def test_a_folder_is_read(tmp_path: Path) -> None:
    folder = write(run(), tmp_path / run().name)
    read = facts_of(folder)
    # Through JSON, so that tuples are lists on both sides.
    assert json.loads(json.dumps(read.metrics)) == json.loads(json.dumps(run().metrics))
    assert render(replace(read, path="")) == html_of_run()  # equal facts make equal pages


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: (folder / "recipe.yaml").unlink(), "is not a run's folder"),
        (lambda folder: (folder / "metrics.json").unlink(), "is not finished"),
        (lambda folder: (folder / "metrics.json").write_text("{"), "is not the JSON that thawline wrote"),
    ],
)
def test_what_is_no_run_is_told(tmp_path: Path, spoil: Any, expected: str) -> None:
    folder = write(replace(run(), analysis={}), tmp_path / "run")
    spoil(folder)
    with pytest.raises(RunError, match=expected):
        facts_of(folder)


def test_sets_that_are_not_the_runs_own() -> None:
    analysis, metrics = run().analysis, run().metrics
    sets = {f"on-set {k}": {"metrics": metrics["test"], **analysis["test"]} for k in range(5)}
    facts = replace(run(), analysis={**sets, **analysis})
    page = Page(html := render(facts))
    assert [name for name in page.sections() if name.startswith("other")] == ["other-1", "other-2", "other-3"]
    assert "On other data: set 4" in html and "set 1" not in html and "Of 5 other sets the last 3 are shown." in html
    assert ("analysis.on-set 4.metrics.accuracy", repr(metrics["test"]["accuracy"])) in [one[:2] for one in page.numbers]
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert len(html.encode()) < 5 * MB


def test_near_duplicates_stand_beside_those_in_train() -> None:
    one = {"id": "t1", "split": "test", "text": "So good!", "label": "a", "similarity": 0.9}
    found = {
        "n": 9,
        "found": 1,
        "words": "1 of 9.",
        "examples": [{**one, "like": {"id": "r7", "text": "so good", "label": "b"}}],
    }
    html = render(replace(run(), analysis={"near_duplicates": found}))
    assert "near-duplicates" in Page(html).sections()
    assert all(said in html for said in ("So good!", "so good", "r7", "1 of 9."))


def test_a_page_of_many_sounds_stays_small() -> None:
    sound = f"data:audio/mpeg;base64,{'A' * 40_000}"
    regions = {"method": "occlusion", "regions": [[0.5] * 20]}

    def rows(name: str) -> list[dict[str, Any]]:
        return [
            {"id": f"{name} {k}", "true": "a", "answer": "b", "sound": sound, "attribution": regions, "audio": f"{k}.wav"}
            for k in range(20)
        ]

    found = {"mistakes": {name: rows(name) for name in ("confident", "hardest", "uncertain")}}
    metrics = run().metrics["test"]
    sets = {f"on-set {k}": {"metrics": metrics, **found} for k in range(4)}
    html = render(replace(run(), analysis={"test": found, **sets}))
    assert len(html.encode()) < 5 * MB
    assert 50 < html.count("<audio") == html.count('class="strip"') < 70
    assert "of the examples below are without their picture or sound" in html
    assert "uncertain 19" in html, "the examples themselves stay"


def test_lists_of_labels_are_told_from_texts() -> None:
    attribution = {"method": "occlusion", "target": "warm", "notes": ["Of 9.0 s the first 6.0 s are explained."]}
    row = {"id": "1", "tokens": ["in", "Rome"], "true": ["very warm", "wet"], "answer": [], "attribution": attribution}
    found = case(row)
    assert plain(found.words).startswith("true: very warm, wet · answered: none · colours: warm · Of 9.0 s")
    assert [text for text, _ in found.text.pieces] == ["in Rome"]


def test_the_path_of_a_run_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(replace(run(), analysis={}), tmp_path / "runs" / "my run")
    monkeypatch.chdir(tmp_path)
    said = " ".join(map(plain, summarize(replace(facts_of(Path("runs/my run")), history=(), metrics={})).next))
    assert "thawline predict 'runs/my run' FILE" in said
    monkeypatch.chdir(tmp_path / "runs" / "my run")
    assert facts_of(folder).path == f"'{folder}'"
