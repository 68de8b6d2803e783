"""The single entry to data: read, recognise, prepare, split, check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import check as checking
from thawline.data import labels as labelling
from thawline.data.cache import hash_bytes
from thawline.data.columns import Asked, Columns, expect, infer
from thawline.data.conversations import questions
from thawline.data.divide import divided, held_back, sampled
from thawline.data.examples import Examples
from thawline.data.folds import dealt, softened
from thawline.data.inputs import INPUTS, recognise, shaped
from thawline.data.prepare import Part, canonical, label_codes, labelled
from thawline.data.read import Source, read
from thawline.data.readable import readable
from thawline.data.tagged import with_label_names
from thawline.errors import DataError
from thawline.types import Finding

Parts = dict[str, Part]


@dataclass(frozen=True)
class Options:
    """What the section `data` of a recipe says, under the same names; docs/guides/data.md explains each.

    Sizes below 1 are shares, others numbers of rows; a size of 0 makes no such split. `split` is "auto" (stratified for
    classes, else random) or a way to make splits, as in `group(author)`. `fold`, from 1 to `folds`, is held out.
    """

    encoding: str | None = None
    text: str | Sequence[str] | None = None
    image: str | None = None
    audio: str | None = None
    tokens: str | None = None
    messages: str | None = None
    label: str | Sequence[str] | None = None
    id: str | None = None
    weight: str | None = None
    problem: str | None = None
    split: str = "auto"
    validation_size: float | None = None
    test_size: float | None = None
    calibration_size: float = 0.0
    drop_duplicates: bool = False
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    folds: int | None = None
    fold: int | None = None
    seed: int = 0
    inputs: str | None = None
    target: str | None = None
    label_names: Sequence[str] = ()


@dataclass(frozen=True)
class Dataset:
    """Examples by split ("train", perhaps "validation" and "test"), what the columns are, and what was found.

    With folds there is "fold", the one held out if any, and `pool` has all examples that were dealt out, in their order.
    """

    splits: Mapping[str, Examples]
    columns: Columns
    findings: tuple[Finding, ...]
    name: str
    fingerprint: str
    pool: Examples | None = None

    @property
    def origin(self) -> str:
        """The hash of all examples, the same for all folds of them."""
        return self.fingerprint if self.pool is None else self.pool.fingerprint


def load(data: object, options: Options | None = None, *, cache: Path) -> Dataset:
    """Read the data, make the splits that are missing, and check everything.

    What cannot be read raises DataError; what can be read but not be trained on (one class only, …) is a finding of level
    "stop", for `check.stop_on` to raise.
    """
    options = options or Options()
    source = read(data, encoding=options.encoding, cache=cache)
    source, columns, shaping = understood(source, options)
    if not {"train", "all"} & set(source.splits):
        raise DataError(f"The data has no train split, only {', '.join(source.splits)}; expected a train file, or one table.")
    parts = {
        split: canonical(table, columns, "the data" if split == "all" else split) for split, table in source.splits.items()
    }
    findings = [Finding("note", "read", note) for note in source.notes] + [
        Finding("note", "columns", note) for note in columns.notes
    ]
    findings += shaping
    for clean in (readable, _with_labels, _without_duplicates if options.drop_duplicates else _as_is):
        parts, told = clean(parts, columns)
        findings += told
    findings += checking.overlaps(parts)
    try:
        parts, told, pool = _apart(parts, columns, options)
    except DataError as error:  # what is wrong with the data says more than that there is too little of it
        whole = {"train": parts["all" if "all" in parts else "train"]}
        stops = [finding.text for finding in checking.check(whole, columns) if finding.level == "stop"]
        raise DataError("\n".join([*stops, str(error)])) from None
    findings += told
    found = checking.check(parts, columns)
    findings += softened(found) if options.fold else found
    splits = {split: part.examples for split, part in parts.items()}
    fingerprint = hash_bytes(*(word for split, examples in splits.items() for word in (split, examples.fingerprint)))
    return Dataset(splits, columns, tuple(findings), source.name, fingerprint, pool)


def _apart(parts: Mapping[str, Part], columns: Columns, options: Options) -> tuple[Parts, list[Finding], Examples | None]:
    """Return the splits of a run, what is told of them, and all examples that were dealt into folds."""
    now, findings, pool = dict(parts), list[Finding](), None
    if options.folds is not None:
        now, findings, pool = dealt(now, columns, options)
    for divide in (held_back,) if pool else (divided, sampled, held_back):
        now, told = divide(now, columns, options)
        findings = [*findings, *told]
    return now, findings, pool


def understood(source: Source, options: Options) -> tuple[Source, Columns, list[Finding]]:
    """Return the tables in the form of their kind of input, what each column is for, and what was found; raises DataError."""
    if options.label_names:
        source = _with_names(source, options)
    first = source.splits.get("train", next(iter(source.splits.values())))
    named = [kind for kind in INPUTS if getattr(options, kind) is not None]
    inputs = INPUTS[options.inputs] if options.inputs else recognise(first, named)
    asked = {key: name for key in inputs.known if isinstance(name := getattr(options, key), str)}
    for key, name in asked.items():
        expect(name, first.column_names, f"data.{key}")
    found = {split: shaped(table, inputs, asked) or (table, ()) for split, table in source.splits.items()}
    findings = list(dict.fromkeys(finding for _, more in found.values() for finding in more))
    source = replace(source, splits={split: table for split, (table, _) in found.items()})
    told = Asked(
        inputs=inputs,
        target=options.target,
        named=inputs.columns if inputs.known else getattr(options, inputs.name),
        label=_shaped_label(source) if inputs.known else options.label,
        id=options.id,
        weight=options.weight,
        problem=options.problem,
    )
    columns = infer(source, told)
    return source, replace(columns, before=tuple(asked.items()), names=tuple(options.label_names)), findings


def _with_names(source: Source, options: Options) -> Source:
    """Return the tables with names in the place of the numbers that stand for labels or tags; raises DataError without any."""
    label = options.label if isinstance(options.label, str) else None
    splits = {split: with_label_names(table, options.label_names, label) for split, table in source.splits.items()}
    if all(table is source.splits[split] for split, table in splits.items()):
        known = ", ".join(next(iter(splits.values())).column_names)
        raise DataError(f"No column holds whole numbers that data.label_names could name (columns: {known}); leave it out.")
    return replace(source, splits=splits)


def _shaped_label(source: Source) -> str | None:
    return "label" if any("label" in table.column_names for table in source.splits.values()) else None


def load_one(
    data: object, columns: Columns, *, encoding: str | None = None, labelled: bool = False, cache: Path
) -> tuple[Examples, tuple[Finding, ...]]:
    """Read data to predict on, or with `labelled` to measure on, with the columns a model was trained with; nothing is split.

    Of a folder of splits the test split is taken, else validation. Where the text column has another name it is looked for
    again. To predict on, all rows stay, with whatever labels they have; to measure on, rows without a label are dropped, and
    told. Raises DataError as `load` does, and for labels that are missing, or new to the model, where they are needed.
    """
    source = read(data, encoding=encoding, cache=cache)
    split = next(split for split in ("test", "validation", "all", "train") if split in source.splits)
    table = with_label_names(source.splits[split], columns.names, columns.label_column)
    notes, shaping = list(source.notes), list[Finding]()
    if len(source.splits) > 1:
        notes.append(f"of the splits {', '.join(source.splits)}, {split} is used")
    inputs = INPUTS[columns.kind]
    if (made := shaped(table, inputs, dict(columns.before)) or inputs.of_texts(table)) is not None:
        table, shaping = made[0], list(made[1])
    if columns.target == "answer" and not columns.form.documents and (asked := questions(table)) is not None:
        table, shaping = asked, [Finding("note", "form", "texts alone are taken as questions, since answers were learned")]
    if any(name not in table.column_names for name in columns.inputs):
        found = inputs.find(table, {columns.id}, False)
        if len(found) != len(columns.inputs):
            raise DataError(f"There is no column {' or '.join(columns.inputs)}. Columns: {', '.join(table.column_names)}.")
        there, before = (" and ".join(map(repr, names)) for names in (found, columns.inputs))
        notes.append(f"{inputs.name}: {there}, in the place of {before}")
        columns = replace(columns, inputs=found)
    if columns.id is None and _tells_apart(table, "id"):
        columns = replace(columns, id="id")
    parts, unread = readable({split: canonical(table, columns, split)}, columns)
    findings = [*(Finding("note", "read", note) for note in notes), *shaping, *unread]
    if labelled:
        parts, told = _measurable(parts, columns)
        findings += told
    return parts[split].examples, (*findings, *filter(None, [checking.empty_texts(parts[split], split)]))


def _tells_apart(table: pa.Table, name: str) -> bool:
    """Whether there is a column of this name with another value in each row."""
    return name in table.column_names and pc.count_distinct(table.column(name)).as_py() == table.num_rows


def _as_is(parts: Parts, columns: Columns) -> tuple[Parts, list[Finding]]:
    del columns
    return parts, []


def _measurable(parts: Parts, columns: Columns) -> tuple[Parts, list[Finding]]:
    parts, findings = _with_labels(parts, columns, measured=True)
    for part in parts.values():
        new = set(labelling.names_in(part.examples.column("label"))) - set(columns.labels) if columns.labels else set()
        if new:
            shown, ids = ", ".join(repr(name) for name in sorted(new)[:5]), part.examples.column("id").to_pylist()
            rows = zip(ids, part.examples.column("label").to_pylist(), strict=True)
            first = next(name for name, label in rows if new.intersection([label] if isinstance(label, str) else label))
            raise DataError(
                f"The model does not know these labels of the data: {shown} (first in example {first}). "
                f"It knows: {', '.join(columns.labels)}."
            )
    return parts, findings


def _with_labels(parts: Parts, columns: Columns, *, measured: bool = False) -> tuple[Parts, list[Finding]]:
    """Drop rows without a label, and splits without any: nothing can be learned from them or measured on them."""
    if columns.problem == labelling.UNLABELLED or columns.target == "answer":
        return parts, []
    kept, findings = {}, []
    for split, part in parts.items():
        mask = labelled(part)
        missing = len(part) - int(mask.sum())
        where = "the data" if split == "all" else split
        if missing == len(part) and split in ("validation", "test") and not measured:
            findings.append(
                Finding("warning", "missing_label", f"{where} has no labels, so nothing is measured on it: it is left out")
            )
            continue
        if missing == len(part):
            raise DataError(
                f"No row of {where} has a label (column {columns.label!r}); name the column that holds them with data.label."
            )
        if missing:
            text = f"{missing} of {len(part)} rows in {where} have no label and are dropped"
            findings.append(Finding("warning", "missing_label", text))
        kept[split] = part.select(mask) if missing else part
    return kept, findings


def _without_duplicates(parts: Parts, columns: Columns) -> tuple[Parts, list[Finding]]:
    """Keep one row of each text in each split, the first with its most frequent label."""
    del columns
    kept, findings = {}, []
    for split, part in parts.items():
        labels = label_codes(part) if part.has("label") else np.zeros(len(part), np.int64)
        pairs, pair, count = np.unique(
            np.stack([part.keys, labels.astype(np.uint64)], 1), axis=0, return_inverse=True, return_counts=True
        )
        order = np.lexsort((np.arange(len(part)), -count[pair.ravel()], part.keys))
        first = np.ones(len(part), np.bool_)
        first[1:] = part.keys[order][1:] != part.keys[order][:-1]
        kept[split] = part.select(np.sort(order[first]))
        if dropped := len(part) - len(kept[split]):
            torn = len(pairs) - len(kept[split])
            where = "the data" if split == "all" else split
            text = f"{dropped} of {len(part)} rows in {where} are dropped, since their text stands in another row" + (
                f"; {torn} of the texts' labels disagreed: the most frequent one stays, of equally frequent ones the first"
                if torn
                else ""
            )
            findings.append(Finding("note", "dropped_duplicates", text))
    return kept, findings
