"""Optimisers over the groups of a strategy, and their state as named tensors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thawline.models.heads import decays
from thawline.strategies.base import Group, Groups
from thawline.train.optimizers import optimizer_class

_OURS = {"params", "names", "stage", "rate", "lr"}


@dataclass(frozen=True)
class Optimization:
    """An optimiser by name with its numbers; `learning_rate` is that of groups without one of their own."""

    name: str = "adamw"
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9

    def build(self, named: Mapping[str, nn.Parameter], groups: Groups) -> torch.optim.Optimizer:
        """Return an optimiser over the parameters of `groups`, by name; norms and biases get no weight decay."""
        names = [name for group in groups for name in group.parameters]
        assert len(names) == len(set(names)), "a parameter stands in two groups"
        entries = [entry for group in groups for entry in self._entries(group, named)]
        kind: Any = optimizer_class(self.name)
        numbers = {"momentum": self.momentum, "betas": self.betas, "eps": self.eps, "fused": True}
        taken = inspect.signature(kind).parameters
        made: torch.optim.Optimizer = kind(
            entries, lr=self.learning_rate, **{key: value for key, value in numbers.items() if key in taken}
        )
        return made

    def _entries(self, group: Group, named: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        rate = (group.rate or self.learning_rate) * group.scale
        entries = []
        for decayed in (True, False):
            names = [n for n in group.parameters if decays(n, named[n].dim()) is decayed]
            decay = self.weight_decay if decayed else 0.0
            entry = {"names": names, "stage": group.stage, "rate": rate, "lr": rate, "weight_decay": decay}
            entries.append({"params": [named[n] for n in names], **entry})
        return [entry for entry in entries if entry["names"]]


def fused(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an optimiser treats each tensor by itself, so that threads may share them: torch's fused ones do.

    Of others nothing is known: one may keep in its groups, or beside them, what it goes by.
    """
    return bool(optimizer.defaults.get("fused"))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set each group's learning rate to its own times `factor`; returns them by stage, lowest first."""
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * factor
    return {str(group["stage"]): group["lr"] for group in optimizer.param_groups}


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors named "parameter/key"."""
    tensors = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key, value in optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"{name}/{key}"] = torch.as_tensor(value).contiguous()
    return tensors | {name: torch.as_tensor(group[key], dtype=torch.float64) for name, group, key in _counted(optimizer)}


def load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` returned."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key in (key for key in tensors if key.rpartition("/")[0] == name):
                optimizer.state[parameter][key.rpartition("/")[2]] = _laid_out(tensors[key], parameter)
    for name, group, key in _counted(optimizer):
        group[key] = type(group[key])(tensors[name].item() if name in tensors else group[key])


def _counted(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the numbers that an optimiser of one's own keeps in its groups, where it may count: name, group, key."""
    for place, group in enumerate(optimizer.param_groups):
        for key in () if fused(optimizer) else sorted(group.keys() - _OURS):
            if type(group[key]) in (int, float):
                yield f"group {place}/{key}", group, key


def _laid_out(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return a copy that lies in memory as the parameter does: fused optimisers go through both without looking at strides."""
    alike = tensor.shape == parameter.shape
    made = torch.empty_like(parameter.data if alike else tensor, dtype=tensor.dtype, device=parameter.device)
    return made.copy_(tensor)
