"""Recordings: the transformers Trainer beside Thawline, in Whisper's whole window and in the one that the data needs.

usage: peer_speech.py '{"tool": "thawline" | "trainer-best", "data": "an4" | "fsdd", "seed": 0, "learning_rate": 5e-5,
"epochs": 5, "batch_size": 16, "strategy": "full"}' RESULT.json; the model's folder is in $THAWLINE_WHISPER. A run may have
`options` for `task.options` of Thawline.
an4 is written down (an answer is greedy, as long as it may be in the trained model), fsdd classified; the last model is tested.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from one_run import facts
from results import SHARED

from thawline.memory import PeakMemory

RATE = 16000
BEST = {"bf16": True, "use_cpu": True}  # all inputs have one length


def rows_of(data: Path, split: str) -> list[dict[str, Any]]:
    """Return the rows of a split, with samples at the rate of the model."""
    from thawline.data.sounds import sound

    with (data / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "samples": sound(data / row["path"], RATE)} for row in csv.DictReader(file)]


def trainer(run: dict[str, Any], model: str, data: Path) -> dict[str, Any]:
    """Train with the Trainer in the whole window, and measure the last model."""
    import torch
    import transformers

    rows = {split: rows_of(data, split) for split in ("train", "test")}
    torch.manual_seed(run["seed"])
    network, peer_class, collate, measured = (_speech if run["data"] == "an4" else _classes)(model, rows)
    arguments = transformers.Seq2SeqTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=run["epochs"],
        per_device_train_batch_size=run["batch_size"],
        learning_rate=run["learning_rate"],
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=run["seed"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
        **BEST,
    )
    peer = peer_class(model=network, args=arguments, train_dataset=rows["train"], data_collator=collate)
    start = time.monotonic()
    with PeakMemory() as memory:
        peer.train()
    seconds = time.monotonic() - start
    with torch.inference_mode():
        found = measured(network.float().eval())
    kept = {"seconds": seconds, "examples_per_second": len(rows["train"]) * run["epochs"] / seconds}
    return found | kept | {"peak_memory_mb": memory.peak_mb}


def _speech(model: str, rows: dict[str, list[dict[str, Any]]]) -> tuple[Any, Any, Any, Any]:
    """Return model, trainer, collation and measuring for transcripts, as the guide to fine-tuning Whisper has them."""
    import transformers

    from thawline.evaluate.metrics import METRICS

    processor = transformers.WhisperProcessor.from_pretrained(model)
    network = transformers.WhisperForConditionalGeneration.from_pretrained(model)
    network.generation_config.forced_decoder_ids = None

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        batch = processor.feature_extractor([row["samples"] for row in some], sampling_rate=RATE, return_tensors="pt")
        labels = processor.tokenizer([row["text"] for row in some], padding=True, return_tensors="pt")
        ids = labels.input_ids.masked_fill(labels.attention_mask.ne(1), -100)
        return {"input_features": batch.input_features, "labels": ids[:, 1:]}

    def measured(trained: Any) -> dict[str, float]:
        said = []
        for row in rows["test"]:
            inputs = processor.feature_extractor(row["samples"], sampling_rate=RATE, return_tensors="pt").input_features
            tokens = trained.generate(inputs, num_beams=1, max_new_tokens=80)
            said += processor.batch_decode(tokens, skip_special_tokens=True)
        return METRICS["speech_recognition"]([row["text"] for row in rows["test"]], said)

    return network, transformers.Seq2SeqTrainer, collate, measured


def _classes(model: str, rows: dict[str, list[dict[str, Any]]]) -> tuple[Any, Any, Any, Any]:
    """Return the same for labels."""
    import torch
    import transformers

    from thawline.evaluate.metrics import METRICS

    extractor = transformers.AutoFeatureExtractor.from_pretrained(model)
    labels = sorted({row["label"] for row in rows["train"]})
    network = transformers.WhisperForAudioClassification.from_pretrained(model, num_labels=len(labels))

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        batch = extractor([row["samples"] for row in some], sampling_rate=RATE, return_tensors="pt")
        found = torch.tensor([labels.index(row["label"]) for row in some])
        return {"input_features": batch.input_features, "labels": found}

    def measured(trained: Any) -> dict[str, float]:
        import numpy as np

        answers = [int(trained(collate([row])["input_features"]).logits.argmax()) for row in rows["test"]]
        true = np.array([labels.index(row["label"]) for row in rows["test"]])
        return METRICS["single_label_classification"](true, np.array(answers))

    return network, transformers.Trainer, collate, measured


def thawline(run: dict[str, Any], model: str, data: Path) -> dict[str, Any]:
    """Train with Thawline, and take what it says of the last model."""
    import thawline as tl

    with tempfile.TemporaryDirectory() as output:
        done = tl.finetune(
            str(data),
            task={"options": run.get("options", {})},
            model=model,
            strategy=run.get("strategy", "full"),
            data={"validation_size": 0},
            train={
                "num_train_epochs": run["epochs"],
                "batch_size": run["batch_size"],
                "learning_rate": run["learning_rate"],
                "seed": run["seed"],
                "eval_strategy": "no",
                "load_best_model_at_end": False,
            },
            evaluate={"bootstrap_samples": 20, "baselines": run["data"] == "an4"},
            output={"dir": f"{output}/run"},
            progress=False,
        )
    test, train = done.metrics["test"], done.metrics["train"]
    found = {key: test[key] for key in ("accuracy", "f1_macro", "wer", "cer") if key in test}
    if "baseline" in test:
        found |= {f"before_{key}": test["baseline"]["before"][key] for key in ("wer", "cer")}
    return found | {key: train[key] for key in ("seconds", "examples_per_second", "peak_memory_mb")}


def main(run: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run and return what came of it, beside what it began with."""
    known = facts()
    tool = thawline if run["tool"] == "thawline" else trainer
    return known | tool(run, os.environ["THAWLINE_WHISPER"], SHARED / "data" / run["data"])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))))
