"""What Python users call: a recipe's names as arguments, a run's folder as the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import pyarrow as pa

from thawline.data.dataset import load_one
from thawline.data.examples import Examples
from thawline.data.inputs import INPUTS
from thawline.data.readable import without
from thawline.errors import UserError
from thawline.evaluate.explain import EXPLAINED, EXPLAINERS
from thawline.evaluate.summary import Summary
from thawline.recipe import Recipe, load_recipe, recipe_from
from thawline.run import carry_out
from thawline.run.data import cache_of, keep_given
from thawline.run.finish import evaluated, keep_analysis, write_report
from thawline.run.folder import RunFolder
from thawline.run.kept import learned_from, set_name
from thawline.run.predictor import SavedModel
from thawline.run.prepare import tell
from thawline.train.observe import filling
from thawline.train.observe import say as say_aloud
from thawline.train.workers import threads_inside
from thawline.types import Example, Prediction

Say = Callable[[str], None]


@final
class Run:
    """A finished run: its folder, its metrics, and its model as a predictor.

    `folder` is where it is kept. Raises RunError where this is no run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = RunFolder(folder)
        self.recipe: Recipe = self._folder.recipe()
        self.folder = self._folder.path

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return self._folder.read("metrics.json") or {}

    @property
    def trials(self) -> list[dict[str, Any]]:
        """What came of each trial, where the recipe varies keys: the content of trials.json, with the best one marked."""
        found = self._folder.read("trials.json") or {"best": None, "trials": []}
        return [{**entry, "best": entry["trial"] == found["best"]} for entry in found["trials"]]

    @cached_property
    def model(self) -> SavedModel:
        """The saved model: called with examples, it predicts."""
        return SavedModel(self._folder)

    def predict(self, data: Any) -> list[Prediction]:
        """Predict texts, pairs of texts, or anything that `thawline predict` reads; answers come in the order given."""
        return list(self.stream(self.examples(data)))

    def explain(self, data: Any) -> list[dict[str, Any]]:
        """Return what the answer to each example rests on: texts, pictures, recordings, in any form that `predict` reads.

        Each is a dict with "id", "target" (the answer), "method", and "words" with what each contributes to the logit, or
        "regions", rows of numbers over the picture, or over the first "seconds" of the recording. Raises UserError for what has
        no such answer.
        """
        task = self.model.task
        explainer = EXPLAINERS.get(type(task).inputs)
        if explainer is None or explainer.attribution is None or task.problem not in EXPLAINED:
            what = task.problem.replace("_", " ")
            raise UserError(
                f"What an answer rests on is shown for classes and numbers of texts, pictures and sounds, not {what}."
            )
        return [
            {"id": example["id"], **explainer.attribution(self.model.model, task, example)["attribution"]}
            for example in self.examples(data)
        ]

    def examples(self, data: Any, *, labelled: bool = False, say: Say = say_aloud) -> Examples:
        """Read what is to be predicted or measured, by the columns that the run was trained with."""
        columns = self._folder.columns()
        cache = cache_of(self.recipe)
        rows, findings = load_one(data, columns, encoding=self.recipe.data.encoding, labelled=labelled, cache=cache)
        rows, left = without(rows, self.model.unfit(rows), split="all", noun=INPUTS[columns.kind].noun)
        tell((*findings, *left), say)
        return rows

    def stream(self, examples: Sequence[Example], told: Callable[[int], object] = lambda done: None) -> Iterator[Prediction]:
        """Yield the predictions of examples as they come, in the order given."""
        return self.model.stream(iter(examples), told)

    def evaluate(self, data: Any, *, say: Say = say_aloud) -> Summary:
        """Measure the saved model, and baselines, on labelled data; what it says goes to `predictions/on-<data>.jsonl`.

        The rest goes to analysis.json and the report. The training data is read again for the baselines; where it is gone, or
        another than it was, they are left out, and a note says so.
        """
        rows, name = self.examples(data, labelled=True, say=say), set_name(data)
        train = partial(learned_from, self._folder, say)
        found = evaluated(self.model, rows, self._folder, name=name, train=train, say=say)
        keep_analysis(self._folder, name, found.given, saved=self.model, metrics=found.summary.section)
        if self._folder.finished:
            write_report(self._folder)
        return found.summary

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def finetune(data: Any, /, *, say: Say = say_aloud, progress: bool = True, **arguments: Any) -> Run:
    """Fine-tune a pretrained model on labelled data and return the run.

    `data` is a path (a file, a folder, a recipe's YAML) or a pandas frame, a pair of lists, a list of dicts. `arguments` are
    the recipe's names: sections (`model=`, `strategy=`, `train={...}`) or keys that only one section has (`epochs=3`).
    Raises the errors of `thawline.errors`.

        run = tl.finetune("reviews.csv", strategy=tl.freeze(4), epochs=2)
    """
    recipe = recipe_for(data, **arguments)
    return Run(carry_out.carry_out(recipe, say, progress=progress).path)


def plan(data: Any, /, *, say: Say = say_aloud, **arguments: Any) -> dict[str, Any]:
    """Return what `finetune` with the same arguments would take, measured on a few steps: nothing is trained or kept.

    Keys: model, strategy, trials, examples, stages, steps, steps_per_epoch, epochs, padding, memory_mb, memory_available_mb,
    store, seconds; docs/guides/plan.md explains each. Raises what `finetune` raises before its first step.
    """
    from thawline.run.plan import plan_of

    return plan_of(recipe_for(data, **arguments), say)


def features(
    model: str | Path | Run,
    data: Any,
    /,
    *,
    stage: int | str | None = None,
    pool: str = "mean",
    say: Say = say_aloud,
    progress: bool = True,
    **arguments: Any,
) -> pa.Table:
    """Return what goes into a stage of a model, an example a row: id, label and split where there are any, and "features".

    `model` is a run or its folder, else a hub name, a folder, or package:NAME; `stage` a number or a name (None: the head);
    `pool` makes a vector of an example's positions ("mean", "first", "last") or lists all of them ("none"). What is in the
    feature store is not computed. `arguments` are a recipe's names. Raises the errors of `thawline.errors`.
    """
    from thawline.run.features import Wanted, features_of

    place = model.folder if isinstance(model, Run) else model
    with threads_inside(), filling(progress) as told:
        found = features_of(place, data, arguments, wanted=Wanted(stage, pool), say=say)
        found.fill(told)
        return pa.Table.from_batches(found.batches())


def recipe_for(data: Any, overrides: Sequence[str] = (), /, **arguments: Any) -> Recipe:
    """Return the recipe for data or a recipe file; data held in memory is kept in the cache, so that a run can be resumed."""
    if isinstance(data, (str, Path)) and Path(data).suffix in (".yaml", ".yml"):
        return load_recipe(data, overrides, **arguments)
    if isinstance(data, (str, Path)):
        return recipe_from({"data": {"path": str(data)}}, overrides, **arguments)
    recipe = recipe_from({"data": {"path": "given"}}, overrides, **arguments)
    return recipe_from(recipe, data={"path": str(keep_given(data, cache_of(recipe)))})


def load_run(folder: str | Path) -> Run:
    """Return the run in a folder; raises RunError where there is none."""
    return Run(folder)


def resume(folder: str | Path, *, say: Say = say_aloud, progress: bool = True) -> Run:
    """Finish an interrupted run, to the same bytes as if it had not been interrupted, and return it."""
    return Run(carry_out.resume(RunFolder(folder), say, progress=progress).path)


def evaluate(folder: str | Path, data: Any) -> dict[str, Any]:
    """Return the metrics of a run's model on labelled data, in the form of a section of metrics.json."""
    return Run(folder).evaluate(data).section
