"""Features for a model of one's own: what the lower stages of a model make of each example, from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet
from torch import Tensor

from thawline.data.cache import written_aside
from thawline.data.check import truncation
from thawline.data.columns import Columns
from thawline.data.dataset import Dataset, load_one, understood
from thawline.data.examples import CANONICAL, Examples
from thawline.data.inputs import INPUTS
from thawline.data.read import read
from thawline.data.readable import left_out
from thawline.errors import ModelError, RunError, UserError, did_you_mean
from thawline.models.stages import Stages, depth_of
from thawline.recipe import Recipe, recipe_from
from thawline.run.assemble import Assembled, Decisions, decide, loaded
from thawline.run.below import ANEW, bare_prefix, cuts_of, shelf_of, store_of
from thawline.run.carry_out import device_of, silent
from thawline.run.data import cache_of, options_of
from thawline.run.folder import RunFolder
from thawline.run.lighten import lighten
from thawline.run.prepare import Prepared, Say, processor_of, supervised, tell, with_task
from thawline.strategies.base import Group, Strategy
from thawline.tasks.base import task_class
from thawline.tasks.supervised import Supervised
from thawline.thaw.prefix import Prefix
from thawline.train.device import Device
from thawline.train.workers import Workers
from thawline.types import Finding

Given = Sequence[str] | Mapping[str, Any]
"""Settings of a recipe: `key=value` texts, or Python arguments."""
POOLS = ("mean", "first", "last", "none")
_TOKENS = 1 << 15  # in memory at a time, and in a row group


class Wanted(NamedTuple):
    """Which features: `stage` is what they go into (None: the head), by number or name; `pool` one of POOLS."""

    stage: int | str | None = None
    pool: str = "mean"


class _Origin(NamedTuple):
    """A model to take features of: its recipe, and what a run decided and read its columns by, if it is one of a run."""

    recipe: Recipe
    decisions: Decisions
    columns: Columns | None


class _Rows(NamedTuple):
    """Examples without labels, what their columns are for, and id, label and split as columns that go beside features."""

    examples: Examples
    columns: Columns
    beside: Mapping[str, pa.ChunkedArray]


@final
@dataclass(frozen=True)
class Features:
    """The features of examples at a depth. `fill` computes what is missing, `batches` yields them as they are written."""

    prefix: Prefix
    data: Supervised
    columns: Mapping[str, pa.ChunkedArray]
    depth: int
    pool: str
    workers: Workers

    def __len__(self) -> int:
        return len(self.data)

    @property
    def missing(self) -> int:
        """How many examples are not in the store."""
        shelf = self.prefix.below.shelves.get(self.depth)
        return len(shelf.missing(self.prefix.keys(self.data))) if shelf is not None else len(self)

    def fill(self, told: Callable[[int, int], object] = lambda done, total: None) -> None:
        """Compute and store what is missing; `told` is called with the number done and of all."""
        self.prefix.fill(self.data, self.depth, told)

    def batches(self, told: Callable[[int], object] = lambda done: None) -> Iterator[pa.RecordBatch]:
        """Yield rows in the order of the examples: id, label and split where there are any, and "features"."""
        done = 0
        for indices, vectors in self._in_parts():
            rows = {name: column.slice(done, len(vectors)).combine_chunks() for name, column in self.columns.items()}
            yield pa.record_batch({**rows, "features": vectors})
            done += len(vectors)
            told(int(indices[-1]) + 1)

    def matrix(self, told: Callable[[int], object] = lambda done: None) -> np.ndarray:
        """Return one vector an example, float32 [N, D], the mean where an example was cut into pieces."""
        parts = list[np.ndarray]()
        for batch in self.batches(told):
            parts.append(batch["features"].flatten().to_numpy().reshape(len(batch), -1))
        return np.concatenate(parts)

    def _in_parts(self) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Yield positions, so many that memory stays flat, with the vectors of their examples."""
        ends, owners = np.flatnonzero(np.diff(np.cumsum(self.data.lengths, dtype=np.int64) // _TOKENS)) + 1, self.data.owners
        ends = ends if owners is None else np.unique(np.searchsorted(owners, owners[ends]))  # an example's pieces stay together
        parts = [part for part in np.split(np.arange(len(self)), ends) if len(part)]
        yield from self.workers.each(lambda part: (part, self._vectors(part)), parts)

    def _vectors(self, indices: np.ndarray) -> pa.Array:
        vectors = self._of_pieces(indices)
        if self.data.owners is None:
            return vectors
        first, pieces = np.unique(self.data.owners[indices], return_index=True, return_counts=True)[1:]
        if self.pool == "none" and self._of_positions:  # one piece after the other
            return pa.ListArray.from_arrays(vectors.offsets.take(pa.array([*first, len(indices)])), vectors.values)
        found = vectors.flatten().to_numpy().reshape(len(vectors), -1)
        return _listed(torch.from_numpy(np.asarray(np.add.reduceat(found, first) / pieces[:, None], dtype=np.float32)))

    def _of_pieces(self, indices: np.ndarray) -> pa.Array:
        rows = [row.float().cpu() for row in self.prefix.tensors(self.data, indices, self.depth)]
        if not self._of_positions:
            return _listed(torch.stack([_mean(row) if self.pool == "mean" else row.flatten() for row in rows]))
        if self.pool == "none":
            offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
            return pa.ListArray.from_arrays(pa.array(offsets), _listed(torch.cat(rows)))
        return _listed(torch.stack([_POOLED[self.pool](row) for row in rows]))

    @property
    def _of_positions(self) -> bool:
        with self.prefix.replicas.taken() as replica:
            assert replica.replay is not None, "a depth was given"
            return replica.replay.layout(self.depth).time is not None


_POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda row: row.mean(0),
    "first": lambda row: row[0],
    "last": lambda row: row[-1],
}


def _mean(row: Tensor) -> Tensor:
    """Return the mean over the places of a picture, [C, H, W], or over the positions that each example has, [T, C]."""
    return row.mean((1, 2)) if row.dim() == 3 else row.mean(0) if row.dim() == 2 else row.flatten()


def _listed(vectors: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.flatten().numpy()), vectors.shape[1])


def features_of(model: str | Path, data: Any, given: Given = (), *, wanted: Wanted, say: Say) -> Features:
    """Return the features of data, none of which has been computed yet; `model` is a run's folder, or a model by its name.

    `given` are settings of a recipe. Raises UserError for a stage or a pool that is not one, and what loading raises.
    """
    if wanted.pool not in POOLS:
        raise UserError(f"There is no pool {wanted.pool!r}{did_you_mean(wanted.pool, POOLS) or '.'} Known: {', '.join(POOLS)}.")
    origin = _origin(model, data, given)
    return _features(origin, _rows(origin, data, say), wanted=wanted, say=say)


def features_of_examples(recipe: Recipe, sets: Sequence[Examples], columns: Columns, *, say: Say) -> Features:
    """Return what the recipe's model makes of examples, one set after the other: what a new head would read."""
    tables = list[pa.Table]()
    for part in sets:
        tables += part.pieces([n for n in CANONICAL if n in part.table.column_names and n not in ("label", "weight")])
    table = pa.concat_tables(tables, promote_options="default")
    rows = _Rows(Examples(table), columns, {"id": table.column("id")})
    return _features(_Origin(recipe, {}, columns), rows, wanted=Wanted(), say=say)


def _features(origin: _Origin, rows: _Rows, *, wanted: Wanted, say: Say) -> Features:
    device = device_of(origin.recipe)
    prepared, rows = _prepared(origin, rows, say)
    found, stages = loaded(prepared, say)
    depth = depth_of(stages, wanted.stage)
    assembled = Assembled(prepared.recipe, found, stages, *_below(stages, depth))
    found.to(device.device)
    reasons = list[str]()

    def heard(text: str) -> None:
        (reasons.append if text.startswith(ANEW) else say)(text)

    cuts = cuts_of(prepared, assembled, say=heard)
    decisions = _decisions(origin, prepared, device, say=say)
    workers = Workers(decisions["workers"], decisions["threads"])
    lighten(prepared, assembled, device, decisions=decisions, say=silent)
    prefix = bare_prefix(prepared, assembled, cuts, device=device, workers=workers, say=heard)
    if not prefix.cuts:
        why = " ".join(reason.removeprefix(ANEW) for reason in reasons)
        raise ModelError(f"Features cannot be taken at stage {depth} ({stages[depth].name}): {why}")
    if prepared.recipe.store.features is not False:
        shelf = shelf_of(prefix, prepared, assembled, depth=depth, device=device, store=store_of(prepared.recipe))
        prefix.below = prefix.below._replace(shelves={depth: shelf})
    return Features(prefix, prepared.sets["train"], rows.beside, depth, wanted.pool, workers)


def write(features: Features, path: Path, told: Callable[[int], object] = lambda done: None) -> None:
    """Write features to a Parquet file, which appears when it is whole; memory stays flat."""
    batches = features.batches(told)
    first = next(batches)
    with written_aside(path) as aside, parquet.ParquetWriter(aside, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)


def _below(stages: Stages, depth: int) -> tuple[Strategy, tuple[Group, ...]]:
    """Return a strategy that freezes what lies below a depth, and its groups."""
    groups = (Group(depth, stages[depth].parameters),)
    return Strategy("features", lambda stages: groups, lambda groups, progress: frozenset({depth})), groups


def _origin(model: str | Path, data: Any, given: Given) -> _Origin:
    folder = RunFolder(model)
    path = str(data) if isinstance(data, (str, Path)) else "given"
    if not (folder.path / "recipe.yaml").is_file():
        return _Origin(_with(recipe_from({"model": str(model), "data": {"path": path}}), given), {}, None)
    if not (folder.model / "config.json").is_file():
        raise RunError(f"{folder.path} has no trained model yet; type thawline resume {folder.path} to finish the run.")
    recipe = recipe_from(folder.trained(), data={"path": path}, model={"name": str(folder.model), "add_tokens": []})
    best = (folder.read("trials.json") or {}).get("best")
    decisions = (folder.trial(best) if best else folder).read("decisions.json") or {}
    return _Origin(_with(recipe, given), decisions, folder.columns())


def _with(recipe: Recipe, given: Given) -> Recipe:
    return recipe_from(recipe, **given) if isinstance(given, Mapping) else recipe_from(recipe, given)


def _prepared(origin: _Origin, given: _Rows, say: Say) -> tuple[Prepared, _Rows]:
    """Return encoded examples as what a run would be prepared from, and the rows of them: what a model cannot take is gone."""
    recipe, rows, columns = origin.recipe, given.examples, given.columns
    recipe = with_task(recipe, replace(columns, target=INPUTS[columns.kind].target))
    kind = task_class(recipe.task.name)
    config, processor, length = processor_of(recipe, kind, {"train": rows}, say=say)
    if unfit := kind.unfit(processor, config, rows):
        mask, told = left_out(unfit, len(rows), split="all", noun=INPUTS[columns.kind].noun)
        tell(told, say)
        beside = {name: column.filter(pa.array(mask)) for name, column in given.beside.items()}
        given = _Rows(rows.select(mask), columns, beside)
        rows = given.examples
    labels = [config.id2label[i] for i in range(config.num_labels)]  # so that the head is loaded as it is
    task = kind(  # type: ignore[call-arg]
        processor, problem="single_label_classification", labels=labels, max_length=length
    )
    task.configure(config)
    items = supervised(task, rows, cache_of(recipe), say=say)
    tell(filter(None, [truncation(items.items.full_lengths, length)] if length else []), say)  # type: ignore[union-attr]
    recipe = recipe_from(recipe, data={"max_length": length} if length else {})
    dataset = Dataset({"train": rows}, columns, (), "features", rows.fingerprint)
    return Prepared(recipe, dataset, task, {"train": items}, config, processor, ()), given


def _rows(origin: _Origin, data: Any, say: Say) -> _Rows:
    """Read all splits of the data as one."""
    options, cache = origin.recipe.data, cache_of(origin.recipe)
    source = read(data, encoding=options.encoding, cache=cache)
    columns, found = origin.columns, [Finding("note", "read", note) for note in source.notes]
    if columns is None:
        source, columns, shaping = understood(source, options_of(origin.recipe))
        found += shaping
        found += [Finding("note", "columns", note) for note in columns.notes]
    tables, splits = list[pa.Table](), list[str]()
    for split, table in source.splits.items():
        part, told = load_one(table, columns, cache=cache)
        found += [finding for finding in told if finding not in found]
        names = [name for name in CANONICAL if name in part.table.column_names and name != "weight"]
        tables += part.pieces(names)  # without those that cannot be read
        splits += [split] * len(part)
    tell(found, say)
    table = pa.concat_tables(tables, promote_options="default")
    beside = {name: table.column(name) for name in ("id", "label") if name in table.column_names}
    if len(source.splits) > 1:
        beside["split"] = pa.chunked_array([pa.array(splits)])
    texts = table.drop_columns([name for name in ("label",) if name in table.column_names])
    return _Rows(Examples(texts), columns, beside)


def _decisions(origin: _Origin, prepared: Prepared, device: Device, *, say: Say) -> Decisions:
    """Return the arithmetic and the workers of the run, else those that training would have."""
    recipe, known = prepared.recipe, origin.decisions
    if recipe.train.bf16 == "auto" and "bf16" in known:
        recipe = recipe_from(recipe, train={"bf16": known["bf16"]})
    decisions = decide(prepared, recipe, device, say=silent)
    decisions |= {key: known[key] for key in ("threads", "workers") if key in known and recipe.train.threads is None}
    device.bf16 = decisions["bf16"]
    if device.bf16:
        say("note: computed in bfloat16, as in training; train.bf16=false computes in float32")
    return decisions
