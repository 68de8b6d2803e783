"""Low-rank adapters learn beside frozen weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from thawline.errors import UserError, did_you_mean
from thawline.strategies.base import Group, Groups, Strategy, spec_of
from thawline.strategies.what import all_stages

if TYPE_CHECKING:
    from pathlib import Path

    from thawline.models.stages import Stage, Stages

Head = bool | Literal["auto"]
_RATE = 10.0
"""Times the rate of `full`: what suits adapters (Schulman 2025, "LoRA Without Regret") and biases (Ben Zaken et al. 2022)."""


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

    A layer answers Wx + alpha/r · BAx, where B starts at 0; `alpha` is 2·r if not given. `target` is "all-linear", "attention", or
    the names of layers as they end (["query", "value"]). `top` is the number, or the share, of the blocks that get adapters, from
    the top. The head learns as a whole where weights of it were made anew ("auto"), always, or never. What is saved is merged;
    with `merge` false the adapters are kept apart, as peft writes them. Source: Hu et al. 2022, "LoRA", section 4.

    >>> lora(r=8, target="attention", top=0.5).spec
    "lora(r=8, target='attention', top=0.5)"

    Raises UserError for a value out of range, and where the model has no such layer.
    """
    _check_numbers(r, alpha, dropout)
    _check_top("lora", top)
    _check_head("lora", head)
    if not isinstance(merge, bool):
        raise UserError(f"lora(merge={merge!r}) is out of range; expected true or false.")
    if not target or not (isinstance(target, str) or all(isinstance(name, str) for name in target)):
        raise UserError(f'lora(target={target!r}) is out of range; expected "all-linear", "attention" or a list of layers.')
    wanted = target if isinstance(target, str) else list(target)
    given = {"alpha": alpha, "dropout": dropout, "target": wanted, "top": top, "head": head, "merge": merge}

    def prepare(model: Any, stages: Stages) -> None:
        from thawline.models.adapters import inject

        names = layers(model, upper(stages, top), wanted)
        inject(model, names, r=r, alpha=2 * r if alpha is None else alpha, dropout=dropout)

    def groups(stages: Stages) -> Groups:
        from thawline.models.adapters import is_adapter

        return beside_head(stages, stages[1:-1], lambda name: is_adapter(name), head=head)

    def finish(model: Any, groups: Groups, folder: Path) -> None:
        from thawline.models.adapters import is_adapter, save_adapters, take_out

        if not merge:
            learned = [name for group in groups for name in group.parameters]
            save_adapters(model, folder, [name for name in learned if not is_adapter(name)])
        take_out(model, merge=merge)

    return Strategy(_spec("lora", {"r": r}, given), groups, all_stages, prepare=prepare, finish=finish, rate=_RATE)
