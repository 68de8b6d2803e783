"""Image classification: pictures with a label, several labels, or a number each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thawline.calls import make, parse_call
from thawline.data.augment import COLORS, MIXINGS, PICTURES, Augmentation, Mixing
from thawline.data.images import has_many_bands, looked_through, picture, pixels
from thawline.errors import DataError, ModelError, UserError
from thawline.tasks.base import Fitting
from thawline.tasks.classification import Classification
from thawline.types import Batch, Example, Item

_AXES: dict[str, Any] = {"input_data_format": "channels_first"}
_RGB = 3
# What processors do to numbers and not to geometry, beside rescaling and normalising: EfficientNet's second division by the
# standard deviation, and MobileViT's blue before green before red.
_NUMBERS = ("include_top", "do_flip_channel_order")
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
        if list(processor.model_input_names) != ["pixel_values"] or not hasattr(processor, "do_normalize"):
            raise ModelError(
                f"Pictures are not prepared here as {type(processor).__name__} does it; expected a model whose processor "
                "resizes and normalises them, such as ViT, ResNet, ConvNeXt, CLIP or SigLIP; name one with model=NAME."
            )
        channels, before = wanted.in_channels, channels_of(config)
        if channels is None or channels == before:
            return None, None
        for name in ("image_mean", "image_std"):
            processor_has = getattr(processor, name)
            setattr(processor, name, [float(np.mean(processor_has))] * channels)
        for name in ("do_convert_rgb", "do_flip_channel_order"):  # such channels are not red, green and blue
            if getattr(processor, name, None):
                setattr(processor, name, False)
        return None, f"pictures have {channels} channels: the first layer's weights are made of those for {before}"

    @classmethod
    def unfit(cls, processor: Any, config: Any, examples: Sequence[Example]) -> list[tuple[int, str]]:
        del config  # of which the processor has been made ready
        return looked_through((example["image"] for example in examples), partial(_fault, channels=_channels(processor)))

    def __init__(self, processor: Any, *, max_length: int | None = None, **labelling: Any) -> None:
        super().__init__(**labelling)
        del max_length  # pictures are not cut
        self._processor = processor
        self._changes: list[Augmentation] = []
        self._mixings: list[Mixing] = []

    def encoding_key(self) -> str:
        settings = json.dumps(self._processor.to_dict(), sort_keys=True, default=str)
        return hashlib.blake2b(f"pictures {settings}".encode(), digest_size=16).hexdigest()

    def collating_key(self) -> str:
        return self.encoding_key()  # an item is pixels, and the processor makes numbers of them

    @property
    def channels(self) -> int:
        """How many channels pictures have: red, green and blue unless the processor says otherwise."""
        return _channels(self._processor)

    @property
    def _geometry(self) -> dict[str, Any]:
        """Arguments with which the processor resizes and crops, and leaves the numbers to `collate`."""
        return {"do_rescale": False, "do_normalize": False} | {n: False for n in _NUMBERS if hasattr(self._processor, n)}

    def start(self, model: nn.Module, targets: Any) -> None:
        super().start(model, targets)
        if self.channels != channels_of(model.config):
            widen(model, self.channels)

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        pictures = [picture(e["image"]) if self.channels == _RGB else _bands(e["image"], self.channels) for e in examples]
        axes = {} if self.channels == _RGB else _AXES
        found = self._processor(pictures, return_tensors="np", **self._geometry, **axes)["pixel_values"]
        return [{"pixels": np.asarray(one, np.uint8), "length": one[0].size // _PATCH} for one in found]

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        del length  # all have one size
        pixels = [self._view(item) for item in items]
        inputs = self._processor(pixels, do_resize=False, do_center_crop=False, return_tensors="pt", **_AXES)["pixel_values"]
        batch = self.batched({"pixel_values": inputs}, items)
        return self._mixed(batch) if self._mixings and "random" in items[0] else batch

    def hollow(self, items: Sequence[Item], length: int | None = None) -> Batch:
        del length
        return self.batched({"pixel_values": torch.zeros(()).expand(len(items), *items[0]["pixels"].shape)}, items)

    def augment(self, specs: Sequence[str]) -> None:
        calls = [parse_call(spec) for spec in specs]
        for call in calls:
            if call.name in COLORS and self.channels not in (1, _RGB):
                known = ", ".join(name for name in PICTURES if name not in COLORS)
                raise UserError(
                    f"{call.name} changes colours, and these pictures have {self.channels} channels; expected {known}."
                )
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
        self._processor.save_pretrained(folder)


def _channels(processor: Any) -> int:
    return len(getattr(processor, "image_mean", None) or "rgb")


def _fault(value: Any, channels: int) -> str:
    """Return why a picture that can be read does not have these channels, "" where it has them or is brought to them."""
    if channels in (1, _RGB):
        name, known = value["path"] or "A picture", "one channel" if channels == 1 else f"{channels} channels"
        said = f"{name} has other bands than the {known} that the model takes; model.in_channels says how many it is to take."
        return said if has_many_bands(value) else ""
    try:
        _bands(value, channels)
    except DataError as error:
        return str(error)
    return ""


def _bands(value: Any, channels: int) -> Tensor:
    """Return a picture of other than three channels, uint8 [C, H, W]; numbers of two bytes are scaled to one."""
    found = pixels(value, channels)
    if found.dtype == np.uint16:
        found = (found / 257).round().astype(np.uint8)
    if found.dtype != np.uint8:
        raise DataError(f"{value['path']} holds numbers of type {found.dtype}; expected bytes, or whole numbers of two bytes.")
    return torch.from_numpy(found.transpose(2, 0, 1).copy())


def widen(model: Any, channels: int) -> None:
    """Make a model take pictures of so many channels, in place: the first convolution gets its own weights again and again.

    What comes out has the size it had: of one grey channel the weights are summed, of more they are repeated and scaled. Raises
    ModelError for a model that does not begin with a convolution.
    """
    before = channels_of(model.config)
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d) and m.in_channels == before and m.groups == 1), None)
    if first is None:
        raise ModelError(
            f"{type(model).__name__} has no convolution over {before} channels, so model.in_channels cannot be set."
        )
    weight = first.weight.data
    wide = weight.repeat(1, -(-channels // before), 1, 1)[:, :channels] * (before / channels)
    first.weight = nn.Parameter(weight.sum(1, keepdim=True) if channels == 1 else wide.contiguous())
    first.in_channels = channels
    configs = [part.config for part in model.modules() if hasattr(part, "config")]
    for part in (*configs, *(vision_config(config) for config in configs), *model.modules()):
        if getattr(part, "num_channels", None) == before:
            part.num_channels = channels


def vision_config(config: Any) -> Any:
    """Return the part of a model's config that tells of pictures: of CLIP and SigLIP their vision tower's, else all of it."""
    return getattr(config, "vision_config", config)


def channels_of(config: Any) -> int:
    """Return how many channels a model of this config takes: red, green and blue unless it says otherwise.

    >>> from transformers import ResNetConfig, SiglipConfig
    >>> channels_of(ResNetConfig(num_channels=1)), channels_of(SiglipConfig())
    (1, 3)
    """
    return getattr(config, "num_channels", None) or getattr(vision_config(config), "num_channels", None) or _RGB
