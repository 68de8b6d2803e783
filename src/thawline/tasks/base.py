"""What every task offers, and the table of tasks.

A task is bound to a processor, label names and a kind of problem when it is made; the rest of Thawline meets the modality, the
head and the loss through it alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from thawline.errors import UserError
from thawline.table import Table
from thawline.types import Batch, Example, Item, Loss, Prediction

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

TASKS: Table[type[Task]] = Table(
    "task",
    {"text-classification": "thawline.tasks.text_classification:TextClassification"},
)


TEXT_TASK = "text-classification"
"""What texts are learned by where a recipe says task: auto."""


def task_class(name: str) -> type[Task]:
    """Return the class of a task, one of the table or `package.module:object`; raises UserError for anything else.

    >>> task_class("os:system")
    Traceback (most recent call last):
    thawline.errors.UserError: os:system is not a subclass of thawline.tasks.base.Task, so it is not called.
    """
    found = TASKS[name]
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(f"{name} is not a subclass of thawline.tasks.base.Task, so it is not called.")
    return found


class Task(ABC):
    """One kind of supervised problem.

    `auto_class` names the transformers class whose head is used, `processor_class` the one that reads tokenizer or processor;
    `problem` names the entry of `thawline.evaluate.metrics.METRICS` that scores it.
    """

    auto_class: ClassVar[str]
    processor_class: ClassVar[str]
    problem: str
    labels: tuple[str, ...]

    @abstractmethod
    def configure(self, config: Any) -> None:
        """Write label names and kind of problem into a model's config, before its head is made."""

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into what the model sees, without targets: once, then cached. One item an example, in order."""

    @abstractmethod
    def encoding_key(self) -> str:
        """Return a text that changes whenever `encode` would answer differently."""

    @abstractmethod
    def targets(self, examples: Mapping[str, Any]) -> np.ndarray:
        """Return the targets of labelled columns, [N] or [N, C]; raises DataError for an unknown label, by id."""

    @abstractmethod
    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        """Pad items to one batch, to `length` where given; "target", "weight" and "id" become targets, weights and ids."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Loss:
        """Return the loss as a sum and its weight."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the model on a batch."""
        return model(**batch.inputs)

    @abstractmethod
    def decode(self, outputs: Any, ids: Sequence[str]) -> list[Prediction]:
        """Turn a model's outputs into one prediction an example."""

    @abstractmethod
    def answers(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """Return predictions in the form of `targets`, so that metrics can compare them."""

    def resize(self, model: Any) -> None:
        """Make room in a model for tokens that were added to the processor's vocabulary."""
        raise NotImplementedError(f"{type(self).__name__} has no vocabulary")

    def start(self, model: nn.Module, targets: np.ndarray | None) -> None:
        """Look at the training targets before the first step; nothing by default."""

    def finish(self, model: nn.Module) -> None:
        """Change a trained model to what is saved, in place; nothing by default."""


class Step(NamedTuple):
    """What an objective is computed from: `progress` is steps done / steps planned."""

    model: nn.Module
    task: Task
    batch: Batch
    progress: float


Objective = Callable[[Step], Loss]


def plain_objective(step: Step) -> Loss:
    """The loss of the task, and nothing else."""
    return step.task.loss(step.task.forward(step.model, step.batch), step.batch)


def weighted_sum(values: Tensor, weights: Tensor, outputs: Any) -> Loss:
    """Return Σ w·l and Σ w for per-example losses and weights, both of shape [B]: the one reduction there is."""
    return Loss((values * weights).sum(), weights.sum(), outputs)
