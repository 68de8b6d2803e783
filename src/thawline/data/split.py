"""Making splits. They depend on the seed and on the content, not on the order of rows, and equal texts stay together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thawline.calls import Call, parse_call
from thawline.data import ids
from thawline.data.columns import expect
from thawline.data.prepare import Part, class_codes
from thawline.errors import DataError, did_you_mean

Array = np.ndarray[Any, Any]
METHODS = ("stratified", "random", "group", "time", "hash")
_KEEP = 2  # a class keeps at least so many examples in train
_SHARED = 4  # a class with fewer is not shared out at all


@dataclass(frozen=True)
class _Units:
    """What must stay together: the unit of each row [N]; per unit its rank (the lowest is taken first) and its size."""

    of: Array
    rank: Array
    size: Array


def make(
    part: Part, method: str, sizes: Mapping[str, float], *, classes: tuple[str, ...] = (), seed: int = 0
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Divide rows into the splits that `sizes` names, in its order, and "train", which gets the rest.

    `method` is `stratified`, `random`, `group(column)`, `time(column)` (the latest go to the first split) or `hash` (of the
    text, so that data may grow and no row moves). A size below 1 is a share of the rows, else a number. `classes` are the
    names that `stratified` keeps in proportion. Returns positions, int64, by split, and what is to be told; raises DataError.
    """
    call = _method(method)
    numbers = {name: size if size < 1 else size / len(part) for name, size in sizes.items()}
    if sum(numbers.values()) >= 1:
        raise DataError(f"The splits {dict(sizes)} would take all of {len(part)} examples; nothing is left to train on.")
    notes: tuple[str, ...] = ()
    if call.name == "hash":
        chosen = _by_hash(part, numbers)
    else:
        stratified = call.name == "stratified" and len(classes) > 0
        codes = class_codes(part, classes) if stratified else np.zeros(len(part), np.int64)
        chosen, rare = _by_rank(_ranked(part, call, seed), codes, numbers, keep=_KEEP if stratified else 1)
        shown = ", ".join(classes[code] for code in rare[:5]) + (", …" if len(rare) > 5 else "")
        if stratified and len(rare):
            notes = (f"too few to share out (fewer than {_SHARED} examples), so all in train: {shown}",)
    for name in ("train", *sizes):
        if not (chosen == (*sizes, "train").index(name)).any():
            texts = len(np.unique(part.keys))
            group = " Groups with a text in common count as one: try data.drop_duplicates=true." if call.name == "group" else ""
            raise DataError(
                f"{len(part)} examples ({texts} different texts) are too few to make the splits {', '.join(sizes)} "
                f"by {method}: {name} would be empty, or a class would have less than {_KEEP} in train.{group}"
            )
    return {name: np.flatnonzero(chosen == place) for place, name in enumerate((*sizes, "train"))}, notes


def sample(part: Part, most: int, *, classes: tuple[str, ...] = (), seed: int = 0) -> Array:
    """Return the positions, in order, of at most `most` rows: classes in proportion, two of each where `most` allows."""
    if most >= len(part):
        return np.arange(len(part))
    codes = class_codes(part, classes) if classes else np.zeros(len(part), np.int64)
    counts = np.bincount(codes)
    low = np.minimum(counts, _KEEP if most >= _KEEP * (counts > 0).sum() else 0)
    quota = quotas(counts, most, low=low, high=counts)
    rank = _mixed(part.keys + ids.occurrences(part.keys).astype(np.uint64), seed)
    order = np.lexsort((rank, codes))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen: Array = order[place < quota[codes[order]]]
    return np.sort(chosen)


def deal(part: Part, method: str, folds: int, *, classes: tuple[str, ...] = (), seed: int = 0) -> Array:
    """Return the fold of each row, int64 [N], 0 to `folds` - 1; `method` and `classes` are those of `make`, without `time`.

    Folds are as equal in size, and with `stratified` in each class, as can be where what belongs together is not torn.
    Raises DataError.
    """
    call = _method(method)
    if call.name == "time":
        raise DataError(
            f"data.split is {method}, and there are no folds in time: most would be foretold from what came after them. "
            "Expected another, such as data.split=auto; or leave data.folds out, so that the latest rows are the test split."
        )
    if call.name == "hash":
        fold = (_mixed(part.keys, 0) % np.uint64(folds)).astype(np.int64)
    else:
        units = _ranked(part, call, seed)
        stratified = call.name == "stratified" and len(classes) > 0
        code = _least(class_codes(part, classes), units) if stratified else np.zeros(len(units.size), np.int64)
        fold = _evenly(code, units, folds)[units.of]
    if len(np.unique(fold)) < folds:
        texts = len(np.unique(part.keys))
        what = f"{len(part)} examples ({texts} different texts) are too few to be dealt into {folds} folds by {method}"
        raise DataError(f"{what}; expected something in each; try data.folds=2.")
    return fold


def quotas(counts: Array, total: int, *, low: Array, high: Array) -> Array:
    """Share `total` out in proportion to `counts` [C] by largest remainders, each share between `low` and `high`, int64 [C].

    scikit-learn's stratified splitters raise for a class of one and for fewer places than classes; this gives what there is.

    >>> quotas(np.array([70, 20, 10]), 10, low=np.zeros(3), high=np.array([70, 20, 10])).tolist()
    [7, 2, 1]
    """
    exact = counts * (total / max(1, counts.sum()))
    shares: Array = np.clip(np.floor(exact), low, high).astype(np.int64)
    while (missing := total - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = shares < high if step > 0 else shares > low
        if not free.any():
            break
        shares[np.argmax(np.where(free, (exact - shares) * step, -np.inf))] += step
    return shares


def _method(method: str) -> Call:
    call = parse_call(method)
    needs = call.name in ("group", "time")
    if call.name not in METHODS:
        raise DataError(
            f"There is no way to split called {call.name!r}{did_you_mean(call.name, METHODS) or '.'} "
            f"Known: {', '.join(METHODS)}."
        )
    values = [*call.args, *(value for key, value in call.kwargs if key == "column")]
    if len(values) != len(call.args) + len(call.kwargs) or len(values) != int(needs):
        raise DataError(
            f"split={method}: {call.name} takes {'one column, as in ' + call.name + '(author)' if needs else 'no arguments'}."
        )
    return Call(call.name, tuple(str(value) for value in values))


def _ranked(part: Part, call: Call, seed: int) -> _Units:
    keys, of = np.unique(part.keys, return_inverse=True)
    if call.name == "time":
        earliest = np.full(len(keys), np.iinfo(np.int64).max)
        np.minimum.at(earliest, of, _times(part, call.args[0]))
        order = np.lexsort((keys, earliest))[::-1]
        rank = np.empty(len(keys), np.int64)
        rank[order] = np.arange(len(keys))
        return _Units(of, rank, np.bincount(of))
    if call.name == "group":
        of = _joined(of, len(keys), _groups(part, call.args[0]))
        first = np.full(of.max() + 1, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(first, of, part.keys)
        keys = first
    return _Units(of, _mixed(keys, seed), np.bincount(of))


def _least(codes: Array, units: _Units) -> Array:
    """Return the lowest code of the rows of each unit."""
    code = np.full(len(units.size), np.iinfo(np.int64).max)
    np.minimum.at(code, units.of, codes)
    return code


def _evenly(code: Array, units: _Units, folds: int) -> Array:
    """Return the fold of each unit: the large ones first, each to the fold that has the least of its class, then of all."""
    fold = np.empty(len(code), np.int64)
    have = np.zeros((int(code.max()) + 1, folds), np.int64)
    order = np.lexsort((units.rank, code, -units.size))
    alone = units.size[order] == 1
    for unit in order[~alone].tolist():
        fold[unit] = best = np.lexsort((have.sum(0), have[code[unit]]))[0]
        have[code[unit], best] += units.size[unit]
    for one in np.unique(code[order[alone]]).tolist():  # the same for all units of one row at once
        some = order[alone][code[order[alone]] == one]
        levels = have[one][:, None] + np.arange(len(some))
        total = np.broadcast_to(have.sum(0)[:, None], levels.shape)
        fold[some] = np.lexsort((total.ravel(), levels.ravel()))[: len(some)] // len(some)
        have[one] += np.bincount(fold[some], minlength=folds)
    return fold


def _by_rank(units: _Units, codes: Array, sizes: Mapping[str, float], *, keep: int) -> tuple[Array, Array]:
    """Take units by rank, class by class, for each split in turn; the split of each row [N] and the classes left whole."""
    code = _least(codes, units)
    total = int(units.size.sum())
    split = np.full(len(units.size), len(sizes))
    counts = np.bincount(code, weights=units.size).astype(np.int64)
    for place, share in enumerate(sizes.values()):
        free = np.flatnonzero(split == len(sizes))
        left = np.bincount(code[free], weights=units.size[free], minlength=len(counts)).astype(np.int64)
        high = np.where(left < (_SHARED if keep > 1 else 2), 0, left - keep)
        quota = quotas(left, max(1, round(share * total)), low=np.zeros_like(left), high=high)
        order = free[np.lexsort((units.rank[free], code[free]))]
        starts = np.cumsum(left) - left
        middle = np.cumsum(units.size[order]) - starts[code[order]] - units.size[order] / 2
        taken = order[middle < quota[code[order]]]
        spare = order[left[code[order]] > keep]
        split[taken if len(taken) else spare[:1]] = place
    return split[units.of], np.flatnonzero((counts > 0) & (counts < _SHARED))


def _by_hash(part: Part, sizes: Mapping[str, float]) -> Array:
    return np.asarray(np.searchsorted(np.cumsum(list(sizes.values())), part.keys / 2.0**64, side="right"))


def _mixed(keys: Array, seed: int) -> Array:
    """Return pseudo-random numbers, uint64 [N], that depend on key and seed alone (the finaliser of SplitMix64)."""
    mixed: Array = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _groups(part: Part, name: str) -> Array:
    """Return a number for each row's group, int64 [N]; a row without one is a group of its own."""
    expect(name, part.examples.table.column_names, "split=group(…)")
    column = part.examples.column(name).cast(pa.string())
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    codes = pc.index_in(column, value_set=pc.unique(column.drop_null())).to_numpy()
    alone = np.isnan(codes) if codes.dtype.kind == "f" else np.zeros(len(codes), np.bool_)
    groups = np.where(alone, 0, codes).astype(np.int64)
    groups[alone] = groups.max() + 1 + np.arange(alone.sum())
    return groups


def _joined(texts: Array, n_texts: int, groups: Array) -> Array:
    """Return the connected component of each row, where rows with one text or of one group are connected."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = n_texts + int(groups.max()) + 1
    edges = coo_array((np.ones(len(texts), np.bool_), (texts, n_texts + groups)), shape=(nodes, nodes))
    components: Array = connected_components(edges, directed=False)[1]
    return np.unique(components[texts], return_inverse=True)[1]


_READ_TIME: tuple[Callable[[pa.ChunkedArray], pa.ChunkedArray], ...] = (
    lambda column: column.cast(pa.float64()),
    lambda column: column.cast(pa.timestamp("us")).cast(pa.int64()),
    lambda column: column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()),
)


def _times(part: Part, name: str) -> Array:
    """Return the rank of each row's time among all, int64 [N]; equal times share a rank."""
    expect(name, part.examples.table.column_names, "split=time(…)")
    column = part.examples.column(name)
    for read in _READ_TIME:
        try:
            times = read(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        if not times.null_count:
            return np.unique(times.to_numpy(), return_inverse=True)[1]
    shown = ", ".join(repr(value) for value in column.slice(0, 3).to_pylist())
    raise DataError(
        f"split=time({name}): not all of its values are times ({shown}, …); "
        "expected numbers or dates such as 2024-05-31 12:00:00."
    )
