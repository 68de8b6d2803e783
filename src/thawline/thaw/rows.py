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

    `sizes` are the sizes of the other axes, None where they vary.
    """

    batch: int
    each: int
    time: int | None
    frames: bool
    sizes: tuple[int | None, ...]

    def fits(self, shape: Sequence[int], *, row: bool) -> bool:
        """Tell whether a whole tensor, or the one of an example, may have this layout."""
        axes: set[int | None] = {0} if self.time is not None else {self.batch} if self.each > 1 else set()
        gone = axes if row else {self.batch, self.time}
        rest = [size for i, size in enumerate(shape) if i not in gone]
        return len(rest) == len(self.sizes) and all(b in (a, None) for a, b in zip(rest, self.sizes, strict=True))


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
        time = next((i for i, pair in enumerate(pairs) if pair[0] != pair[1] and pair == counts), None)
    framed = frames is not None and time is not None
    rest = tuple(a if a == b else None for i, (a, b) in enumerate(pairs) if i not in (batch, time))
    return Layout(batch, each, time, framed, rest)


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
