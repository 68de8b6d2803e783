"""Whether reading pictures keeps up with training on them: EfficientNet on trashnet, full fine-tuning, with augmentation.

usage: decoding.py    EfficientNet's folder is in $THAWLINE_EFFNET. Appends one line to results/decoding.jsonl, once.
Rates are pictures a second: `decoded` from a JPEG file to pixels of the model's size, which happens once, before training;
`fed` from kept pixels through flips and crops to a batch, in one thread; `trained` is what a step of training takes of them.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import SHARED, append, missing, processor

CHANGES = ("flip", "crop(0.7)", "color(0.2)")
COUNT, ROWS, STEPS = 256, 32, 12


def rates(model: str) -> dict[str, float]:
    """Return how many pictures a second are decoded, fed and trained on."""
    import thawline as tl
    from thawline.data.dataset import Options, load
    from thawline.models.load import load_processor
    from thawline.tasks.image_classification import ImageClassification
    from thawline.tasks.supervised import Supervised, Views, of_examples

    data = SHARED / "data" / "trashnet"
    with tempfile.TemporaryDirectory() as folder:
        rows = load(str(data), Options(), cache=Path(folder)).splits["train"].select(np.arange(COUNT))
        labels = sorted(set(rows.column("label").to_pylist()))
        task = ImageClassification(
            load_processor(model, "AutoImageProcessor"), problem="single_label_classification", labels=labels
        )
        start = time.perf_counter()
        made = of_examples(task, list(rows))
        decoded = COUNT / (time.perf_counter() - start)
        task.augment(CHANGES)
        seen = Supervised(task, made.items, made.lengths, made.ids, None, views=Views(str(CHANGES), 0, None)).seen(0)
        start = time.perf_counter()
        for at in range(0, COUNT, ROWS):
            seen.batch(np.arange(at, at + ROWS))
        fed = COUNT / (time.perf_counter() - start)
        run = tl.finetune(
            str(data),
            model=model,
            data={"augment": list(CHANGES)},
            train={"max_steps": STEPS, "batch_size": ROWS, "eval_strategy": "no", "load_best_model_at_end": False},
            evaluate={"baselines": False, "bootstrap_samples": 0, "analysis": False},
            output={"dir": f"{folder}/run"},
            progress=False,
        )
        return {"decoded": decoded, "fed": fed, "trained": run.metrics["train"]["examples_per_second"]}


def main() -> None:
    """Measure once."""
    wanted: list[dict[str, Any]] = [
        {"data": "trashnet", "augment": list(CHANGES), "threads": torch.get_num_threads(), "processor": processor()}
    ]
    for run in missing("decoding", wanted):
        found = {name: round(value, 1) for name, value in rates(os.environ["THAWLINE_EFFNET"]).items()}
        append("decoding", {**run, **found})
        print(found)


if __name__ == "__main__":
    main()
