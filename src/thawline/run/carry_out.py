"""A recipe carried out: from data to a measured, saved model in a run's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from thawline.errors import MachineError
from thawline.memory import PeakMemory, available_bytes
from thawline.recipe import Recipe, grid_of
from thawline.run.ahead import Ahead
from thawline.run.assemble import Assembled, Decisions, Footing, assemble, decide, judge_of, loop_of, shapes_of
from thawline.run.below import bare_prefix, cuts_of, with_views
from thawline.run.compiling import compiled
from thawline.run.finish import measure_saved, save, train_section
from thawline.run.folder import RunFolder, next_folder, refuse_existing, resumable
from thawline.run.foresight import beside, foresight, held_by
from thawline.run.keeper import frozen_of
from thawline.run.lighten import lighten, spared
from thawline.run.prepare import Prepared, Say, facts_of, prepare, refuse_changed
from thawline.run.shared import Shared
from thawline.run.within import within
from thawline.train.checkpoint import Checkpoints
from thawline.train.device import Device
from thawline.train.forecast import Seen, advice, forecast, in_smaller_parts
from thawline.train.loop import Loop, Observer
from thawline.train.observe import ProgressBar, history, memory_watch, refuse_trackers, trackers
from thawline.train.workers import Workers, threads_inside

_LEAST_MEMORY = 200 << 20


def carry_out(recipe: Recipe, say: Say, *, progress: bool = True) -> RunFolder:
    """Carry out a recipe in a new folder and return it. What the user got wrong is raised before anything is written."""
    if grid_of(recipe):
        from thawline.run.trials import carry_out_trials  # which is made of what follows

        return carry_out_trials(recipe, say, progress=progress)
    begun = time.monotonic()
    if recipe.output.dir is not None:
        refuse_existing(Path(recipe.output.dir))
    refuse_trackers(recipe.train.report_to)
    device = device_of(recipe)
    prepared = prepare(recipe, say)
    judge_of(prepared.recipe, prepared.task)  # before weights are loaded: it tells of a metric that there is not
    assembled = assemble(prepared, say)
    foresee(prepared, assembled)
    folder = RunFolder(device.of_main(recipe.output.dir or str(next_folder(prepared.dataset.name))))
    if device.is_main:
        folder.create(assembled.recipe)
        folder.write("data.json", facts_of(prepared))
        say(f"note: the run's folder is {folder.path}")
    with resumable(folder):
        return Job(prepared, assembled, folder, device, say if device.is_main else silent, progress, begun).run()


def resume(folder: RunFolder, say: Say, *, progress: bool = True) -> RunFolder:
    """Finish an interrupted run from its last checkpoint, to the bytes it would have come to; a finished one is left alone."""
    recipe = folder.recipe()
    if folder.finished:
        say(f"{folder.path} is finished; its metrics are in {folder.path / 'metrics.json'}.")
        return folder
    if grid_of(recipe):
        from thawline.run.trials import resume_trials

        return resume_trials(folder, say, progress=progress)
    begun = time.monotonic()
    if (folder.path / "metrics.json").is_file():
        say(f"note: {folder.model} is missing: it is saved and measured again from the last checkpoint")
    prepared = prepare(recipe, say)
    refuse_changed(folder, prepared)
    assembled = assemble(prepared, say)
    with resumable(folder):
        return Job(prepared, assembled, folder, device_of(assembled.recipe), say, progress, begun).run()


def device_of(recipe: Recipe) -> Device:
    """Return the device that a recipe names."""
    return Device(recipe.train.device)


def silent(text: str) -> None:
    """Say nothing: what the processes beside the first one have to say has been said."""


def foresee(prepared: Prepared, assembled: Assembled) -> None:
    """Raise MachineError where training is predicted to need more memory than there is, saying what would fit."""
    train = assembled.recipe.train
    rows = train.per_device_train_batch_size
    data, left = prepared.sets["train"], available_bytes()
    needed = forecast(assembled.model, assembled.groups, data.lengths, rows=rows, seen=Seen(held=held_by(assembled, data)))
    if needed.total > left:
        fitting = advice(needed, left, rows=rows, accumulation=train.gradient_accumulation_steps)
        raise MachineError(
            f"Training needs about {needed.total >> 20} MB of memory, and {left >> 20} MB are available. {fitting}"
        )


class Trained(NamedTuple):
    """A loop that came to its end, and the most memory that it took, in 10^6 bytes."""

    loop: Loop
    peak_memory_mb: float


@final
@dataclass
class Job:
    """What is left to do once the folder is there: decide, train, save, measure. `begun` is a reading of time.monotonic.

    `shared` is there for a job that is one of several trials.
    """

    prepared: Prepared
    assembled: Assembled
    folder: RunFolder
    device: Device
    say: Say
    progress: bool
    begun: float
    shared: Shared | None = None

    def run(self) -> RunFolder:
        """Do it."""
        trained = self.train()
        return self.end(self.folder, trained.loop, {"train": self.section(trained)})

    def train(self) -> Trained:
        """Train to the end, from the last checkpoint where there is one; raises DivergedError and MachineError."""
        with PeakMemory() as memory, threads_inside():
            loop = self.loop()
            try:
                with self.enough_memory():
                    state = loop.run()
            finally:
                self.workers.close()
        torch.set_num_threads(self.workers.threads)  # measuring the model takes as many
        if state.ended:
            self.say(f"note: training ended at step {state.step}: {state.ended}")
        return Trained(loop, memory.peak_mb)

    @contextmanager
    def enough_memory(self) -> Iterator[None]:
        """Raise MachineError, which says what would fit, where memory ends within."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise MachineError(f"The device ran out of memory. {self._smaller}") from error
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            raise MachineError(f"There was no memory left to train with. {self._smaller}") from error

    def section(self, trained: Trained) -> dict[str, Any]:
        """Return what metrics.json says of the training: what was predicted of it stands beside what came of it."""
        section = train_section(self.prepared, trained.loop.state, peak_memory_mb=trained.peak_memory_mb)
        return section | beside(self.folder.read("plan.json"), self.frozen, whole=not self.resumed)

    def keep(self, folder: RunFolder, loop: Loop) -> None:
        """Save the best weights as the model of `folder`."""
        best = loop.checkpoints.best_weights() if self.assembled.recipe.train.load_best_model_at_end else None
        if best is not None:
            loop.learner.load_weights(best)
        self.light.restore()
        if self.compiled is not None:
            self.compiled.restore()
        self.spared.restore()
        if self.device.is_main:
            save(self.prepared, self.assembled, folder)

    def end(self, folder: RunFolder, loop: Loop, sections: dict[str, Any]) -> RunFolder:
        """Keep the model in `folder`, measure it, and return the folder; `sections` are more ones of metrics.json."""
        self.keep(folder, loop)
        self.say("note: measuring the saved model")
        if self.device.is_main:
            measure_saved(self.prepared, folder, sections, device=str(self.device.device), say=self.say)
        self.device.wait()
        return folder

    def loop(self) -> Loop:
        """Decide what has to be measured, and return a loop that is ready to run, from its last checkpoint if there is one."""
        start, train = time.monotonic(), self.assembled.recipe.train
        known = self.folder.read("decisions.json")
        decisions = known or decide(self.prepared, self.assembled.recipe, self.device, say=self.say)
        decisions = self.device.of_main(decisions)
        self.device.bf16 = decisions["bf16"]
        self.assembled.model.to(self.device.device)
        self.workers = Workers(decisions["workers"], decisions["threads"])
        self.spared = spared(self.prepared, self.assembled.model)
        cuts = cuts_of(self.prepared, self.assembled, say=self.say)
        self.prepared = with_views(self.prepared, self.assembled.recipe, stored=bool(cuts), say=self.say)
        self.light = lighten(self.prepared, self.assembled, self.device, decisions=decisions, say=self.say)
        footing: dict[str, Any] = {"device": self.device, "say": self.say}
        bare = bare_prefix(self.prepared, self.assembled, cuts, workers=self.workers, **footing)
        others = self.shared.others if self.shared else ()
        self.frozen = frozen_of(bare, self.prepared, self.assembled, decisions=decisions, others=others, **footing)
        self.compiled = compiled(lambda: self._assembled_loop(decisions), self.assembled.recipe, decisions, say=self.say)
        self._decide(decisions)
        if self.device.is_main:
            self.folder.write("decisions.json", decisions)
            if self.folder.read("plan.json") is None:
                self.folder.write("plan.json", self._foresight(decisions))
        loop = self._assembled_loop(decisions)
        self.frozen.prefix.computed, self.frozen.prefix.seconds = 0, 0.0  # from here on
        self.resumed = loop.resume()
        if self.resumed:
            self.say(f"note: resumed at step {loop.state.step} of {decisions['steps']}")
        else:
            loop.state.seconds["train"] = time.monotonic() - start
        if train.max_minutes is not None:
            spent = sum(loop.state.seconds.values()) if loop.state.step else 0.0
            loop.deadline = self.begun + train.max_minutes * 60 - decisions["ending_seconds"] - spent
        loop.observers, loop.settled = self.observers(loop), self._settled
        return loop

    def _decide(self, decisions: Decisions) -> None:
        """Decide what is stored of the frozen part and, with a time budget, how many steps there are."""
        minutes = self.assembled.recipe.train.max_minutes
        if minutes is None or "ending_seconds" in decisions:
            self.frozen.begin()
            return
        budget: dict[str, Any] = {"begun": self.begun, "seconds": minutes * 60}
        trial = self._assembled_loop(decisions)
        decisions |= self.device.of_main(within(self.prepared, trial, self.frozen, decisions=decisions, **budget, say=self.say))

    def _foresight(self, decisions: Decisions) -> dict[str, Any]:
        shapes = shapes_of(self.assembled.recipe, self.device, self.spared.padding)
        return foresight(self.prepared, self.assembled, self.light, frozen=self.frozen, decisions=decisions, shapes=shapes)

    def _settled(self, line: int, step: int) -> None:
        names, adaptive = [stage.name for stage in self.assembled.stages], self.assembled.strategy.adaptation is not None
        why = "since their gradients have settled" if adaptive else "as the strategy says"
        self.say(f"note: step {step}: {names[0]} to {names[line - 1]} are frozen, {why}")
        self.frozen.settled(line, step)

    def _assembled_loop(self, decisions: Decisions) -> Loop:
        checkpoints = Checkpoints(self.folder.path / "checkpoints")
        shapes = shapes_of(self.assembled.recipe, self.device, self.spared.padding)
        footing = Footing(self.device, self.workers, self.light.masters, self.frozen.prefix, shapes)
        return loop_of(self.prepared, self.assembled, footing, decisions=decisions, checkpoints=checkpoints)

    def beside(self, lead: Job, values: Mapping[str, Tensor]) -> Loop:
        """Return a loop of this job over what another one has made ready: its own are the `values` that learn.

        It is at the last checkpoint, if there is one.
        """
        self.workers, self.spared, self.compiled, self.frozen = lead.workers, lead.spared, lead.compiled, lead.frozen
        self.light = replace(lead.light, masters=lead.light.masters.beside(values))
        for name in ("decisions.json", "plan.json"):
            if self.folder.read(name) is None:
                self.folder.write(name, lead.folder.read(name) or {})
        loop = self._assembled_loop(self.folder.read("decisions.json") or {})
        self.resumed = loop.resume()
        return loop

    def observers(self, loop: Loop, *, first: bool = True) -> list[Observer]:
        """Return who is told of a loop's moments; of several loops side by side the first speaks for all."""
        observers: list[Observer] = []
        if self.device.is_main:
            observers += [
                history(self.folder.path / "history.jsonl", loop.state.step),
                Ahead(self.folder, loop, self.assembled),
            ]
        if not first:
            return observers
        if self.progress and self.device.is_main:
            observers.append(self.shared.bar(loop.judge.metric) if self.shared else ProgressBar(loop.judge.metric))
        if self.device.device.type == "cpu":
            observers.append(memory_watch(available_bytes, least=_LEAST_MEMORY, advice=self._smaller))
        train = self.assembled.recipe.train
        if train.report_to and not loop.done:
            observers.append(trackers(self.device, train.report_to, self.folder.path, recipe=train.model_dump()))
        return observers

    @property
    def _smaller(self) -> str:
        train = self.assembled.recipe.train
        rows = max(1, train.per_device_train_batch_size // 2)
        parts = 2 * train.gradient_accumulation_steps
        return in_smaller_parts(rows, parts)
