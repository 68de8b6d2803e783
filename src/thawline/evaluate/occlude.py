"""Which regions of a picture, or parts of a sound, an answer rests on: what the logit loses without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thawline.evaluate.attribute import _captum, _logits, _target
from thawline.models.trace import evaluating

_AT_ONCE = 16


def attribute_picture(
    model: nn.Module, inputs: Mapping[str, Tensor], *, target: str | int | None = None, grid: int = 7
) -> dict[str, Any]:
    """Return what each region of a `grid` by `grid` contributes to the logit of `target`, a label, an output, or the highest.

    `inputs` are those of the model for one picture, with "pixel_values" [1, 3, H, W]; a region that is hidden is 0, the mean
    colour where the processor normalises. `contributions` is a list of rows, from the top; `height` and `width` are pixels as
    the model sees them, of which the regions are equal parts.
    """
    height, width = inputs["pixel_values"].shape[-2:]
    rows, columns = _cells(height, grid), _cells(width, grid)
    mask = rows[:, None] * grid + columns
    found = _occlude(model, inputs, "pixel_values", mask=mask, target=target)
    values = found.pop("values").view(grid, grid).tolist()
    return {**found, "grid": [grid, grid], "height": height, "width": width, "contributions": values}


def attribute_sound(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    target: str | int | None = None,
    parts: int = 20,
    axis: int = -1,
    share: float = 1.0,
) -> dict[str, Any]:
    """Return what each of `parts` equal stretches of time contributes to the logit of `target`.

    `inputs` are those of the model for one sound, with "input_values" or "input_features" [1, …]; `axis` is that of time, and
    the stretches are of the first `share` of it: what follows, such as padding, stays as it is. `contributions` are in order of
    time; a stretch that is hidden is 0, silence or the mean. Where there are fewer places than `parts`, each is a stretch.
    """
    name = next(name for name in ("input_values", "input_features") if name in inputs)
    value = inputs[name]
    shape = [1] * (value.dim() - 1)
    shape[axis if axis < 0 else axis - 1] = -1
    places = value.shape[axis]
    real = max(1, min(places, round(share * places)))
    parts = min(parts, real)
    mask = torch.cat([_cells(real, parts), torch.full((places - real,), parts)]).view(shape).expand(value.shape[1:])
    found = _occlude(model, inputs, name, mask=mask, target=target)
    values = found.pop("values")[:parts].tolist()
    return {**found, "parts": parts, "contributions": values}


def _cells(size: int, parts: int) -> Tensor:
    """Return which of `parts` equal parts each of `size` places lies in, int [size]; raises ValueError where they are more."""
    if size < parts:
        raise ValueError(f"{size} places cannot be cut into {parts} parts")
    return torch.arange(size) * parts // size


def _occlude(
    model: nn.Module, inputs: Mapping[str, Tensor], name: str, *, mask: Tensor, target: str | int | None
) -> dict[str, Any]:
    """Return what the logit loses where all places of `inputs[name]` with one number of `mask` are 0: `values`, by number."""
    attr = _captum()

    def forward(value: Tensor) -> Tensor:
        rest = {key: other.expand(len(value), *other.shape[1:]) for key, other in inputs.items() if key != name}
        return _logits(model, {**rest, name: value})[:, place]

    with evaluating(model), torch.no_grad():
        place, label = _target(model, inputs, target)
        whole, empty = (float(forward(value)[0]) for value in (inputs[name], torch.zeros_like(inputs[name])))
        features = mask.expand(inputs[name].shape)
        found = attr.FeatureAblation(forward).attribute(
            inputs[name], baselines=0, feature_mask=features, perturbations_per_eval=_AT_ONCE
        )
    values = torch.zeros(int(mask.max()) + 1, dtype=torch.float64)
    values[features.flatten()] = found.flatten().double().cpu()
    return {"method": "occlusion", "target": label, "output": whole, "baseline_output": empty, "values": values}
