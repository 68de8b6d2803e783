"""What lies below the thaw line: run apart from the rest, in a canonical shape, and once an example where it is stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, Protocol, final

import numpy as np
import torch
from torch import Tensor

from thawline.thaw.canonical import Group, cut_short, fixed, groups, least_rows
from thawline.thaw.replay import Replay
from thawline.thaw.replicas import Replica, Replicas, replay_of
from thawline.thaw.store import Shelf, StoreError
from thawline.types import Batch


class Data(Protocol):
    """Examples as the model sees them: lengths [N], a digest of each, and batches, to a length where one is given."""

    @property
    def lengths(self) -> np.ndarray:
        """In what `canonical` rounds: tokens, say."""

    @property
    def digests(self) -> Sequence[bytes]:
        """What tells examples apart: 16 bytes each."""

    def batch(self, indices: np.ndarray, length: int | None = None) -> Batch:
        """Return some examples as a batch."""


class Below(NamedTuple):
    """How tensors are kept: the longest shape, the shelf of each depth that is stored, and a dtype; None is the model's own.

    Where products round by the number of rows, all batches of a shape have as many: `even`; 0 is any number.
    """

    most: int
    shelves: Mapping[int, Shelf]
    dtype: torch.dtype | None = None
    even: int = 0


_IN_MEMORY = 1 << 26
"""Bytes of stored tensors that are read once and kept."""
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Context = Callable[[], AbstractContextManager[Any]]


@final
class Prefix:
    """The frozen part of a model. `cuts` are the depths at which it may be cut, lowest first; without any it runs in place.

    Stored or not, found or computed, an example's tensor is the same bits: it comes out of one shape, in one dtype. `autocast`
    is the arithmetic, `each` maps a function over batches and may do so in several threads. `computed` counts examples,
    `seconds` what they and reading took.
    """

    def __init__(
        self,
        replicas: Replicas,
        cuts: Sequence[int],
        below: Below,
        *,
        autocast: Context = nullcontext,
        each: Each = map,
        say: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.replicas, self.cuts, self.below = replicas, tuple(sorted(cuts)), below
        self._autocast, self._each, self._say, self._lock = autocast, each, say, threading.Lock()
        self._dtypes: dict[int, torch.dtype] = {}
        self._ahead: dict[tuple[int, bytes], Tensor] = {}
        self._wholes: list[tuple[Sequence[bytes], bytes, Tensor | None]] = []
        self._building, self._thread = threading.Lock(), threading.get_ident()
        self.computed, self.seconds, self._ahead_seconds = 0, 0.0, 0.0

    def forget(self) -> None:
        """Forget what was computed ahead: the weights may be others."""
        self._ahead = {}

    def depth(self, thaw_line: int) -> int:
        """Return the deepest cut that is not above the thaw line, 0 for none."""
        return max((cut for cut in self.cuts if cut <= thaw_line), default=0)

    @contextmanager
    def replaying(
        self, replica: Replica, data: Data, indices: np.ndarray, *, batch: Batch, depth: int, short: bool = False
    ) -> Iterator[None]:
        """Within it the replica's model, called with the batch of these examples, starts from depth `depth`."""
        if depth == 0 or replica.replay is None:
            yield
            return
        hidden = self.hidden(replica, data, indices, batch=batch, depth=depth)
        with replica.replay.replaying(depth, hidden, short=short):
            yield

    def hidden(self, replica: Replica, data: Data, indices: np.ndarray, *, batch: Batch, depth: int) -> Tensor:
        """Return the tensor at `depth` of the batch of these examples, from the store or computed."""
        with self._clocked():
            whole = self._whole(replica, data, depth)
            if whole is not None:
                return whole[torch.from_numpy(indices)].to(next(iter(batch.inputs.values())).device)
            return replay_of(replica).joined(self._rows(replica, data, indices, depth=depth), batch.inputs, depth)

    def _whole(self, replica: Replica, data: Data, depth: int) -> Tensor | None:
        """Return what is stored of all examples as one tensor, where each has one shape and they take little memory."""
        layout, shelf = replay_of(replica).layout(depth), self.below.shelves.get(depth)
        if layout.time is not None or layout.each > 1 or layout.batch or shelf is None:
            return None
        with self._building:
            for digests, at, whole in self._wholes:
                if digests is data.digests and at == shelf.key:
                    return whole
            indices, whole = np.arange(len(data.lengths)), None
            with self._lock:
                complete = not shelf.missing(self.keys(data))
            if complete:
                size = self._kept(replica, data, indices[:1], depth=depth)[0].nbytes * len(indices)
                rows = self._rows(replica, data, indices, depth=depth) if size <= _IN_MEMORY else []
                whole = torch.stack(rows) if len({row.shape for row in rows}) == 1 else None
            self._wholes = [*self._wholes[-1:], (data.digests, shelf.key, whole)]
            return whole

    def fill(
        self,
        data: Data,
        thaw_line: int,
        told: Callable[[int, int], object] = lambda done, total: None,
        *,
        later: bool = False,
    ) -> None:
        """Compute and store what is not there yet of the tensors that replaying at this thaw line needs.

        With `later` those of lower lines come first, to which a line that moves down will come: each depth goes on from the one
        below it, so that no stage is computed twice. `told` is called with the number of tensors done, and of all that are to
        be computed.
        """
        depth = self.depth(thaw_line)
        if depth not in self.below.shelves:
            return
        keys, absent = self.keys(data), dict[int, list[int]]()
        for cut in sorted(cut for cut in self.below.shelves if cut == depth or (later and cut < depth)):
            missing = self.below.shelves[cut].missing(keys)
            # Once where examples repeat.
            first = dict(zip((keys[i] for i in reversed(missing)), reversed(missing), strict=True))
            absent[cut] = sorted(first.values())
        done, total = 0, sum(map(len, absent.values()))
        try:
            for cut, indices in absent.items():
                with self._clocked(), self.below.shelves[cut].writer() as writer:
                    for group, rows in self._side_by_side(data, indices, cut):
                        writer.add([keys[i] for i in group.indices], [row.cpu() for row in rows])
                        done += len(rows)
                        told(done, total)
        except StoreError as error:
            self._say(f"warning: {error} What is not stored is computed anew each time.")

    def keys(self, data: Data, indices: Sequence[int] | np.ndarray | None = None) -> list[bytes]:
        """Return what tensors of examples (all, unless told which) are kept under, 16 bytes each.

        It is the digest, and the longest shape where an example's own was cut short by it: another run may allow a longer one.
        """
        chosen = np.arange(len(data.lengths)) if indices is None else np.asarray(indices, dtype=np.int64)
        keys, most = [data.digests[i] for i in chosen], self.below.most
        for place in np.flatnonzero(cut_short(data.lengths[chosen], most)):
            keys[place] = blake2b(keys[place] + f"{most}".encode(), digest_size=16).digest()
        return keys

    def ahead(self, data: Data, steps: Iterable[np.ndarray], depth: int, *, anew: bool = False) -> None:
        """Compute now, in all threads, what replaying the next examples will need and is not stored.

        `steps` are the examples of the next steps, of this one first. So many of them are computed at once as take little
        memory and no more than a second: batches of one shape are fuller then. With `anew` nothing is known of what was
        computed before.
        """
        if anew or depth in self.below.shelves:
            self.forget()
        if depth in self.below.shelves:
            return
        coming = iter(steps)
        now = next(coming)
        if all((depth, data.digests[i]) in self._ahead for i in now):
            return
        known = sum(row.nbytes for row in self._ahead.values())
        share = max(known / _IN_MEMORY, self._ahead_seconds) / max(1, len(self._ahead)) * len(now)  # of one step
        some = np.unique(np.concatenate([now, *islice(coming, max(0, int(1 / share) - 1) if known else 0)]))
        self._ahead, start = {}, time.perf_counter()
        with self._clocked():
            for group, rows in self._side_by_side(data, some, depth):
                self._ahead |= {(depth, data.digests[i]): row for i, row in zip(group.indices, rows, strict=True)}
        self._ahead_seconds = time.perf_counter() - start

    def _side_by_side(
        self, data: Data, indices: Sequence[int] | np.ndarray, depth: int
    ) -> Iterable[tuple[Group, list[Tensor]]]:
        """Compute examples in all threads, a batch of one canonical shape after the other."""
        with self.replicas.taken() as replica:
            shapes = self._groups(replica, data, indices, depth=depth, workers=len(self.replicas.models))

        def run(group: Group) -> tuple[Group, list[Tensor]]:
            with self.replicas.taken() as replica, self._autocast():
                return group, self._computed(replica, data, group, depth=depth)

        return self._each(run, shapes)

    def compute(self, data: Data, indices: np.ndarray, depth: int) -> list[Tensor]:
        """Return the tensors of some examples at `depth`, computed anew."""
        with self.replicas.taken() as replica, self._autocast():
            shapes = self._groups(replica, data, indices, depth=depth)
            return [row for group in shapes for row in self._computed(replica, data, group, depth=depth)]

    def tensors(self, data: Data, indices: np.ndarray, depth: int) -> list[Tensor]:
        """Return the tensors of some examples at `depth` as they are kept; what is not there is computed."""
        with self.replicas.taken() as replica, self._autocast():
            return self._kept(replica, data, indices, depth=depth)

    def _rows(self, replica: Replica, data: Data, indices: np.ndarray, *, depth: int) -> list[Tensor]:
        rows = self._kept(replica, data, indices, depth=depth)
        return [row.to(self._computes_in(replica, data, depth)) for row in rows]

    def _kept(self, replica: Replica, data: Data, indices: np.ndarray, *, depth: int) -> list[Tensor]:
        found = self._stored(data, indices, depth)
        absent = list(dict.fromkeys(int(i) for i in indices if int(i) not in found))
        for group in self._groups(replica, data, absent, depth=depth):
            found |= zip(map(int, group.indices), self._computed(replica, data, group, depth=depth), strict=False)
        return [found[int(i)] for i in indices]

    def _stored(self, data: Data, indices: np.ndarray, depth: int) -> dict[int, Tensor]:
        shelf = self.below.shelves.get(depth)
        if shelf is None:
            keys = {int(i): (depth, data.digests[i]) for i in indices} if self._ahead else {}
            return {i: self._ahead[key] for i, key in keys.items() if key in self._ahead}
        with self._lock:  # a shelf serves one thread at a time
            rows = shelf.read(self.keys(data, indices))
        return {int(i): row for i, row in zip(indices, rows, strict=True) if row is not None}

    def _computed(self, replica: Replica, data: Data, group: Group, *, depth: int) -> list[Tensor]:
        """Run one batch of canonical shape to `depth`; where all of it is stored at a lower depth, from there."""
        replay, rows = replay_of(replica), len(group.indices)
        least = least_rows(group.length, positions=replay.layout(depth).time is not None, even=self.below.even)
        indices = group.indices if rows >= least else np.resize(group.indices, least)  # repeats them
        batch = data.batch(indices, group.length or None)
        parameter = next(replica.model.parameters())
        inputs = {
            k: v.to(parameter.device, parameter.dtype if v.is_floating_point() else None) for k, v in batch.inputs.items()
        }
        start, hidden = self._start(replay, data, indices, inputs=inputs, depth=depth)
        found = replay.run(inputs, [depth], start=start, hidden=hidden)[depth]
        self._dtypes[depth] = found.dtype
        with self._lock:
            self.computed += rows
        return [row.to(self.below.dtype or found.dtype) for row in replay.rows(found, inputs, depth)[:rows]]

    def _start(
        self, replay: Replay, data: Data, indices: np.ndarray, *, inputs: Mapping[str, Tensor], depth: int
    ) -> tuple[int, Tensor | None]:
        if self.below.dtype is None:  # else it would be rounded on the way, and depend on what is stored
            for lower in sorted((d for d in self.below.shelves if d < depth), reverse=True):
                rows = self._stored(data, indices, lower)
                if all(int(i) in rows for i in indices):
                    return lower, replay.joined([rows[int(i)] for i in indices], inputs, lower)
        return 0, None

    @contextmanager
    def _clocked(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            aside = threading.get_ident() != self._thread  # beside the other workers
            with self._lock:
                self.seconds += (time.perf_counter() - start) / (len(self.replicas.models) if aside else 1)

    def _groups(
        self, replica: Replica, data: Data, indices: Sequence[int] | np.ndarray, *, depth: int, workers: int = 1
    ) -> list[Group]:
        layout = replay_of(replica).layout(depth)
        if not layout.masked:
            return fixed(indices)
        if layout.frames:  # the model's own positions are coarser than its samples: no two lengths share a shape
            return [Group(np.array([i]), int(data.lengths[i])) for i in indices]
        return groups(data.lengths, indices, most=self.below.most, workers=workers, even=self.below.even)

    def _computes_in(self, replica: Replica, data: Data, depth: int) -> torch.dtype:
        """Return the dtype of the model's own tensor at `depth`, in which the upper part takes it."""
        if depth not in self._dtypes:
            self._computed(replica, data, self._groups(replica, data, [0], depth=depth)[0], depth=depth)
        return self._dtypes[depth]
