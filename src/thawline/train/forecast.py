"""How much memory training will need, before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from thawline.memory import KERNEL_CACHES
from thawline.strategies.base import Groups
from thawline.types import Batch

_FLOAT = 4  # bytes
# Numbers kept for the backward pass of one layer, for each token: in units of its width, and for each head and key. What
# Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 1, count, with dropout masks that take as much room as
# what they are multiplied with.
_PER_WIDTH, _PER_KEY = 20, 3
_LOGITS = 2  # numbers for each token and word of a language model's head: the logits, and their gradient
_DROPPED = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "dropout_rate")
_SPARE = 1.25  # what is held for a moment beside what is held throughout
_FROZEN = 4096 * 12  # numbers for each unit of width while a canonical batch goes through a frozen layer
_HEADROOM = 100 << 20  # allocator, batches, evaluation
# oneDNN, which computes in bfloat16, makes code for each shape that it meets, for each product and its gradients, and forgets
# the oldest where its cache is full.
_PRODUCTS, _KERNEL = 15, 640 << 10


class Seen(NamedTuple):
    """What steps were seen to hold: the most tokens under way at once, padding included, and the shapes of a whole run.

    `held` is what `held_bytes` found, for models that are not layers of one width.
    """

    tokens: int | None = None
    shapes: int = 0
    held: float | None = None


class Forecast(NamedTuple):
    """Bytes beyond what is used now: whatever the batch, and for each of the `rows` examples that are under way at once.

    `saving` is a copy of the weights, in memory at the end when activations are not.
    """

    gradients: int
    optimizer: int
    row: int
    rows: int
    workspace: int
    saving: int

    @property
    def fixed(self) -> int:
        """What does not depend on the batch."""
        return self.gradients + self.optimizer + self.workspace

    @property
    def activations(self) -> int:
        """What is kept for the backward pass."""
        return self.row * self.rows

    @property
    def peak(self) -> int:
        """All of it while training."""
        return self.fixed + self.activations

    @property
    def total(self) -> int:
        """All of it, up to the end of the run."""
        return self.fixed + max(self.activations, self.saving)


def forecast(
    model: Any,
    groups: Groups,
    lengths: np.ndarray,
    *,
    rows: int,
    seen: Seen = Seen(),  # noqa: B008 - a value
    workers: int = 1,
    moments: int = 2,
) -> Forecast:
    """Predict the memory that training adds once the weights are loaded, in the dtype that they have now.

    Gradients, in float32 and as they come, `moments` of the optimiser for what learns, and activations above the lowest stage
    that learns, of what was `seen` of the steps for all `workers` together; without it, of the longest `rows` examples.
    `lengths` [N] are in tokens.
    """
    named = dict(model.named_parameters())
    size = next(iter(named.values())).element_size()
    learned = sum(named[name].numel() for group in groups for name in group.parameters)
    config = model.config.get_text_config()
    layers, width = getattr(config, "num_hidden_layers", 12), getattr(config, "hidden_size", 768)
    lowest = min((group.stage for group in groups), default=0)
    longest = np.sort(lengths)[-rows:]
    each = (seen.tokens / rows if seen.tokens is not None else float(longest.mean())) if len(lengths) else 0.0
    keys = 0 if _keeps_no_scores(config) else getattr(config, "num_attention_heads", 12) * int(longest.max(initial=0))
    above = max(0, min(layers, layers - lowest + 1))
    logits = _LOGITS * vocabulary(model)
    row = each * (size * ((_PER_WIDTH * width + _PER_KEY * keys) * above + logits) if seen.held is None else seen.held)
    shapes = seen.shapes if size < _FLOAT and above else 0
    return Forecast(
        gradients=learned * (_FLOAT + size * workers),
        optimizer=learned * _FLOAT * moments,
        row=int(row),
        rows=rows,
        workspace=_HEADROOM + kernel_bytes(shapes) + (_FROZEN * width * size * workers if lowest else 0),
        saving=_FLOAT * sum(parameter.numel() for parameter in named.values()),
    )


def _keeps_no_scores(config: Any) -> bool:
    """Tell whether attention keeps no score of a pair for the backward pass: torch's own, where nothing is dropped."""
    dropped = any(getattr(config, name, 0.0) for name in _DROPPED)
    return getattr(config, "_attn_implementation", None) == "sdpa" and not dropped


def vocabulary(model: Any) -> int:
    """Return among how many words a language model's head chooses, 0 for a model of another kind."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return int(getattr(head, "out_features", 0))


def held_bytes(
    model: nn.Module, groups: Groups, batch: Batch, *, positions: int, forward: Callable[[nn.Module, Batch], Any]
) -> float:
    """Return the bytes that one of a batch's `positions` keeps for the backward pass, by looking at what one pass keeps."""
    learned = {name for group in groups for name in group.parameters}
    named = dict(model.named_parameters())
    before = {name: parameter.requires_grad for name, parameter in named.items()}
    own = {parameter.data_ptr() for parameter in named.values()}
    seen = dict[int, int]()

    def packed(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    try:
        for name, parameter in named.items():
            parameter.requires_grad_(name in learned)
        with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
            forward(model, batch)
    finally:
        for name, parameter in named.items():
            parameter.requires_grad_(before[name])
    return _SPARE * sum(seen.values()) / positions


def kernel_bytes(shapes: int) -> int:
    """Return what oneDNN keeps for so many shapes."""
    if not torch.backends.mkldnn.is_available():
        return 0
    return min(_PRODUCTS * shapes, max(int(os.environ.get(name, 1024)) for name in KERNEL_CACHES)) * _KERNEL


def advice(needed: Forecast, left: int, *, rows: int, accumulation: int) -> str:
    """Say which batch size would fit, with the step kept as it is."""
    fitting = next((r for r in _halves(rows) if needed.fixed + needed.row * r <= left), None)
    if fitting is None:
        return "No batch size helps: take a smaller model, freeze more of it (strategy=head), or free some memory."
    factor = -(-rows // fitting) * accumulation
    return in_smaller_parts(fitting, factor)


def in_smaller_parts(rows: int, parts: int) -> str:
    """Say how the same step is computed with less memory."""
    keys = f"train.per_device_train_batch_size={rows} train.gradient_accumulation_steps={parts}"
    return f"Try {keys}: the same step in smaller parts."


def _halves(rows: int) -> list[int]:
    return [rows >> k for k in range(1, rows.bit_length()) if rows >> k]
