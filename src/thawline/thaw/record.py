"""A trace boiled down to what replaying needs: shapes, dtypes, and which tensors are the same one; no tensor is kept."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten

from thawline.models.trace import trace


class Leaf(NamedTuple):
    """A tensor that passed a call; equal tokens are one tensor (or a view of it that differs in nothing)."""

    token: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Record(NamedTuple):
    """One call: `args` by position or keyword, `inputs` all tensors among them, `output` flattened, and `spec` to undo that."""

    module: str
    nth: int
    start: int
    end: int
    args: Mapping[int | str, Leaf]
    inputs: tuple[Leaf, ...]
    output: tuple[Any, ...]
    spec: TreeSpec


def record(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Record, ...]:
    """Trace one forward pass without gradient."""
    with torch.no_grad():
        calls = trace(model, inputs, values=True)
    tokens: dict[Any, int] = {}

    def leaf(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        shape, stride = tuple(value.shape), value.stride()
        # All tensors of the trace are alive, so an address stands for one of them.
        token = tokens.setdefault((value.data_ptr(), shape, stride, value.dtype), len(tokens))
        return Leaf(token, shape, stride, value.dtype)

    records = []
    for call in calls:
        named: dict[Any, Any] = {**dict(enumerate(call.args)), **call.kwargs}
        args = {key: leaf(value) for key, value in named.items() if isinstance(value, Tensor)}
        every = tuple(leaf(value) for value in tree_flatten((call.args, call.kwargs))[0] if isinstance(value, Tensor))
        output, spec = tree_flatten(call.output)
        records.append(Record(*call[:4], args, every, tuple(leaf(value) for value in output), spec))
    return tuple(records)


def other_sizes(inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the batch with other numbers of rows and columns, in ways of which a model may bear only one.

    Columns are taken out or doubled after the first, so that ends stay where they are. Rows more than double, columns do not:
    what depends on which shows in the sizes.
    """
    for factor in (-1, 1, 0):
        yield {name: _resized(value, factor) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _resized(value: Tensor, factor: int) -> Tensor:
    rows = torch.arange(2 * len(value) + 1) % len(value)
    value = value[rows.to(value.device)]
    if value.dim() != 2:
        return value
    width = value.shape[1]
    some = (width // 3) * factor
    columns = list(range(width))
    columns = columns[:1] + columns[1 - some :] if some <= 0 else columns[:1] + columns[1 : 1 + some] + columns[1:]
    return value[:, torch.tensor(columns, device=value.device)]


@dataclass(frozen=True)
class Traces:
    """The same pass three times: as given, with other sizes, and under autocast (None where the model bore none of it).

    `sizes` has, for each size that changed, as (given, resized), the input's name and axis that it was; `switches` are the
    arguments that turn off what cannot be replayed.
    """

    given: tuple[Record, ...]
    resized: tuple[Record, ...] | None
    lowered: tuple[Record, ...] | None
    batches: tuple[Mapping[str, Any], ...]
    sizes: Mapping[tuple[int, int], tuple[str, int]]
    switches: Mapping[str, Any]


def traces(model: nn.Module, inputs: Mapping[str, Any]) -> Traces:
    """Trace a model as given, resized and under autocast."""
    switches = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    device = next((value.device.type for value in inputs.values() if isinstance(value, Tensor)), "cpu")
    with torch.autocast(device, enabled=False):
        given = record(model, {**inputs, **switches})
        path = [call.module for call in given]
        resized, other = None, dict(inputs)
        for batch in other_sizes(inputs):
            resized = _tried(model, {**batch, **switches}, path)
            if resized:
                other = batch
                break
    with torch.autocast(device, torch.bfloat16):
        lowered = _tried(model, {**inputs, **switches}, path)
    changed = (
        ((a, b), (name, axis))
        for name, value in inputs.items()
        if isinstance(value, Tensor)
        for axis, (a, b) in enumerate(zip(value.shape, other[name].shape, strict=True))
        if a != b
    )
    return Traces(given, resized, lowered, (inputs, other) if resized else (inputs,), dict(changed), switches)


def _tried(model: nn.Module, inputs: Mapping[str, Any], path: list[str]) -> tuple[Record, ...] | None:
    try:
        made = record(model, inputs)
    except Exception:  # a model may refuse made-up sizes in any way it likes
        return None
    return made if [call.module for call in made] == path else None
