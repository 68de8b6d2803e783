"""The peer of image classification: a convolutional network fine-tuned with the Trainer, as transformers' guide has it.

Pictures are read and brought to size by the model's processor before the clock starts, which is kind to the peer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

AT_ONCE = 64


def frozen(network: Any, strategy: str) -> list[str]:
    """Return the names that a strategy of Thawline's freezes: all but the head, or the stem and half of the blocks."""
    names = [name for name, _ in network.named_parameters()]
    if strategy == "head":
        return [name for name in names if not name.startswith("classifier")]
    if strategy == "freeze(0.5)":
        half = len(network.base_model.encoder.blocks) // 2
        below = ("embeddings.", *(f"encoder.blocks.{place}." for place in range(half)))
        return [name for name in names if name.split(".", 1)[1].startswith(below)]
    assert strategy == "full", strategy
    return []


def pixels_of(data: Path, split: str, processor: Any) -> tuple[Any, list[str]]:
    """Return the pictures of a folder as the model takes them, float [N, 3, H, W], and their labels."""
    import torch
    from PIL import Image

    paths = sorted((data / split).glob("*/*.jpg"))
    found = [
        processor([Image.open(path).convert("RGB") for path in paths[at : at + AT_ONCE]], return_tensors="pt")["pixel_values"]
        for at in range(0, len(paths), AT_ONCE)
    ]
    return torch.cat(found), [path.parent.name for path in paths]


def image_classification(run: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Train, and measure the last model in float32."""
    import torch
    import transformers
    from peer_speech import of_labels
    from peer_tasks import arguments_of, trained

    processor = transformers.AutoImageProcessor.from_pretrained(run["model"])
    (train, own), (test, true) = (pixels_of(data, split, processor) for split in ("train", "test"))
    labels = sorted(set(own))
    torch.manual_seed(run["seed"])
    network = transformers.AutoModelForImageClassification.from_pretrained(
        run["model"], num_labels=len(labels), ignore_mismatched_sizes=True
    )
    still = set(frozen(network, run["strategy"]))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in still)
    rows = [{"pixel_values": one, "labels": labels.index(label)} for one, label in zip(train, own, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = arguments_of(run, folder)
        arguments.train_sampling_strategy = "random"  # pictures have one size
        peer = transformers.Trainer(model=network, args=arguments, train_dataset=rows)
        cost = trained(peer, run, examples=len(rows), tokens=len(rows))
    network.float().eval()
    with torch.inference_mode():
        answers = torch.cat([network(test[at : at + AT_ONCE]).logits.argmax(-1) for at in range(0, len(test), AT_ONCE)])
    return of_labels(true, list(np.array(labels)[answers.numpy()])) | cost


def pictures_of_run(run: Path, data: Path) -> dict[str, float]:
    """Return what scikit-learn says of the labels that a run predicted; ids are matched by the run itself."""
    import json

    from peer_speech import of_labels

    del data
    section = json.loads((run / "metrics.json").read_text("utf-8"))["test"]
    lines = (run / "predictions" / "test.jsonl").read_text("utf-8").splitlines()
    assert section["n"] == len(lines), "every picture is answered"
    return {name: float(section[name]) for name in of_labels(["a"], ["a"])}
