"""The peer: the transformers Trainer at its default, or at its best documented setting (bf16, group_by_length).

On a processor without bfloat16 (avx2), where bf16 is many times slower, its best is group_by_length alone.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from thawline.memory import PeakMemory, has_bf16

BEST = {"bf16": has_bf16(), "use_cpu": True, "train_sampling_strategy": "group_by_length"}
FROZEN = {
    "full": [],
    "head": ["bert.embeddings", "bert.encoder"],
    "freeze(4)": ["bert.embeddings", *(f"bert.encoder.layer.{layer}." for layer in range(3))],
}
"""What a strategy of the same name freezes, by the names of a BERT."""


def trainer_of(run: dict[str, Any], model: str, folder: Path) -> tuple[Any, Any]:
    """Return a Trainer that is ready to train, and its data, encoded."""
    import datasets
    import torch
    import transformers

    files = {split: str(folder / f"{split}.csv") for split in ("train", "test")}
    data = datasets.load_dataset("csv", data_files=files, cache_dir=tempfile.mkdtemp())
    labels = sorted(set(data["train"]["label"]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)

    def encode(rows: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(rows["text"], truncation=True), "labels": [labels.index(label) for label in rows["label"]]}

    data = data.map(encode, batched=True, remove_columns=data["train"].column_names)
    torch.manual_seed(run["seed"])
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=len(labels), dtype=torch.float32
    )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(FROZEN[run.get("strategy", "full")])))
    arguments = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=run.get("epochs", 1),
        max_steps=run.get("max_steps", -1),
        per_device_train_batch_size=run["batch_size"],
        learning_rate=run["learning_rate"],
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=run["seed"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **(BEST if run["tool"] == "trainer-best" else {}),
    )
    return transformers.Trainer(model=network, args=arguments, train_dataset=data["train"], processing_class=tokenizer), data


def trainer(run: dict[str, Any], model: str, folder: Path) -> dict[str, Any]:
    """Train, and test the last model."""
    from sklearn.metrics import accuracy_score, f1_score

    peer, data = trainer_of(run, model, folder)
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


def first_step_seconds(run: dict[str, Any], model: str, folder: Path) -> dict[str, Any]:
    """Return the seconds from the start of this process to the end of the first step."""
    import psutil
    import transformers

    found: dict[str, Any] = {}

    class FirstStep(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            found["seconds"] = time.time() - psutil.Process().create_time()
            control.should_training_stop = True

    peer, _ = trainer_of(run, model, folder)
    peer.add_callback(FirstStep())
    peer.train()
    return found
