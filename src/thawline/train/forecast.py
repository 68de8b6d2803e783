"""How much memory training will need, before it starts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thawline.strategies.base import Groups

_FLOAT = 4  # bytes
# Activations kept for the backward pass, in bytes of float32 for each token, layer and unit of width: twice the 34 that
# Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 1, count in 16 bit; fused attention keeps no scores.
_ACTIVATION = 68
_HEADROOM = 300 << 20  # allocator, tokenizer, batches


class Forecast(NamedTuple):
    """Bytes beyond what is used now: `fixed` whatever the batch, `row` for each example of a micro-batch at full length."""

    fixed: int
    row: int
    rows: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.fixed + self.row * self.rows


def forecast(model: Any, groups: Groups, lengths: np.ndarray, *, rows: int) -> Forecast:
    """Predict the memory that training adds once the weights are loaded.

    Gradients and two moments for what learns, a second copy of the weights while saving, and activations of the longest
    micro-batch of `rows` examples, above the lowest stage that learns. `lengths` [N] are in tokens.
    """
    named = dict(model.named_parameters())
    learned = sum(named[name].numel() for group in groups for name in group.parameters)
    weights = sum(parameter.numel() for parameter in named.values())
    config = model.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", 12)
    width = getattr(config, "hidden_size", 768)
    learning = min(layers, layers - min((group.stage for group in groups), default=0) + 1)
    longest = int(np.sort(lengths)[-rows:].mean()) if len(lengths) else 0
    fixed = _FLOAT * (3 * learned + weights) + _HEADROOM
    return Forecast(fixed, longest * width * _ACTIVATION * max(1, learning), rows)


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
