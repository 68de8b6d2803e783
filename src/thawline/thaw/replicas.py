"""Copies of a model that share its weights, one for each thread that runs it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from queue import SimpleQueue
from typing import NamedTuple, final

from torch import Tensor, nn

from thawline.models.stages import Stages
from thawline.thaw.replay import Replay


class Replica(NamedTuple):
    """A model, and how it is run from a cut; None where it is run whole."""

    model: nn.Module
    replay: Replay | None = None


def replay_of(replica: Replica) -> Replay:
    """Return how a replica is replayed, of a model that can be cut."""
    assert replica.replay is not None, "only a model that can be cut has tensors to keep"
    return replica.replay


@final
class Replicas:
    """`count` models with the weights and buffers of one, the first of them itself. What a module keeps beside them is its own.

    With `cuts` each can be replayed at these depths; `inputs` are a batch of two examples or more.
    """

    def __init__(
        self,
        model: nn.Module,
        count: int = 1,
        *,
        stages: Stages = (),
        inputs: Mapping[str, Tensor] | None = None,
        cuts: Sequence[int] = (),
    ) -> None:
        self.models = [model, *(sharing(model) for _ in range(count - 1))]
        self._free: SimpleQueue[Replica] = SimpleQueue()
        for each in self.models:
            replay = Replay(each, stages, inputs) if inputs is not None and cuts else None
            if replay is not None:
                for depth in cuts:
                    replay.cut(depth)  # now, since it is found with the weights that were traced
            self._free.put(Replica(each, replay))

    @contextmanager
    def taken(self) -> Iterator[Replica]:
        """Hand out a replica that no other thread has; waits where all are taken."""
        replica = self._free.get()
        try:
            yield replica
        finally:
            self._free.put(replica)


def sharing(model: nn.Module) -> nn.Module:
    """Return a copy of a model that has the same weights and buffers, not others like them."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})
