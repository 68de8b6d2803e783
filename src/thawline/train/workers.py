"""Threads that each run their own micro-batches: on a processor, side by side beats together.

With several threads inside every product, each of a step's thousands of small operations ends at a barrier, the serial ones
(random numbers, fills) leave all but one thread idle, and a thread that another program pushes aside holds up the rest. Threads
with micro-batches of their own meet once a step.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, final

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")

LEAST_NUMBERS = 1 << 18
"""Elements of tensors that are worth a thread."""
LEAST_ROWS = 4
"""Rows of a step that a worker should have: below that, what a pass costs beside its rows is more than what it gains."""


def workers_for(threads: int, rows: int) -> int:
    """Return how many workers share a step of so many rows: as many as there are threads, with a few rows for each.

    >>> workers_for(2, 32), workers_for(8, 16), workers_for(2, 1)
    (2, 4, 1)
    """
    most = max(1, min(threads, rows // LEAST_ROWS))
    return next(count for count in range(most, 0, -1) if threads % count == 0)


@contextmanager
def threads_inside(count: int | None = None) -> Iterator[None]:
    """Give the calling thread so many threads inside an operation, and leave it with as many as it has now.

    Without a `count` workers within may change it.
    """
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def shares(tensors: Sequence[Tensor], count: int) -> list[list[int]]:
    """Deal tensors out to at most `count` threads, about as many elements to each; returns their places, ascending.

    >>> shares([torch.empty(300_000), torch.empty(200_000), torch.empty(400_000)], 2)
    [[2], [0, 1]]
    """
    count = max(1, min(count, len(tensors), sum(t.numel() for t in tensors) // LEAST_NUMBERS))
    dealt: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for place in sorted(range(len(tensors)), key=lambda i: -tensors[i].numel()):
        least = loads.index(min(loads))
        dealt[least].append(place)
        loads[least] += tensors[place].numel()
    return [sorted(places) for places in dealt]


@final
class Workers:
    """`count` threads that share a machine's `threads`, each with `inside` an operation; one worker is the calling thread.

    Until they are closed, that has no more threads inside an operation than each of them.
    """

    def __init__(self, count: int = 1, threads: int | None = None) -> None:
        self.count, self.threads = count, threads or torch.get_num_threads()
        self.inside = max(1, self.threads // count)
        torch.set_num_threads(self.inside)
        # The number of threads inside an operation is a setting of the calling thread.
        setting = torch.set_num_threads, (self.inside,)
        self._pool = ThreadPoolExecutor(count, "", *setting) if count > 1 else None

    def close(self) -> None:
        """End the threads, and leave all of them to the calling one."""
        if self._pool is not None:
            self._pool.shutdown()
        torch.set_num_threads(self.threads)

    def in_turn(self) -> Workers:
        """Return workers with the same shares of a step that do them one after the other, in the calling thread."""
        alike = copy.copy(self)
        alike._pool = None
        return alike

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the results in the order of the items, at most `count` of which are under way or waiting to be taken."""
        if self._pool is None:
            yield from map(function, items)
            return
        waiting = deque[Future[R]]()
        try:
            for item in items:
                if len(waiting) == self.count:
                    yield waiting.popleft().result()
                waiting.append(self._pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # nothing runs on after an error, and none of it is heard of
                future.cancel()
                future.exception() if not future.cancelled() else None


def side_by_side(
    tensors: Sequence[Tensor], function: Callable[[list[int]], R], workers: Workers | None
) -> list[tuple[list[int], R]]:
    """Call a function with the places of each thread's share of some tensors; returns places and results."""
    dealt = shares(tensors, workers.count if workers is not None else 1)
    each = workers.each if workers is not None and len(dealt) > 1 else map
    return list(zip(dealt, each(function, dealt), strict=True))
