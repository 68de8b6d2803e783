"""Several trainings of a head over one frozen part, side by side: what they have in common is computed once a step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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


class NotTogetherError(Exception):
    """The head cannot be computed from the stored tensor alone."""


@final
class Together:
    """Loops over the same steps that differ in their optimiser alone; each comes to the bytes that it would come to alone.

    Their masters are `Masters.beside` those of one `model`, whose head is what they evaluate with. Examples, what is stored of
    them, and random numbers are those of all; what follows is done for one after the other, without the model's own code.
    `faults` says which have diverged.
    """

    def __init__(self, model: nn.Module, loops: Sequence[Loop]) -> None:
        self.model, self.loops = model, loops
        self.faults: dict[Loop, DivergedError] = {}
        self._tapes: dict[tuple[torch.Size, torch.dtype], dict[Loop, Tape]] = {}

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
            try:
                loop.refuse(sums[loop])
            except DivergedError as error:
                self.faults[loop] = error
        going = [loop for loop in active if loop not in self.faults]
        moving = [loop for loop in going if sums[loop]["weight"] > 0]
        weights = [sums[loop]["weight"] for loop in moving]
        done = step_abreast([loop.learner for loop in moving], active[0].state.step, weights) if moving else []
        stepped = dict(zip(moving, done, strict=True))
        seconds = (time.monotonic() - start) / len(active)
        for loop in going:
            loop.take(sums[loop], stepped.get(loop), seconds)
        each = (time.monotonic() - start) / len(active)
        for loop in active:
            loop.state.seconds["train"] += each

    def _gradients(self, active: Sequence[Loop]) -> list[Mapping[str, float]]:
        """Leave every loop's gradients with its masters, and return its sums."""
        gradients, state, learner = active[0].gradients, active[0].state, active[0].learner
        order, device, step = gradients.order, gradients.device, state.step
        data, depth = gradients.data.seen(step // order.steps_per_epoch), gradients.prefix.depth(learner.thaw_line)
        gradients.prefix.ahead(data, gradients.coming(learner, step), depth)
        sums = [dict.fromkeys(SUMS, 0.0) for _ in active]
        for place, indices in enumerate(order.micro_batches(step, max_examples=gradients.max_examples, workers=0)):
            batch = gradients.batch(data, indices, hollow=True)
            with gradients.prefix.replicas.taken() as replica, device.autocast():
                hidden = gradients.prefix.hidden(replica, data, indices, batch=batch, depth=depth)
                with device.draws(gradients.seed, step, place):
                    tapes = self._tapes_of(replica.replay, depth, hidden, inputs=batch.inputs)
                losses = []
                for loop in active:
                    with device.draws(gradients.seed, step, place):
                        model: Any = _Played(tapes[loop], hidden)
                        losses.append(gradients.objective(Step(model, data.task, batch, step / loop.rhythm.total)))
            for loop, own, total, loss in zip(active, self._of_each(active, losses), sums, losses, strict=True):
                loop.learner.masters.add(own)
                counts = gradients.counts(loss, indices)
                total.update({key: total[key] + counts[key] for key in SUMS})
        return list(sums)

    def _of_each(self, active: Sequence[Loop], losses: Sequence[Any]) -> Iterator[list[Tensor | None]]:
        learning = [loop.learner.masters.learning for loop in active]
        every = [parameter for some in learning for parameter in some]
        found = iter(torch.autograd.grad([loss.total for loss in losses], every, allow_unused=True))
        return ([next(found) for _ in some] for some in learning)

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
class _Played:
    """Stands for a model that goes on from a stored tensor."""

    def __init__(self, tape: Tape, hidden: Tensor) -> None:
        self.tape, self.hidden = tape, hidden

    def __call__(self, **inputs: Any) -> Any:
        return self.tape(self.hidden)
