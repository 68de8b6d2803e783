"""What stands behind the metrics of a run: calibration of the saved model, and the sections of analysis.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from thawline.data.cache import written_aside
from thawline.data.divide import LEAST_VALIDATION
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

_NOTHING_HELD = (
    "Nothing is promised: that takes labelled examples that chose nothing, and none were held back. They are taken from a "
    f"validation split of {LEAST_VALIDATION} examples or more (data.calibration_size)."
)
_SEVERAL_MODELS = "Nothing is promised: several models answered."
_ON_HELD = "This is of the examples that were held back, since the validation split fitted the temperature."
_CHOSE = (
    "What is promised was found on examples that chose nothing. The validation split, on which it is tried, chose the "
    "checkpoint and fitted the temperature, so there it looks somewhat too good."
)


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
    given: Answered, folder: RunFolder | None, recipe: Recipe, *, name: str = "", fitted: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the sections of analysis.json for one labelled set by its name; `fitted` is what `calibrate` returned now.

    `folder` has the examples that promises are made by; None: nothing is promised. Classes, curves, calibration, abstention and
    label sets are there for labels, mistakes and slices for every problem.
    """
    options: dict[str, Any] = {"samples": recipe.evaluate.bootstrap_samples, "seed": recipe.train.seed}
    found: dict[str, Any] = {"mistakes": mistakes(given), "slices": slices(given, seed=recipe.train.seed)}
    if given.problem in CLASSES and given.has_scores:
        found |= {"classes": classes(given, **options), "curves": curves(given, **options)}
        held, fitted = (_held(folder, given), fitted or _fitted(folder)) if folder is not None else (None, None)
        # What fitted a temperature does not judge it.
        judge = held if held is not None and fitted and name == "validation" else given
        temperature = np.array(fitted["temperature"]) if fitted else None
        found["calibration"] = calibration(judge, temperature, folded=True, **options) | {"fitted": dict(fitted or {})}
        if held is None:
            notes = [_NOTHING_HELD if folder is not None else _SEVERAL_MODELS]
            return found | {"abstention": {"notes": notes}, "conformal": {"notes": notes}}
        found |= {"abstention": abstention(held, given), "conformal": conformal(held, given, seed=recipe.train.seed)}
        if judge is held:
            found["calibration"]["notes"] += [_ON_HELD, *given.notes]
            for promise in ("abstention", "conformal"):
                found[promise]["notes"] += [_CHOSE]
    return found


def _calibration(folder: RunFolder) -> Path:
    return folder.path / "predictions" / "calibration.jsonl"


def _held(folder: RunFolder, given: Answered) -> Answered | None:
    if not _calibration(folder).is_file():
        return None
    rows: list[Any] = list(read_predictions(_calibration(folder)))
    examples = [{"id": row["id"], "label": row.pop("true")} for row in rows]
    return Answered(examples, rows, given.problem, given.labels)


def _fitted(folder: RunFolder) -> Mapping[str, Any] | None:
    """Return what `calibrate` returned when the run was measured; None where nothing was fitted."""
    sections = (folder.read("analysis.json") or {}).values()
    found = (one.get("calibration", {}).get("fitted") for one in sections if isinstance(one, dict))
    return next(filter(None, found), None)
