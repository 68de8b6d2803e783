"""Trials of a head that differ in their optimiser alone, trained over one frozen part side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from thawline.errors import DivergedError
from thawline.memory import PeakMemory
from thawline.recipe import Recipe
from thawline.run.below import lines_of
from thawline.run.carry_out import Job, Trained
from thawline.run.folder import RunFolder
from thawline.tasks.base import Task
from thawline.train.together import NotTogetherError, Together

_OWN = {
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "momentum",
    "warmup_steps",
    "warmup_ratio",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
}
"""What concerns no one but a trial's own optimiser."""


class Came(NamedTuple):
    """What came of a trial: its job, and the training, or why it diverged."""

    job: Job
    trained: Trained
    fault: DivergedError | None


def alike(one: Recipe, other: Recipe) -> bool:
    """Tell whether two recipes differ in their optimiser alone."""
    mine, others = (recipe.model_dump(exclude={"train": _OWN, "output": True, "vary": True}) for recipe in (one, other))
    return bool(mine == others)


def may_go_abreast(job: Job) -> bool:
    """Tell whether trials like this one can be trained side by side: a head alone, on a processor, with nobody looking on."""
    recipe, assembled = job.assembled.recipe, job.assembled
    train, head = recipe.train, len(assembled.stages) - 1
    if job.device.device.type != "cpu" or job.device.processes > 1 or train.report_to or train.max_minutes is not None:
        return False
    if recipe.regularize or train.batch_norm == "batch" or assembled.strategy.adaptation is not None:
        return False
    plain = type(job.prepared.task).forward is Task.forward and assembled.strategy.finish is None
    return plain and set(lines_of(assembled, 1000)) == {head}


def train_abreast(lead: Job, others: Sequence[tuple[RunFolder, Recipe]]) -> list[Came] | None:
    """Train the lead's trial and the others to their ends, or to their last common step where training is interrupted.

    None where the head cannot be computed without the model's own code: then nothing has been done.
    """
    learned = {name for group in lead.assembled.groups for name in group.parameters}
    values = {n: p.detach().clone() for n, p in lead.assembled.model.named_parameters() if n in learned}
    with PeakMemory() as memory:
        start = time.monotonic()
        lead.loop()
        jobs = [_beside(lead, *own) for own in ((lead.folder, lead.assembled.recipe), *others)]
        loops = [job.beside(lead, values) for job in jobs]
        together = Together(lead.assembled.model, loops)
        shared = (time.monotonic() - start) / len(loops)
        for place, (job, loop) in enumerate(zip(jobs, loops, strict=True)):
            together.evaluating(loop)
            loop.observers = job.observers(loop, first=place == 0)
            loop.state.seconds["train"] = loop.state.seconds["train"] or shared
        try:
            with lead.enough_memory():
                together.run()
        except NotTogetherError:
            return None
        finally:
            lead.workers.close()
    return [Came(job, Trained(loop, memory.peak_mb), together.faults.get(loop)) for job, loop in zip(jobs, loops, strict=True)]


def _beside(lead: Job, folder: RunFolder, recipe: Recipe) -> Job:
    """Return the job of another recipe over the same data and model."""
    prepared, assembled = replace(lead.prepared, recipe=recipe), replace(lead.assembled, recipe=recipe)
    return replace(lead, prepared=prepared, assembled=assembled, folder=folder)
