"""A model that learns: what is open now, at which rates, and one step of its optimiser."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from thawline.models.stages import Stages
from thawline.strategies.base import Groups, Strategy
from thawline.train.masters import Masters, publish_abreast
from thawline.train.optimize import fused, load_state, set_rates, state_tensors
from thawline.train.schedule import Schedule
from thawline.train.watch import Watch
from thawline.train.workers import Workers, side_by_side, threads_inside


@final
@dataclass
class Learner:
    """A model with its stages, a strategy's groups, an optimiser over the masters of their weights, and a schedule.

    `copies` are models that share its weights; they take part in what is frozen and what is in training mode. With
    `frozen_statistics` batch norms keep their running statistics, so that no example depends on its mates.
    """

    model: nn.Module
    stages: Stages
    strategy: Strategy
    groups: Groups
    masters: Masters
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    max_norm: float | None = None
    copies: Sequence[nn.Module] = ()
    workers: Workers | None = None
    frozen_statistics: bool = True

    def __post_init__(self) -> None:
        self._active: frozenset[int] | None = None
        schedule = self.schedule
        self.watch = Watch(self.strategy.adaptation, self.groups, total=schedule.total, warmup=schedule.warmup)

    @property
    def thaw_line(self) -> int:
        """The index of the first stage that learns now."""
        return min(self._active) if self._active else len(self.stages)

    def open(self, step: int) -> bool:
        """Let the stages learn that the strategy opens at this step, and freeze the others: eval mode, no gradient.

        Returns whether anything changed. What has settled is frozen for good, so its optimiser's state goes too.
        """
        line = self.watch.line(step)
        active = self._active_at(step)
        if active == self._active:
            return False
        self._active = active
        learning = self._learning(active)
        for modules in (dict(model.named_modules()) for model in (self.model, *self.copies)):
            for index, stage in enumerate(self.stages):
                for name in stage.modules:
                    # One by one, not `train()`: a container that spans stages follows the lowest, so that what it does by its
                    # own mode (SpecAugment, dropping layers) stays off while that one is frozen.
                    frozen = self.frozen_statistics and isinstance(modules[name], _BatchNorm)
                    modules[name].training = index in active and not frozen
        self.masters.open(learning)
        for name in self._learning(frozenset(range(line))):
            self.optimizer.state.pop(self.masters.named[name], None)
        return True

    def learns_the_same(self, step: int) -> bool:
        """Whether the stages that learn now will at another step, unless the strategy decides otherwise until then."""
        return self._active_at(step) == self._active

    def frozen_again(self, step: int) -> bool:
        """Whether something below the thaw line, as it is at this step, has learned at an earlier one."""
        return any(min(self._active_at(earlier), default=self.thaw_line) < self.thaw_line for earlier in range(step))

    def _active_at(self, step: int) -> frozenset[int]:
        line = self.watch.decisions.line
        return frozenset(i for i in self.strategy.active(self.groups, step / self.schedule.total) if i >= line)

    def _learning(self, active: frozenset[int]) -> frozenset[str]:
        return frozenset(n for g in self.groups if g.stage in active for n in g.parameters)

    def step(self, done: int, weight: float) -> tuple[float, dict[str, float]]:
        """Divide the summed gradients by `weight`, clip, and step at the rates after `done` steps; return norm and rates."""
        parameters = self._moved()
        workers = self.workers if fused(self.optimizer) else None
        norms = torch.empty(len(parameters))
        for places, found in side_by_side(parameters, lambda places: _norms([parameters[i] for i in places]), workers):
            norms[places] = found
        norm, rates, factor = self._judged(done, weight, norms)
        side_by_side(parameters, lambda places: self._update([parameters[i] for i in places], factor), workers)
        self.forget()
        return norm, rates

    def _moved(self) -> list[nn.Parameter]:
        return [parameter for _, parameter in self._parameters if parameter.grad is not None]

    def _judged(self, done: int, weight: float, norms: Tensor) -> tuple[float, dict[str, float], float]:
        """Return the norm of the gradient, the rates, and the factor that its sums are to be multiplied with."""
        rates = set_rates(self.optimizer, self.schedule(done))
        norm = float(torch.linalg.vector_norm(norms)) / weight
        if self.watch.adaptation is not None:
            stages = [stage for stage, parameter in self._parameters if parameter.grad is not None]
            self.watch.see(done, stages, norms / weight)
        clip = min(1.0, self.max_norm / (norm + 1e-6)) if self.max_norm else 1.0
        return norm, rates, clip / weight

    def _update(self, parameters: Sequence[nn.Parameter], factor: float) -> None:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], factor)
        if fused(self.optimizer):
            own, optimizer = set(parameters), copy.copy(self.optimizer)  # which shares the state
            optimizer.param_groups = [
                {**group, "params": [p for p in group["params"] if p in own]} for group in self.optimizer.param_groups
            ]
            optimizer.step()
        else:
            self.optimizer.step()
        self.masters.publish(parameters)

    def forget(self) -> None:
        """Let the gradients go."""
        self.optimizer.zero_grad(set_to_none=True)

    @cached_property
    def _parameters(self) -> list[tuple[int, nn.Parameter]]:
        """Each with its stage."""
        return [(group["stage"], p) for group in self.optimizer.param_groups for p in group["params"]]

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return what a checkpoint must hold: weights and buffers that training can change, and the optimiser's state."""
        return {"model": self._changing(), "optimizer": state_tensors(self.optimizer)}

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put back what `tensors` returned."""
        self.load_weights(tensors["model"])
        load_state(self.optimizer, tensors["optimizer"])

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put back the weights and buffers of a checkpoint."""
        with torch.no_grad():
            for name, tensor in self._changing().items():
                tensor.copy_(weights[name])
        self.masters.publish()

    def _changing(self) -> dict[str, Tensor]:
        learned = {name for group in self.groups for name in group.parameters}
        open_ever = {group.stage for group in self.groups}
        modules = {name for i in open_ever for name in self.stages[i].modules}
        weights = {n: p.data for n, p in self.masters.named.items() if n in learned}
        buffers = {n: b for n, b in self.model.named_buffers() if n.rpartition(".")[0] in modules}
        return weights | buffers


def _norms(parameters: Sequence[nn.Parameter]) -> Tensor:
    return torch.stack(torch._foreach_norm([p.grad for p in parameters if p.grad is not None])).float().cpu()


def step_abreast(
    learners: Sequence[Learner], done: int, weights: Sequence[float], *, threads: int = 1
) -> list[tuple[float, dict[str, float]]]:
    """Take one step of each learner, as `Learner.step` does, with operations that all of them share.

    Those that take each number by itself, as fused optimisers do, have so many `threads` inside: that leaves the bits as they
    are, where a sum's may be others.
    """
    moved = [learner._moved() for learner in learners]
    every = [parameter for own in moved for parameter in own]
    norms = iter(_norms(every).split([len(own) for own in moved]))
    found, factors = list[tuple[float, dict[str, float]]](), list[float]()
    for learner, weight, own in zip(learners, weights, moved, strict=True):
        norm, rates, factor = learner._judged(done, weight, next(norms))
        found.append((norm, rates))
        factors += [factor] * len(own)
    optimizers = _joined([learner.optimizer for learner in learners])
    with threads_inside(threads if all(map(fused, optimizers)) else 1):
        torch._foreach_mul_([parameter.grad for parameter in every if parameter.grad is not None], factors)
        for optimizer in optimizers:
            optimizer.step()
        publish_abreast([learner.masters for learner in learners], moved)
    for learner in learners:
        learner.forget()
    return found


def _joined(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Return fused optimisers of one class as one over the groups of all: what a step costs in Python is paid once.

    They share one table of states from then on, in which each finds its own. Of others nothing is known.
    """
    joined = dict[type, torch.optim.Optimizer]()
    for optimizer in filter(fused, optimizers):
        if (first := joined.get(type(optimizer))) is None:
            first = joined[type(optimizer)] = copy.copy(optimizer)
            first.param_groups = []
        if optimizer.state is not first.state:
            first.state.update(optimizer.state)
            optimizer.state = first.state
        first.param_groups += optimizer.param_groups
    return [*joined.values(), *(optimizer for optimizer in optimizers if not fused(optimizer))]
