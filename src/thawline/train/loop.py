"""The loop: the only one. What varies comes in by value."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from torch import nn

from thawline.errors import DivergedError
from thawline.tasks.supervised import Supervised
from thawline.train.checkpoint import Checkpoints
from thawline.train.device import interrupts
from thawline.train.gradients import Gradients
from thawline.train.learner import Learner
from thawline.train.stop import Judge, Standing


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
class Rhythm:
    """How many steps to train, and after how many steps to evaluate and how many seconds to keep a checkpoint."""

    total: int
    evaluate_every: int | None
    checkpoint_seconds: float = 300.0


@dataclass
class State:
    """What a checkpoint holds beside tensors; `seconds` are those of training, evaluating and saving so far.

    `positions` are the tokens with the padding that was computed with them. `watched` is what the learner's strategy decided
    while training, and what it will decide by.
    """

    step: int = 0
    standing: Standing = field(default_factory=Standing)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluation": 0.0, "saving": 0.0})
    examples: int = 0
    tokens: int = 0
    positions: int = 0
    ended: str | None = None
    watched: dict[str, Any] | None = None


class _SpentError(Exception):
    """The time budget is spent while the outputs of the frozen part are stored."""


@final
class Loop:
    """Trains a learner; `evaluate` is called by value, tells how far it is, and returns metrics of the validation set.

    `observers` are told of every moment; `deadline`, a reading of time.monotonic, ends the training at the first step past it;
    `settled` is called with the thaw line and the step where what lies below has learned before, and is frozen from now on.
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
        self._saved = 0.0

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
        with interrupts() as interrupted:
            self.begin(interrupted)
            while not self.done:
                self._timed("train", self._step)
                if self.settle():
                    raise KeyboardInterrupt
        self.end()
        return self.state

    def begin(self, interrupted: Sequence[int]) -> None:
        """Make ready for the first step; `interrupted` has something in it as soon as training is to stop."""
        self._interrupted, self._saved = interrupted, time.monotonic()

    @property
    def done(self) -> bool:
        """Whether there is no step left."""
        return self.state.ended is not None or self.state.step >= self.rhythm.total

    def settle(self) -> bool:
        """Evaluate after a step, and keep a checkpoint, where that is due; return whether training is to stop here."""
        if due := self._evaluation_due():
            self._timed("evaluation", self._evaluate)
        stopped = self.gradients.device.agreed(bool(self._interrupted))
        if stopped or due or time.monotonic() - self._saved >= self.rhythm.checkpoint_seconds:
            self._timed("saving", self._save)
            self._saved = time.monotonic()
        return stopped

    def end(self) -> None:
        """Say that it is over."""
        self._tell("end", {})

    def _step(self) -> None:
        start = time.monotonic()
        self.open()
        sums = self.gradients(self.learner, self.state.step, self.state.step / self.rhythm.total)
        self.refuse(sums)
        stepped = self.learner.step(self.state.step, sums["weight"]) if sums["weight"] > 0 else None
        self.take(sums, stepped, time.monotonic() - start)

    def open(self) -> None:
        """Let learn what the next step is to change, and store what is frozen for it."""
        state, learner = self.state, self.learner
        data, (epoch, place) = self.gradients.data, divmod(state.step, self.gradients.order.steps_per_epoch)
        if learner.open(state.step):
            self.gradients.prefix.forget()
            if learner.watch.decisions.line > 0 or learner.frozen_again(state.step):
                self.settled(learner.thaw_line, state.step)
            self._fill(data.seen(epoch))
        elif place == 0 and data.views is not None:  # other views, which are stored as they come up
            self._fill(data.seen(epoch))

    def refuse(self, sums: Mapping[str, float]) -> None:
        """Raise DivergedError where the sums of a step say so."""
        if not math.isfinite(sums["total"]):
            raise DivergedError(
                f"The loss is {sums['total']} at step {self.state.step + 1}: training has diverged; "
                "try a lower train.learning_rate."
            )

    def take(self, sums: Mapping[str, float], stepped: tuple[float, dict[str, float]] | None, seconds: float) -> None:
        """Take note of a step: its sums, its gradient's norm and its rates (None where it was left out), and its seconds."""
        state, learner = self.state, self.learner
        record: dict[str, Any] = {"skipped": True}
        if stepped is not None:
            norm, rates = stepped
            if not math.isfinite(norm):  # before such weights are kept
                raise DivergedError(
                    f"The gradient's norm is {norm} at step {state.step + 1}: training has diverged; "
                    "try a lower train.learning_rate."
                )
            record = {"loss": sums["total"] / sums["weight"], "gradient_norm": norm, "learning_rates": rates}
        state.step += 1
        state.examples += int(sums["examples"])
        state.tokens += int(sums["tokens"])
        state.positions += int(sums["positions"])
        speed = {"examples_per_second": sums["examples"] / seconds, "tokens_per_second": sums["tokens"] / seconds}
        passes = state.step / self.gradients.order.steps_per_epoch
        self._tell("step", {"epoch": passes, **record, "thaw_line": learner.thaw_line, **speed})
        if self.deadline is not None and self.gradients.device.agreed(time.monotonic() >= self.deadline):
            state.ended = "the time budget is spent"

    def _fill(self, data: Supervised) -> None:
        """Store what the frozen part computes, for as long as there is time: the rest is computed as it comes up."""
        with suppress(_SpentError):
            self.gradients.prefix.fill(data, self.learner.thaw_line, self._tell_features, later=data.views is None)

    def _evaluation_due(self) -> bool:
        every = self.rhythm.evaluate_every
        last = self.state.step >= self.rhythm.total or self.state.ended is not None
        return last or (every is not None and self.state.step % every == 0)

    def _evaluate(self) -> None:
        if self.evaluate is None:
            return
        # One process speaks for all: measured apart they may differ in the last bit, and all must stop at one step.
        metrics = self.gradients.device.of_main(self.evaluate(self.learner.model, self._tell_evaluating))
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
