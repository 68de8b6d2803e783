"""Which words, or which regions of a picture or a sound, an answer rests on.

Words: integrated gradients (Sundararajan, Taly & Yan 2017) over the embeddings, by captum; what the words contribute adds up to
what the whole text changes in the logit. Where gradients cannot be had that way, and for pictures and sounds, occlusion (Zeiler
& Fergus 2014, section 4): what the logit loses without the word or the region; that does not add up.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thawline.errors import UserError, did_you_mean
from thawline.evaluate.spans import Span, spans_of, split_words
from thawline.models.trace import evaluating

TOLERANCE = 0.05
"""Error of completeness, as a share of the change in the logit, up to which no more steps are made."""
_STEPS, _MOST_STEPS = 32, 512
_AT_ONCE = 16  # copies of the example in one batch
_MOST_WORDS = 256
_BLANKS = (
    "mask_token_id",
    "unk_token_id",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
)  # what an absent word is, the best first


def attribute(
    model: nn.Module,
    tokenizer: Any,
    text: str | tuple[str, str],
    *,
    target: str | int | None = None,
    method: str = "auto",
    max_length: int | None = None,
) -> dict[str, Any]:
    """Return what each word of a text (or of a pair of texts) contributes to the logit of `target`.

    `target` is a label, the number of an output, or None for the highest. `method` is "integrated gradients", "occlusion", or
    "auto": the second where the first does not work, and `notes` says why. Keys of the result: `method`, `target`, `baseline`
    (what stands for an absent word), `output` and `baseline_output` (logits with all words and with none), `words` (each with
    `word`, `start`, `end`: characters in the text; `side`: 0, or 1 in the second text; `contribution`), `special` (what
    special tokens contribute), `completeness_error` (|sum of contributions - change of the logit| over the latter; None for
    occlusion) and `notes`. Raises UserError for a text without words, for an unknown target, and where captum is missing.
    """
    assert method in {"auto", "integrated gradients", "occlusion"}, method
    texts = (text,) if isinstance(text, str) else tuple(text)
    if not any(map(split_words, texts)):
        raise UserError("The text has no words, so there is nothing an answer could rest on; give one that has.")
    notes: list[str] = []
    with evaluating(model):
        encoded = _encode(tokenizer, texts, max_length)
        output = _target(model, encoded, target)
        if method != "occlusion":
            try:
                return _gradients(model, tokenizer, texts, encoded=encoded, target=output, notes=notes)
            except NotImplementedError as reason:
                notes.append(f"Occlusion in place of integrated gradients: {reason}.")
        return _occlude_words(model, tokenizer, texts, target=output, max_length=max_length, notes=notes)


def _encode(tokenizer: Any, texts: Sequence[str], max_length: int | None) -> dict[str, Tensor]:
    options = {"truncation": True, "max_length": max_length} if max_length else {}
    found = tokenizer(*[[text] for text in texts], return_tensors="pt", **options)
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the logits [B, C], in float32 at least."""
    first = next(model.parameters())
    moved = {k: v.to(first.device, first.dtype if v.is_floating_point() else None) for k, v in inputs.items()}
    logits: Tensor = model(**moved).logits
    return logits if logits.dtype == torch.float64 else logits.float()


def _target(model: Any, inputs: Mapping[str, Tensor], target: str | int | None) -> tuple[int, str]:
    """Return the number and the name of the output that is explained."""
    with torch.no_grad():
        logits = _logits(model, inputs)[0]
    names = {int(i): str(name) for i, name in (getattr(model.config, "id2label", None) or {}).items()}
    names = {i: names.get(i, str(i)) for i in range(len(logits))}
    place = int(logits.argmax()) if target is None else target
    if isinstance(place, str):
        hint = did_you_mean(place, names.values()) or f"; it has {', '.join(list(names.values())[:10])}"
        place = next((i for i, name in names.items() if name == place), -1)
        if place < 0:
            raise UserError(f"The model has no label {target!r}{hint}.")
    if place not in names:
        raise UserError(f"The model has the outputs 0 to {len(names) - 1}, and {place} is none of them.")
    return place, names[place]


def _captum() -> Any:
    try:
        return importlib.import_module("captum.attr")
    except ImportError:
        raise UserError("Attributions are computed by captum, which is not installed; type: pip install captum") from None


@dataclass(frozen=True)
class Gradients:
    """Contributions of each position, float [T], what they should add up to, and the token of the baseline (None: the mean)."""

    contributions: Tensor
    output: float
    baseline_output: float
    token: int | None

    @property
    def error(self) -> float:
        """Error of completeness: |sum of contributions - change| / |change|."""
        change = self.output - self.baseline_output
        return abs(float(self.contributions.sum()) - change) / max(abs(change), 1e-6)


def integrated_gradients(
    model: nn.Module, inputs: Mapping[str, Tensor], target: int, *, absent: Tensor, tokens: Sequence[int]
) -> Gradients:
    """Return what each position of `inputs`, tensors of one row [1, T], contributes to the output `target`.

    Where `absent`, bool [T], holds, the baseline is the embedding of the first of `tokens` that has any, else the mean of the
    text's; elsewhere (special tokens, padding) it is the embedding itself, so nothing is contributed. All zeros would be no
    baseline: a norm without centre, as Llama and Qwen have, is discontinuous there. Positions and segments stay as they are.
    The integral is taken with more points until the error of completeness is at most TOLERANCE, or there are 512. Raises
    NotImplementedError for a model that does not take one embedding a token.
    """
    layer, own = _embedded(model, inputs)
    attr = _captum()
    there = absent.to(own.device)[None, :, None]
    token, blank = None, own[:, absent.to(own.device)].mean(dim=1, keepdim=True)
    for candidate in reversed(tokens):
        with torch.no_grad():
            looked_up = layer(torch.full_like(inputs["input_ids"], candidate, device=own.device))
        if looked_up.any():
            token, blank = candidate, looked_up
    baseline = torch.where(there, blank, own)

    def forward(embeddings: Tensor) -> Tensor:
        tiled = {name: value.expand(len(embeddings), *value.shape[1:]) for name, value in inputs.items()}
        with _replaced(layer, embeddings):
            return _logits(model, tiled)[:, target]

    with torch.no_grad():
        ends = float(forward(own)[0]), float(forward(baseline)[0])
    steps = _STEPS
    while True:
        found = attr.IntegratedGradients(forward).attribute(
            own, baselines=baseline, n_steps=steps, method="gausslegendre", internal_batch_size=_AT_ONCE
        )
        result = Gradients(found.detach()[0].double().sum(-1), *ends, token)
        if result.error <= TOLERANCE or steps >= _MOST_STEPS:
            return result
        steps *= 2


def _embedded(model: Any, inputs: Mapping[str, Tensor]) -> tuple[nn.Module, Tensor]:
    """Return the layer of token embeddings and what it gives, [1, T, D]; raises NotImplementedError where there is none."""
    try:
        layer = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        layer = None
    if not isinstance(layer, nn.Module) or "input_ids" not in inputs:
        raise NotImplementedError("the model has no layer of token embeddings")
    with torch.no_grad(), _seen(layer) as seen:
        _logits(model, inputs)
    if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].shape[:-1] != inputs["input_ids"].shape:
        raise NotImplementedError("the model does not look up its token embeddings exactly once")
    return layer, seen[0].detach()


@contextmanager
def _seen(layer: nn.Module) -> Iterator[list[Any]]:
    outputs: list[Any] = []
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _replaced(layer: nn.Module, output: Tensor) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def _gradients(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    encoded: Mapping[str, Tensor],
    target: tuple[int, str],
    notes: list[str],
) -> dict[str, Any]:
    found = spans_of(tokenizer, texts, encoded["input_ids"][0].tolist())
    if found is None:
        raise NotImplementedError("the tokenizer does not say which characters a token stands for")
    words, place = found
    absent = torch.tensor([i is not None for i in place])
    tokens = [i for name in _BLANKS if (i := getattr(tokenizer, name, None)) is not None]
    result = integrated_gradients(model, encoded, target[0], absent=absent, tokens=tokens)
    totals, special = [0.0] * len(words), 0.0
    for i, value in zip(place, result.contributions.tolist(), strict=True):
        if i is None:
            special += value
        else:
            totals[i] += value
    if result.error > TOLERANCE:
        notes.append(f"The contributions add up to the change of the logit only within {result.error:.0%}.")
    rest = [text for side, text in enumerate(texts) if text[max((w.end for w in words if w.side == side), default=0) :].strip()]
    if rest:
        notes.append("The text is longer than the model reads; the words that were cut off contribute nothing.")
    return {
        "method": "integrated gradients",
        "target": target[1],
        "baseline": tokenizer.convert_ids_to_tokens(result.token) if result.token is not None else "mean of the words",
        "output": result.output,
        "baseline_output": result.baseline_output,
        "words": _words(texts, words, totals),
        "special": special,
        "completeness_error": result.error,
        "notes": notes,
    }


def _words(texts: Sequence[str], words: Sequence[Span], contributions: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"word": texts[w.side][w.start : w.end], "start": w.start, "end": w.end, "side": w.side, "contribution": value}
        for w, value in zip(words, contributions, strict=True)
    ]


def _occlude_words(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    target: tuple[int, str],
    max_length: int | None,
    notes: list[str],
) -> dict[str, Any]:
    """Return what the logit loses where a word gives way to the mask token, or is left out where there is none."""
    blank = tokenizer.mask_token or ""

    def output(*gone: Span) -> float:
        changed = list(texts)
        for span in sorted(gone, key=lambda span: -span.start):
            changed[span.side] = changed[span.side][: span.start] + blank + changed[span.side][span.end :]
        with torch.no_grad():
            return float(_logits(model, _encode(tokenizer, changed, max_length))[0, target[0]])

    words = [span for side, text in enumerate(texts) for span in split_words(text, side)]
    if len(words) > _MOST_WORDS:
        notes.append(f"Of {len(words):,} words the first {_MOST_WORDS} were looked at, to stay quick.")
        words = words[:_MOST_WORDS]
    whole = output()
    return {
        "method": "occlusion",
        "target": target[1],
        "baseline": blank or "left out",
        "output": whole,
        "baseline_output": output(*words),
        "words": _words(texts, words, [whole - output(word) for word in words]),
        "special": 0.0,
        "completeness_error": None,
        "notes": notes,
    }
