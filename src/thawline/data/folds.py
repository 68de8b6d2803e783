"""The examples of train and validation dealt into folds, of which one may be held out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import split as splitting
from thawline.data.columns import Columns
from thawline.data.divide import Parts, divided, method_of, sampled, strata_of
from thawline.data.examples import Examples
from thawline.data.prepare import Part
from thawline.errors import DataError
from thawline.types import Finding

if TYPE_CHECKING:
    from thawline.data.dataset import Options

_SOFT = ("single_example", "unseen_label")  # a rare class may be missing where one fold is


class Dealt(NamedTuple):
    """The splits with "fold" among them where one is held out, what is to be told, and all examples that were dealt out."""

    parts: Parts
    findings: list[Finding]
    pool: Examples


def dealt(parts: Parts, columns: Columns, options: Options) -> Dealt:
    """Deal the examples of train and validation into folds; a test split stays as it is given, or made where its size is set.

    Which example is in which fold depends on the content and the seed; equal texts share a fold. With `options.fold` that fold
    is held out, and validation is made of the others; without, train and validation stay as they are given or made.
    """
    assert options.folds is not None, "there is nothing to deal"
    if options.split == "given":
        raise DataError("data.split is given, which makes no splits and no folds; expected another, such as data.split=auto.")
    no_validation = replace(options, validation_size=0.0, test_size=options.test_size or 0.0)
    parts, findings = divided(parts, columns, no_validation)
    train, validation = parts.pop("train"), parts.pop("validation", None)
    pool, told = joined(train, validation)
    chosen = np.arange(len(pool))
    if options.max_train_samples is not None:
        chosen = splitting.sample(pool, options.max_train_samples, classes=strata_of(columns), seed=options.seed)
        told += [Finding("note", "sample", f"{len(chosen)} of {len(pool)} rows are used (data.max_train_samples)")]
    pool = pool.select(chosen)
    method = method_of(columns, options)
    fold_of = splitting.deal(pool, method, options.folds, classes=strata_of(columns), seed=options.seed)
    what = "train and validation" if validation else "train"
    told.append(Finding("note", "folds", _words(np.bincount(fold_of).tolist(), what, method)))
    if options.fold:
        held = fold_of == options.fold - 1
        rest, out = {"train": pool.select(~held)}, {"fold": pool.select(held)}
        told.append(Finding("note", "folds", f"fold {options.fold}: its {held.sum()} rows are held out"))
    elif validation is not None:
        first, out = chosen < len(train), {}
        rest = {"train": pool.select(first), "validation": pool.select(~first)}
    else:
        rest, out = {"train": pool}, {}
    rest, more = divided(rest, columns, replace(options, test_size=0.0))
    made, fewer = sampled({**rest, **parts}, columns, replace(options, max_train_samples=None))
    return Dealt(made | out, [*findings, *told, *more, *fewer], pool.examples)


def joined(one: Part, other: Part | None) -> tuple[Part, list[Finding]]:
    """Return the rows of one part and then of another, with ids that differ, and what is to be told.

    Columns that have another type in the second part are left out.
    """
    if other is None:
        return one, []
    first, second = one.examples, other.examples
    names = [field.name for field in second.table.schema if _differs(field, first.table.schema)]
    told = [Finding("warning", "columns", f"{name!r} is of two types, so it is left out of the folds") for name in names]
    tables = [part.table.drop_columns([n for n in names if n in part.table.column_names]) for part in (first, second)]
    ids = second.table.column("id")
    taken = pc.is_in(ids, value_set=first.column("id").combine_chunks())
    if pc.any(taken).as_py():
        renamed = pc.if_else(taken, pc.binary_join_element_wise("validation", ids, ":"), ids)
        tables[1] = tables[1].set_column(tables[1].column_names.index("id"), "id", renamed)
        told.append(Finding("note", "folds", "ids of validation that train has too begin with validation: here"))
    table = pa.concat_tables(tables, promote_options="default")
    rows = [np.arange(len(part)) if part.indices is None else part.indices for part in (first, second)]
    places = np.concatenate([rows[0], first.table.num_rows + rows[1]])
    return Part(Examples(table, places), np.concatenate([one.keys, other.keys])), told


def softened(findings: Iterable[Finding]) -> list[Finding]:
    """Return what is found of a fold's splits, where a class that is too rare for folds is no reason to stop."""
    return [found._replace(level="warning") if found.level == "stop" and found.name in _SOFT else found for found in findings]


def _differs(field: pa.Field, schema: pa.Schema) -> bool:
    return field.name in schema.names and schema.field(field.name).type != field.type


def _words(sizes: list[int], what: str, method: str) -> str:
    least, most = min(sizes), max(sizes)
    each = f"{least}" if least == most else f"{least} to {most}"
    return f"{sum(sizes)} rows of {what} are dealt into {len(sizes)} folds of {each}, {method}"
