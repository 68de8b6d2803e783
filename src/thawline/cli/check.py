"""`thawline check`: data as training would see it, and what can be said of its labels before anything is trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from thawline.cli import show
from thawline.cli.labels import look_at_labels, refuse_output
from thawline.cli.runs import folder_of, recipe_of
from thawline.errors import DataError, ThawlineError, UserError

if TYPE_CHECKING:
    from thawline.data.dataset import Dataset
    from thawline.recipe import Recipe
    from thawline.run.folder import RunFolder
    from thawline.types import Finding


def check(data: str, settings: list[str] | None, *, labels: Path | None, curve: bool) -> None:
    """Print what is found in data, and with `labels` or `curve` what a pretrained model makes of its labels.

    `data` may be the folder of a run: then its data is meant, and its report shows what was found. Raises typer.Exit where
    training would stop, UserError for a mistake, before anything is computed.
    """
    from thawline.run.data import dataset_of

    refuse_output(labels)
    run, recipe = _wanted(data, settings)
    if run is not None and (labels or curve) and not run.finished:
        raise UserError(f"{data} is not finished, so it has no report yet. Type: thawline resume {data}")
    dataset = dataset_of(recipe)
    findings = (*dataset.findings, *_cut_off(recipe, dataset))
    show.result(show.findings_table(findings))
    stops = sum(finding.level == "stop" for finding in findings)
    if stops:
        show.error_line(f"{stops} of these would stop the training.")
        raise typer.Exit(2)
    sizes = ", ".join(f"{name} {len(rows):,}" for name, rows in dataset.splits.items())
    words = shlex.join(["thawline", "train", data, *(settings or ())])
    show.say(f"\n{dataset.columns.problem}; {sizes}." + (f" To train on it, type: {words}" if run is None else ""))
    if labels is not None or curve:
        from thawline.run.labels import refuse_unlabelled

        refuse_unlabelled(dataset, curve=curve)
        look_at_labels(recipe, dataset, labels=labels, curve=curve, run=run)


def _cut_off(recipe: Recipe, dataset: Dataset) -> Sequence[Finding]:
    """Return what truncation would lose, which only a model's tokenizer can tell; a note where there is none at hand."""
    from thawline.data.examples import FILES
    from thawline.types import Finding

    known = dataset.columns
    if known.kind in FILES or known.problem == "unlabelled" or any(finding.level == "stop" for finding in dataset.findings):
        return ()
    if recipe.model.name is None:  # the check of data alone waits for no library
        return (Finding("note", "truncation", "what truncation loses depends on the model; to see it, add model=NAME"),)
    from thawline.run.prepare import prepare

    try:
        return prepare(recipe, lambda text: None, dataset=dataset).findings[len(dataset.findings) :]
    except DataError as reason:
        return (Finding("stop", "truncation", str(reason)),)
    except ThawlineError as reason:
        return (Finding("note", "truncation", f"whether texts are cut off was not looked at: {reason}"),)


def _wanted(data: str, settings: list[str] | None) -> tuple[RunFolder | None, Recipe]:
    """Return the recipe of data, and the run whose data it is, if it is one's."""
    if not (Path(data) / "recipe.yaml").is_file():
        recipe = recipe_of(data, settings)
        name = recipe.model.name
        if name is not None and (Path(name) / "recipe.yaml").is_file():
            raise UserError(f"{name} is a run, which has learned these labels; name a pretrained model: model=NAME.")
        return None, recipe
    if settings:
        raise UserError(f"{data} is a run, whose data is checked as it was trained on; leave out {' '.join(settings)}.")
    run = folder_of(Path(data))
    return run, run.trained()
