"""The model in a run's folder is an ordinary one: plain transformers gives the same labels, order and scores."""

import csv
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save

import thawline as tl
from families import FAMILIES, LABELS, SENTENCES, folder_of
from thawline.errors import ModelError, RunError
from thawline.run.folder import RunFolder
from thawline.run.predictor import SavedModel
from thawline.types import Prediction

TEXTS = [f"{word} {SENTENCES[i % 5][: 9 + 7 * (i % 9)]} {i}" for i, word in enumerate(["awful", "fine", "lovely"] * 12)]
NEW = ["lovely", "a dull and noisy mess that nobody needed", "Norway?", SENTENCES[0]]
COLUMNS: dict[str, Callable[[int], dict[str, Any]]] = {
    "single": lambda i: {"label": LABELS[i % 3]},
    "pair": lambda i: {"other": SENTENCES[(i + 2) % 5][: 5 + i], "label": LABELS[i % 3]},
    "several": lambda i: {"bad": int(i % 2 == 0), "fine": int(i % 3 == 0), "good": int(i % 3 == 1)},
    "numbers": lambda i: {"score": f"{500 + 7.5 * i:.1f}"},
}
SAID = {"several": {"label": ["bad", "fine", "good"]}, "numbers": {"label": "score"}, "pair": {"text": ["text", "other"]}}
Trained = Callable[[str, str], tl.Run]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A family fine-tuned for three steps on one kind of data, once a module."""

    @cache
    def train(name: str, kind: str = "single") -> tl.Run:
        home = tmp_path_factory.mktemp(f"{name}-{kind}")
        rows = [{"text": text, **COLUMNS[kind](i)} for i, text in enumerate(TEXTS)]
        with (home / "data.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return tl.finetune(
            home / "data.csv",
            model=str(folder_of(name)),
            **SAID.get(kind, {}),
            train={"max_steps": 3, "batch_size": 8, "lr": 5e-3, "bf16": False, "device": "cpu"},
            evaluate={"baselines": False, "bootstrap_samples": 10},
            output=str(home / "run"),
            say=lambda text: None,
            progress=False,
        )

    return train


def plain(run: tl.Run) -> tuple[Any, Any]:
    """The saved model and tokenizer, as someone without Thawline loads them."""
    folder = run.folder / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def scores(predictions: list[Prediction]) -> torch.Tensor:
    return torch.tensor([list(p["scores"].values()) if "scores" in p else [p["value"]] for p in predictions])


@pytest.mark.parametrize("name", FAMILIES)
def test_pipeline_gives_the_same(trained: Trained, name: str) -> None:
    run = trained(name, "single")
    model, tokenizer = plain(run)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {label: i for i, label in enumerate(LABELS)}
    assert model.config.problem_type == "single_label_classification"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    ours = run.predict(NEW)
    for prediction, answer in zip(ours, pipeline(NEW, top_k=None), strict=True):
        theirs = {entry["label"]: entry["score"] for entry in answer}
        assert list(prediction["scores"]) == list(LABELS)
        assert prediction["scores"] == pytest.approx(theirs, abs=1e-5)
        assert prediction["label"] == answer[0]["label"] and prediction["score"] == pytest.approx(answer[0]["score"], abs=1e-5)
    batched = pipeline(NEW, top_k=None, batch_size=4)  # needs the pad token
    assert [answer[0]["label"] for answer in batched] == [prediction["label"] for prediction in ours]


@pytest.mark.parametrize("name", FAMILIES)
def test_same_batch_same_bits(trained: Trained, name: str) -> None:
    run = trained(name, "single")
    model, tokenizer = plain(run)
    saved = run.model
    batch = saved.task.collate(saved.task.encode([{"id": str(i), "text": text} for i, text in enumerate(NEW)]))
    theirs = tokenizer(NEW, padding=True, truncation=True, return_tensors="pt")
    assert set(theirs) == set(batch.inputs)
    assert all(torch.equal(batch.inputs[key], theirs[key]) for key in theirs)
    with torch.no_grad():
        assert torch.equal(model(**theirs).logits, saved.model(**batch.inputs).logits)


@pytest.mark.parametrize("name", FAMILIES)
def test_alone_or_among_others_the_answer_is_the_same(trained: Trained, name: str) -> None:
    run, new = trained(name, "single"), [*NEW, " ".join(SENTENCES * 3), "é 你好 \U0001f600"]
    together = run.predict([*new, *TEXTS])
    alone = [run.predict([text])[0] for text in new]
    assert torch.allclose(scores(together[: len(new)]), scores(alone), atol=1e-5, rtol=0)
    again = run.predict([*reversed(TEXTS), *reversed(new)])
    assert torch.allclose(scores(together), scores(again[::-1]), atol=1e-5, rtol=0)
    assert [p["id"] for p in together] == [p["id"] for p in again[::-1]]


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_pad_token_is_in_the_saved_folder(trained: Trained, name: str) -> None:
    model, tokenizer = plain(trained(name, "single"))
    assert tokenizer.pad_token is not None
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert len(model.get_input_embeddings().weight) == len(tokenizer), "no row was added for it"


@pytest.mark.parametrize("name", FAMILIES)
def test_folder_holds_no_pickle(trained: Trained, name: str) -> None:
    run = trained(name, "single")
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".yaml", ".safetensors", ".txt", ".md", ".html", ".model"}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {path.name for path in files}
    heads = [path.read_bytes()[:4] for path in files if path.suffix != ".safetensors"]
    assert not any(head[:2] in (b"\x80\x02", b"\x80\x04", b"PK") for head in heads)


def test_pairs(trained: Trained) -> None:
    run = trained("bert", "pair")
    model, tokenizer = plain(run)
    pairs = [("lovely", SENTENCES[1]), (SENTENCES[2], "awful")]
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    ours = run.predict(pairs)
    for prediction, (text, pair) in zip(ours, pairs, strict=True):
        answer = pipeline({"text": text, "text_pair": pair}, top_k=None)
        assert prediction["scores"] == pytest.approx({entry["label"]: entry["score"] for entry in answer}, abs=1e-5)
    assert run.predict([pair[::-1] for pair in pairs])[0]["scores"] != pytest.approx(ours[0]["scores"], abs=1e-7)


def test_several_labels(trained: Trained) -> None:
    run = trained("bert", "several")
    model, tokenizer = plain(run)
    assert model.config.problem_type == "multi_label_classification"
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    for prediction, answer in zip(run.predict(NEW), pipeline(NEW, top_k=None), strict=True):
        assert list(prediction["scores"]) == ["bad", "fine", "good"]
        assert prediction["scores"] == pytest.approx({entry["label"]: entry["score"] for entry in answer}, abs=1e-5)
        assert prediction["labels"] == [name for name, score in prediction["scores"].items() if score >= 0.5]


@pytest.mark.parametrize("name", ["bert", "gpt2", "xlnet"])
def test_numbers_come_in_the_unit_of_the_user(trained: Trained, name: str) -> None:
    run = trained(name, "numbers")
    model, tokenizer = plain(run)
    assert model.config.problem_type == "regression" and model.config.num_labels == 1
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, function_to_apply="none")
    ours = [prediction["value"] for prediction in run.predict(NEW)]
    assert ours == pytest.approx([answer["score"] for answer in pipeline(NEW)], rel=1e-5)
    assert all(300 < value < 1000 for value in ours), "the numbers learned from are between 500 and 770"


def test_metrics_are_those_of_the_saved_model(trained: Trained) -> None:
    run = trained("bert", "single")
    rows = [json.loads(line) for line in (run.folder / "predictions" / "test.jsonl").read_text("utf-8").splitlines()]
    texts = dict(zip((p["id"] for p in run.predict(TEXTS)), TEXTS, strict=True))
    right = sum(row["label"] == LABELS[TEXTS.index(texts[row["id"]]) % 3] for row in rows)
    assert run.metrics["test"]["n"] == len(rows) and run.metrics["test"]["accuracy"] == pytest.approx(right / len(rows))


def test_run_can_be_loaded_from_its_folder(trained: Trained, tmp_path: Path) -> None:
    run = trained("bert", "single")
    again = tl.load_run(run.folder)
    assert again.predict(NEW) == run.predict(NEW)


def test_batches_side_by_side_answer_as_one_after_the_other(trained: Trained) -> None:
    run, rows = trained("bert"), [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    before, found = torch.get_num_threads(), list[list[Prediction]]()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        saved = SavedModel(RunFolder(run.folder))
        saved.batch_size = 4
        found.append(saved(rows))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert found[0] == found[1]


CODE = """
from transformers import BertConfig, BertForSequenceClassification
class MineConfig(BertConfig):
    model_type = "mine"
class MineModel(BertForSequenceClassification):
    config_class = MineConfig
    def forward(self, *given, **more):
        found = super().forward(*given, **more)
        found.logits = 3 * found.logits
        return found
"""


def test_a_model_with_code_of_its_own_is_measured_and_answers_by_that_code(tmp_path: Path) -> None:
    shutil.copytree(folder_of("bert"), mine := tmp_path / "mine")
    config = json.loads((mine / "config.json").read_text())
    classes = {"AutoConfig": "modeling_mine.MineConfig", "AutoModelForSequenceClassification": "modeling_mine.MineModel"}
    (mine / "config.json").write_text(json.dumps({**config, "model_type": "mine", "auto_map": classes}))
    (mine / "modeling_mine.py").write_text(CODE)
    rows = {"text": TEXTS, "label": [LABELS[i % 3] for i in range(len(TEXTS))]}
    plain: dict[str, Any] = {"say": lambda text: None, "progress": False, "max_steps": 2, "bf16": False}
    with pytest.raises(ModelError, match=r"model\.trust_remote_code=true"):
        tl.finetune(rows, model=str(mine), output=str(tmp_path / "refused"), **plain)
    trusted = {"name": str(mine), "trust_remote_code": True}
    run = tl.finetune(rows, model=trusted, output=str(tmp_path / "run"), **plain)
    assert type(run.model.model).__name__ == "MineModel" and len(run.predict(NEW)) == len(NEW)
    (run.folder / "model" / "model.safetensors").write_bytes(_without_head(run.folder / "model" / "model.safetensors"))
    with pytest.raises(RunError, match=r"lacks 2 of the model's weights, classifier\.bias among them"):
        SavedModel(RunFolder(run.folder))


def _without_head(path: Path) -> bytes:
    kept = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier")}
    return save(kept, metadata={"format": "pt"})
