"""The peers of tasks with recordings: Whisper fine-tuned with the Trainer, in its whole window of 30 s.

As transformers' guides to fine-tuning Whisper and to audio classification have it. Transcripts are compared in the form that
`thawline.evaluate.scores.transcripts` states, the same for both tools.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RATE = 16000
Row = dict[str, Any]


class Fitted(NamedTuple):
    """A model, how rows become a batch of it, and what measures it."""

    model: Any
    collate: Callable[[list[Row]], dict[str, Any]]
    measure: Callable[[Any], dict[str, float]]


def rows_of(data: Path, split: str) -> list[Row]:
    """Return the rows of a split, with samples at the rate of the model."""
    from thawline.data.sounds import sound

    with (data / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "samples": sound(data / row["path"], RATE)} for row in csv.DictReader(file)]


def of_transcripts(true: list[str], said: list[str]) -> dict[str, float]:
    """Return the error rates of transcripts."""
    from thawline.evaluate.metrics import METRICS

    found = METRICS["speech_recognition"](true, said)
    return {**found, "word_accuracy": 1 - found["wer"]}


def of_labels(true: list[str], said: list[str]) -> dict[str, float]:
    """Return what scikit-learn says of labels."""
    from sklearn.metrics import accuracy_score, f1_score

    return {"accuracy": float(accuracy_score(true, said)), "f1_macro": float(f1_score(true, said, average="macro"))}


def transcripts_of_run(run: Path, data: Path) -> dict[str, float]:
    """Return the error rates of what a run wrote down, and of what the model wrote before it was trained."""
    lines = (run / "predictions" / "test.jsonl").read_text("utf-8").splitlines()
    said = [json.loads(line)["text"] for line in lines]
    before = json.loads((run / "metrics.json").read_text("utf-8"))["test"].get("baseline", {}).get("before", {})
    known = {f"before_{name}": before[name] for name in ("wer", "cer") if name in before}
    return of_transcripts(_column(data, "text"), said) | known


def labels_of_run(run: Path, data: Path) -> dict[str, float]:
    """Return what scikit-learn says of the labels that a run predicted."""
    lines = (run / "predictions" / "test.jsonl").read_text("utf-8").splitlines()
    return of_labels(_column(data, "label"), [json.loads(line)["label"] for line in lines])


def _column(data: Path, name: str) -> list[str]:
    with (data / "test.csv").open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def speech_recognition(run: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Transcripts, learned and written down by the whole model; answers are greedy, of at most 80 tokens."""
    return _trained(run, data, _writer)


def audio_classification(run: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Labels, learned by the encoder under a new head."""
    return _trained(run, data, _classifier)


def _trained(run: Mapping[str, Any], data: Path, fitted: Callable[[str, dict[str, list[Row]]], Fitted]) -> dict[str, Any]:
    """Train, and measure the last model in float32."""
    import torch
    import transformers
    from peer_tasks import arguments_of, trained

    rows = {split: rows_of(data, split) for split in ("train", "test")}
    torch.manual_seed(run["seed"])
    made = fitted(run["model"], rows)
    with tempfile.TemporaryDirectory() as folder:
        arguments = arguments_of(run, folder)
        arguments.remove_unused_columns = False  # which would take the samples
        arguments.train_sampling_strategy = "random"  # all inputs have one length
        peer = transformers.Trainer(model=made.model, args=arguments, train_dataset=rows["train"], data_collator=made.collate)
        positions = made.model.config.max_source_positions
        cost = trained(peer, run, examples=len(rows["train"]), tokens=positions * len(rows["train"]))
    with torch.inference_mode():
        return made.measure(made.model.float().eval()) | cost


def _writer(model: str, rows: dict[str, list[Row]]) -> Fitted:
    import transformers

    processor = transformers.WhisperProcessor.from_pretrained(model)
    network = transformers.WhisperForConditionalGeneration.from_pretrained(model)
    network.generation_config.forced_decoder_ids = None

    def collate(some: list[Row]) -> dict[str, Any]:
        batch = processor.feature_extractor([row["samples"] for row in some], sampling_rate=RATE, return_tensors="pt")
        labels = processor.tokenizer([row["text"] for row in some], padding=True, return_tensors="pt")
        ids = labels.input_ids.masked_fill(labels.attention_mask.ne(1), -100)
        return {"input_features": batch.input_features, "labels": ids[:, 1:]}  # the model puts the first one in front

    def measure(trained: Any) -> dict[str, float]:
        said = []
        for row in rows["test"]:
            inputs = processor.feature_extractor(row["samples"], sampling_rate=RATE, return_tensors="pt").input_features
            said += processor.batch_decode(trained.generate(inputs, num_beams=1, max_new_tokens=80), skip_special_tokens=True)
        return of_transcripts([row["text"] for row in rows["test"]], said)

    return Fitted(network, collate, measure)


def _classifier(model: str, rows: dict[str, list[Row]]) -> Fitted:
    import torch
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(model)
    labels = sorted({row["label"] for row in rows["train"]})
    network = transformers.WhisperForAudioClassification.from_pretrained(model, num_labels=len(labels))

    def collate(some: list[Row]) -> dict[str, Any]:
        batch = extractor([row["samples"] for row in some], sampling_rate=RATE, return_tensors="pt")
        return {"input_features": batch.input_features, "labels": torch.tensor([labels.index(row["label"]) for row in some])}

    def measure(trained: Any) -> dict[str, float]:
        answers = [trained(collate([row])["input_features"]).logits.argmax() for row in rows["test"]]
        return of_labels([row["label"] for row in rows["test"]], list(np.array(labels)[answers]))

    return Fitted(network, collate, measure)
