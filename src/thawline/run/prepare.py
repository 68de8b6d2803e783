"""From a recipe to everything that is there before the first weight is loaded: data, task, encoded sets, resolved recipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thawline.calls import parse_call
from thawline.data.augment import PICTURES
from thawline.data.cache import hash_bytes
from thawline.data.check import stop_on
from thawline.data.columns import Columns
from thawline.data.dataset import Dataset
from thawline.data.encoded import Encoded, encoded
from thawline.data.examples import Examples
from thawline.data.inputs import INPUTS, Fault
from thawline.data.readable import without
from thawline.data.weights import class_weights
from thawline.errors import RecipeError, RunError, UserError
from thawline.models.load import configured, load_config, load_processor
from thawline.recipe import Recipe, recipe_from
from thawline.run.data import cache_of, dataset_of
from thawline.run.folder import RunFolder, backend_of
from thawline.table import code_of
from thawline.tasks.base import Fitting, Task, own_options, task_class, task_for
from thawline.tasks.supervised import Supervised, Views
from thawline.train.optimizers import optimizer_class
from thawline.train.schedule import check_schedule
from thawline.types import LISTED, Finding
from thawline.version import __version__

Say = Callable[[str], None]
_CROWD = 4
"""Threads for each of a machine's processors, above which they only stand in each other's way."""


@dataclass(frozen=True)
class Prepared:
    """What training starts from. `sets` has "train" and, where they are there, "validation" and "test"."""

    recipe: Recipe
    dataset: Dataset
    task: Task
    sets: Mapping[str, Supervised]
    config: Any
    processor: Any
    findings: tuple[Finding, ...]


def load_dataset(recipe: Recipe, say: Say) -> Dataset:
    """Read, check and split the recipe's data, telling what was found; raises DataError where it cannot be trained on."""
    dataset = dataset_of(recipe)
    tell(dataset.findings, say)
    return dataset


def tell(findings: Iterable[Finding], say: Say) -> None:
    """Say what was found; raises DataError where training must stop."""
    found = tuple(findings)
    for finding in found:
        if finding.level not in ("stop", LISTED):
            say(f"{finding.level}: {finding.text}")
    stop_on(found)


def prepare(recipe: Recipe, say: Say, *, dataset: Dataset | None = None) -> Prepared:
    """Do everything that can fail through the user's fault, short of loading weights; nothing is written but caches.

    `dataset` is the recipe's own, where it is at hand.
    """
    check_parts(recipe)
    dataset = dataset or load_dataset(recipe, say)
    recipe = with_task(recipe, dataset.columns)
    kind = task_class(recipe.task.name)
    recipe = with_model(recipe, kind, dataset.splits["train"], say=say)
    options = own_options(kind, recipe.task.options)
    config, processor, length = processor_of(recipe, kind, dataset.splits, say=say)
    dataset = fitting(dataset, partial(kind.unfit, processor, config), say)
    task: Task = kind(  # type: ignore[call-arg]
        processor,
        problem=dataset.columns.problem,
        labels=dataset.columns.labels,
        max_length=length,
        class_weights=_class_weights(recipe, dataset),
        label_smoothing=recipe.train.label_smoothing_factor,
        **options,
    )
    task.configure(config)
    task.augment(recipe.data.augment)
    cache, whole = cache_of(recipe), dataset.pool
    sets = {split: supervised(task, rows, cache, whole=whole, say=say) for split, rows in dataset.splits.items()}
    if recipe.data.augment:
        own = code_of(*(PICTURES[name] for spec in recipe.data.augment if ":" in (name := parse_call(spec).name)))
        views = Views(f"{recipe.data.augment}{own} {__version__}", recipe.train.seed, None)
        sets["train"] = replace(sets["train"], views=views)
    cut = [
        found
        for split, data in sets.items()
        if length and isinstance(data.items, Encoded) and (found := task.truncation(data.items, split=split, length=length))
    ]
    tell(cut, say)
    return Prepared(_resolved(recipe, dataset, length), dataset, task, sets, config, processor, (*dataset.findings, *cut))


def fitting(dataset: Dataset, unfit: Callable[[Examples], list[Fault]], say: Say) -> Dataset:
    """Return the data without what a model cannot take, which is told by name; raises DataError if nothing is left.

    Its fingerprint stays that of the data as it was read.
    """
    noun, findings, splits = INPUTS[dataset.columns.kind].noun, list[Finding](), dict[str, Examples]()
    for split, rows in dataset.splits.items():
        splits[split], told = without(rows, unfit(rows), split=split, noun=noun)
        findings += told
    if not findings:
        return dataset
    tell(findings, say)
    pool = dataset.pool and without(dataset.pool, unfit(dataset.pool), split="all", noun=noun)[0]
    return replace(dataset, splits=splits, findings=(*dataset.findings, *findings), pool=pool)


def check_parts(recipe: Recipe) -> None:
    """Raise UserError for an optimiser or a schedule that is not one; those of others are imported here.

    And where several processes are to share out what has to run together.
    """
    optimizer_class(recipe.train.optim)
    check_schedule(recipe.train.lr_scheduler_type, recipe.train.lr_scheduler_kwargs)
    most = _CROWD * (os.cpu_count() or 1)
    if (recipe.train.threads or 1) > most:
        raise RecipeError([f"train.threads: {recipe.train.threads} was given; expected at most {most} on this machine."])
    processes = int(os.environ.get("WORLD_SIZE") or 1)
    if recipe.train.batch_norm == "batch" and processes > 1:
        raise RecipeError(
            [
                f"train.batch_norm is batch, which takes statistics over whole batches: {processes} processes cannot share "
                "them out; expected frozen, or one process."
            ]
        )


def with_task(recipe: Recipe, columns: Columns) -> Recipe:
    """Return a recipe that names its task: the one that learns such targets of such inputs."""
    return recipe if recipe.task.name != "auto" else recipe_from(recipe, task={"name": task_for(columns.kind, columns.target)})


def _class_weights(recipe: Recipe, dataset: Dataset) -> Mapping[str, float]:
    if dataset.columns.labels:
        return class_weights(dataset.splits["train"], recipe.train.class_weights)
    if recipe.train.class_weights != "none":
        what = dataset.columns.problem.replace("_", " ")
        raise UserError(f"train.class_weights weighs classes, and this data is of {what}; leave it out.")
    return {}


def processor_of(
    recipe: Recipe, kind: type[Task], examples: Mapping[str, Examples], *, say: Say
) -> tuple[Any, Any, int | None]:
    """Load the config and the processor of a recipe's model, and return them with the length at which items are cut.

    They are made ready for `examples`, by split; without any, they are those of the checkpoint as far as may be.
    """
    name, source = str(recipe.model.name), source_of(recipe)
    wanted = Fitting(recipe.data.max_length, recipe.model.add_tokens, recipe.task.options, examples, recipe.model.in_channels)
    config = configured(load_config(name, **source), recipe.model.config)
    processor = kind.processor(lambda name_of: load_processor(name, name_of, **source), config, wanted)
    length, note = kind.fit(processor, config, wanted)
    if note:
        say(f"note: {note}")
    return config, processor, length


def with_model(recipe: Recipe, kind: type[Task], train: Examples, *, say: Say) -> Recipe:
    """Return a recipe that names its model: the task's own where the user names none, with a word about it."""
    if recipe.model.name is not None:
        return recipe
    name = recipe.task.name
    if kind.default_model is None:
        raise UserError(f"No model was named, and there is none that {name} takes by itself; name one with model=NAME.")
    say(f"note: no model was named, so {kind.default_model} is used (MiniLM, English, 6 layers); another: model=NAME")
    for remark in kind.remarks(islice(train, 1000)):
        say(f"warning: {remark}")
    return recipe_from(recipe, model={"name": kind.default_model})


def supervised(
    task: Task, rows: Examples, cache: Path, *, whole: Examples | None = None, say: Say = lambda text: None
) -> Supervised:
    """Encode examples, from the cache where they are there, and set them beside targets, weights and ids.

    Where they are some of `whole`, all of that is encoded, once for all its parts.
    """
    places = whole.places_of(rows) if whole is not None else None
    read = rows if whole is None or places is None else whole
    key = hash_bytes(read.fingerprint, task.encoding_key(), task.code)
    items = encoded(read.batches(task.at_once), task.encode, key=key, cache=cache, told=_counter(len(read), say))
    items = items if places is None else items.select(places)
    ids = rows.column("id").to_numpy()
    names = rows.table.column_names
    columns = {"id": ids, **{name: rows.column(name).to_pylist() for name in ("tokens", "label") if name in names}}
    targets = task.targets(columns) if "label" in names else None
    weights = rows.column("weight").to_numpy().astype(np.float32) if "weight" in names else None
    return Supervised(task, items, items.lengths, ids, targets, weights, items.owners)


def _counter(total: int, say: Say) -> Callable[[int], None]:
    def told(done: int) -> None:
        if done % 100_000 == 0:
            say(f"encoded {done:,} of {total:,} examples")

    return told


def source_of(recipe: Recipe) -> dict[str, Any]:
    """Return how a recipe's model is to be fetched, as `thawline.models.load` takes it."""
    return {"revision": recipe.model.revision, "trust_remote_code": recipe.model.trust_remote_code}


def _resolved(recipe: Recipe, dataset: Dataset, length: int | None) -> Recipe:
    """Return the recipe with what was inferred written into it, so that the run's folder says it all."""
    columns = dataset.columns
    inputs = list(columns.inputs) if len(columns.inputs) > 1 else columns.inputs[0]
    path = str(Path(recipe.data.path).absolute())
    found = dict(columns.before) if INPUTS[columns.kind].known else {columns.kind: inputs, "label": columns.label}
    data = {"path": path, **found, "id": columns.id, "max_length": length}
    kept = {key: value for key, value in data.items() if value is not None}
    return recipe_from(recipe, task={"problem": columns.problem if columns.plainly else "auto"}, data=kept)


def facts_of(prepared: Prepared) -> dict[str, Any]:
    """Return what data.json keeps of the data: fingerprint, sizes of splits, columns, and what brings pictures to size."""
    sizes = {name: len(rows) for name, rows in prepared.sets.items()}
    columns, found = asdict(prepared.dataset.columns), [list(finding) for finding in prepared.findings]
    backend = {"backend": name} if (name := backend_of(prepared.processor)) else {}
    return {"fingerprint": prepared.dataset.fingerprint, "splits": sizes, "columns": columns, "findings": found, **backend}


def refuse_changed(folder: RunFolder, prepared: Prepared) -> None:
    """Raise RunError where the data are not those that the run in a folder was begun with."""
    known = folder.read("data.json")
    if known is not None and known["fingerprint"] != prepared.dataset.fingerprint:
        path = prepared.recipe.data.path
        raise RunError(f"The data at {path} changed since {folder.path} was begun, so the run cannot go on; train anew.")
    folder.refuse_backend(prepared.processor)
