"""Several trainings of a head over one frozen part, side by side: what they have in common is computed once a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, final

import torch
from torch import Tensor, nn

from thawline.errors import DivergedError
from thawline.tasks.base import Step
from thawline.thaw.tape import Tape
from thawline.train.device import interrupts
from thawline.train.gradients import SUMS
from thawline.train.learner import step_abreast
from thawline.train.loop import Loop
from thawline.train.masters import add_abreast
from thawline.train.stacked import Stacked, lay_side_by_side
from thawline.train.trust import Part, Trust
from thawline.train.workers import threads_inside
from thawline.types import Batch, Loss


class NotTogetherError(Exception):
    """The head cannot be computed from the stored tensor alone."""


@final
class Together:
    """Loops over the same steps that differ in their optimiser alone; each comes to the bytes that it would come to alone.

    Their masters are `Masters.beside` those of one `model`, whose head is what they evaluate with. Examples, what is stored of
    them, and random numbers are those of all; what follows is done without the model's own code, for one after the other, or
    for stacked heads once these have led to the same bits.
    `faults` says which have diverged.
    """

    def __init__(self, model: nn.Module, loops: Sequence[Loop]) -> None:
        self.model, self.loops = model, loops
        self.faults: dict[Loop, DivergedError] = {}
        self._tapes: dict[tuple[torch.Size, torch.dtype], dict[Loop, Tape]] = {}
        self._trusts: dict[tuple[torch.Size, int], Trust] = {}
        weights = [loop.learner.masters.weights for loop in loops]
        for name in (name for group in loops[0].learner.groups for name in group.parameters):
            lay_side_by_side([own[name] for own in weights])

    def run(self) -> None:
        """Train all to their ends; raises NotTogetherError before the first step where that cannot be done side by side."""
        with interrupts() as interrupted:
            for loop in self.loops:
                loop.begin(interrupted)
            while going := [loop for loop in self.loops if not (loop.done or loop in self.faults)]:
                # A kill may leave some a step ahead of the others, who catch up first.
                last = min(loop.state.step for loop in going)
                active = [loop for loop in going if loop.state.step == last]
                self._step(active)
                stopped = [loop.settle() for loop in active if loop not in self.faults]
                if any(stopped):  # every one has kept a checkpoint
                    raise KeyboardInterrupt
        for loop in self.loops:
            loop.end()

    def evaluating(self, loop: Loop) -> None:
        """Let a loop's evaluations be of its own weights."""
        evaluate = loop.evaluate
        if evaluate is None:
            return

        def lent(model: nn.Module, told: Any) -> dict[str, Any]:
            loop.learner.masters.lend(self.model)
            return evaluate(model, told)

        loop.evaluate = lent

    def _step(self, active: Sequence[Loop]) -> None:
        start = time.monotonic()
        for loop in active:
            loop.open()
        sums = dict(zip(active, self._gradients(active), strict=True))
        for loop in active:
            with self._noted(loop):
                loop.refuse(sums[loop])
        going = [loop for loop in active if loop not in self.faults]
        moving = [loop for loop in going if sums[loop]["weight"] > 0]
        weights = [sums[loop]["weight"] for loop in moving]
        learners, threads = [loop.learner for loop in moving], active[0].gradients.workers.threads
        done = step_abreast(learners, active[0].state.step, weights, threads=threads) if moving else []
        stepped = dict(zip(moving, done, strict=True))
        seconds = (time.monotonic() - start) / len(active)
        for loop in going:
            with self._noted(loop):
                loop.take(sums[loop], stepped.get(loop), seconds)
        each = (time.monotonic() - start) / len(active)
        for loop in active:
            loop.state.seconds["train"] += each

    @contextmanager
    def _noted(self, loop: Loop) -> Iterator[None]:
        """Take note where a loop has diverged; the others go on."""
        try:
            yield
        except DivergedError as error:
            self.faults[loop] = error

    def _gradients(self, active: Sequence[Loop]) -> list[Mapping[str, float]]:
        """Leave every loop's gradients with its masters, and return its sums."""
        gradients, state, learner = active[0].gradients, active[0].state, active[0].learner
        order, device, step = gradients.order, gradients.device, state.step
        data, depth = gradients.data.seen(step // order.steps_per_epoch), gradients.prefix.depth(learner.thaw_line)
        gradients.prefix.ahead(data, gradients.coming(learner, step), depth)
        sums = [dict.fromkeys(SUMS, 0.0) for _ in active]
        for place, indices in enumerate(order.micro_batches(step, max_examples=gradients.max_examples, workers=0)):
            batch = gradients.batch(data, indices, hollow=True)
            draws = partial(device.draws, gradients.seed, step, place)
            with gradients.prefix.replicas.taken() as replica, device.autocast():
                hidden = gradients.prefix.hidden(replica, data, indices, batch=batch, depth=depth)
                with draws():
                    tapes = self._tapes_of(replica.replay, depth, hidden, inputs=batch.inputs)
                part = _Part(active, [tapes[loop] for loop in active], hidden, batch, indices, draws)
                trust = self._trusts.setdefault((hidden.shape, len(active)), Trust(3 if len(active) > 1 else -1))
                counts, found = trust(part)
            rest, every = iter(found), [loop.learner.masters for loop in active]
            with threads_inside(gradients.workers.threads):
                add_abreast(every, [list(islice(rest, len(masters.learning))) for masters in every])
            for total, own in zip(sums, counts, strict=True):
                total.update({key: total[key] + own[key] for key in SUMS})
        return list(sums)

    def _tapes_of(self, replay: Any, depth: int, hidden: Tensor, *, inputs: Mapping[str, Tensor]) -> Mapping[Loop, Tape]:
        key = hidden.shape, hidden.dtype
        if key not in self._tapes:
            tape = replay.tape(depth, hidden, inputs)
            if tape is None:
                raise NotTogetherError
            named = dict(replay.model.named_parameters())
            self._tapes[key] = {
                loop: tape.of({id(named[name]): weight for name, weight in loop.learner.masters.weights.items()})
                for loop in self.loops
            }
        return self._tapes[key]


@final
@dataclass(frozen=True)
class _Part:
    """A micro-batch of all trials; called, it returns the gradients of one after the other, or those of stacked heads."""

    loops: Sequence[Loop]
    tapes: Sequence[Tape]
    hidden: Tensor
    batch: Batch
    indices: Any
    draws: Callable[[], AbstractContextManager[Any]]

    def __call__(self, short: bool) -> Part[list[dict[str, float]]]:
        learning = [loop.learner.masters.learning for loop in self.loops]
        if short:
            with self.draws():
                stacked = Stacked(self.tapes, self.hidden)
            losses = [self._loss(loop, answer) for loop, answer in zip(self.loops, stacked.answers, strict=True)]
            return self._counts(losses), stacked.gradients([loss.total for loss in losses], learning)
        losses = []
        for loop, tape in zip(self.loops, self.tapes, strict=True):
            with self.draws():
                losses.append(self._loss(loop, tape(self.hidden)))
        every = [weight for own in learning for weight in own]
        return self._counts(losses), torch.autograd.grad([loss.total for loss in losses], every, allow_unused=True)

    def _loss(self, loop: Loop, answer: Any) -> Loss:
        model: Any = _Said(answer)
        progress = loop.state.step / loop.rhythm.total
        return loop.gradients.objective(Step(model, loop.gradients.data.task, self.batch, progress))

    def _counts(self, losses: Sequence[Loss]) -> list[dict[str, float]]:
        return [loop.gradients.counts(loss, self.indices) for loop, loss in zip(self.loops, losses, strict=True)]


@final
class _Said:
    """Stands for a model whose answer is known."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, **inputs: Any) -> Any:
        return self.answer
