"""How a run's model does on perturbed inputs, kept in analysis.json beside the other analyses of the set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from thawline.data.examples import Examples
from thawline.errors import DataError
from thawline.evaluate.perturb import input_of
from thawline.evaluate.robustness import robustness, usual
from thawline.run.folder import RunFolder
from thawline.run.kept import Kept, answered_by
from thawline.run.predictor import SavedModel
from thawline.run.prepare import Say
from thawline.types import Example, Prediction

_QUIET_SECONDS = 30.0
_DRAWS = 1000


def passes(examples: Examples) -> int:
    """Return how many perturbed examples are answered; raises DataError where there is nothing to perturb."""
    return len(usual(examples, input_of(examples[0]))) * len(examples)


def robust(
    saved: SavedModel, measured: Kept, folder: RunFolder, *, told: Callable[[int], object] = lambda done: None
) -> dict[str, Any]:
    """Return `robustness` of a set that was measured, and write it into analysis.json; `told` gets the number done.

    Raises DataError where the examples have nothing that can be perturbed, such as conversations.
    """
    done = 0

    def predictor(examples: Sequence[Example]) -> list[Prediction]:
        nonlocal done
        said = saved(examples)
        done += len(examples)
        told(done)
        return said

    recipe = folder.trained()
    found = robustness(
        answered_by(folder, measured.examples, measured.predictions),
        predictor,
        samples=recipe.evaluate.bootstrap_samples or _DRAWS,  # whether there is a drop is decided by an interval
        seed=recipe.train.seed,
    )
    known = folder.read("analysis.json") or {}
    folder.write("analysis.json", {**known, measured.name: {**known.get(measured.name, {}), "robustness": found}})
    return found


def robust_aloud(saved: SavedModel, measured: Kept, folder: RunFolder, *, say: Say) -> None:
    """Do the same at the end of a run, saying now and then how far it has come; what cannot be perturbed is told."""
    start = said = time.monotonic()

    def told(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > _QUIET_SECONDS:
            said, left = now, (now - start) / done * (total - done)
            say(f"answering for perturbed examples: {done:,} of {total:,}, about {left:.0f} s left")

    try:
        total = passes(measured.examples)
        say(f"note: measuring the model on {total:,} perturbed examples (evaluate.robustness=false leaves it out)")
        robust(saved, measured, folder, told=told)
    except DataError as error:  # nothing to perturb; or a sound that was long enough is not when it is played faster
        say(f"note: robustness is not measured: {error}")
