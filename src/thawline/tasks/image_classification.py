"""Image classification: pictures with a label, several labels, or a number each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from thawline.calls import make, parse_call
from thawline.data.augment import MIXINGS, PICTURES, Augmentation, Mixing
from thawline.data.images import picture
from thawline.errors import UserError
from thawline.tasks.base import Fitting
from thawline.tasks.classification import Classification
from thawline.types import Batch, Example, Item

_PATCH = 256  # pixels that count as one position, as in a transformer's patches of 16 by 16


class ImageClassification(Classification):
    """Pictures with a label, several labels, or a number each.

    `processor` is an image processor of transformers. What it does to geometry (resizing, cropping) is done once and kept as
    bytes; rescaling and normalising are done as batches are made, by the same processor.
    """

    auto_class = "AutoModelForImageClassification"
    processor_class = "AutoImageProcessor"
    inputs = "image"
    at_once = 64

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        del processor, config, wanted
        return None, None

    def __init__(self, processor: Any, *, max_length: int | None = None, **labelling: Any) -> None:
        super().__init__(**labelling)
        del max_length  # pictures are not cut
        self.processor = processor
        self._changes: list[Augmentation] = []
        self._mixings: list[Mixing] = []

    def encoding_key(self) -> str:
        settings = json.dumps(self.processor.to_dict(), sort_keys=True, default=str)
        return hashlib.blake2b(f"pictures {settings}".encode(), digest_size=16).hexdigest()

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        pictures = [picture(example["image"]) for example in examples]
        found = self.processor(pictures, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
        return [{"pixels": np.asarray(one, np.uint8), "length": one[0].size // _PATCH} for one in found]

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        del length  # all have one size
        pixels = [self._view(item) for item in items]
        inputs = self.processor(pixels, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]
        batch = self.batched({"pixel_values": inputs}, items)
        return self._mixed(batch) if self._mixings and "random" in items[0] else batch

    def hollow(self, items: Sequence[Item], length: int | None = None) -> Batch:
        del length
        return self.batched({"pixel_values": torch.zeros(()).expand(len(items), *items[0]["pixels"].shape)}, items)

    def augment(self, specs: Sequence[str]) -> None:
        calls = [parse_call(spec) for spec in specs]
        self._changes = [make(call, PICTURES[call.name], "Augmentation") for call in calls if call.name not in MIXINGS]
        self._mixings = [make(call, MIXINGS[call.name], "Mixing") for call in calls if call.name in MIXINGS]
        if self._mixings and self.problem == "regression":
            raise UserError("Mixing pictures mixes their labels, and numbers are not mixed; leave mixup and cutmix out.")

    @property
    def mixes(self) -> bool:
        return bool(self._mixings)

    def _view(self, item: Item) -> Tensor:
        pixels = torch.from_numpy(np.array(item["pixels"]))
        for change in self._changes if "random" in item else ():
            pixels = change(pixels, item["random"])
        return pixels

    def _mixed(self, batch: Batch) -> Batch:
        """Mix the pictures of a batch, and the shares of their labels with them."""
        pixels, targets = batch.inputs["pixel_values"], batch.targets
        assert targets is not None, "only labelled pictures are mixed"
        shares = targets.float() if targets.dim() > 1 else functional.one_hot(targets, len(self.labels)).float()
        for mix in self._mixings:
            pixels, shares = mix(pixels, shares, batch.items[0]["random"])
        return replace(batch, inputs={"pixel_values": pixels}, targets=shares)

    def save(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)
