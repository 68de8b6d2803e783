"""The values that parts of Thawline hand to one another. This module imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

Example = Mapping[str, Any]
"""One labelled (or unlabelled) thing. Always has "id": its column, else content hash and occurrence number."""

Item = Mapping[str, Any]
"""What one example, or one window of it, looks like to the model: token ids and the like, not padded."""


class Prediction(TypedDict, total=False):
    """What a model says of one example; which keys are there depends on the task."""

    id: str
    label: str
    labels: list[str]
    value: float
    score: float
    scores: dict[str, float]
    tags: list[str]
    tag_scores: list[float]
    spans: list[dict[str, Any]]
    text: str
    loss: float
    tokens: int


Predictor = Callable[[Sequence[Example]], Sequence[Prediction]]
"""A model, an ensemble, a teacher, a remote server: all alike. Answers come in the order of the examples."""


@dataclass(frozen=True)
class Batch:
    """Items that go through the model together.

    `inputs` are the keyword arguments of the model's forward, `targets` what the loss needs beside its outputs,
    `weights` one weight per item, shape [B], `ids` the id of the example of each, `items` what they were made of.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor | None
    weights: Tensor
    ids: Sequence[str]
    items: Sequence[Item] = ()


class Loss(NamedTuple):
    """A sum and the weight it has, never a mean: the loop adds up both and divides once a step.

    `total` = Σ w·l over the supervised items, a scalar; `weight` = Σ w; `outputs` = what the model returned.
    """

    total: Tensor
    weight: Tensor
    outputs: Any


LISTED = "listed"
"""The level of a finding that is written down and not told, since there are many like it."""


class Finding(NamedTuple):
    """One line of a check: `level` is "note", "warning", "stop" or LISTED; `name` is what docs/guides/data.md calls it."""

    level: str
    name: str
    text: str
