"""The loop: the only one. What varies comes in by value."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import nn

from thawline.data.batch import on_grid
from thawline.errors import DivergedError
from thawline.tasks.base import Objective, Step
from thawline.tasks.supervised import Supervised
from thawline.thaw.prefix import Prefix
from thawline.train.checkpoint import Checkpoints
from thawline.train.device import Device, interrupts
from thawline.train.learner import Learner
from thawline.train.steps import Order
from thawline.train.stop import Judge, Standing
from thawline.train.trust import Part, Trust
from thawline.train.workers import Workers
from thawline.types import Batch


class Moment(NamedTuple):
    """Something that observers may want to know: `kind` is "step", "features", "evaluating", "evaluation", "checkpoint", "end".

    "features" is told while the outputs of the frozen part are stored, "evaluating" before "evaluation" is there; their records
    have "done" and "total", in examples.
    """

    kind: str
    step: int
    total: int
    record: Mapping[str, Any]


Told = Callable[[int, int], None]
"""Is told how many of how many examples are done."""
Observer = Callable[[Moment], None]
"""Reads a moment; it cannot change training."""


def untold(done: int, total: int) -> None:
    """Tell nobody."""


@final
@dataclass(frozen=True)
class Gradients:
    """Computes the gradients of one step: micro-batch by micro-batch, sums and not means.

    `workers` compute micro-batches side by side; their gradients are added up in one order, whoever is done first. `seed`, the
    step and the place of a micro-batch in it decide every random number. What is frozen comes from `prefix`. With `whole` the
    examples of a step run together, as far as `max_examples` lets them.
    """

    data: Supervised
    order: Order
    objective: Objective
    max_examples: int
    seed: int
    device: Device
    workers: Workers
    prefix: Prefix
    whole: bool = False
    trust: Trust = field(default_factory=Trust)

    def __call__(self, learner: Learner, step: int, progress: float) -> dict[str, float]:
        """Leave Σ w·l's gradients with the masters; return sums of loss and weight, and counts of examples and tokens."""
        sums = {"total": 0.0, "weight": 0.0, "examples": 0.0, "tokens": 0.0}
        depth, workers = self.prefix.depth(learner.thaw_line), self.device.processes * self.workers.count
        # Where little is left to compute, threads and micro-batches cost more than they gain.
        head_only = depth == len(learner.stages) - 1
        uncut = head_only or self.whole
        parts = self.order.micro_batches(step, max_examples=self.max_examples, workers=0 if uncut else workers)
        data = self.data.seen(step // self.order.steps_per_epoch)
        if head_only:
            self.prefix.ahead(data, self.order.examples(step), depth)

        def part(item: tuple[int, np.ndarray], short: bool = False) -> Part:
            place, indices = item
            length = int(on_grid(self.data.lengths[indices], self.order.longest).max())
            taken = data.hollow if depth else data.batch
            batch = on_device(taken(indices, length), self.device)
            draws, replaying = self.device.draws(self.seed, step, place), self.prefix.replaying
            with (
                self.prefix.replicas.taken() as replica,
                self.device.autocast(),
                draws,
                replaying(replica, data, indices, batch=batch, depth=depth, short=short),
            ):
                loss = self.objective(Step(replica.model, data.task, batch, progress))
            counts = (float(loss.total.detach()), float(loss.weight), len(indices), int(self.data.lengths[indices].sum()))
            # Not added to the parameters' own, which all workers share.
            gradients = torch.autograd.grad(loss.total, learner.masters.learning, allow_unused=True)
            return dict(zip(sums, counts, strict=True)), gradients

        shared = self.device.share(list(enumerate(parts)))
        alone = (self.trust(partial(part, item)) for item in shared)
        for counts, gradients in alone if head_only else self.workers.each(part, shared):
            learner.masters.add(gradients, self.workers)
            sums = {key: value + counts[key] for key, value in sums.items()}
        return self.device.summed(learner.masters, sums)


def on_device(batch: Batch, device: Device) -> Batch:
    """Return a batch with its tensors on the device, numbers among the inputs in the dtype of the weights."""
    targets = batch.targets.to(device.device) if batch.targets is not None else None
    inputs = {name: device.taken(value) for name, value in batch.inputs.items()}
    return Batch(inputs, targets, batch.weights.to(device.device), batch.ids, batch.items)


@final
@dataclass(frozen=True)
class Rhythm:
    """How many steps to train, and after how many steps to evaluate and how many seconds to keep a checkpoint."""

    total: int
    evaluate_every: int | None
    checkpoint_seconds: float = 300.0


@dataclass
class State:
    """What a checkpoint holds beside tensors; `seconds` are those of training, evaluating and saving so far.

    `watched` is what the learner's strategy decided while training, and what it will decide by.
    """

    step: int = 0
    standing: Standing = field(default_factory=Standing)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluation": 0.0, "saving": 0.0})
    examples: int = 0
    tokens: int = 0
    ended: str | None = None
    watched: dict[str, Any] | None = None


class _SpentError(Exception):
    """The time budget is spent while the outputs of the frozen part are stored."""


@final
class Loop:
    """Trains a learner; `evaluate` is called by value, tells how far it is, and returns metrics of the validation set.

    `observers` are told of every moment; `deadline`, a reading of time.monotonic, ends the training at the first step past it;
    `settled` is called with a line that the strategy has decided on, and the step, before what lies below is computed.
    """

    def __init__(
        self,
        learner: Learner,
        gradients: Gradients,
        rhythm: Rhythm,
        *,
        judge: Judge,
        evaluate: Callable[[nn.Module, Told], dict[str, Any]] | None,
        checkpoints: Checkpoints,
    ) -> None:
        self.learner, self.gradients, self.rhythm, self.judge = learner, gradients, rhythm, judge
        self.evaluate, self.checkpoints = evaluate, checkpoints
        self.observers: Sequence[Observer] = ()
        self.deadline: float | None = None
        self.settled: Callable[[int, int], object] = lambda line, step: None
        self.state = State()
        self._interrupted: Sequence[int] = ()

    def resume(self) -> bool:
        """Go back to the last checkpoint, if there is one."""
        kept = self.checkpoints.last()
        if kept is None:
            return False
        tensors, state = kept
        self.learner.load(tensors)
        self.state = State(**{**state, "standing": Standing(*state["standing"])})
        if self.state.watched is not None:
            self.learner.watch.load(self.state.watched)
        return True

    def run(self) -> State:
        """Train to the end and return the state there; interrupted from the keyboard, a checkpoint is kept first."""
        state, saved = self.state, time.monotonic()
        with interrupts() as interrupted:
            self._interrupted = interrupted
            while state.ended is None and state.step < self.rhythm.total:
                self._timed("train", self._step)
                if due := self._evaluation_due():
                    self._timed("evaluation", self._evaluate)
                stopped = self.gradients.device.agreed(bool(interrupted))
                if not (stopped or due or time.monotonic() - saved >= self.rhythm.checkpoint_seconds):
                    continue
                self._timed("saving", self._save)
                saved = time.monotonic()
                if stopped:
                    raise KeyboardInterrupt
        self._tell("end", {})
        return state

    def _step(self) -> None:
        state, learner = self.state, self.learner
        start = time.monotonic()
        data, (epoch, place) = self.gradients.data, divmod(state.step, self.gradients.order.steps_per_epoch)
        if learner.open(state.step):
            if (line := learner.watch.decisions.line) > 0:
                self.settled(line, state.step)
            self._fill(data.seen(epoch))
        elif place == 0 and data.views is not None:  # other views, which are stored as they come up
            self._fill(data.seen(epoch))
        sums = self.gradients(learner, state.step, state.step / self.rhythm.total)
        if not math.isfinite(sums["total"]):
            raise DivergedError(
                f"The loss is {sums['total']} at step {state.step + 1}: training has diverged; try a lower train.learning_rate."
            )
        record: dict[str, Any] = {"skipped": True}
        if sums["weight"] > 0:
            norm, rates = learner.step(state.step, sums["weight"])
            record = {"loss": sums["total"] / sums["weight"], "gradient_norm": norm, "learning_rates": rates}
        seconds = time.monotonic() - start
        state.step += 1
        state.examples += int(sums["examples"])
        state.tokens += int(sums["tokens"])
        speed = {"examples_per_second": sums["examples"] / seconds, "tokens_per_second": sums["tokens"] / seconds}
        passes = state.step / self.gradients.order.steps_per_epoch
        self._tell("step", {"epoch": passes, **record, "thaw_line": learner.thaw_line, **speed})
        if self.deadline is not None and self.gradients.device.agreed(time.monotonic() >= self.deadline):
            state.ended = "the time budget is spent"

    def _fill(self, data: Supervised) -> None:
        """Store what the frozen part computes, for as long as there is time: the rest is computed as it comes up."""
        with suppress(_SpentError):
            self.gradients.prefix.fill(data, self.learner.thaw_line, self._tell_features)

    def _evaluation_due(self) -> bool:
        every = self.rhythm.evaluate_every
        last = self.state.step >= self.rhythm.total or self.state.ended is not None
        return last or (every is not None and self.state.step % every == 0)

    def _evaluate(self) -> None:
        if self.evaluate is None:
            return
        metrics = self.evaluate(self.learner.model, self._tell_evaluating)
        self.state.standing = self.judge.judge(self.state.standing, metrics, self.state.step)
        if self.judge.ends(self.state.standing):
            self.state.ended = f"{self.judge.metric} did not improve in {self.judge.patience} evaluations"
        self._tell("evaluation", metrics)

    def _save(self) -> None:
        state = self.state
        best = state.standing.step == state.step and state.standing.value is not None
        kept = {**vars(state), "standing": list(state.standing), "watched": self.learner.watch.state()}
        if self.gradients.device.is_main:
            self.checkpoints.save(state.step, self.learner.tensors(), kept, best=best)
        self._tell("checkpoint", {"best": best})

    def _timed(self, what: str, action: Callable[[], None]) -> None:
        start = time.monotonic()
        action()
        self.state.seconds[what] += time.monotonic() - start

    def _tell_features(self, done: int, total: int) -> None:
        self._tell("features", {"done": done, "total": total})
        if self._interrupted:  # filling may take minutes; what is stored stays, and no step is under way
            self._save()
            raise KeyboardInterrupt
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise _SpentError

    def _tell_evaluating(self, done: int, total: int) -> None:
        self._tell("evaluating", {"done": done, "total": total})

    def _tell(self, kind: str, record: Mapping[str, Any]) -> None:
        for observer in self.observers:
            observer(Moment(kind, self.state.step, self.rhythm.total, record))
