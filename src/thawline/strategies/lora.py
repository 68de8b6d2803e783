"""Low-rank adapters learn, beside weights that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from thawline.errors import UserError, did_you_mean
from thawline.models.adapters import inject, is_adapter, save_adapters, take_out
from thawline.strategies.base import Group, Groups, Strategy, spec_of
from thawline.strategies.what import all_stages

if TYPE_CHECKING:
    from pathlib import Path

    from thawline.models.stages import Stages

Head = bool | Literal["auto"]
_RATE = 10.0
"""Times the learning rate of `full`, as Schulman 2025, "LoRA Without Regret", found."""
_DEFAULTS = {"alpha": None, "dropout": 0.0, "target": "all-linear", "top": 1.0, "head": "auto", "merge": True}


def lora(
    r: int = 16,
    *,
    alpha: float | None = None,
    dropout: float = 0.0,
    target: str | Sequence[str] = "all-linear",
    top: int | float = 1.0,
    head: Head = "auto",
    merge: bool = True,
) -> Strategy:
    """Adapters of rank `r` learn in the blocks; the weights beside them stay as they are, bit for bit.

    A layer answers Wx + alpha/r · BAx, where B is 0 at first and A is not; `alpha` is 2·r if not given, and `dropout` falls on
    x before A. `target` is "all-linear", "attention", or a list of layers as their names end. `top` is the number of blocks
    with adapters, or their share, from the top; below nothing learns. The head learns as a whole where weights of it were made
    anew ("auto"), always, or never. What is saved is merged; with `merge` false adapters are kept as peft writes them.

    Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.

    >>> lora(r=8, target="attention", top=0.5).spec
    "lora(r=8, target='attention', top=0.5)"

    Raises UserError for a value out of range, and for layers that the blocks of the model at hand do not have.
    """
    listed: Any = list(target) if isinstance(target, (list, tuple)) else target
    given = {"alpha": alpha, "dropout": dropout, "target": listed, "top": top, "head": head, "merge": merge}
    _check({"r": r, **given})
    check_beside("lora", top, head)

    def prepare(model: Any, stages: Stages) -> None:
        names = layers(model, stages[-1 - upper("lora", stages, top) : -1], listed)
        _check_rank(model, names, r)
        inject(model, names, r=r, alpha=2 * r if alpha is None else alpha, dropout=dropout)

    def groups(stages: Stages) -> Groups:
        return beside_head(stages, is_adapter, head, blocks=upper("lora", stages, top))

    def finish(model: Any, groups: Groups, folder: Path) -> None:
        if not merge:
            learned = (name for group in groups for name in group.parameters)
            save_adapters(model, folder, [name for name in learned if not is_adapter(name)])
        take_out(model, merge=merge)

    spec = spec_of("lora", r=r, **unusual(given, _DEFAULTS))
    return Strategy(spec, groups, all_stages, prepare=prepare, finish=finish, rate=_RATE)


def layers(model: Any, blocks: Stages, target: str | list[str]) -> list[str]:
    """Return the names of the layers of some blocks that `target` means, as `lora` takes it; raises UserError for none."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    named = dict(model.named_modules())
    inside = [name for block in blocks for name in block.modules]
    # An attention of torch's own reads the weights of its layers past their forward.
    own = (name for name in inside if not isinstance(named[name.rpartition(".")[0]], nn.MultiheadAttention))
    linear = [name for name in own if isinstance(named[name], (nn.Linear, Conv1D))]
    if target == "attention":
        found = [name for name in linear if "attention" in name.lower() or "attn" in name.lower()]
    elif target == "all-linear":
        found = linear
    else:
        found = _ending(inside, [target] if isinstance(target, str) else target)
    if not found:
        weighted = (name for name in inside if any(p.dim() > 1 for p in named[name].parameters(recurse=False)))
        known = ", ".join(sorted({name.rpartition(".")[2] for name in weighted}))
        where = f"in the blocks of {type(model).__name__}"
        raise UserError(f"lora(target={target!r}) finds no layer {where}; name some as a list: target=[{known}].")
    return found


def _check_rank(model: Any, names: list[str], r: int) -> None:
    """Raise UserError for a rank that no layer can have: such adapters hold more than the layers, and add nothing."""
    weights = [getattr(model.get_submodule(name), "weight", None) for name in names]
    most = max((min(weight.flatten(1).shape) for weight in weights if weight is not None and weight.dim() > 1), default=r)
    if r > most:
        raise UserError(f"lora(r={r}) asks for a rank that none of the layers has; expected at most {most}, such as 16.")


def _ending(names: list[str], ends: list[str]) -> list[str]:
    matching = {end: [name for name in names if name == end or name.endswith(f".{end}")] for end in ends}
    for end, found in matching.items():
        if not found:
            hint = did_you_mean(end, {name.rpartition(".")[2] for name in names})
            raise UserError(f"lora(target={ends!r}): no layer in those blocks is called {end!r}{hint or '.'}")
    return [name for name in names if any(name in found for found in matching.values())]


def upper(name: str, stages: Stages, top: int | float) -> int:
    """Return how many blocks `top` means, at least one; `freeze` with the rest of the share has the same thaw line."""
    blocks = len(stages) - 2
    if isinstance(top, float):
        return max(1, blocks - int(blocks * (1 - top) + 0.5))
    if top > blocks:
        raise UserError(f"{name}(top={top}) asks for more blocks than the {blocks} of this model; give at most as many.")
    return top


def beside_head(stages: Stages, learns: Callable[[str], bool], head: Head, *, blocks: int) -> Groups:
    """Return groups of the parameters of the upper `blocks` whose names `learns` is true of, and the head where it learns."""
    last = len(stages) - 1
    chosen = [(i, tuple(filter(learns, stages[i].parameters))) for i in range(last - blocks, last)]
    if head is True or (head == "auto" and stages[last].anew):
        chosen.append((last, stages[last].parameters))
    return tuple(Group(stage, names) for stage, names in chosen if names)


def unusual(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are not as usual; 1 block is another thing than the share 1.0."""
    return {name: value for name, value in given.items() if (type(value), value) != (type(usual[name]), usual[name])}


def check_beside(name: str, top: int | float, head: Head) -> None:
    """Raise UserError where `top` or `head` is out of range."""
    if isinstance(top, bool) or not isinstance(top, (int, float)) or top <= 0 or (isinstance(top, float) and top > 1):
        raise UserError(
            f"{name}(top={top}) is out of range; expected a number of blocks such as 4, or a share above 0 up to 1.0."
        )
    if not isinstance(head, bool) and head != "auto":
        raise UserError(f"{name}(head={head!r}) is out of range; expected true, false or 'auto'.")


def _check(given: dict[str, Any]) -> None:
    wanted: dict[str, tuple[Callable[[Any], bool], str]] = {
        "r": (lambda r: _number(r) and isinstance(r, int) and r > 0, "a whole number of at least 1, such as 16"),
        "alpha": (lambda alpha: alpha is None or (_number(alpha) and alpha > 0), "a number above 0"),
        "dropout": (lambda rate: _number(rate) and 0 <= rate < 1, "a rate from 0 to below 1"),
        "target": (_names_layers, "'all-linear', 'attention' or a list of layers such as [query, value]"),
        "merge": (lambda merge: isinstance(merge, bool), "true or false"),
    }
    for name, (holds, expected) in wanted.items():
        if not holds(given[name]):
            raise UserError(f"lora({name}={given[name]!r}) is out of range; expected {expected}.")


def _names_layers(target: Any) -> bool:
    return isinstance(target, str) or (isinstance(target, list) and bool(target) and all(isinstance(n, str) for n in target))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
