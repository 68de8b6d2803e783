"""What stands beside listed mistakes: pictures, sounds, what answers rest on; and mistakes that are no labels."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import spoken
import thawline as tl
from families import LABELS, SENTENCES, folder_of, model_of, task_of
from test_image_classification import folder as pictures
from test_image_classification import models
from test_image_classification import trained as trained_on_pictures
from thawline.cli import main
from thawline.errors import UserError
from thawline.evaluate import explain
from thawline.evaluate.answered import Answered
from thawline.evaluate.example_errors import errors
from thawline.evaluate.mistakes import mistakes
from thawline.evaluate.output import PredictionFile, write_predictions
from thawline.evaluate.slices import slices
from thawline.evaluate.summary import summarize
from thawline.run.finish import ending_seconds
from thawline.types import Prediction

__all__ = ["models", "pictures"]  # fixtures

SINGLE = "single_label_classification"


def answered(count: int = 6) -> Answered:
    """All answers are wrong, the surest first."""
    examples = [{"id": str(i), "text": SENTENCES[i % len(SENTENCES)], "label": LABELS[0]} for i in range(count)]
    said: list[Prediction] = []
    for i in range(count):
        scores = dict.fromkeys(LABELS, 0.0) | {LABELS[0]: 0.1 + i / 100, LABELS[1]: 0.9 - i / 100}
        said.append({"id": str(i), "label": LABELS[1], "score": scores[LABELS[1]], "scores": scores})
    return Answered(examples, said, SINGLE, tuple(LABELS))


def analysis_of(run: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "analysis.json").read_text())
    return found["test"] if "test" in found else found["validation"]


def test_words_that_an_answer_rests_on() -> None:
    given, task = answered(), task_of("bert")
    found = mistakes(given)
    explain.explain(found, given, model_of("bert", task), task=task, limit=2)
    assert [row["id"] for row in found["confident"] if "attribution" in row] == ["0", "1"]
    for row in found["confident"][:2]:
        assert row["attribution"]["method"] == "integrated gradients" and row["attribution"]["target"] in LABELS
        for word in row["attribution"]["words"]:
            assert row["text"][word["start"] : word["end"]] == word["word"]
    json.dumps(found, allow_nan=False)


def test_all_words_of_a_long_text_are_explained_and_those_shown_are_listed() -> None:
    given, task = answered(), task_of("bert")
    long = {**given.examples[0], "text": "good " * 25 + "x" * 300 + " bad film"}
    model = model_of("bert", task)
    assert explain._of_text(model, task, long)["attribution"]["words"][-1]["word"] == "film"
    other = replace(given, examples=[long, *given.examples[1:]])
    explain.explain(found := mistakes(other), other, model, task=task, limit=9)
    (row,) = (row for row in found["confident"] if row["id"] == long["id"])
    assert 0 < max(word["end"] for word in row["attribution"]["words"]) < 300


def test_each_of_several_labels_is_explained_where_it_is_listed() -> None:
    task = task_of("bert", "multi_label_classification")
    scores = [{"bad": 0.9, "fine": 0.6, "good": 0.2}, {"bad": 0.1, "fine": 0.2, "good": 0.4}]
    examples = [{"id": str(i), "text": SENTENCES[i], "label": ["good"]} for i in range(2)]
    said: list[Prediction] = [
        {"id": str(i), "labels": [name for name, score in row.items() if score > 0.5], "scores": row}
        for i, row in enumerate(scores)
    ]
    given = Answered(examples, said, "multi_label_classification", LABELS)
    found = mistakes(given)
    explain.explain(found, given, model_of("bert", task), task=task, limit=99)
    hardest = {row["id"]: row["attribution"]["target"] for row in found["hardest"]}
    assert hardest["0"] == "bad", "the surest that was given"
    for label in found["labels"]:
        rows = [*label["confident"], *label["uncertain"]]
        assert rows and {row["attribution"]["target"] for row in rows} == {label["label"]}
    few = mistakes(given)
    explain.explain(few, given, model_of("bert", task), task=task, limit=2)
    assert "attribution" in few["hardest"][0] and "attribution" in few["labels"][0]["confident"][0]


def test_without_captum_one_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "find_spec", lambda name: None)
    given, task = answered(), task_of("bert")
    found = mistakes(given)
    explain.explain(found, given, model_of("bert", task), task=task, limit=2)
    assert 'pip install "thawline[explain]"' in found["notes"][-1]
    assert not any("attribution" in row for row in explain.rows_of(found))


def test_an_example_that_cannot_be_explained_is_told() -> None:
    given, task = answered(2), task_of("bert")
    given.examples[0]["text"] = " "
    found = mistakes(given)
    explain.explain(found, given, model_of("bert", task), task=task, limit=2)
    assert "attribution" not in found["confident"][0] and "attribution" in found["confident"][1]
    assert "no words" in found["notes"][-1]


def test_pictures_of_a_run(models: dict[str, str], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, *_ = trained_on_pictures(pictures, models["vit"], tmp_path / "run", evaluate={"attributions": 2})
    found = analysis_of(run)["mistakes"]
    rows = list(explain.rows_of(found))
    assert rows and all(row["thumbnail"].startswith("data:image/jpeg;base64,") for row in rows)
    explained = [row for row in rows if "attribution" in row]
    assert {row["id"] for row in explained} and len({row["id"] for row in explained}) == 2
    assert np.shape(explained[0]["attribution"]["regions"]) == (7, 7)
    report = (run.folder / "report.html").read_text()
    assert 'class="over"' in report and "data:image/jpeg" in report and "by occlusion" in report
    assert main(["evaluate", str(run.folder), "--json"]) == 0
    printed = capsys.readouterr().out
    assert "data:image" not in printed and len(json.loads(printed)["analysis"]["mistakes"]["hardest"]) == len(found["hardest"])
    picture = next(pictures.glob("*/1.png"))
    (one,) = run.explain([str(picture)])
    assert one["target"] == run.predict([str(picture)])[0]["label"] and len(one["regions"]) == 7


def test_sounds_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = spoken.folder_of(tmp_path / "data"), spoken.whisper(tmp_path / "model")
    run, _ = spoken.trained(data, model, tmp_path / "run", evaluate={"attributions": 1})
    found = analysis_of(run)
    rows = list(explain.rows_of(found["mistakes"]))
    assert rows and all(row["sound"].startswith("data:audio/mpeg;base64,") for row in rows)
    assert np.shape(rows[0]["attribution"]["regions"]) == (1, 20) and rows[0]["attribution"]["seconds"] < 0.6
    report = (run.folder / "report.html").read_text()
    assert 'class="strip"' in report and "<audio" in report
    # Of a long one, 6 s are played and the first piece is explained: the window of this model is 1 s.
    example = {"id": "long", "audio": spoken.value(spoken.clip(1, 9.0))}
    attribution = explain.EXPLAINERS["audio"].attribution
    assert attribution is not None
    long = attribution(run.model.model, run.model.task, example)["attribution"]
    assert long["seconds"] == 6 and len(long["regions"][0]) == 20 and not any(long["regions"][0][4:])
    assert long["notes"][0].startswith("Of 9.0 s the first 0.") and any(long["regions"][0][:3])
    monkeypatch.setattr(spoken.soundfile, "write", no_mp3)
    given = Answered([{**example, "label": "low"}], [{"id": "long", "label": "high"}], SINGLE, spoken.LABELS)
    without = mistakes(given)
    explain.explain(without, given, None, task=None, limit=0)
    assert not any("sound" in row for row in explain.rows_of(without))
    assert ["writes no MP3" in note for note in without["notes"]] == [True]


def no_mp3(*words: Any, **options: Any) -> None:
    raise spoken.soundfile.LibsndfileError(3)


def test_media_stay_within_bounds(models: dict[str, str], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del models
    monkeypatch.setattr(explain, "MOST_MEDIA", 1)
    paths = sorted(pictures.glob("dark/[0-9]*.png"))[:3]
    examples = [{"id": str(i), "image": {"bytes": None, "path": str(path)}, "label": "a"} for i, path in enumerate(paths)]
    said: list[Prediction] = [{"id": str(i), "label": "b", "scores": {"a": 0.1, "b": 0.9}} for i in range(len(paths))]
    given = Answered(examples, said, SINGLE, ("a", "b"))
    found = mistakes(given)
    explain.explain(found, given, None, task=None, limit=0)
    assert len({row["id"] for row in explain.rows_of(found) if "thumbnail" in row}) == 1
    assert "to keep the files small" in found["notes"][-1]
    monkeypatch.setattr(explain, "MOST_MEDIA", 10**9)
    whole = mistakes(given)
    explain.explain(whole, given, None, task=None, limit=0)
    sizes = [len(row["thumbnail"]) for row in explain.rows_of(whole)]
    assert len(sizes) > len(paths), "an example stands in several lists"
    monkeypatch.setattr(explain, "MOST_MEDIA", sum(sizes[:-1]))
    bounded = mistakes(given)
    explain.explain(bounded, given, None, task=None, limit=0)
    assert sum("thumbnail" in row for row in explain.rows_of(bounded)) == len(sizes) - 1, "each counts as often as it stands"


def tagged() -> Answered:
    examples = [
        {"id": "1", "tokens": ["in", "Rome"], "label": ["O", "B-place"]},
        {"id": "2", "tokens": ["Ann", "Lee", "ran"], "label": ["B-person", "I-person", "O"]},
        {"id": "3", "tokens": ["we", "ran"], "label": ["O", "O"]},
    ]
    tags = (["O", "B-person"], ["B-person", "O", "O"], ["O", "B-place"])
    return Answered(examples, [{"id": str(i + 1), "tags": one} for i, one in enumerate(tags)], "token_classification", ())


def test_mistakes_of_entities() -> None:
    found = mistakes(tagged())
    assert [(row["id"], row["error"]) for row in found["largest"]] == [("1", 2.0), ("2", 2.0), ("3", 1.0)]
    assert (found["largest"][1]["true"], found["largest"][1]["answer"]) == ("person: Ann Lee", "person: Ann")
    pairs = {(pair["true"], pair["answer"]): (pair["n"], pair["of"]) for pair in found["pairs"]}
    assert pairs == {("place", "person"): (1, 1), ("person", "person, other words"): (1, 1), ("nothing", "place"): (1, 1)}
    assert errors(tagged()).measure == "wrong entities"


def test_mistakes_of_transcripts() -> None:
    examples = [{"id": "1", "label": "Fetch the red cup."}, {"id": "2", "label": "stop"}, {"id": "3", "label": "go on"}]
    said: list[Prediction] = [{"id": "1", "text": "fetch a red cap"}, {"id": "2", "text": "Stop!"}, {"id": "3", "text": "go"}]
    found = mistakes(Answered(examples, said, "speech_recognition", ()))
    assert {(pair["true"], pair["answer"]) for pair in found["pairs"]} == {("the", "a"), ("cup", "cap"), ("on", "nothing")}
    assert [row["id"] for row in found["largest"]] == ["1", "3"] and found["largest"][0]["answer"] == "fetch a red cap"


def test_mistakes_of_generated_texts() -> None:
    examples: list[dict[str, Any]] = [
        {"id": "1", "messages": [{"role": "user", "content": "hi"}], "label": "hello"},
        {"id": "2", "messages": [{"role": "user", "content": "on"}], "label": None},
    ]
    said: list[Prediction] = [{"id": "1", "text": "bye", "loss": 4.0, "tokens": 2}, {"id": "2", "loss": 9.0, "tokens": 3}]
    found = mistakes(Answered(examples, said, "text_generation", ()))
    assert [(row["id"], row["error"], row["true"], row["answer"]) for row in found["largest"]] == [
        ("2", 3.0, "no reference", "not answered in full"),
        ("1", 2.0, "hello", "bye"),
    ]


def test_a_slice_of_other_errors_is_found() -> None:
    """Transcripts of one speaker are wrong, of the others right; the slice is that speaker."""
    rng = np.random.default_rng(0)
    speakers = rng.choice(["ann", "bob", "cy"], 300).tolist()
    examples = [{"id": str(i), "speaker": who, "label": "turn the light on"} for i, who in enumerate(speakers)]
    texts = ["turn a lamp on" if who == "bob" and rng.random() < 0.8 else "turn the light on" for who in speakers]
    said: list[Prediction] = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    found = slices(Answered(examples, said, "speech_recognition", ()))
    assert found["measure"] == "word error rate" and [one["name"] for one in found["slices"]] == ['speaker is "bob"']


def test_predictions_stay_in_their_file(tmp_path: Path) -> None:
    given = answered(5)
    write_predictions(given.predictions, tmp_path / "p.jsonl")
    kept = PredictionFile(tmp_path / "p.jsonl")
    assert list(kept) == list(given.predictions) and len(kept) == 5
    assert kept[-1] == given.predictions[4] and kept[1:3] == list(given.predictions[1:3])
    with pytest.raises(IndexError):
        kept[5]
    write_predictions([], tmp_path / "none.jsonl")
    assert list(PredictionFile(tmp_path / "none.jsonl")) == []


def test_intervals_of_groups_are_wider() -> None:
    """Ten answers of each patient are alike: they say no more than one."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(40) < 0.7, 10)
    examples = [{"id": str(i), "label": "a"} for i in range(400)]
    said: list[Prediction] = [{"id": str(i), "label": "a" if one else "b"} for i, one in enumerate(right.tolist())]

    def width(**options: Any) -> float:
        low, high = summarize(Answered(examples, said, SINGLE, ("a", "b"), **options)).section["accuracy_ci95"]
        return float(high - low)

    assert width(groups=np.repeat(np.arange(40), 10)) > 2 * width()


def test_groups_of_a_run(tmp_path: Path) -> None:
    texts = [f"{LABELS[i % 2]} film {i}" for i in range(240)]
    rows = [{"text": text, "label": text.split()[0], "patient": f"p{i // 6}"} for i, text in enumerate(texts)]
    said: list[str] = []
    run = tl.finetune(
        rows,
        model=folder_of("bert"),
        data={"split": "group(patient)", "test_size": 0.3},
        train={"max_steps": 4, "bf16": False},
        output={"dir": str(tmp_path / "run")},
        progress=False,
        say=said.append,
    )
    assert any("draws of whole groups" in line and "by group(patient)" in line for line in said)
    assert run.metrics["test"]["n"] % 6 == 0


def test_what_has_no_single_output_is_not_explained(tmp_path: Path) -> None:
    rows = [{"tokens": ["in", f"Rome{i}"], "ner_tags": ["O", "B-place"]} for i in range(40)]
    (tmp_path / "tags.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = tl.finetune(
        str(tmp_path / "tags.jsonl"),
        model=folder_of("bert"),
        train={"max_steps": 1, "bf16": False},
        output={"dir": str(tmp_path / "run")},
        progress=False,
        say=lambda text: None,
    )
    with pytest.raises(UserError, match="not token classification"):
        run.explain(["in Rome"])


@pytest.mark.parametrize(("problem", "more"), [("speech_recognition", 0), ("single_label_classification", 8 * 24)])
def test_only_what_is_explained_takes_time(problem: str, more: int) -> None:
    """What a run foresees for its end: passes for attributions, where answers are single outputs of the model."""

    class Hears:
        inputs, labels, answered, passes_to_answer, head_is_pretrained = "audio", (), None, 0.0, False

        def __init__(self) -> None:
            self.problem = problem

    def seconds(attributions: int) -> float:
        evaluate = SimpleNamespace(
            bootstrap_samples=0, baselines=False, robustness=False, analysis=True, attributions=attributions
        )
        recipe = SimpleNamespace(evaluate=evaluate, data=SimpleNamespace(folds=None))
        dataset = SimpleNamespace(columns=SimpleNamespace(kind="audio"))
        sets = {"train": range(9), "validation": range(9)}
        prepared: Any = SimpleNamespace(sets=sets, recipe=recipe, task=Hears(), dataset=dataset)
        return ending_seconds(prepared, 9.0, example=1.0, bf16=False)

    assert seconds(8) - seconds(0) == pytest.approx(more)
