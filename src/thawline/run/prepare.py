"""From a recipe to everything that is there before the first weight is loaded: data, task, encoded sets, resolved recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thawline.data.cache import hash_bytes
from thawline.data.check import stop_on, truncation
from thawline.data.dataset import Dataset
from thawline.data.encoded import encoded
from thawline.data.examples import Examples
from thawline.data.weights import class_weights
from thawline.errors import UserError
from thawline.models.catalog import DEFAULT_TEXT_MODEL
from thawline.models.load import load_config, load_processor
from thawline.recipe import Recipe, recipe_from
from thawline.run.data import cache_of, dataset_of
from thawline.run.derive import looks_english, max_length
from thawline.tasks.base import TEXT_TASK, Task, task_class
from thawline.tasks.supervised import Supervised
from thawline.train.optimizers import optimizer_class
from thawline.train.schedule import check_schedule
from thawline.types import Finding

Say = Callable[[str], None]


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
        if finding.level != "stop":
            say(f"{finding.level}: {finding.text}")
    stop_on(found)


def prepare(recipe: Recipe, say: Say, *, dataset: Dataset | None = None) -> Prepared:
    """Do everything that can fail through the user's fault, short of loading weights; nothing is written but caches.

    `dataset` is the recipe's own, where it is at hand.
    """
    recipe = recipe_from(recipe, task={"name": TEXT_TASK}) if recipe.task.name == "auto" else recipe
    kind = task_class(recipe.task.name)
    check_parts(recipe)
    dataset = dataset or load_dataset(recipe, say)
    recipe = with_model(recipe, dataset.splits["train"], say)
    config, processor, length = processor_of(recipe, kind, say)
    task = kind(  # type: ignore[call-arg]
        processor,
        problem=dataset.columns.problem,
        labels=dataset.columns.labels,
        max_length=length,
        class_weights=class_weights(dataset.splits["train"], recipe.train.class_weights) if dataset.columns.labels else {},
        label_smoothing=recipe.train.label_smoothing_factor,
    )
    task.configure(config)
    sets = {split: supervised(task, rows, cache_of(recipe), say=say) for split, rows in dataset.splits.items()}
    cut = [found for split in sets.values() if (found := truncation(split.items.full_lengths, length))]  # type: ignore[union-attr]
    tell(cut, say)
    return Prepared(_resolved(recipe, dataset, length), dataset, task, sets, config, processor, (*dataset.findings, *cut))


def check_parts(recipe: Recipe) -> None:
    """Raise UserError for an optimiser or a schedule that is not one; those of others are imported here."""
    optimizer_class(recipe.train.optim)
    check_schedule(recipe.train.lr_scheduler_type, recipe.train.lr_scheduler_kwargs)


def processor_of(recipe: Recipe, kind: type[Task], say: Say) -> tuple[Any, Any, int]:
    """Load the config and the processor of a recipe's model, and return them with the length at which texts are cut."""
    name, source = str(recipe.model.name), source_of(recipe)
    config, processor = load_config(name, **source), load_processor(name, kind.processor_class, **source)
    fit_processor(processor, config, recipe.model.add_tokens)
    length, note = max_length(config, processor, recipe.data.max_length)
    if note:
        say(f"note: {note}")
    return config, processor, length


def with_model(recipe: Recipe, train: Examples, say: Say) -> Recipe:
    """Return a recipe that names its model: the packaged MiniLM where the user names none, with a word about it."""
    if recipe.model.name is not None:
        return recipe
    say(f"note: no model was named, so {DEFAULT_TEXT_MODEL} is used (MiniLM, English, 6 layers); another: model=NAME")
    if not looks_english(example["text"] for example in islice(train, 1000)):
        say(
            "warning: these texts do not look English, and MiniLM knows English only; name a multilingual model with model=NAME"
        )
    return recipe_from(recipe, model={"name": DEFAULT_TEXT_MODEL})


def fit_processor(tokenizer: Any, config: Any, add_tokens: list[str]) -> None:
    """Give a tokenizer what classification needs: a pad token, padding where the model's head expects it, added words."""
    if tokenizer.pad_token is None:
        known = [token for token in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token) if token is not None]
        if not known:
            raise UserError("The model's tokenizer has no token that could serve for padding; choose another model.")
        tokenizer.pad_token = known[0]
        config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if add_tokens:
        tokenizer.add_tokens(add_tokens)
    # One hint of the tokenizer's about speed, of no use here: items are encoded once and padded a batch at a time.
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True


def supervised(task: Task, rows: Examples, cache: Path, *, say: Say = lambda text: None) -> Supervised:
    """Encode examples, from the cache where they are there, and set them beside targets, weights and ids."""
    key = hash_bytes(rows.fingerprint, task.encoding_key())
    items = encoded(rows.batches(), task.encode, key=key, cache=cache, told=_counter(len(rows), say))
    ids = rows.column("id").to_numpy()
    names = rows.table.column_names
    targets = task.targets({"id": ids, "label": rows.column("label").to_pylist()}) if "label" in names else None
    weights = rows.column("weight").to_numpy().astype(np.float32) if "weight" in names else None
    return Supervised(task, items, items.lengths, ids, targets, weights)


def _counter(total: int, say: Say) -> Callable[[int], None]:
    def told(done: int) -> None:
        if done % 100_000 == 0:
            say(f"encoded {done:,} of {total:,} examples")

    return told


def source_of(recipe: Recipe) -> dict[str, Any]:
    """Return how a recipe's model is to be fetched, as `thawline.models.load` takes it."""
    return {"revision": recipe.model.revision, "trust_remote_code": recipe.model.trust_remote_code}


def _resolved(recipe: Recipe, dataset: Dataset, length: int) -> Recipe:
    """Return the recipe with what was inferred written into it, so that the run's folder says it all."""
    columns = dataset.columns
    text = list(columns.text) if len(columns.text) > 1 else columns.text[0]
    data = {"path": str(Path(recipe.data.path).absolute()), "text": text, "label": columns.label, "id": columns.id}
    kept = {key: value for key, value in data.items() if value is not None}
    return recipe_from(recipe, task={"problem": columns.problem}, data={**kept, "max_length": length})
