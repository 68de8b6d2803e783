"""What a finished run said of the examples that it was measured on, read again beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thawline.calls import parse_call
from thawline.data.examples import FILES, Examples
from thawline.errors import RunError, ThawlineError
from thawline.evaluate.answered import Answered
from thawline.evaluate.output import PredictionFile
from thawline.recipe import Recipe
from thawline.run.data import dataset_of
from thawline.run.folder import RunFolder
from thawline.types import Prediction


class Kept(NamedTuple):
    """A labelled set by its name in the run's folder, its examples, and what the run's model said of them."""

    name: str
    examples: Examples
    predictions: Sequence[Prediction]


def kept(folder: RunFolder) -> Kept:
    """Return the set that says how good the model is: test, else the folds, else validation.

    Raises RunError where the run is not finished, measured nothing, or its data is not what it was.
    """
    metrics = folder.read("metrics.json")
    if metrics is None:
        raise RunError(f"{folder.path} is not finished, so it has no answers yet. Type: thawline resume {folder.path}")
    name = next((name for name in ("test", "folds", "validation") if name in metrics), None)
    if name is None:
        raise RunError(f"{folder.path} was trained without a test or validation split; give a labelled file with --data FILE.")
    recipe = folder.trained()
    dataset = dataset_of(recipe)
    examples = dataset.pool if name == "folds" else dataset.splits.get(name)
    predictions = predictions_of(folder, name)
    if examples is not None and dataset.columns.kind in FILES:  # of which the model may have left some out
        said = {prediction["id"] for prediction in predictions}
        examples = examples.select(np.array([one in said for one in examples.column("id").to_pylist()], np.bool_))
    if examples is None or examples.column("id").to_pylist() != [prediction["id"] for prediction in predictions]:
        what = f"The data of {folder.path} is another than when it was measured"
        raise RunError(f"{what}; bring {recipe.data.path} back, or give a labelled file with --data FILE.")
    return Kept(name, examples, predictions)


def learned_from(folder: RunFolder, say: Callable[[str], None]) -> Examples | None:
    """Return what the model of a run learned from, read again; None, after a note, where it is gone or another than it was."""
    recipe, known = folder.trained(), folder.data()
    try:
        dataset = dataset_of(recipe)
    except ThawlineError as error:
        say(f"note: there are no baselines, since the training data cannot be read again: {error}")
        return None
    if dataset.fingerprint != known.get("fingerprint"):
        say(f"note: there are no baselines, since the data at {recipe.data.path} changed since the model was trained")
        return None
    return dataset.splits["train"]


def set_name(data: Any) -> str:
    """Return what a set that is not the run's own is called in the run's folder, so that another test.csv stays apart.

    >>> set_name("data/test.csv"), set_name([("a text", "a label")])
    ('on-test', 'on-given')
    """
    return f"on-{Path(data).stem}" if isinstance(data, (str, Path)) else "on-given"


def predictions_of(folder: RunFolder, name: str) -> PredictionFile:
    """Return the predictions that a run kept of a set; raises RunError where they are gone."""
    path = folder.path / "predictions" / f"{name}.jsonl"
    if not path.is_file():
        raise RunError(f"{path} is gone; give a labelled file with --data FILE.")
    return PredictionFile(path)


def grouped(recipe: Recipe, rows: Examples) -> np.ndarray[Any, Any] | None:
    """Return the number of each example's group, int [N], where the data is split by groups; None where it is not.

    What resembles one another within a group is not independent, so intervals are of draws of whole groups. An example without
    a group is one by itself.
    """
    call = parse_call(recipe.data.split)
    column = next((str(value) for value in (*call.args, *dict(call.kwargs).values())), None)
    if call.name != "group" or column is None or column not in rows.table.column_names:
        return None
    names = rows.column(column).to_pylist()
    number: dict[Any, int] = {}
    return np.array([number.setdefault((place,) if name is None else name, len(number)) for place, name in enumerate(names)])


def answered_by(folder: RunFolder, examples: Examples, predictions: Sequence[Prediction]) -> Answered:
    """Return examples beside what the model of a run said of them, whatever the problem."""
    columns = folder.columns()
    return Answered(examples, predictions, columns.problem, columns.labels, grouped(folder.trained(), examples))
