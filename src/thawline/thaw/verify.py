"""Whether a cut may be used: checked on batches that it has not seen, with a negative control."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from thawline.models.trace import evaluating
from thawline.thaw.cut import Cut
from thawline.thaw.replay import Replay
from thawline.thaw.rows import MASK
from thawline.thaw.search import captured
from thawline.thaw.stub import outputs

CLOSE, ALONE = 1e-5, 1e-3
"""How far answers may lie apart, and stored tensors of one example run alone and among others, relative to their size."""
FILLERS = (math.nan, 1e3)
NOISE = 0.05


def refusal(replay: Replay, depth: int, batches: Sequence[Mapping[str, Tensor]]) -> str | None:
    """Return None where a cut at `depth` is verified on `batches`, else one sentence that says why it is not.

    The batches should be others than the traced one, with examples of unlike lengths. On each, a replay from what was stored of
    each example answers as a straight run does, whatever the parts hold that are not computed (not a number, then 1000); it
    answers otherwise when 5 % of noise is added to what was stored, or nothing would be proved; an example run alone stores
    what it stores among others; and what is stored depends on no parameter that learns above the cut. Autocast is the caller's
    to set.
    """
    cut = replay.cut(depth)
    if cut is None:
        return replay.needs_more(depth)
    with evaluating(replay.model), _frozen(replay, depth):
        faults = (fault for batch in batches for fault in _faults(replay, cut, depth, batch=batch))
        return next(faults, None)


def refusal_in_use(replay: Replay, depth: int, batches: Sequence[Mapping[str, Tensor]]) -> str | None:
    """Return why a verified cut does not hold in the arithmetic and layout that it is used in; None where it does.

    That is asked of weights that have been rounded or laid out anew since, on their way into training: of a batch, a replay
    answers as a straight run does, and otherwise with noise. What rounding does not change is not asked again. Autocast is the
    caller's to set.
    """
    cut = replay.cut(depth)
    if cut is None:
        return replay.needs_more(depth)
    with evaluating(replay.model), torch.no_grad():
        faults = (fault for batch in batches for fault in _unlike(replay, cut, depth, batch=batch))
        fault = next(faults, None)
    return fault and f"in the arithmetic of training {fault}"


def of_targets(replay: Replay, depth: int, pairs: Iterable[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]) -> str | None:
    """Return why a cut at `depth` is of no use where what is stored depends on targets, which a decoder reads beside the items.

    `pairs` are batches with targets and without.
    """
    for inputs, bare in pairs:
        if inputs.keys() == bare.keys() and all(torch.equal(inputs[name], bare[name]) for name in inputs):
            continue
        one, other = (replay.run(given, [depth])[depth] for given in (inputs, bare))
        if not torch.equal(one, other):
            name = type(replay.model).__name__
            return f"{name} cannot be replayed at depth {depth}: what it computes up to there depends on the targets."
    return None


def _faults(replay: Replay, cut: Cut, depth: int, *, batch: Mapping[str, Tensor]) -> Iterator[str]:
    name = f"{type(replay.model).__name__} cannot be replayed at depth {depth}"
    if captured(replay.model, batch, {depth: cut.place}, learning=True)[depth].requires_grad:
        yield f"{name}: what lies below it depends on parameters that learn above it."
    with torch.no_grad():
        yield from _unlike(replay, cut, depth, batch=batch)
        if (off := _alone(replay, depth, batch)) > ALONE:
            yield f"{name}: what is stored of an example depends on its batch, on its mates or its padding, by {off:.0%}."


def _unlike(replay: Replay, cut: Cut, depth: int, *, batch: Mapping[str, Tensor]) -> Iterator[str]:
    name = f"{type(replay.model).__name__} cannot be replayed at depth {depth}"
    straight = _answer(replay, depth, batch)
    hidden = replay.run(batch, [depth])[depth]
    stored = replay.joined(replay.rows(hidden, batch, depth), batch, depth)
    for value in FILLERS:
        with cut.replaying(stored, value):
            off = _apart(_answer(replay, depth, batch), straight)
        if not off <= CLOSE:
            told = "its answers depend on what is not computed" if math.isnan(off) else f"its answers are off by {off:.1g}"
            yield f"{name}: on another batch {told}."
    if not _heeded(replay, cut, depth, batch=batch):
        yield f"{name}: its answers do not change when what is stored does, so nothing can be verified."


def _answer(replay: Replay, depth: int, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the model's answer, at the positions that are not padding where it has positions."""
    answer = next(iter(outputs(replay.model(**batch)).values()))
    real = replay.real(replay.layout(depth), batch)
    return answer if real is None or answer.shape[:2] != real.shape else answer[real]


def _heeded(replay: Replay, cut: Cut, depth: int, *, batch: Mapping[str, Tensor]) -> bool:
    """Tell whether noise in what is stored changes the answer: the negative control, in full precision."""
    with torch.autocast(replay.device, enabled=False):
        stored = replay.run(batch, [depth])[depth]
        noise = torch.randn(stored.shape, generator=torch.Generator().manual_seed(0)).to(stored)
        answers = []
        for given in (stored, stored + NOISE * noise * stored):
            with cut.replaying(given):
                answers.append(_answer(replay, depth, batch))
    return _apart(answers[1], answers[0]) > CLOSE


def _apart(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) if other.numel() else 0.0


def _alone(replay: Replay, depth: int, batch: Mapping[str, Tensor]) -> float:
    """Return how far the shortest and the longest example, run alone, are from themselves in the batch."""
    mask, timed = batch.get(MASK), replay.layout(depth).time is not None
    lengths = mask.sum(1).tolist() if mask is not None and timed else [0] * len(next(iter(batch.values())))
    with torch.autocast(replay.device, enabled=False):
        among = replay.rows(replay.run(batch, [depth])[depth], batch, depth)
        worst = 0.0
        for i in {lengths.index(min(lengths)), lengths.index(max(lengths))}:
            single = {name: value[i : i + 1] for name, value in batch.items()}
            if mask is not None and timed:
                real = mask[i].bool()
                single = {n: v[:, real] if v.shape[1:2] == real.shape else v for n, v in single.items()}
            alone = replay.rows(replay.run(single, [depth])[depth], single, depth)[0]
            same = alone.shape == among[i].shape
            worst = max(worst, float((alone - among[i]).norm() / among[i].norm().clamp_min(1e-30)) if same else math.inf)
    return worst


@contextmanager
def _frozen(replay: Replay, depth: int) -> Iterator[None]:
    """Freeze what lies below the cut, as it will be."""
    held = dict(replay.model.named_parameters())
    below = [held[name] for stage in replay.stages[:depth] for name in stage.parameters if held[name].requires_grad]
    for parameter in below:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in below:
            parameter.requires_grad_(True)
