"""`thawline check --labels --curve`: labels that look wrong, near duplicates across splits, what more labels would bring."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from thawline.cli import show
from thawline.errors import UserError

if TYPE_CHECKING:
    from thawline.data.dataset import Dataset
    from thawline.recipe import Recipe
    from thawline.run.folder import RunFolder

_SHOWN, _WIDE = 10, 80  # rows of a table, and characters of a text
_KEPT = 200  # of them are in a run's analysis.json
_INPUTS = ("text", "text_pair", "image", "audio")
_ALWAYS = ("kind", "id", "split", "label", "suggested", "quality")
_COLUMNS = ("kind", "id", "split", *_INPUTS, "label", "suggested", "next", "quality", "margin", "similarity", "like_id", "like")


def refuse_output(path: Path | None, suffix: str = ".csv") -> None:
    """Raise UserError where a file cannot be written: it is there already, or has another suffix, or no folder."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise UserError(f"A table is written as {suffix}, and {str(path)!r} is not; name it {path.stem}{suffix}.")
    if path.exists():
        raise UserError(f"{path} is there already, and nothing is written over; give another name.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent} to write {path.name} into.")


def look_at_labels(recipe: Recipe, dataset: Dataset, *, labels: Path | None, curve: bool, run: RunFolder | None = None) -> None:
    """Print what features of a pretrained model say of labels; with `labels` a CSV is written, with `run` its report too."""
    from thawline.run import labels as looking
    from thawline.run.features import features_of_examples
    from thawline.run.prepare import with_model, with_task
    from thawline.tasks.base import task_class
    from thawline.train.workers import threads_inside

    recipe = with_task(recipe, dataset.columns)
    recipe = with_model(recipe, task_class(recipe.task.name), dataset.splits["train"], say=show.say)
    with threads_inside():
        features = features_of_examples(recipe, list(dataset.splits.values()), dataset.columns, say=show.say)
        with show.progress("computing features", features.missing) as told:
            features.fill(lambda done, total: told(done))
        with show.progress("reading features", len(features)) as told:
            vectors = looking.by_split(features, dataset, told)
    found: dict[str, Any] = {}
    if labels is not None:
        with show.progress("learning from the other folds", looking.FOLDS) as told:
            errors = looking.suspects(dataset, vectors, seed=recipe.train.seed, told=told)
        leaks = looking.leaks(dataset, vectors)
        _show_errors(errors, leaks)
        rows = [*_error_rows(errors), *_leak_rows(leaks)]
        write_rows(rows, labels, _ALWAYS)
        what = f"All {len(rows):,} are in {labels}, to look through; correct the data itself, then train."
        show.say(f"\n{what if rows else f'So {labels} has no rows.'}")
        found |= {"label_errors": _first(errors)} if errors else {}
        found["near_duplicates"] = _first(leaks)
    if curve:
        with show.progress("learning from fewer labels", looking.curve_work(dataset)) as told:
            found["learning_curve"] = looking.curve(dataset, vectors, seed=recipe.train.seed, told=told)
        show.result("", curve_table(found["learning_curve"]), found["learning_curve"]["words"])
        show.say("The error is that of logistic regression on features, which is what strategy=head learns.")
    if run is not None:
        _keep(run, found)


def _keep(run: RunFolder, found: Mapping[str, Any]) -> None:
    from thawline.run.finish import write_report

    run.write("analysis.json", {**(run.read("analysis.json") or {}), **found})
    show.say(f"It stands in {write_report(run)} too.")


def _first(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, "examples": found["examples"][:_KEPT]}


def _show_errors(errors: Mapping[str, Any] | None, leaks: Mapping[str, Any]) -> None:
    if errors is None:
        show.say("note: label errors are looked for where each example has one class; here only near duplicates are")
    else:
        shown = [
            (one["split"], one["label"], one["suggested"], one["quality"], said(one)) for one in errors["examples"][:_SHOWN]
        ]
        if shown:
            show.result("", _table("labels that look wrong", ("split", "label", "suggested", "quality", "example"), shown))
        show.result(errors["words"])
    pairs = [
        (one["split"], one["similarity"], str(one["label"]), said(one), str(one["like"]["label"]), said(one["like"]))
        for one in leaks["examples"][:_SHOWN]
    ]
    if pairs:
        columns = ("split", "similarity", "label", "example", "label", "in train")
        show.result("", _table("near duplicates of training examples", columns, pairs))
    show.result(leaks["words"])


def curve_table(found: Mapping[str, Any]) -> Table:
    """Return the error by the number of labels, as measured and, beyond them, as the fitted curve has it."""
    rows: list[tuple[Any, ...]] = [(f"{one['size']:,}", _error(one), "measured") for one in found["points"]]
    wanted = (round(found["times"] * found["n"]), 4 * found["n"])
    rows += [(f"{one['size']:,}", _error(one), "foretold") for one in found["curve"] if one["size"] in wanted]
    return _table(f"error by number of labels, on {found['measured_on']}", ("labels", "error [95 % interval]", ""), rows)


def _error(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    return f"{one['error']:.3f} [{low:.3f}, {high:.3f}]"


def said(one: Mapping[str, Any]) -> str:
    """Return what an example says in one line: its texts, or where its file is."""
    text = " | ".join(str(one[key]) for key in _INPUTS if one.get(key))
    text = " ".join(text.split()) or str(one["id"])
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))
    return table


def _error_rows(errors: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for one in errors["examples"] if errors else ():
        yield {"kind": "label", **_plain(one), "suggested": one["suggested"], "quality": round(one["quality"], 6)}


def _leak_rows(leaks: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for one in leaks["examples"]:
        like = one["like"]
        suggested = like["label"] if like["label"] != one["label"] else ""
        near = {"similarity": round(one["similarity"], 6), "like_id": like["id"], "like": said(like)}
        yield {"kind": "near duplicate", **_plain(one), "suggested": suggested, **near}


def _plain(one: Mapping[str, Any]) -> dict[str, Any]:
    label = one["label"]
    inputs = {key: one[key] for key in _INPUTS if key in one}
    return {"id": one["id"], "split": one["split"], **inputs, "label": "|".join(label) if isinstance(label, list) else label}


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path, always: Sequence[str] = ()) -> None:
    """Write rows as CSV, with the columns that any of them has, and those that are `always` there."""
    from thawline.data.cache import written_aside

    there = {name for row in rows for name in row} | set(always)
    columns = [name for name in _COLUMNS if name in there]
    assert len(columns) == len(there), f"a column of {there} has no place"
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
