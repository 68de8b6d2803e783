"""Whether blocks are compiled: predicted from a step, tried where training is long enough, and kept where it is faster."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from thawline.data.cache import hash_bytes, written_aside
from thawline.errors import MachineError
from thawline.recipe import Recipe
from thawline.run.assemble import Decisions
from thawline.run.below import arithmetic_of, processor_key
from thawline.run.data import cache_of
from thawline.run.prepare import Say
from thawline.train.budget import spread, step_seconds, unmoved
from thawline.train.compiled import Compiled, repeated
from thawline.train.loop import Loop
from thawline.version import __version__

_LEAST_STEPS, _LEAST_SECONDS = 300, 1800
"""Of a training in which `auto` tries it: compiling takes a minute. One step tells whether it may be so long."""
_GAIN = 1.03
"""How many times as fast a compiled step has to be: less is not to be told from the machine's own ups and downs."""
_STEPS = 6
"""That are looked at before code is made of them, and after."""
_ALIKE = {False: 1e-3, True: 5e-2}
"""How far the gradients of all steps may lie apart, beside their norm, in float32 and in bfloat16."""


def compiled(loop: Callable[[], Loop], recipe: Recipe, decisions: Decisions, *, say: Say) -> Compiled | None:
    """Return the blocks of a model as compiled code; None where they stay as they are. The decision goes to `decisions`.

    `loop` returns one that is not run. Raises MachineError where it is asked for and cannot be had.
    """
    known, asked = decisions.get("compile"), recipe.train.compile
    if known is False or asked is False or (asked == "auto" and decisions["steps"] < _LEAST_STEPS):
        decisions["compile"] = False
        return None
    trial = loop()
    if known is None:
        decisions["compile"] = _tried(trial, recipe, decisions, say=say) if asked == "auto" else _can_be(trial, say)
    if not decisions["compile"]:
        return None
    done, seconds, why = _made(trial)
    if done is None:
        raise MachineError(f"The blocks of this model cannot be compiled here: {why} Leave out train.compile=true.")
    if decisions.get("compile_gain") is None:
        say(f"note: blocks were compiled in {seconds:.0f} s")
    return done


def _can_be(trial: Loop, say: Say) -> bool:
    """Tell whether there are blocks that learn."""
    learner = trial.learner
    learner.open(trial.rhythm.total)
    if learner.thaw_line < len(learner.stages) - 1 and repeated(learner.model):
        return True
    say("note: train.compile=true changes nothing: no blocks learn that are like one another")
    return False


def _tried(trial: Loop, recipe: Recipe, decisions: Decisions, *, say: Say) -> bool:
    """Measure what compiling gains, where there is enough to be gained; a verdict is kept for the next training."""
    gradients, steps = trial.gradients, decisions["steps"]
    if gradients.device.processes > 1 or not _can_be(trial, lambda text: None):
        return False
    most = 60 * recipe.train.max_minutes if recipe.train.max_minutes is not None else math.inf
    if min(_seconds_at_most(trial) * steps, most) < _LEAST_SECONDS:
        return False
    own = _seconds(trial)
    whole = min(own * steps, most)
    if whole < _LEAST_SECONDS:
        return False
    path = cache_of(recipe) / "compiled" / f"{_key(trial, decisions)}.json"
    gain = _kept(path)
    if gain is None:
        say(f"note: training is predicted to take {whole / 60:.0f} minutes: it is tried whether compiled blocks are faster")
        gain = _gain(trial, own, say=say)
        with written_aside(path) as aside:
            aside.write_text(json.dumps({"gain": gain}))
    decisions["compile_gain"] = round(gain, 3)
    if gain >= _GAIN:
        less = whole * (1 - 1 / gain) / 60
        say(f"note: blocks are compiled: {gain:.2f} times as fast, measured: {less:.0f} minutes less of {whole / 60:.0f}")
    else:
        why = f"they would be {gain:.2f} times as fast, measured" if gain else "a trial on this model and machine has failed"
        say(f"note: blocks are not compiled: {why}")
    return gain >= _GAIN


def _gain(trial: Loop, own: float, *, say: Say) -> float:
    """Return how many times as fast a step is with compiled blocks; 0 where it cannot be, or answers otherwise."""
    before = _answers(trial)
    done, seconds, why = _made(trial)
    if done is None:
        say(f"note: the blocks of this model cannot be compiled here: {why}")
        return 0.0
    try:
        after, there = _answers(trial), _seconds(trial)
    finally:
        done.restore()
    again = _seconds(trial)
    if not _same(before, after, rough=trial.gradients.device.bf16):
        say("note: compiled blocks answer otherwise than the model's own code")
        return 0.0
    say(
        f"note: compiled in {seconds:.0f} s: a step takes {there:.3f} s with compiled blocks, {own:.3f} and {again:.3f} without"
    )
    return min(own, again) / there


def _made(trial: Loop) -> tuple[Compiled | None, float, str]:
    """Compile the blocks; return them, the seconds that it took, and why it did not go, if it did not."""
    start, learner = time.monotonic(), trial.learner
    done = Compiled([learner.model, *learner.copies], by_length=trial.gradients.order.by_length)
    try:
        _answers(trial)
    except Exception as error:  # a compiler that is not there, code that torch cannot take: errors of all kinds
        done.restore()
        learner.forget()
        return None, 0.0, f"{' '.join(str(error).split())[:200]}."
    return done, time.monotonic() - start, ""


def _answers(trial: Loop) -> list[Tensor]:
    """Return the gradients of some steps, the one with the longest example among them, computed in one thread.

    They are always the same: so code is made for all forms of a micro-batch, once, and in one order.
    """
    learner, gradients, order = trial.learner, trial.gradients, trial.gradients.order
    alone, found = replace(gradients, ahead=0, workers=gradients.workers.in_turn()), list[Tensor]()
    longest = max(range(order.steps_per_epoch), key=lambda step: int(order.lengths[order.examples(step)].max()))
    learner.open(trial.rhythm.total)
    with unmoved(learner):
        for step in [longest, *spread(order, _STEPS)]:
            alone(learner, step, 1.0)
            found += [master.grad.clone() for master in learner.masters.now if master.grad is not None]
            learner.forget()
    return found


def _same(before: Sequence[Tensor], after: Sequence[Tensor], *, rough: bool) -> bool:
    """Tell whether gradients are what they were, to rounding, which is all that some gradients are."""
    if len(before) != len(after):
        return False
    apart = sum(float((one - other).norm()) ** 2 for one, other in zip(before, after, strict=True))
    return apart <= _ALIKE[rough] ** 2 * sum(float(one.norm()) ** 2 for one in before)


def _seconds(trial: Loop) -> float:
    return step_seconds(trial.learner, trial.gradients, trial.rhythm).whole


def _seconds_at_most(trial: Loop) -> float:
    """Return the seconds of one step's gradients, the first ones, which take longer than those to come."""
    learner, step = trial.learner, spread(trial.gradients.order, 1)[0]
    learner.open(trial.rhythm.total)
    start = time.monotonic()
    with unmoved(learner):
        replace(trial.gradients, ahead=0)(learner, step, 1.0)
    learner.forget()
    return time.monotonic() - start


def _kept(path: Path) -> float | None:
    """Return the verdict of a former training; None where there is none."""
    try:
        return float(json.loads(path.read_text())["gain"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(trial: Loop, decisions: Decisions) -> str:
    """Return what a gain depends on: model, what learns, arithmetic, processor, and the sizes of steps."""
    learner, order, device = trial.learner, trial.gradients.order, trial.gradients.device
    model: Any = learner.model
    facts: tuple[Any, ...] = (
        model.config.to_json_string(),
        learner.groups,
        order.batch_size,
        float(order.lengths.mean()),
    )
    machine = (
        arithmetic_of(device),
        processor_key(),
        decisions["threads"],
        torch.__version__,
        transformers.__version__,
        __version__,
    )
    return hash_bytes(*map(str, (*facts, *machine)))
