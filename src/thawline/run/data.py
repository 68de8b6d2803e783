"""The recipe's section `data` as plain arguments for the data layer; nothing here waits for torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyarrow import parquet

from thawline.data.cache import cache_folder, written_aside
from thawline.data.dataset import Dataset, Options, load
from thawline.data.read import read
from thawline.errors import UserError
from thawline.recipe import Recipe, seed_of_data
from thawline.tasks.base import task_class


def cache_of(recipe: Recipe) -> Path:
    """Return the folder of caches that a recipe uses; raises UserError where there can be none."""
    folder = Path(recipe.store.path).expanduser() if recipe.store.path else cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        named = "store.path" if recipe.store.path else "THAWLINE_CACHE"
        raise UserError(f"The folder of caches {folder} cannot be made: {error.strerror}; name another by {named}.") from None
    return folder


def keep_given(data: object, cache: Path) -> Path:
    """Keep data that is held in memory as Parquet in the cache, so that a run can be resumed; return where."""
    source = read(data, cache=cache)
    folder = cache / "given" / source.fingerprint
    for split, table in source.splits.items():
        with written_aside(folder / f"{'data' if split == 'all' else split}.parquet") as aside:
            parquet.write_table(table, aside)
    return folder


def dataset_of(recipe: Recipe) -> Dataset:
    """Read, infer, check and split the recipe's data; raises DataError where it cannot be read."""
    return load(recipe.data.path, options_of(recipe), cache=cache_of(recipe))


def options_of(recipe: Recipe) -> Options:
    """Return what a recipe says of its data and, where it names a task, what that needs of them."""
    own = {key: value for key, value in recipe.data.model_dump().items() if key in Options.__dataclass_fields__}
    kind = task_class(recipe.task.name) if recipe.task.name != "auto" else None
    needs: dict[str, Any] = {"inputs": kind.inputs, "target": kind.target} if kind is not None else {}
    problem = None if recipe.task.problem == "auto" else recipe.task.problem
    return Options(**{**own, **needs, "problem": problem, "seed": seed_of_data(recipe)})
