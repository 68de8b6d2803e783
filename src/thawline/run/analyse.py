"""What stands behind the metrics of a run: calibration of the saved model, and the sections of analysis.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from thawline.data.cache import written_aside
from thawline.evaluate.abstain import abstention
from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.calibrate import calibration, fit_temperature, fold_temperature, rescaled
from thawline.evaluate.classes import classes
from thawline.evaluate.conformal import conformal
from thawline.evaluate.curves import curves
from thawline.evaluate.metrics import METRICS
from thawline.evaluate.mistakes import mistakes
from thawline.evaluate.output import read_predictions, write_predictions
from thawline.evaluate.slices import slices
from thawline.evaluate.thresholds import thresholds
from thawline.models.heads import output_layer
from thawline.recipe import Recipe
from thawline.run.folder import RunFolder
from thawline.run.predictor import THRESHOLDS, SavedModel
from thawline.types import Example, Prediction


def analysable(problem: str) -> bool:
    """Whether a problem says how wrong an answer is, which analyses start from."""
    return problem in (*CLASSES, "regression") or METRICS[problem].error is not None


def calibrate(saved: SavedModel, chosen: Sequence[Example], held: Sequence[Example], *, folder: RunFolder) -> Mapping[str, Any]:
    """Fit a temperature on the examples that chose the model, fold it into the saved head, and keep what it says of others.

    With several labels each gets a threshold too. `held` are examples that chose nothing: what is promised of answers and of
    label sets is found on them. Returns the temperature of each label, or of all.
    """
    first = Answered(chosen, saved(chosen), saved.task.problem, saved.task.labels)
    found = fit_temperature(first)
    fold_temperature(output_layer(saved.model, len(saved.task.labels)), found)
    saved.save(folder)
    if first.several:
        rows = thresholds(rescaled(first, found))["labels"]
        cuts = {row["label"]: row["threshold"] for row in rows}
        with written_aside(folder.model / THRESHOLDS) as aside:
            aside.write_text(json.dumps(cuts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        saved.task.thresholds = cuts
    path = _calibration(folder)
    said = ({**one, "true": example["label"]} for example, one in zip(held, saved(held), strict=True))
    write_predictions(cast(Iterable[Prediction], said), path)
    return {"temperature": [float(one) for one in found], "n": len(first)}


def analyse(
    given: Answered, folder: RunFolder | None, recipe: Recipe, *, fitted: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the sections of analysis.json for one labelled set; `fitted` is what `calibrate` returned.

    `folder` has the examples that promises are made by; None: nothing is promised. Classes, curves, calibration, abstention and
    label sets are there for labels, mistakes and slices for every problem.
    """
    options: dict[str, Any] = {"samples": max(1, recipe.evaluate.bootstrap_samples), "seed": recipe.train.seed}
    found: dict[str, Any] = {"mistakes": mistakes(given), "slices": slices(given, seed=recipe.train.seed)}
    if given.problem in CLASSES and given.has_scores:
        found |= {"classes": classes(given, **options), "curves": curves(given)}
        found["calibration"] = calibration(given, **options) | {"fitted": dict(fitted or {})}
        held = _held(folder, given) if folder is not None else None
        if held is not None:
            found["abstention"] = abstention(held, given)
            found["conformal"] = conformal(held, given, seed=recipe.train.seed)
    return found


def _calibration(folder: RunFolder) -> Path:
    return folder.path / "predictions" / "calibration.jsonl"


def _held(folder: RunFolder, given: Answered) -> Answered | None:
    if not _calibration(folder).is_file():
        return None
    rows: list[Any] = list(read_predictions(_calibration(folder)))
    examples = [{"id": row["id"], "label": row.pop("true")} for row in rows]
    return Answered(examples, rows, given.problem, given.labels)
