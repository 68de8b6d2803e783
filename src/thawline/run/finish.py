"""The end of a run: the saved model, and its metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from thawline.data.cache import written_aside
from thawline.data.examples import Examples
from thawline.errors import ModelError
from thawline.evaluate.answered import Answered, answers
from thawline.evaluate.baselines import Target, Text, baselines, majority, majority_tags
from thawline.evaluate.explain import EXPLAINED, EXPLAINERS, explain
from thawline.evaluate.output import write_predictions
from thawline.evaluate.perturb import USUAL
from thawline.evaluate.predict import spread
from thawline.evaluate.summary import Summary, summarize
from thawline.models.load import quiet
from thawline.recipe import Recipe
from thawline.report import card, facts_of, render
from thawline.run.analyse import analysable, analyse, calibrate
from thawline.run.assemble import Assembled
from thawline.run.folder import RunFolder
from thawline.run.kept import Kept, grouped, predictions_of
from thawline.run.predictor import SavedModel
from thawline.run.prepare import Prepared, Say
from thawline.run.robust import robust_aloud
from thawline.train.loop import State
from thawline.types import Prediction

REPORT = "report.html"
# Seconds for loading the saved model and the rest that does not grow, and for a baseline's training on one example.
_FIXED_SECONDS, _BASELINE_SECONDS, _BASELINE_MOST = 4.0, 5e-4, 50_000
_RESAMPLE_SECONDS = 1e-3  # of all metrics of one set, in the bootstrap
_BEFORE_SECONDS = 600.0  # that a test set may take for the model to be measured as it was before training, too
_QUIET_SECONDS = 30.0
_FLOAT32_FACTOR = 1.5  # what evaluating in float32 costs over bfloat16


def save(prepared: Prepared, assembled: Assembled, folder: RunFolder) -> None:
    """Write `model/`: a folder that plain transformers loads, in float32, with label names and tokenizer."""
    prepared.task.finish(assembled.model)
    if assembled.strategy.finish is not None:
        assembled.strategy.finish(assembled.model, assembled.groups, folder.model)
    with quiet():
        assembled.model.save_pretrained(folder.model)
    prepared.task.save(folder.model)


def measure_saved(prepared: Prepared, folder: RunFolder, beside: Mapping[str, Any], *, device: str, say: Say) -> None:
    """Measure the saved model, not the one in memory, and write predictions and `metrics.json`, which ends the run.

    `beside` are its sections that are not of a set of this model: "train", and what seeds or folds say together.
    """
    splits, (saved, fitted) = prepared.dataset.splits, ready(prepared, folder, device=device)
    metrics: dict[str, Any] = {}
    judging = next((name for name in ("test", "folds", "validation") if name in splits or name in beside), None)
    for split in (split for split in ("test", "validation") if split in splits):
        train = (lambda: splits["train"]) if split == judging else None
        found = evaluated(saved, splits[split], folder, name=split, train=train, say=say)
        if not metrics:
            keep_analysis(folder, split, found.given, saved=saved, fitted=fitted)
            if prepared.recipe.evaluate.robustness:
                robust_aloud(saved, Kept(split, splits[split], predictions_of(folder, split)), folder, say=say)
        metrics[split] = found.summary.section
    folder.write("metrics.json", {**metrics, **beside})
    write_report(folder)


def ready(prepared: Prepared, folder: RunFolder, *, device: str) -> tuple[SavedModel, Mapping[str, Any] | None]:
    """Return the saved model, calibrated where examples were held back for that, and what `calibrate` says."""
    splits = prepared.dataset.splits
    if "calibration" not in splits:
        return SavedModel(folder, device=device), None
    saved = SavedModel(folder, device=device, dtype="float32")
    fitted = calibrate(saved, splits["validation"], splits["calibration"], folder=folder)
    return saved if saved.dtype == prepared.recipe.predict.dtype else SavedModel(folder, device=device), fitted


def write_report(folder: RunFolder) -> Path:
    """Write report.html, and the model card, which says the same in short; return the report's path."""
    facts = facts_of(folder.path)
    for path, text in ((folder.path / REPORT, render(facts)), (folder.model / "README.md", card(facts))):
        with written_aside(path) as aside:
            aside.write_text(text, encoding="utf-8")
    return folder.path / REPORT


def keep_analysis(
    folder: RunFolder,
    name: str,
    given: Answered,
    *,
    saved: SavedModel | None = None,
    fitted: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Write what stands behind the metrics of a labelled set into analysis.json, behind what is there of other sets.

    `saved` is the model that answered, None where several did; `metrics` are those of a set that is not the run's own, of which
    metrics.json says nothing.
    """
    recipe, known = folder.trained(), folder.read("analysis.json") or {}
    found: dict[str, Any] = {"metrics": metrics} if metrics is not None else {}
    if recipe.evaluate.analysis and analysable(given.problem):
        # What answers of several models promise is not what one does.
        found |= analyse(given, folder if saved is not None else None, recipe, name=name, fitted=fitted)
        model = saved.model if saved is not None else None
        task = saved.task if saved is not None else None
        explain(found["mistakes"], given, model, task=task, limit=recipe.evaluate.attributions)
    if found:
        folder.write("analysis.json", {**{other: known[other] for other in known if other != name}, name: found})


def train_section(prepared: Prepared, state: State, *, peak_memory_mb: float) -> dict[str, Any]:
    """Return what metrics.json says of the training itself."""
    seconds = state.seconds
    return {
        "seconds": seconds["train"],
        "evaluation_seconds": seconds["evaluation"],
        "saving_seconds": seconds["saving"],
        "examples_per_second": state.examples / seconds["train"],
        "tokens_per_second": state.tokens / seconds["train"],
        "peak_memory_mb": peak_memory_mb,
        "epochs": (epochs := state.examples / len(prepared.sets["train"])),
        "seconds_per_epoch": seconds["train"] / epochs if epochs else None,
        "steps": state.step,
        "padding": 1 - state.tokens / state.positions if state.positions else 0.0,
    }


class Evaluated(NamedTuple):
    """The metrics of a labelled set, and what they were computed from."""

    summary: Summary
    given: Answered


def evaluated(
    saved: SavedModel, rows: Examples, folder: RunFolder, *, name: str, train: Callable[[], Examples | None] | None, say: Say
) -> Evaluated:
    """Predict a labelled set, write the predictions to `predictions/<name>.jsonl`, and measure them beside the baselines.

    `train` gives the examples that baselines learn from, None where they are gone; it is called only where some learn. Without
    `train` there are no baselines.
    """
    recipe, start = folder.trained(), time.monotonic()
    write_predictions(_predictions(saved, rows, f"predicting {name}", say=say), folder.path / "predictions" / f"{name}.jsonl")
    predictions, seconds = predictions_of(folder, name), time.monotonic() - start
    beside: dict[str, Any] | None = None
    if train is not None and baselines_learn(recipe, saved.task.problem, rows):
        learned = train()
        beside = baselines_of(learned, rows, recipe, say=say) if learned is not None else None
    elif train is not None and recipe.evaluate.baselines:
        beside = _before(saved, rows, recipe, seconds=seconds, say=say)
    groups = grouped(recipe, rows)
    if groups is not None and recipe.evaluate.bootstrap_samples:
        say(f"note: {name}: intervals are of draws of whole groups, {groups.max() + 1:,} by {recipe.data.split}")
    given = Answered(rows, predictions, saved.task.problem, saved.task.labels, groups)
    summary = summarize(given, baselines=beside, samples=recipe.evaluate.bootstrap_samples, seed=recipe.train.seed)
    for finding in summary.findings:
        say(f"{finding.level}: {finding.text}")
    return Evaluated(summary, given)


def _predictions(saved: SavedModel, rows: Examples, what: str, *, say: Say) -> Iterator[Prediction]:
    """Predict a labelled set, saying now and then how far it has come; some tasks answer only some examples in full."""
    most, chosen, total = saved.task.answered, None, len(rows)
    if most is not None:
        chosen = spread([label is not None for label in rows.column("label").to_pylist()], most)
        if 0 < chosen.sum() < total:
            say(f"note: {what}: {chosen.sum():,} of {total:,} examples are answered in full, spread evenly; the loss is of all")
    said = time.monotonic()

    def told(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > _QUIET_SECONDS:
            said = time.monotonic()
            say(f"{what}: {done:,} of {total:,} examples")

    yield from saved.stream(iter(rows), told, answered=chosen)


def _before(saved: SavedModel, rows: Examples, recipe: Recipe, *, seconds: float, say: Say) -> dict[str, Any] | None:
    """Return what the model said before it was trained, where it can say anything and that takes no longer than is fit."""
    nothing = rows.column("label").null_count == len(rows)  # to compare with
    if nothing or not type(saved.task).head_is_pretrained:
        return None
    if seconds > _BEFORE_SECONDS:
        limit = f"{_BEFORE_SECONDS / 60:g} minutes"
        say(f"note: the model as it was before training is not measured: the trained one took {seconds / 60:.0f}, over {limit}")
        return None
    say(f"note: measuring the model as it was before training (about {seconds:.0f} s; evaluate.baselines=false leaves it out)")
    try:
        other = saved.untrained(recipe)
    except ModelError as error:
        say(f"note: the model as it was before training is not measured: {error}")
        return None
    predictions = _predictions(other, rows, "predicting with the model before training", say=say)
    return {"before": answers(list(predictions), saved.task.problem)}


def baselines_learn(recipe: Recipe, problem: str, rows: Examples) -> bool:
    """Whether baselines are wanted of these examples and learn from labels: those of classes, numbers and tagged tokens do."""
    tagged = problem == "token_classification" and "tokens" in rows.table.column_names
    return recipe.evaluate.baselines and (recipe.task.problem != "auto" or tagged)


def baselines_of(train: Examples, rows: Examples, recipe: Recipe, *, say: Say) -> dict[str, list[Target]]:
    """Return what baselines that learn from `train` say of other examples, by name; `baselines_learn` says where some do."""
    targets, problem = train.column("label").to_pylist(), str(recipe.task.problem)
    if problem == "auto":
        words, others = (some.column("tokens").to_pylist() for some in (train, rows))
        return {"majority": list(majority_tags(words, targets, others))}
    learned, asked = _texts(train), _texts(rows)
    if learned is None or asked is None:
        return {"majority": majority(targets, problem, len(rows))}
    found = baselines(learned, targets, asked, problem=problem, seed=recipe.train.seed)
    for note in found.notes:
        say(f"note: {note}")
    return found.predictions


def _texts(rows: Examples) -> Sequence[Text] | None:
    if "text" not in rows.table.column_names:
        return None
    first: list[str] = rows.column("text").to_pylist()
    if "text_pair" not in rows.table.column_names:
        return first
    return list(zip(first, rows.column("text_pair").to_pylist(), strict=True))


def ending_seconds(prepared: Prepared, evaluation: float, *, example: float, bf16: bool) -> float:
    """Estimate the seconds between the last evaluation and the end: predictions in float32, baselines, intervals, files.

    `evaluation` is what the validation set takes, `example` what training on one example takes, a third of it going forward.
    """
    sets = prepared.sets
    resamples = prepared.recipe.evaluate.bootstrap_samples * 3 * (1 + len(prepared.task.labels) / 80)
    each = evaluation / len(sets["validation"]) if "validation" in sets else example / 3
    sizes = {name: len(sets[name]) for name in ("validation", "test") if name in sets}
    kind, most = type(prepared.task), prepared.task.answered
    passes = {name: n + kind.passes_to_answer * (n if most is None else min(n, most)) for name, n in sizes.items()}
    judged = passes.get("test", 0.0 if prepared.recipe.data.folds else passes.get("validation", 0.0))
    again = judged * (kind.head_is_pretrained and prepared.recipe.evaluate.baselines)
    perturbed = len(USUAL.get(prepared.dataset.columns.kind, ())) if prepared.recipe.evaluate.robustness else 0
    shown = prepared.recipe.evaluate.analysis and prepared.task.problem in EXPLAINED and kind.inputs in EXPLAINERS
    explained = EXPLAINERS[kind.inputs].passes if shown else 0
    final = (
        sum(passes.values())
        + again
        + explained * prepared.recipe.evaluate.attributions
        + perturbed * passes.get("test", passes.get("validation", 0.0))
    )
    baseline = min(len(sets["train"]), _BASELINE_MOST) * _BASELINE_SECONDS if prepared.recipe.evaluate.baselines else 0.0
    return each * final * (_FLOAT32_FACTOR if bf16 else 1.0) + baseline + resamples * _RESAMPLE_SECONDS + _FIXED_SECONDS
