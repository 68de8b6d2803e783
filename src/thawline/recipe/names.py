"""What keys are called: sections, aliases, bare keys, and the nearest known name to an unknown one."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from thawline.errors import did_you_mean
from thawline.recipe.schema import Recipe

ALIASES = {
    "train": {
        "epochs": "num_train_epochs",
        "lr": "learning_rate",
        "batch_size": "per_device_train_batch_size",  # examples a step: divided by the accumulation, see read.py
        "eval_batch_size": "per_device_eval_batch_size",
        "accumulation": "gradient_accumulation_steps",
        "optimizer": "optim",
        "schedule": "lr_scheduler_type",
        "scheduler": "lr_scheduler_type",
        "warmup": "warmup_ratio",  # warmup_steps from 1 on, see read.py
        "clip": "max_grad_norm",
        "patience": "early_stopping_patience",
        "label_smoothing": "label_smoothing_factor",
        "metric": "metric_for_best_model",
        "sampling": "train_sampling_strategy",
    }
}
"""Section -> short name -> canonical name. The only table of aliases."""

BARE = {"task": "name", "model": "name", "data": "path", "output": "dir"}
"""Sections that may be given as one bare value, and the key it stands for."""

SECTIONS = tuple(Recipe.model_fields)
VARY = "vary"
"""The section whose keys are those of the others."""
WHOLE = ("strategy", "regularize", VARY)
"""Sections that are one value and have no keys of their own."""

MAPPINGS = ("task.options", "model.config", "train.lr_scheduler_kwargs", "train.class_weights")
"""Keys whose value is a mapping: given whole, since its names are not the recipe's."""


def section_class(section: str) -> type[BaseModel]:
    """Return the class of a section that has keys."""
    kind = Recipe.model_fields[section].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, BaseModel)
    return kind


def fields(section: str) -> dict[str, FieldInfo]:
    """Return the fields of a section by canonical name; none where it is one value."""
    return {} if section in WHOLE else dict(section_class(section).model_fields)


def canonical(section: str, key: str) -> str:
    """Return the canonical name of a key or alias; unknown ones come back unchanged.

    >>> canonical("train", "lr"), canonical("train", "seed"), canonical("data", "lr")
    ('learning_rate', 'seed', 'lr')
    """
    return ALIASES.get(section, {}).get(key, key)


def keys(section: str) -> list[str]:
    """Return every name a key of this section goes by: canonical ones, then aliases."""
    return [*fields(section), *ALIASES.get(section, {})]


def sections_of(key: str) -> list[str]:
    """Return the sections that have a key of this name; train alone where it is one of them.

    >>> sections_of("epochs"), sections_of("batch_size"), sections_of("path"), sections_of("max_length")
    (['train'], ['train'], ['data', 'store'], ['data'])
    """
    found = [section for section in SECTIONS if key in keys(section)]
    return ["train"] if "train" in found else found


def unknown(path: str) -> str:
    """Return the fault about a path that no key has: the right section, else the nearest name, else what there is.

    >>> unknown("data.epochs")
    "data.epochs: there is no such key, did you mean 'train.epochs'?"
    """
    section, _, key = path.rpartition(".") if path.count(".") < 2 else path.partition(".")
    mapping, _, inner = path.rpartition(".")
    if inner and mapping in MAPPINGS:
        whole = f"It is one mapping, given whole: {mapping}={{{inner}: VALUE}}."
        return f"{path}: there is no such key, did you mean {mapping!r}? {whole}"
    elsewhere = [f"{home}.{key}" for home in sections_of(key)]
    if elsewhere:
        return f"{path}: there is no such key, did you mean {' or '.join(map(repr, elsewhere))}?"
    if section in WHOLE:
        return f"{path}: {section} has no keys; expected {section}=NAME, or a call such as {section}=NAME(0.1)."
    at_home = section in SECTIONS
    here = {name: f"{section}.{name}" for name in keys(section)} if at_home else {name: name for name in SECTIONS}
    anywhere = {name: f"{home}.{name}" for home in reversed(SECTIONS) for name in keys(home)}
    for word, known in ((key if at_home or not section else section, here), (key, anywhere)):
        hint = did_you_mean(word, known)
        if hint:
            near = hint.split("'")[1]
            return f"{path}: there is no such key{hint.replace(near, known[near])}"
    return f"{path}: there is no such key; expected one of {', '.join(fields(section) if at_home else SECTIONS)}."
