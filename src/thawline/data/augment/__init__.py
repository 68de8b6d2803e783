"""Changes that leave the label of an example true: drawn anew each time it is trained on, never in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thawline.table import Table

if TYPE_CHECKING:
    import numpy as np
    import torch

    Random = np.random.Generator | torch.Generator

Augmentation = Callable[[Any, "Random"], Any]
"""From a decoded example and a generator to one of the same kind, size and type; what is drawn follows from the generator."""

Mixing = Callable[[Any, Any, "Random"], tuple[Any, Any]]
"""From inputs [B, ...], targets as probabilities [B, classes] and a generator to both, examples mixed with one another."""

PICTURES: Table[Callable[..., Augmentation]] = Table(
    "augmentation of pictures",
    {
        name: f"thawline.data.augment.pictures:{name}"
        for name in (
            "flip",
            "vertical_flip",
            "crop",
            "rotate",
            "color",
            "grayscale",
            "blur",
            "erase",
            "randaugment",
            "trivialaugment",
        )
    }
    | {"colour": "thawline.data.augment.pictures:color", "greyscale": "thawline.data.augment.pictures:grayscale"},
)
COLORS = ("color", "colour", "grayscale", "greyscale", "randaugment", "trivialaugment")
"""Those that change colours: of pictures with one channel or three."""
MIXINGS: Table[Callable[..., Mixing]] = Table(
    "mixing of a batch", {name: f"thawline.data.augment.mixing:{name}" for name in ("mixup", "cutmix")}
)
