"""What to label next, by a run's model: the least decided examples, spread over what the model makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thawline.data.examples import Examples
from thawline.evaluate.what_to_label import TIMES, least_decided, spread_out
from thawline.recipe import recipe_from
from thawline.run.api import Run
from thawline.run.features import features_of_examples
from thawline.run.folder import RunFolder
from thawline.run.prepare import Say
from thawline.train.workers import threads_inside


def picked(
    run: Run, examples: Examples, n: int, *, told: Callable[[int], object] = lambda done: None, say: Say
) -> list[dict[str, Any]]:
    """Return the `n` examples to label first, as `least_decided` has them; `told` gets the number of answers so far.

    Raises DataError where the model gives no scores.
    """
    found = least_decided(zip(examples, run.stream(examples, told), strict=True), TIMES * n)
    if len(found) > n:
        folder = RunFolder(run.folder)
        few = examples.select([one["place"] for one in found])
        # Not worth keeping, and too few to measure which arithmetic is faster.
        own = {"name": str(folder.model), "add_tokens": []}
        recipe = recipe_from(folder.trained(), model=own, store={"features": False}, train={"bf16": False})
        with threads_inside():
            vectors = features_of_examples(recipe, [few], folder.columns(), say=say).matrix()
        found = [found[place] for place in spread_out(vectors, n, seed=recipe.train.seed)]
    return found
