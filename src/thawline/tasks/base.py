"""What every task offers, and the table of tasks.

A task is bound to a processor, label names and a kind of problem when it is made; the rest of Thawline meets the modality, the
head and the loss through it alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

from thawline.errors import UserError, did_you_mean
from thawline.table import Table, code_of
from thawline.types import Batch, Example, Finding, Item, Loss, Prediction

if TYPE_CHECKING:
    import numpy as np
    from pydantic import BaseModel
    from torch import Tensor, nn

    from thawline.data.encoded import Encoded

TASKS: Table[type[Task]] = Table(
    "task",
    {
        "text-classification": "thawline.tasks.text_classification:TextClassification",
        "token-classification": "thawline.tasks.token_classification:TokenClassification",
        "image-classification": "thawline.tasks.image_classification:ImageClassification",
        "audio-classification": "thawline.tasks.audio_classification:AudioClassification",
        "automatic-speech-recognition": "thawline.tasks.speech_recognition:SpeechRecognition",
        "text-generation": "thawline.tasks.text_generation:TextGeneration",
    },
)


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


def task_for(inputs: str, target: str) -> str:
    """Return the name of the task that learns such targets of such inputs, as `thawline.data.columns.Columns` names them."""
    for name in TASKS:
        kind = TASKS[name]
        if (kind.inputs, kind.target) == (inputs, target):
            return name
    raise UserError(f"No task learns {target} of {inputs}; name one with task=NAME ({', '.join(TASKS)}).")


def own_options(kind: type[Task], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options=` for making a task, read from `task.options`; nothing for one that reads them in `fit` alone.

    Raises UserError for one that it does not have, or that is out of range.
    """
    if kind.Options is None:
        return {}
    from pydantic import ValidationError

    try:
        return {"options": kind.Options(**given)}
    except ValidationError as error:
        raise UserError("\n".join(_fault(kind.Options, found) for found in error.errors())) from None


def _fault(options: type[BaseModel], found: Any) -> str:
    name = ".".join(map(str, found["loc"]))
    if found["type"] != "extra_forbidden":
        return f"task.options.{name}: is {found['input']!r}; {found['msg'][:1].lower()}{found['msg'][1:]}."
    known = options.model_fields
    return f"task.options.{name}: there is no such option{did_you_mean(name, known) or '; expected ' + ', '.join(known) + '.'}"


class Task(ABC):
    """One kind of supervised problem.

    `auto_class` names the transformers class whose head is used, `processor_class` the one that reads tokenizer or processor;
    `inputs` and `target` name what the data must hold (`thawline.data.inputs.INPUTS`, `thawline.data.columns.TARGETS`), and
    `problem` the entry of `thawline.evaluate.metrics.METRICS` that scores it.

    It is made as `kind(processor, problem=…, labels=…, max_length=…, class_weights=…, label_smoothing=…)`. `views`, where it is
    set, changes items at random before they are put into a batch (augmentation).
    """

    auto_class: ClassVar[str]
    processor_class: ClassVar[str]
    inputs: ClassVar[str] = "text"
    target: ClassVar[str] = "label"
    default_model: ClassVar[str | None] = None
    at_once: ClassVar[int] = 1000
    """Examples that are encoded together."""
    head_is_pretrained: ClassVar[bool] = False
    """Whether a model answers before it is trained, so that its answers then are measured beside those of the trained one."""
    Options: ClassVar[type[BaseModel] | None] = None
    """What `task.options` of a recipe may say; a task that has this is made with `options=` too."""
    passes_to_answer: ClassVar[float] = 0.0
    """What `answer` takes for an example, in passes through the model over it: about."""
    problem: str
    labels: tuple[str, ...]
    answered: int | None = None
    """How many examples of a set are answered where it is measured, spread evenly; None: all. Of the others the loss counts."""
    answered_in_training: int | None = None
    """The same for evaluations while training."""
    unmeasured: Mapping[str, str] = MappingProxyType({})
    """Metrics of the problem that evaluations while training do not have, each with what to do about it."""
    tokens_at_once: int = 1 << 14
    """Tokens of a batch where nothing is learned, padding included: enough to fill the processor, little for memory."""
    thresholds: Mapping[str, float] = MappingProxyType({})
    """With several labels, the score from which a label is given; 0.5 where none is here."""

    @classmethod
    def head_class(cls, config: Any) -> str:
        """Return the transformers class whose head a model of this config gets: `auto_class` unless that depends on it."""
        del config
        return cls.auto_class

    @classmethod
    def processor(cls, load: Callable[[str], Any], config: Any, wanted: Fitting) -> Any:
        """Return the processor; `load` reads one of a transformers class from the checkpoint, raising ModelError."""
        del config, wanted
        return load(cls.processor_class)

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        """Make processor and config ready for the task; return how long an item may be, and what there is to tell."""
        del processor, config
        return wanted.max_length, None

    @classmethod
    def unfit(cls, processor: Any, config: Any, examples: Sequence[Example]) -> list[tuple[int, str]]:
        """Return the places of examples that can be read and that this model cannot take, each with why; none by default."""
        del processor, config, examples
        return []

    @abstractmethod
    def configure(self, config: Any) -> None:
        """Write label names and kind of problem into a model's config, before its head is made."""

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into what the model sees, without targets: once, then cached. Numbers or arrays of them by name.

        One item an example, in order; or several, each with the place of its example among these as "owner". "length" is what
        an item counts for (its first array's length where it is not there), "full_length" what it was before it was cut.
        """

    @abstractmethod
    def encoding_key(self) -> str:
        """Return a text that changes whenever `encode` would answer differently."""

    def collating_key(self) -> str:
        """Return a text that changes whenever `collate` would make other inputs of an item; "" where the item says all."""
        return ""

    @final
    @property
    def code(self) -> str:
        """A text that changes with the files of a task of one's own, so that nothing is taken that other code made."""
        return code_of(type(self))

    @abstractmethod
    def targets(self, examples: Mapping[str, Any]) -> Any:
        """Return the targets of labelled columns, an array [N] or [N, C], or a list [N].

        Raises DataError for an unknown label, by id.
        """

    @abstractmethod
    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        """Pad items to one batch, to `length` where given; "target", "weight" and "id" become targets, weights and ids."""

    def hollow(self, items: Sequence[Item], length: int | None = None) -> Batch:
        """Return what `collate` does, for a model that goes on from stored outputs and sees of the inputs only their shape."""
        return self.collate(items, length)

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Loss:
        """Return the loss as a sum and its weight."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the model on a batch."""
        return model(**batch.inputs)

    def answer(self, model: nn.Module, batch: Batch, outputs: Any) -> Any:
        """Return what `decode` takes: the outputs of `forward`, unless an answer takes more than one pass."""
        del model, batch
        return outputs

    @property
    def generates(self) -> bool:
        """Whether answers are generated while training: then the model meets tokens that no example has."""
        return type(self).answer is not Task.answer and self.answered_in_training != 0

    @abstractmethod
    def decode(self, outputs: Any, batch: Batch) -> list[Prediction]:
        """Turn what `answer` returned into one prediction an item."""

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """Return the prediction of an example from those of its items, in their order."""
        (only,) = predictions
        return only

    def describe(self, prediction: Prediction, example: Example) -> Prediction:
        """Return a prediction with what only its example can tell, such as the texts of spans; as it is by default."""
        del example
        return prediction

    @abstractmethod
    def answers(self, predictions: Sequence[Prediction]) -> Any:
        """Return predictions in the form of `targets`, so that metrics can compare them."""

    def augment(self, specs: Sequence[str]) -> None:
        """Change training items at random from now on, where they come with a generator, "random"; raises UserError."""
        if specs:
            known = ", ".join(specs)
            raise UserError(f"{type(self).__name__} has no augmentation, so data.augment=[{known}] has no meaning here.")

    @property
    def mixes(self) -> bool:
        """Whether a batch makes one item of several (augmentation, packing), so that none of them can be stored."""
        return False

    @property
    def packs(self) -> bool:
        """Whether items of a batch stand side by side in rows, instead of one a row with padding."""
        return False

    def truncation(self, items: Encoded, *, split: str, length: int) -> Finding | None:
        """Return what is lost of the items of a split by cutting them at `length`, or why nothing is left, if that is so."""
        from thawline.data.check import truncation

        del split
        return truncation(items.full_lengths, length)

    def resize(self, model: Any) -> None:
        """Make room in a model for tokens that were added to the processor's vocabulary."""
        raise NotImplementedError(f"{type(self).__name__} has no vocabulary")

    def start(self, model: nn.Module, targets: np.ndarray | None) -> None:
        """Look at the training targets before the first step; nothing by default."""

    def finish(self, model: nn.Module) -> None:
        """Change a trained model to what is saved, in place; nothing by default."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the processor beside a saved model, as plain transformers reads it."""

    @classmethod
    def remarks(cls, examples: Iterable[Example]) -> Iterable[str]:
        """Yield what is odd about examples for the task's default model; nothing by default."""
        del examples
        return ()


class Fitting(NamedTuple):
    """What a recipe wants of a processor and a model's config: the longest item, words to add, and the task's own options.

    `in_channels` is how many channels pictures have, where not three. `examples` are those of each split; none
    where a checkpoint is to be taken as it is.
    """

    max_length: int | None = None
    add_tokens: Sequence[str] = ()
    options: Mapping[str, Any] = {}
    examples: Mapping[str, Sequence[Example]] = {}
    in_channels: int | None = None


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
