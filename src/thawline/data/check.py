"""What is wrong, or odd, with the data. docs/guides/data.md lists every finding with its threshold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import labels as labelling
from thawline.data.columns import Columns
from thawline.data.examples import CANONICAL
from thawline.data.ids import Keys
from thawline.data.inputs import INPUTS
from thawline.data.prepare import Part, label_codes
from thawline.errors import DataError
from thawline.types import Finding

IMBALANCE = 10.0  # the most frequent class has this many times the examples of the rarest: warning
EMPTY_STOP = 0.5  # share of texts that are empty: stop; any: warning
DUPLICATES = 0.05  # share of rows whose text stood before in the split: warning; any: note
SHARED_STOP = 0.5  # share of a split's rows whose text stands in an earlier split: stop; any: warning
UNSEEN_STOP = 0.1  # share of a split's rows with a label that train does not have: stop; any: warning
TRUNCATED_TOKENS = 0.05  # share of tokens lost to truncation: warning; any: note
SWAPPED_LABELS = 0.5  # distinct labels per row, above which text and label may be swapped: stop, if …
SWAPPED_TEXTS, SWAPPED_RATIO = 0.05, 0.1  # … distinct texts are at most this share of rows, or of distinct labels


def check(parts: Mapping[str, Part], columns: Columns) -> tuple[Finding, ...]:
    """Return what is found in these splits, one by one and against train, worst first; memory grows by some ten bytes a row."""
    train = parts.get("train")
    found: list[Finding | None] = []
    if train is not None and train.has("label"):
        found += [swapped_columns(train, columns), *_targets(train, columns)]
    elif train is not None:
        found.append(_no_labels(columns))
    others = [(name, part) for name, part in parts.items() if name != "train" and part.has("label")]
    if columns.problem == labelling.REGRESSION:
        found += [_numbers(part, name) for name, part in others]
    if train is not None and train.has("label") and columns.labels:
        found += [unseen_labels(part, name, train=train, names=columns.labels) for name, part in others]
    for name, part in parts.items():
        found += [empty_texts(part, name), duplicates(part, name), conflicting_labels(part, name)]
    return _worst_first(found)


def _no_labels(columns: Columns) -> Finding:
    text = "No row of train has a label; name the column that holds them with data.label"
    instead = ", or type task=text-generation to learn to go on writing such texts" if columns.kind == "text" else ""
    return Finding("stop", "no_labels", f"{text}{instead}.")


def overlaps(parts: Mapping[str, Part]) -> tuple[Finding, ...]:
    """Return which texts stand in two of the splits; asked of the splits as given, since those that are made share none."""
    return _worst_first(shared_texts((one, parts[one]), (other, parts[other])) for one, other in combinations(parts, 2))


def _worst_first(found: Iterable[Finding | None]) -> tuple[Finding, ...]:
    order = ("stop", "warning", "note")
    return tuple(sorted(filter(None, found), key=lambda finding: order.index(finding.level)))


def stop_on(findings: Iterable[Finding]) -> None:
    """Raise DataError that lists all findings of level "stop", if there are any."""
    texts = [finding.text for finding in findings if finding.level == "stop"]
    if texts:
        raise DataError("\n".join(texts))


def class_counts(part: Part, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many examples have each label, int64 [C]; an example with several counts for each."""
    column = part.examples.column("label")
    flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    codes = pc.index_in(flat, value_set=pa.array(names, pa.string())).drop_null().to_numpy()
    return np.bincount(codes.astype(np.int64), minlength=len(names))


def _targets(train: Part, columns: Columns) -> list[Finding | None]:
    if not columns.plainly:
        found = Finding("note", "examples", f"train: {len(train)} {INPUTS[columns.kind].noun}")
        return [found, *(tagged_words(train) if columns.target == "tags" else ())]
    if columns.problem == labelling.REGRESSION:
        return [_numbers(train, "train")]
    counts = class_counts(train, columns.labels)
    return [class_balance(counts, columns.labels, len(train)), _too_few(counts, columns)]


def _numbers(part: Part, name: str) -> Finding:
    """Return the range of a split's numbers; stop where there is nothing to learn in train."""
    values = part.examples.column("label")
    least, most = pc.min_max(values).as_py().values()
    if least == most and name == "train":
        text = f"All numbers in train are {least:g}; there is nothing to learn. Expected different ones."
        return Finding("stop", "one_value", text)
    text = f"{name}: {len(part)} numbers from {least:g} to {most:g}, mean {pc.mean(values).as_py():.3g}"
    return Finding("note", "targets", text)


def class_balance(counts: np.ndarray[Any, Any], names: Sequence[str], n: int) -> Finding:
    """Return how many examples each class has; a warning where the largest has ten times the smallest."""
    order = [int(place) for place in np.argsort(-counts, kind="stable") if counts[place]]
    shown = [f"{names[place]} {counts[place]} ({counts[place] / n:.1%})" for place in order]
    if len(shown) > 10:
        shown = [*shown[:3], "…", *shown[-3:]]
    text = f"train: {n} examples, {len(order)} classes: {', '.join(shown)}"
    if order and counts[order[0]] >= IMBALANCE * counts[order[-1]]:
        return Finding("warning", "class_balance", f"{text}; class weights (auto) would even that out")
    return Finding("note", "class_balance", text)


def tagged_words(train: Part) -> list[Finding]:
    """Return how many words and entities of each type there are; stop where all words have one tag."""
    tags = pc.list_flatten(train.examples.column("label"))
    counts = {row["values"]: row["counts"] for row in pc.value_counts(tags).to_pylist()}
    if len(counts) < 2:
        only = next(iter(counts), None)
        what = f"All words of train have the tag {only!r}" if only else "No sentence of train has words"
        return [Finding("stop", "one_class", f"{what}; there is nothing to learn. Expected at least two tags.")]
    begun = Counter[str]()
    for tag, count in counts.items():
        letter, _, kind = tag.partition("-")
        begun[kind] += count if kind and letter in "BS" else 0
    known, what = (+begun, "entities") if +begun else (Counter(counts), "tags")
    most = sorted(known.items(), key=lambda one: (-one[1], one[0]))[:10]
    shown = ", ".join(f"{kind} {count}" for kind, count in most) + ", …" * (len(known) > 10)
    return [Finding("note", "class_balance", f"train: {len(tags)} words, {known.total()} {what}: {shown}")]


def _too_few(counts: np.ndarray[Any, Any], columns: Columns) -> Finding | None:
    several = columns.problem == labelling.MULTI
    present = [name for name, count in zip(columns.labels, counts, strict=True) if count]
    if len(present) < (1 if several else 2):
        what = f"one class only, {present[0]!r}" if present else "no class at all"
        return Finding(
            "stop", "one_class", f"The examples of train have {what} (column {columns.label!r}); expected at least two classes."
        )
    single = [name for name, count in zip(columns.labels, counts, strict=True) if count == 1]
    if not single:
        return None
    shown = ", ".join(repr(name[:60]) for name in single[:5]) + (f" and {len(single) - 5} more" if len(single) > 5 else "")
    which = "the class" if len(single) == 1 else f"{len(single)} classes"
    text = f"One example only in train for {which} {shown}; expected at least two."
    return Finding(
        "warning" if several else "stop", "single_example", f"{text} Add examples, or leave those out, or join classes."
    )


def unseen_labels(part: Part, name: str, *, train: Part, names: Sequence[str]) -> Finding | None:
    """Return which labels of a split no example of train has: the model cannot learn them, and they count as errors."""
    counts = np.where(class_counts(train, names) == 0, class_counts(part, names), 0)
    if not counts.any():
        return None
    new = [names[int(place)] for place in np.flatnonzero(counts)]
    rows = _with_any(part, new)
    shown = ", ".join(repr(label[:60]) for label in new[:5])
    share = rows / len(part)
    text = f"{rows} of {len(part)} examples in {name} have labels that train does not have ({shown}); they count as errors"
    return Finding("stop" if share > UNSEEN_STOP else "warning", "unseen_label", text)


def _with_any(part: Part, labels: Sequence[str]) -> int:
    """Return how many examples have one of these labels."""
    column = part.examples.column("label").combine_chunks()
    several = pa.types.is_list(column.type)
    there = pc.is_in(pc.list_flatten(column) if several else column, value_set=pa.array(labels, pa.string())).to_numpy(False)
    return len(np.unique(pc.list_parent_indices(column).to_numpy()[there])) if several else int(there.sum())


def empty_texts(part: Part, name: str) -> Finding | None:
    """Return how many examples have an empty text (white space only, or missing), in either text of a pair."""
    names = [name for name in ("text", "text_pair") if part.has(name)]
    if not names:
        return None
    blank = []
    for piece in part.examples.pieces(names):
        masks = [pc.equal(pc.utf8_trim_whitespace(piece.column(name)), "").to_numpy() for name in names]
        blank.append(np.logical_or.reduce(masks))
    empty = np.concatenate(blank)
    if not empty.any():
        return None
    where = part.examples[int(empty.argmax())]["id"]
    text = f"{empty.sum()} of {len(part)} texts in {name} are empty, the first with the id {where}"
    return Finding("stop" if empty.mean() > EMPTY_STOP else "warning", "empty_text", text)


def duplicates(part: Part, name: str) -> Finding | None:
    """Return how many rows of a split repeat an example that stood before."""
    again = len(part) - len(np.unique(part.keys))
    if not again:
        return None
    text = f"{again} of {len(part)} {_noun(part)} in {name} repeat an earlier one (data.drop_duplicates=true drops them)"
    return Finding("warning" if again > DUPLICATES * len(part) else "note", "duplicate_text", text)


def conflicting_labels(part: Part, name: str) -> Finding | None:
    """Return how many texts of a split stand there with different labels."""
    if not part.has("label"):
        return None
    pairs = np.unique(np.stack([part.keys, label_codes(part).astype(np.uint64)], 1), axis=0)
    keys, labels = np.unique(pairs[:, 0], return_counts=True)
    keys = keys[labels > 1]
    if not len(keys):
        return None
    text = f"{len(keys)} {_noun(part)} in {name} have different labels in different rows, such as {_shown(part, keys)}"
    return Finding("warning", "conflicting_labels", text)


def shared_keys(one: Part, other: Part) -> Keys:
    """Return the hashes of the texts that stand in both splits, each once."""
    return np.intersect1d(one.keys, other.keys)


def shared_texts(one: tuple[str, Part], other: tuple[str, Part]) -> Finding | None:
    """Return how many texts stand in both splits: what is measured on the second is too good by them."""
    keys = shared_keys(one[1], other[1])
    if not len(keys):
        return None
    share = np.isin(other[1].keys, keys).mean()
    which = f"{len(keys)} {_noun(one[1])} of {other[0]} ({share:.1%} of it)"
    text = f"{which} stand in {one[0]} too, such as {_shown(other[1], keys)}"
    return Finding("stop" if share > SHARED_STOP else "warning", "shared_text", text)


def swapped_columns(train: Part, columns: Columns) -> Finding | None:
    """Return whether text and label look swapped: few short distinct texts, many long distinct labels."""
    if columns.problem != labelling.SINGLE or columns.kind != "text":
        return None
    label = train.examples.column("label")
    texts, labels = len(np.unique(train.keys)), pc.count_distinct(label).as_py()
    if labels <= SWAPPED_LABELS * len(train) or texts > max(SWAPPED_TEXTS * len(train), SWAPPED_RATIO * labels):
        return None
    if pc.mean(pc.utf8_length(label)).as_py() <= pc.mean(pc.utf8_length(train.examples.column("text"))).as_py():
        return None
    text = (
        f"The columns look swapped: {columns.inputs[0]!r}, taken as text, has {texts} distinct short values, "
        f"and {columns.label!r}, taken as label, has {labels} long ones. "
        f"Try data.text={columns.label} data.label={columns.inputs[0]}."
    )
    return Finding("stop", "swapped_columns", text)


def truncation(lengths: np.ndarray[Any, Any], max_length: int) -> Finding | None:
    """Return the share of examples and of tokens that truncation to `max_length` loses; None where it loses none.

    `lengths` are the tokens of each example, special ones included, before truncation, [N].

    >>> truncation(np.array([10, 30]), 20).text
    'truncation to 20 tokens cuts 1 of 2 examples (50.0%) and loses 25.0% of the tokens; the longest has 30'
    """
    lengths = np.asarray(lengths)
    cut = int((lengths > max_length).sum())
    if not cut:
        return None
    lost = float(np.maximum(lengths - max_length, 0).sum() / lengths.sum())
    text = (
        f"truncation to {max_length} tokens cuts {cut} of {len(lengths)} examples ({cut / len(lengths):.1%}) "
        f"and loses {lost:.1%} of the tokens; the longest has {lengths.max()}"
    )
    return Finding("warning" if lost > TRUNCATED_TOKENS else "note", "truncation", text)


def _shown(part: Part, keys: Keys) -> str:
    """Return the first example among those with one of these hashes, cut to a line."""
    example = part.examples[int(np.isin(part.keys, keys).argmax())]
    value: Any = next(example[name] for name in CANONICAL if name in example and name != "id")
    if isinstance(value, dict):  # of a file
        value = value["path"] or "one without a name"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _noun(part: Part) -> str:
    """Return what the examples are."""
    return next((kind.noun for kind in map(INPUTS.__getitem__, INPUTS) if part.has(kind.columns[0])), "examples")
