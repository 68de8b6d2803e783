"""A time budget: how many steps it has room for, and whether the frozen part is stored for so many."""

from __future__ import annotations

import time
from typing import NamedTuple

from thawline.run.assemble import Decisions
from thawline.run.finish import ending_seconds
from thawline.run.keeper import Frozen
from thawline.run.prepare import Prepared, Say
from thawline.train.budget import Costs, Spent, seconds_of, step_seconds, steps_within
from thawline.train.loop import Loop, untold


def within(
    prepared: Prepared, trial: Loop, frozen: Frozen, *, decisions: Decisions, begun: float, seconds: float, say: Say
) -> Decisions:
    """Measure a step and an evaluation, decide on storing, and return the number of steps that there is time for.

    `trial` is a loop that is not run; all must be done so many seconds after `begun`, a reading of time.monotonic.
    """
    order, most, every = trial.gradients.order, decisions["steps"], trial.rhythm.evaluate_every
    step = step_seconds(trial.learner, trial.gradients, trial.rhythm)
    example = step.whole / order.batch_size

    def ending(evaluation: float) -> float:
        return ending_seconds(prepared, evaluation, example=example, bf16=decisions["bf16"])

    def steps(costs: Costs) -> int:
        return steps_within(costs, begun + seconds - time.monotonic(), every=every, most=most)

    # Storing is decided for the steps that fit without it: where it pays over these, it is filled in well before the end.
    # No example is evaluated in more time than it is learned from in.
    guess = (len(prepared.sets["validation"]) if trial.evaluate else 0) * example
    decisions["steps"] = steps(Costs(step.whole, guess, ending(guess)))
    frozen.begin(begun + seconds - guess - ending(guess))
    evaluation = _evaluation(prepared, trial, step)
    stored = _storing(frozen, step)
    costs = Costs(step.whole + stored.each, evaluation.later, ending(evaluation.whole) + stored.filled)
    decisions["steps"] = steps(costs)
    frozen.look_again()
    if decisions["steps"] < most:
        epochs, what = decisions["steps"] / order.steps_per_epoch, f"{decisions['steps']} of {most} steps"
        say(f"note: {seconds / 60:g} minutes have room for {what} ({epochs:.2f} epochs), measured")
    return {
        "steps": decisions["steps"],
        "step_seconds": costs.step,
        "evaluation_seconds": costs.evaluation,
        "ending_seconds": costs.ending - stored.filled + costs.evaluation,
    }


class _Evaluation(NamedTuple):
    """Seconds of an evaluation where nothing is stored, and of those to come."""

    whole: float
    later: float


def _evaluation(prepared: Prepared, trial: Loop, step: Spent) -> _Evaluation:
    evaluate = trial.evaluate
    if evaluate is None:
        return _Evaluation(0.0, 0.0)
    prefix, before = trial.gradients.prefix, trial.gradients.prefix.seconds
    whole = seconds_of(lambda model: evaluate(model, untold), trial.learner.model)
    if prefix.depth(trial.learner.thaw_line) not in prefix.below.shelves:
        return _Evaluation(whole, whole)
    # What was filled in just now is only read from now on, and reading is counted among what storing costs.
    later = max(0.0, whole - (prefix.seconds - before))
    each = step.below / trial.gradients.order.batch_size
    return _Evaluation(later + each * len(prepared.sets["validation"]), later)


class _Storing(NamedTuple):
    """Seconds that storing adds to each step on average, mostly below 0, and that filling in what is missing takes."""

    each: float
    filled: float


def _storing(frozen: Frozen, step: Spent) -> _Storing:
    if frozen.keeper is None:
        return _Storing(0.0, 0.0)
    lines = frozen.keeper.lines(frozen.prefix)
    views = {cut: view for cut, view in frozen.keeper.outlooks(frozen.prefix).items() if cut in frozen.prefix.below.shelves}
    filled = sum(view.filled for view in views.values())
    saved = sum(lines[cut] * step.below - (view.stored - view.filled) for cut, view in views.items())
    return _Storing(-saved / lines.total(), filled)
