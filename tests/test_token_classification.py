"""Token classification: the contract, pieces and windows of words, decoding into entities, and runs that a pipeline repeats."""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

import thawline as tl
from families import FAMILIES, folder_of, tokenizer_of
from stored import stored_of
from thawline.cli.entry import main
from thawline.data.dataset import Options, load
from thawline.data.tags import repair
from thawline.data.words import words
from thawline.errors import DataError, ModelError, UserError
from thawline.evaluate.predict import predict
from thawline.models.load import load_config, load_model, quiet
from thawline.tasks import tokenizers
from thawline.tasks.base import Fitting, Step, plain_objective
from thawline.tasks.token_classification import TokenClassification
from thawline.testing import check_task
from thawline.testing.sums import supervised, whole
from thawline.types import Batch, Prediction

TAGS = ("B-per", "B-loc", "I-per", "O")
_TEXT = "the film is a good quiet triumph warm and bad refund funny from first scene to last fine Norway card"
_WORDS = _TEXT.split()


def sentence(number: int, length: int | None = None) -> dict[str, Any]:
    """Words that a number decides, and tags that the words decide."""
    words = [_WORDS[(number * 7 + i * (1 + number % 3)) % len(_WORDS)] for i in range(length or 3 + number % 9)]
    tags = ["O"] * len(words)
    for i, word in enumerate(words):  # causal models see of a word no more than its first piece, which may be a letter
        if word in ("good", "bad"):
            tags[i] = "B-per"
        elif word in ("Norway", "card"):
            tags[i] = "B-loc"
        elif word[0] in "baqr" and i and tags[i - 1][2:] == "per":
            tags[i] = "I-per"
    return {"id": f"s{number}", "tokens": words, "label": tags}


EXAMPLES = [sentence(i) for i in range(16)]


def task_of(name: str = "bert", labels: Sequence[str] = TAGS, **arguments: Any) -> TokenClassification:
    made = {"problem": "token_classification", "labels": labels, "max_length": 32, **arguments}
    return TokenClassification(tokenizer_of(name), **made)


def model_of(task: TokenClassification, name: str = "bert") -> Any:
    config = load_config(str(folder_of(name)))
    task.configure(config)
    return load_model(str(folder_of(name)), task.auto_class, config, seed=0).model


def words_only(*words: str, **more: Any) -> dict[str, Any]:
    return {"id": "x", "tokens": list(words), **more}


@pytest.mark.parametrize("name", FAMILIES)
def test_contract_over_every_family(name: str) -> None:
    task = task_of(name, max_length=64)
    check_task(task, model_of(task, name), EXAMPLES)


@pytest.mark.parametrize("arguments", [{"class_weights": {"B-per": 3.0, "O": 0.5}}, {"label_smoothing": 0.1}])
def test_contract_with(arguments: dict[str, Any]) -> None:
    task = task_of(**arguments)
    check_task(task, model_of(task), EXAMPLES)


def loss_of(task: TokenClassification, examples: Sequence[dict[str, Any]]) -> tuple[Any, Batch]:
    model, batch = model_of(task), whole(supervised(task, examples))
    with torch.no_grad():
        return plain_objective(Step(model, task, batch, 0.0)), batch


def test_losses_are_those_of_torch() -> None:
    weights = torch.tensor([3.0, 1.0, 1.0, 0.5])
    loss, batch = loss_of(task_of(class_weights={"B-per": 3.0, "O": 0.5}), EXAMPLES)
    logits = loss.outputs.logits.flatten(0, 1)
    theirs = functional.cross_entropy(logits, batch.targets.flatten(), weight=weights)
    assert float(loss.total / loss.weight) == pytest.approx(float(theirs))
    loss, batch = loss_of(task_of(label_smoothing=0.2), EXAMPLES)
    theirs = functional.cross_entropy(loss.outputs.logits.flatten(0, 1), batch.targets.flatten(), label_smoothing=0.2)
    assert float(loss.total / loss.weight) == pytest.approx(float(theirs))
    assert float(loss.weight) == sum(len(example["tokens"]) for example in EXAMPLES)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "qwen2", "modernbert"])
@pytest.mark.parametrize("text", ["the film is good", "good,bad film (Norway)!"])
def test_words_have_the_pieces_of_their_text(name: str, text: str) -> None:
    """Byte-level tokenizers tell words apart by the space before them, which pre-split words lack."""
    task, places = task_of(name), words(text)
    offsets = [list(place) for place in places]
    (item,) = task.encode([words_only(*(text[begin:end] for begin, end in places), offsets=offsets, whole=text)])
    assert list(item["input_ids"]) == task.tokenizer(text)["input_ids"]
    assert [len(item["places"]), *item["words"]] == [len(places), *range(len(places))]


@pytest.mark.parametrize("name", FAMILIES)
def test_odd_words_have_a_piece_too(name: str) -> None:
    task = task_of(name)
    odd = words_only("film", "\u200b", "", "\ufe0f", "[SEP]", "good", "\u00ad\u200d")
    first, second, nothing = task.encode([odd, words_only("\u200b"), words_only()])
    assert list(first["words"]) == list(range(7)) and list(second["words"]) == [0]
    assert len(set(first["places"])) == 7, "no piece is of two words"
    assert len(nothing["words"]) == 0 and len(nothing["input_ids"]) > 0
    rows = [odd, words_only("\u200b"), words_only()]
    rows = [{**row, "id": f"r{i}", "label": ["O"] * len(row["tokens"])} for i, row in enumerate(rows)]
    data = supervised(task, rows)
    loss = plain_objective(Step(model_of(task, name), task, whole(data), 0.0))
    assert float(loss.weight) == 8
    model = model_of(task, name)
    said = predict(model, data)
    assert [len(one["tags"]) for one in said] == [7, 1, 0]
    empty = task.loss(model(**data.batch(np.array([2])).inputs), data.batch(np.array([2])))
    assert float(empty.weight) == 0 and float(empty.total.detach()) == 0
    empty.total.backward()


@pytest.mark.parametrize(("count", "room", "overlap"), [(1, 1, 0), (9, 9, 2), (10, 9, 2), (37, 9, 2), (100, 9, 8), (7, 2, 0)])
def test_windows_cover_everything(count: int, room: int, overlap: int) -> None:
    cuts = tokenizers.windows(count, room, overlap=overlap)
    assert cuts[0][0] == 0 and cuts[-1][1] == count
    assert all(0 < end - begin <= room for begin, end in cuts)
    assert all(one[1] - other[0] >= overlap for one, other in pairwise(cuts))
    shown = tokenizers.most_context(np.arange(count), cuts)
    assert (np.diff(shown) >= 0).all(), "words of a text stay in order over its windows"
    for place, number in enumerate(shown):
        begin, end = cuts[number]
        context = [min(place - b if b else count, e - 1 - place if e < count else count) for b, e in cuts]
        assert begin <= place < end and context[number] == max(context)


@pytest.mark.parametrize("name", ["bert", "roberta", "xlnet", "gpt2", "llama"])
def test_long_sentences_are_read_in_windows(name: str) -> None:
    """Each word is learned and answered once, in the window that shows most of what stands around it."""
    task = task_of(name, max_length=12)
    rows = [sentence(i, length) for i, length in enumerate([5, 40, 1, 23])]
    data = supervised(task, rows)
    assert data.owners is not None and len(data) > len(rows)
    assert max(data.lengths) <= 12
    for place, row in enumerate(rows):
        own = [data.items[i] for i in np.flatnonzero(data.owners == place)]
        assert [word for item in own for word in item["words"]] == list(range(len(row["tokens"])))
    batch, model = whole(data), model_of(task, name)
    loss = plain_objective(Step(model, task, batch, 0.0))
    assert float(loss.weight) == sum(len(row["tokens"]) for row in rows) == int((batch.targets != -100).sum())
    said = predict(model, data)
    assert [(one["id"], len(one["tags"])) for one in said] == [(row["id"], len(row["tokens"])) for row in rows]
    weighted = whole(replace(data, weights=np.array([1.0, 2.0, 1.0, 0.0])))
    assert float(plain_objective(Step(model, task, weighted, 0.0)).weight) == 5 + 80 + 1


def test_word_longer_than_a_window() -> None:
    task = task_of(max_length=12)
    items = task.encode([words_only("film", "q" * 60, "good")])
    assert [word for item in items for word in item["words"]] == [0, 1, 2]
    assert all(len(item["words"]) for item in items), "the middle of the word is no window"


def said(task: TokenClassification, tags: Sequence[str], **more: Any) -> Prediction:
    """What becomes of these tags of a model, each said with a probability that falls from 0.9."""
    scores = [0.9 - i / 100 for i in range(len(tags))]
    whole = task.combine([Prediction(id="x", tags=list(tags), tag_scores=scores)])
    return task.describe(whole, words_only(*(f"w{i}" for i in range(len(tags))), **more))


def test_illegal_tags_are_repaired_and_spans_read() -> None:
    found = said(task_of(), ["I-per", "I-per", "O", "B-loc", "I-per"])
    assert found["tags"] == ["B-per", "I-per", "O", "B-loc", "B-per"]
    assert found["spans"] == [
        {"type": "per", "start": 0, "end": 5, "text": "w0 w1", "score": pytest.approx(0.895)},
        {"type": "loc", "start": 9, "end": 11, "text": "w3", "score": pytest.approx(0.87)},
        {"type": "per", "start": 12, "end": 14, "text": "w4", "score": pytest.approx(0.86)},
    ]
    assert set(found) == {"id", "tags", "spans", "score"} and found["score"] == pytest.approx(0.88)
    bioes = said(task_of(labels=["O", "B-a", "I-a", "E-a", "S-a"]), ["B-a", "O", "I-a", "E-a", "S-a"])
    assert bioes["tags"] == ["S-a", "O", "B-a", "E-a", "S-a"]
    assert [span["text"] for span in bioes["spans"]] == ["w0", "w2 w3", "w4"]


@pytest.mark.parametrize(
    ("labels", "tags", "texts"),
    [(["O", "per"], ["per", "per", "O", "per"], ["w0 w1", "w3"]), (["NOUN", "VERB"], ["NOUN", "NOUN", "VERB"], [])],
)
def test_tags_in_no_scheme(labels: list[str], tags: list[str], texts: list[str]) -> None:
    """Types without prefixes are entities where there is an O beside them, and classes of words else."""
    found = said(task_of(labels=labels), tags)
    assert found["tags"] == tags and [span["text"] for span in found["spans"]] == texts


def test_spans_stand_in_the_text_that_was_given() -> None:
    text = "w0\tw1,  w2"
    offsets = [[0, 2], [3, 5], [8, 10]]
    found = said(task_of(), ["B-per", "I-per", "B-loc"], offsets=offsets, note="w0 w1 w2", content=text)
    assert [(span["start"], span["end"], span["text"]) for span in found["spans"]] == [(0, 5, "w0\tw1"), (8, 10, "w2")]
    unknown = said(task_of(), ["B-per", "I-per", "I-per"], offsets=offsets, data={"text": text})
    assert unknown["spans"][0]["text"] == "w0 w1   w2", "what stands between words is white space"
    strange = said(task_of(), ["B-per", "I-per", "I-per"], offsets=[[1, 2, 3]])
    assert (strange["spans"][0]["start"], strange["spans"][0]["end"]) == (0, 8)


def tiny(path: Path, count: int = 48) -> Path:
    rows = [sentence(i) for i in range(count)]
    path.write_text("".join(json.dumps({"tokens": row["tokens"], "ner_tags": row["label"]}) + "\n" for row in rows))
    return path


def trained(path: Path, output: Path, name: str = "bert", **more: Any) -> tl.Run:
    train = {"epochs": 1, "learning_rate": 3e-3, "batch_size": 8, "bf16": False, "threads": 1, **more.pop("train", {})}
    evaluate = {"bootstrap_samples": 20}
    return tl.finetune(
        str(path), model=str(folder_of(name)), train=train, evaluate=evaluate, output=str(output), progress=False, **more
    )


@cache
def run_of(base: Path, name: str, epochs: int = 8) -> tl.Run:
    """A run that has learned something, so that there are entities to compare."""
    return trained(tiny(base / f"{name}.jsonl"), base / name, name, train={"epochs": epochs}, data={"max_length": 16})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def plain(run: tl.Run, **options: Any) -> Any:
    with quiet():
        model = transformers.AutoModelForTokenClassification.from_pretrained(run.folder / "model").eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder / "model")
        return transformers.pipeline("token-classification", model=model, tokenizer=tokenizer, **options)


def test_plain_pipeline_finds_the_same_entities(base: Path) -> None:
    run, rows = run_of(base, "bert"), [sentence(i, 4 + i % 9) for i in range(100, 116)]
    pipeline = plain(run, aggregation_strategy="first")
    assert set(pipeline.model.config.id2label.values()) == set(TAGS) and pipeline.tokenizer.model_max_length == 16
    assert run.metrics["test"]["f1"] > 0.3, "there are entities"
    ours = run.predict([{"tokens": row["tokens"]} for row in rows])
    assert sum(len(one["spans"]) for one in ours) > 5
    for row, one in zip(rows, ours, strict=True):
        text = " ".join(row["tokens"])
        for theirs in (pipeline(text), pipeline(row["tokens"], is_split_into_words=True)[0]):
            places = [(found["entity_group"], found["start"], found["end"]) for found in theirs]
            assert [(span["type"], span["start"], span["end"]) for span in one["spans"]] == places
            assert [span["score"] for span in one["spans"]] == pytest.approx([found["score"] for found in theirs], abs=1e-4)
        assert all(text[span["start"] : span["end"]] == span["text"] for span in one["spans"])


def test_plain_pipeline_says_the_same_of_first_pieces(base: Path) -> None:
    """Of a byte-level tokenizer a pipeline only guesses what a word is, so that pieces are compared, of the text as it is."""
    run, rows = run_of(base, "roberta", 3), [sentence(i, 1 + i % 3) for i in range(100, 116)]
    pipeline = plain(run, ignore_labels=[])
    ours = run.predict([{"tokens": row["tokens"]} for row in rows])
    for row, one in zip(rows, ours, strict=True):
        theirs = {found["index"]: found["entity"] for found in pipeline(" ".join(row["tokens"]))}
        (item,) = run.model.task.encode([row])
        assert one["tags"] == repair([theirs[place] for place in item["places"].tolist()])


def test_metrics_of_each_type(base: Path) -> None:
    run = run_of(base, "bert")
    test = run.metrics["test"]
    assert run.recipe.task.name == "token-classification"
    assert set(test["types"]) == {"per", "loc"}
    assert set(test["types"]["per"]) == {"precision", "recall", "f1", "support"}
    assert {"precision", "recall", "f1", "token_accuracy", "f1_ci95"} <= set(test)
    assert 0 < test["baseline"]["majority"]["f1"] <= 1
    section = tl.load_run(run.folder).evaluate(str(base / "bert.jsonl")).section
    assert section["n"] == 48 and section["baseline"]["majority"]["token_accuracy"] > 0


@pytest.mark.parametrize("form", ["txt", "jsonl", "stdin", "tokens"])
def test_texts_are_answered_in_their_own_places(
    base: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    run = run_of(base, "bert")
    texts = ["Is (Norway) good?\t the film, bad-fine", "", "  film " + "good refund , " * 20]
    file = tmp_path / f"new.{form}"
    if form == "tokens":
        file = tmp_path / "new.jsonl"
    if form in ("txt", "stdin"):
        file.write_text("".join(text + "\n" for text in texts))
    else:
        rows = [{"tokens": text.split()} if form == "tokens" else {"content": text, "n": 1} for text in texts]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if form == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert main(["predict", str(run.folder), "-" if form == "stdin" else str(file)]) == 0
    found = [json.loads(line) for line in capfdbinary.readouterr().out.decode().splitlines()]
    texts = [" ".join(text.split()) for text in texts] if form == "tokens" else texts
    assert len(found) == 3 and found[1]["tags"] == [] and found[1]["spans"] == []
    assert found[0]["spans"] and found[2]["spans"]
    for text, one in zip(texts, found, strict=True):
        assert all(text[span["start"] : span["end"]] == span["text"] for span in one["spans"])


def test_predictions_as_csv_come_back(base: Path, tmp_path: Path) -> None:
    from thawline.evaluate.output import read_predictions, write_predictions

    found = run_of(base, "bert").predict([{"tokens": ["the", "film"]}, {"tokens": ["good"]}])
    write_predictions(found, tmp_path / "p.csv")
    assert list(read_predictions(tmp_path / "p.csv")) == found


@pytest.mark.parametrize("strategy", ["head", "freeze(0.5)", "layerwise(full, decay=0.9)", "gradual(full)"])
def test_strategies_with_and_without_the_store(strategy: str, tmp_path: Path) -> None:
    path = tiny(tmp_path / "words.jsonl", 40)
    runs = [
        trained(path, tmp_path / str(kept), strategy=strategy, store={"features": kept}, data={"max_length": 10})
        for kept in (True, False)
    ]
    one, other = (run.metrics["test"] for run in runs)
    assert one == other
    stored = [stored_of(run) for run in runs]
    assert stored[1] == [] and bool(stored[0]) == (strategy != "layerwise(full, decay=0.9)")
    weights = [(run.folder / "model" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


def test_windows_are_told_and_planned(tmp_path: Path) -> None:
    notes: list[str] = []
    path = tiny(tmp_path / "words.jsonl", 40)
    settings: dict[str, Any] = {"model": str(folder_of("bert")), "data": {"max_length": 8}, "train": {"threads": 1}}
    found = tl.plan(str(path), say=notes.append, strategy="head", **settings)
    assert found["examples"] == {"train": 28, "validation": 4, "test": 8}, "not their windows"
    assert any("sentences in train have more than 8 tokens and are read in" in note for note in notes)
    table = tl.features(str(folder_of("bert")), str(path), say=notes.append, progress=False, data={"max_length": 32})
    assert table.num_rows == 40


def test_class_weights_are_those_of_words(tmp_path: Path) -> None:
    path = tiny(tmp_path / "words.jsonl", 30)
    run = trained(path, tmp_path / "run", train={"class_weights": {"B-per": 2.0}, "max_steps": 1, "epochs": 3})
    assert run.recipe.train.class_weights == {"B-per": 2.0}
    with pytest.raises(DataError, match="did you mean 'B-per'"):
        trained(path, tmp_path / "no", train={"class_weights": {"B-pre": 2.0}})


def test_everything_is_read_off_the_data(shared: Path, tmp_path: Path) -> None:
    found = load(str(shared / "data" / "wnut17"), cache=tmp_path)
    columns = found.columns
    assert (columns.kind, columns.target, columns.problem) == ("tokens", "tags", "token_classification")
    assert len(columns.labels) == 13 and {split: len(rows) for split, rows in found.splits.items()} == {
        "train": 3394,
        "validation": 1009,
        "test": 1287,
    }
    texts = [finding.text for finding in found.findings]
    assert "the tags are BIO" in texts
    assert any("62730 words, 1975 entities: person 660, location 548" in text for text in texts)
    assert not any(finding.level == "stop" for finding in found.findings)


def two_columns(path: Path) -> Path:
    rows = [
        {"tokens": ["In", "Oslo", f"x{i}"], "ner_tags": ["O", "B-loc", "O"], "upos": ["P", "N", "X"], "by": "a"}
        for i in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_user_says_which_columns(tmp_path: Path) -> None:
    path = two_columns(tmp_path / "two.jsonl")
    own = load(str(path), Options(label="upos"), cache=tmp_path).columns
    assert own.labels == ("N", "P", "X") and dict(own.before) == {"label": "upos"}
    usual = load(str(path), cache=tmp_path).columns
    assert usual.labels == ("B-loc", "O") and not usual.before
    run = trained(path, tmp_path / "run", data={"label": "upos"}, train={"max_steps": 1, "epochs": 3})
    assert run.recipe.data.label == "upos"
    assert set(run.evaluate(str(path)).section["types"]) == {"N", "P", "X"}, "other data is read by the same column"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"data": {"label": "upso"}}, "did you mean 'upos'"),
        ({"data": {"label": "by"}}, "holds string; expected a list of tags"),
        ({"data": {"max_length": 2}}, "leaves no room for words"),
        ({"data": {"augment": ["flip"]}}, "has no augmentation"),
    ],
)
def test_mistakes_have_their_sentence(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        trained(two_columns(tmp_path / "two.jsonl"), tmp_path / "run", **settings)


def test_words_without_tags_are_told(tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text("".join(json.dumps({"tokens": ["a", str(i)], "source": "xy"[i % 2]}) + "\n" for i in range(20)))
    with pytest.raises(DataError, match="No row of train has a label"):
        trained(path, tmp_path / "run")
    path.write_text("".join(json.dumps({"tokens": ["a", str(i)], "tags": ["O", "O"]}) + "\n" for i in range(20)))
    with pytest.raises(DataError, match="All words of train have the tag 'O'"):
        trained(path, tmp_path / "run")


def test_labels_that_only_a_test_split_has(tmp_path: Path) -> None:
    """They are counted by sentence, not by word."""
    rows = [{"tokens": ["a", "b", str(i)], "tags": ["O", "B-x", "O"]} for i in range(20)]
    new = [{"tokens": ["a", "b", "c", f"t{i}"], "tags": ["B-y", "I-y", "I-y", "O"]} for i in range(1)]
    for name, part in (("train", rows), ("test", rows[:19] + new)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    found = load(str(tmp_path), cache=tmp_path / "cache").findings
    text = next(finding.text for finding in found if finding.name == "unseen_label")
    assert text.startswith("1 of 20 examples in test have labels that train does not have ('B-y', 'I-y')")


def test_tokenizer_without_words_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"tokenizer \(Slow\) has no fast version"):
        TokenClassification.fit(Slow(), None, Fitting())


def test_unknown_tag_of_other_data(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"tokens": ["good"], "ner_tags": ["B-org"]}) + "\n")
    with pytest.raises(DataError, match=r"does not know these labels of the data: 'B-org' \(first in example \S+\)"):
        run_of(base, "bert").evaluate(str(path))
