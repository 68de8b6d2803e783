"""One training pass on a processor: random numbers from a key, not from a state that threads share, and cheap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from thawline.train import depthwise

_LOCK = threading.Lock()
_LEVELS = 1 << 16
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_SHORT_ROW = 64
"""Numbers in a row below which torch takes a softmax in bfloat16 one by one: 7 ns a number at 26, and 5 on the way back."""


@final
class Draws(TorchFunctionMode):
    """Within it, all that torch draws at random in this thread follows from `key`; the model's code is not touched.

    Dropout takes sixteen random bits an element from a counter of its own (SFC64 of numpy, seeded by the key) where torch draws
    a double from one generator that all threads share: the rate is met to 1/65536, masks are independent from element to
    element and from step to step. What else draws does so from torch's generator, seeded from the same stream, a thread at a
    time. And what torch computes slowly there is computed another way (`depthwise`), since one mode may as well do both.

    >>> def drawn(*key: int) -> torch.Tensor:
    ...     with Draws(key):
    ...         return functional.dropout(torch.ones(1000), 0.1)
    >>> torch.equal(drawn(1, 2), drawn(1, 2)), torch.equal(drawn(1, 2), drawn(1, 3))
    (True, False)
    """

    def __init__(self, key: Iterable[int]) -> None:
        super().__init__()
        self._bits = np.random.Generator(np.random.SFC64(np.random.SeedSequence(tuple(key))))

    def __enter__(self) -> Draws:
        _HERE.draws = self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        own = _OWN.get(func)
        return func(*args, **(kwargs or {})) if own is None else own(self, func, args, kwargs=kwargs or {})

    def _dropout(self, func: Callable[..., Any], args: tuple[Any, ...], *, kwargs: Mapping[str, Any]) -> Tensor:
        given = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | dict(kwargs)
        values: Tensor = given["input"]
        p = given.get("p", 0.5)
        if not given.get("training", True) or p == 0:
            return values
        kept = self._kept(values, p)
        return values.mul_(kept) if given.get("inplace") else values * kept

    def _convolution(self, func: Callable[..., Any], args: tuple[Any, ...], *, kwargs: Mapping[str, Any]) -> Tensor:
        return depthwise.conv2d(func, args, kwargs)

    def _seeded(self, func: Callable[..., Any], args: tuple[Any, ...], *, kwargs: Mapping[str, Any]) -> Any:
        with _LOCK:
            torch.manual_seed(int(self._bits.integers(2**63)))
            return func(*args, **kwargs)

    def _attention_of_modules(self, func: Callable[..., Any], args: tuple[Any, ...], *, kwargs: Mapping[str, Any]) -> Any:
        """Torch's own attention (WavLM's, say) calls dropout where no mode sees it."""
        given = dict(zip(_OF_MODULES, args, strict=False)) | dict(kwargs)
        if not given.get("training", True) or not given["dropout_p"]:
            return func(*args, **kwargs)
        return self._seeded(func, args, kwargs=kwargs)

    def _kept(self, like: Tensor, p: float) -> Tensor:
        """Return 1/(1-p) where an element is kept and 0 where it is dropped."""
        # Not `is_compiling`, which is true too while another thread compiles.
        if torch.compiler.is_dynamo_compiling():
            made: Tensor = masked(like.detach(), p)
            return made
        dropped = round(p * _LEVELS)
        if dropped == _LEVELS:
            return torch.zeros_like(like)
        bits = self._bits.integers(2**64, size=-(-like.numel() // 4), dtype=np.uint64).view(np.int16)[: like.numel()]
        # The factor's own bits times one or zero: a fourth of the time of a comparison, a conversion and a product in torch.
        factor = torch.full((1,), _LEVELS / (_LEVELS - dropped), dtype=like.dtype)
        pattern = factor.view(_INTEGERS[like.element_size()]).numpy()[0]
        kept = np.multiply(bits >= dropped - _LEVELS // 2, pattern, dtype=pattern.dtype)
        return torch.from_numpy(kept).view(like.dtype).view(like.shape)

    def _attention(self, func: Callable[..., Tensor], args: tuple[Any, ...], *, kwargs: Mapping[str, Any]) -> Tensor:
        """Attention with dropout on its weights, which torch computes in the same steps on a processor."""
        given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | dict(kwargs)
        p = given.get("dropout_p", 0.0)
        if p == 0:
            return func(*args, **kwargs)
        query, key, value = given["query"], given["key"], given["value"]
        if given.get("enable_gqa"):
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        scale = given.get("scale") or query.shape[-1] ** -0.5
        scores = torch.matmul(query * scale, key.transpose(-2, -1))
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if mask is not None:
            least = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(~mask, least) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)
        whole = torch.float32 if scores.shape[-1] < _SHORT_ROW else scores.dtype
        weights = scores.softmax(-1, dtype=whole).to(scores.dtype)
        return torch.matmul(weights * self._kept(weights, p), value)


_HERE = threading.local()


@torch.library.custom_op("thawline::masked", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def masked(like: Tensor, p: float) -> Tensor:
    """Return what `Draws` of this thread keeps: compiled code does not look into it, nor draw one mask for two."""
    draws: Draws = _HERE.draws
    return draws._kept(like, p)


@masked.register_fake
def _(like: Tensor, p: float) -> Tensor:
    return torch.empty_like(like)


_OF_MODULES = tuple(signature(functional.multi_head_attention_forward).parameters)
_OWN: dict[Any, Callable[..., Any]] = {
    getattr(place, name): Draws._seeded
    for place, names in {
        functional: "dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout gumbel_softmax rrelu",
        torch: "rand rand_like randn randn_like randint randint_like randperm bernoulli multinomial normal poisson",
        Tensor: "bernoulli bernoulli_ multinomial normal_ uniform_ random_ exponential_ geometric_ cauchy_ log_normal_",
    }.items()
    for name in names.split()
} | {
    functional.dropout: Draws._dropout,
    functional.multi_head_attention_forward: Draws._attention_of_modules,
    functional.scaled_dot_product_attention: Draws._attention,
    torch.conv2d: Draws._convolution,
}
