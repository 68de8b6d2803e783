"""Instruction tuning: the transformers Trainer beside Thawline, with the same tokens, of which the answers alone are learned.

usage: peer_generation.py '{"tool": "thawline" | "trainer-best", "seed": 0, "learning_rate": 5e-5, "epochs": 3, "batch_size": 8,
"max_length": 384, "strategy": "full"}' RESULT.json; the model's folder is in $THAWLINE_SMOLLM2.
The first 200 rows of instruct/alpaca_en_demo.jsonl are learned, the next 100 measured. Answers of all tools are measured alike:
the mean loss of a token in float32, its exponential, and the same of the model before training.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from one_run import facts
from peer import BEST
from results import SHARED

from thawline.memory import PeakMemory

ROWS = {"train": slice(0, 200), "test": slice(200, 300)}


def data_of(folder: Path) -> Path:
    """Write both sets as JSON lines into a folder, and return it."""
    lines = (SHARED / "data" / "instruct" / "alpaca_en_demo.jsonl").read_text("utf-8").splitlines(keepends=True)
    for name, rows in ROWS.items():
        (folder / f"{name}.jsonl").write_text("".join(lines[rows]), "utf-8")
    return folder


def encoded(path: Path, tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Return what the Trainer takes: token ids and labels, -100 for all that is no answer."""
    from pyarrow import json as arrow

    from thawline.data.conversations import conversations
    from thawline.models.chat import encode_conversation, truncate

    made = conversations(arrow.read_json(path))
    assert made is not None, "these are no conversations"
    found = []
    for messages in made[0]["messages"].to_pylist():
        ids, learned = truncate(encode_conversation(tokenizer, messages), max_length)
        labels = [token if known else -100 for token, known in zip(ids, learned, strict=True)]
        found.append({"input_ids": ids, "labels": labels})
    return found


def answer_loss(model: Any, rows: list[dict[str, list[int]]]) -> float:
    """Return the mean loss of a token of the answers, one conversation after the other, in float32."""
    import torch

    total = count = 0.0
    for row in rows:
        with torch.inference_mode():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].float()
        labels = torch.tensor(row["labels"])[1:]
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        count += int((labels >= 0).sum())
    return total / count


def trainer(run: dict[str, Any], model: str, folder: Path) -> dict[str, Any]:
    """Train with the Trainer, and measure the last model."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    rows = {name: encoded(folder / f"{name}.jsonl", tokenizer, run["max_length"]) for name in ROWS}
    torch.manual_seed(run["seed"])
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    before = answer_loss(network, rows["test"])
    network.train()
    if run.get("strategy", "full").startswith("lora"):
        import peft

        # The layers and the scale that Thawline's lora(r=16) has; peft's own are fewer layers and a quarter of the scale.
        same = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
        network = peft.get_peft_model(network, peft.LoraConfig(**same, task_type="CAUSAL_LM"))
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
        **(BEST if run["tool"] == "trainer-best" else {}),
    )
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, padding=True)
    peer = transformers.Trainer(model=network, args=arguments, train_dataset=rows["train"], data_collator=collator)
    start = time.monotonic()
    with PeakMemory() as memory:
        peer.train()
    seconds, tokens = time.monotonic() - start, sum(len(row["input_ids"]) for row in rows["train"]) * run["epochs"]
    return measured(answer_loss(network.float(), rows["test"]), before) | {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_mb": memory.peak_mb,
    }


def thawline(run: dict[str, Any], model: str, folder: Path) -> dict[str, Any]:
    """Train with Thawline, and take what it says of the last model."""
    import thawline as tl

    with tempfile.TemporaryDirectory() as output:
        done = tl.finetune(
            str(folder),
            task={"name": "text-generation", "options": {"generate": 0, **run.get("options", {})}},
            model=model,
            strategy=run.get("strategy", "full"),
            data={"validation_size": 0, "max_length": run["max_length"]},
            train={
                "num_train_epochs": run["epochs"],
                "per_device_train_batch_size": run["batch_size"] // 2,  # the same step in half of the memory
                "gradient_accumulation_steps": 2,
                "learning_rate": run["learning_rate"],
                "seed": run["seed"],
                "train_sampling_strategy": "group_by_length",
                "eval_strategy": "no",
                "load_best_model_at_end": False,
            },
            evaluate={"bootstrap_samples": 20},
            output={"dir": f"{output}/run"},
            progress=False,
        )
        test, train = done.metrics["test"], done.metrics["train"]  # read from the folder
    kept = {key: train[key] for key in ("seconds", "tokens_per_second", "peak_memory_mb")}
    return measured(test["loss"], test["baseline"]["before"]["loss"]) | kept


def measured(loss: float, before: float) -> dict[str, float]:
    """Return losses with their perplexities."""
    found = {"loss": loss, "perplexity": math.exp(loss)}
    return found | {"before_loss": before, "before_perplexity": math.exp(before)}


def main(run: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run and return what came of it, beside what it began with."""
    known = facts()
    with tempfile.TemporaryDirectory() as folder:
        tool = thawline if run["tool"] == "thawline" else trainer
        return known | tool(run, os.environ["THAWLINE_SMOLLM2"], data_of(Path(folder)))


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))))
