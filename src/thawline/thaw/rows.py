"""From a batch's tensor to one tensor per example without padding, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thawline.thaw.record import Leaf, Traces

MASK = "attention_mask"
FRAMES = ("_get_feat_extract_output_lengths",)
"""Methods by which models tell how many positions they make of so many samples."""


class Layout(NamedTuple):
    """Which axis of a tensor counts examples (`each` rows for one), and which counts the mask's positions, if any.

    With `frames` these positions are coarser than the mask's. `masked` are the inputs that have a mask, and so lengths, also
    where the tensor has no positions left.
    """

    batch: int
    each: int
    time: int | None
    frames: bool
    masked: bool


def layout(given: Leaf, resized: Leaf, traces: Traces, *, frames: Callable[[Tensor], Tensor] | None) -> Layout | None:
    """Read the layout off the sizes that changed between two traces; None where no axis counts examples."""
    pairs = list(zip(given.shape, resized.shape, strict=True))
    one, other = (next(len(v) for v in batch.values() if isinstance(v, Tensor)) for batch in (traces.batches * 2)[:2])
    batch = next((i for i, (a, b) in enumerate(pairs) if a % one == 0 and a // one * other == b and a != b), None)
    if batch is None:
        return None
    each, time = pairs[batch][0] // one, None
    if MASK in traces.batches[0] and each == 1:
        widths = tuple(b[MASK].shape[1] for b in traces.batches)
        counts = widths if frames is None else tuple(int(frames(torch.tensor(width))) for width in widths)
        # Where the model bore no other width, by the width alone: the axis of positions comes before that of numbers.
        places = [i for i, pair in enumerate(pairs) if pair == counts and i != batch]
        time = next((i for i in places if pairs[i][0] != pairs[i][1] or counts[0] == counts[-1]), None)
    masked = MASK in traces.batches[0]
    return Layout(batch, each, time, frames is not None and masked, masked)


def frames_of(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return what tells how many positions a model makes of so many samples, if it is a model of sound that has it."""
    return next((getattr(model, name) for name in FRAMES if hasattr(model, name)), None)


def positions(inputs: Mapping[str, Tensor], frames: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Return which positions are real, bool [B, T]."""
    mask = inputs[MASK].bool()
    if frames is None:
        return mask
    width = int(frames(torch.tensor(mask.shape[1])))
    return torch.arange(width, device=mask.device) < frames(mask.sum(1))[:, None].to(mask.device)


def split(hidden: Tensor, layout: Layout, real: Tensor | None) -> list[Tensor]:
    """Return one tensor per example; with `real` positions these come first in it, and the others are gone."""
    if layout.time is None or real is None:
        return list(hidden.unbind(layout.batch) if layout.each == 1 else hidden.split(layout.each, layout.batch))
    return list(hidden.movedim((layout.batch, layout.time), (0, 1))[real].split(real.sum(1).tolist()))


def join(rows: Sequence[Tensor], layout: Layout, real: Tensor | None) -> Tensor:
    """Return the inverse of `split` for another batch."""
    if layout.time is None or real is None:
        return torch.stack(list(rows), layout.batch) if layout.each == 1 else torch.cat(list(rows), layout.batch)
    whole = torch.cat(list(rows))
    out = whole.new_zeros((*real.shape, *whole.shape[1:]))
    out[real.to(whole.device)] = whole
    return out.movedim((0, 1), (layout.batch, layout.time))
