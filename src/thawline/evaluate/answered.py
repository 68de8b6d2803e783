"""Labelled examples beside what a model said of them: what every analysis starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.data.examples import Examples
from thawline.errors import DataError
from thawline.evaluate.metrics import METRICS
from thawline.types import Example, Prediction

Array = NDArray[Any]
CLASSES = ("single_label_classification", "multi_label_classification")
"""Problems whose answers are right or wrong labels."""
ANSWER = {
    "single_label_classification": "label",
    "multi_label_classification": "labels",
    "regression": "value",
    "token_classification": "tags",
    "speech_recognition": "text",
}
"""The key of a prediction that is compared with the target; of other problems it is the whole prediction."""
_DEPENDENT = (
    "This is for examples that are independent of one another. The data is split by groups whose examples may resemble one "
    "another, so it is less sure than it says."
)


def answers(predictions: Sequence[Prediction], problem: str) -> list[Any]:
    """Return what of predictions is compared with the targets of a problem."""
    if problem not in ANSWER:
        return list(predictions)
    return [prediction[ANSWER[problem]] for prediction in predictions]  # type: ignore[literal-required]


@dataclass(frozen=True)
class Answered:
    """Labelled examples beside what a model said of them, aligned: one prediction per example, in the same order.

    `examples` are dicts with "id", inputs, "label" and the user's other columns, or a memory-mapped `Examples`; `problem` is
    an entry of `thawline.evaluate.metrics.METRICS`; `labels` are those of the model, by output. `groups` are names or numbers,
    [N], of groups whose examples resemble one another, where intervals shall be of draws of whole groups. The views are arrays,
    made once. Raises DataError where an example has no label, or there are no examples.

    >>> examples = [{"id": "1", "label": "no"}, {"id": "2", "label": "perhaps"}]
    >>> said: list[Prediction] = [{"id": i, "label": "no", "scores": {"no": 0.9, "yes": 0.1}} for i in "12"]
    >>> answered = Answered(examples, said, "single_label_classification", ("no", "yes"))
    >>> answered.true.tolist(), answered.predicted.tolist(), answered.right.tolist()
    ([0, -1], [0, 0], [True, False])
    """

    examples: Sequence[Example]
    predictions: Sequence[Prediction]
    problem: str
    labels: tuple[str, ...]
    groups: Array | None = None

    def __post_init__(self) -> None:
        assert self.problem in METRICS, self.problem
        assert len(self.examples) == len(self.predictions), (
            f"{len(self.examples)} examples, {len(self.predictions)} predictions"
        )
        if not len(self.examples):
            raise DataError(
                "There are no examples, so there is nothing to evaluate; give a file with at least one labelled row."
            )

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def several(self) -> bool:
        """Whether an example may have several labels at once."""
        return self.problem == "multi_label_classification"

    @property
    def notes(self) -> list[str]:
        """What has to be said where a method takes the examples to be independent: something of examples in groups."""
        return [_DEPENDENT] if self.groups is not None and len(np.unique(self.groups)) < len(self) else []

    @cached_property
    def ids(self) -> list[str]:
        """The examples' ids; each is that of its prediction."""
        ids = self.column("id")
        for place, (own, other) in enumerate(zip(ids, self._said[0], strict=True)):
            assert own == other, f"prediction {place} is of {other!r}, not of {own!r}"
        return ids

    @cached_property
    def answers(self) -> list[Any]:
        """What of each prediction is compared with the target."""
        return self._said[1]

    def column(self, name: str) -> list[Any]:
        """Return the values of one column of the examples; None where an example has none."""
        if isinstance(self.examples, Examples):
            there = name in self.examples.table.column_names
            return self.examples.column(name).to_pylist() if there else [None] * len(self)
        return [example.get(name) for example in self.examples]

    @cached_property
    def targets(self) -> list[Any]:
        """What the examples' "label" says: a name, a list of names, or a number each."""
        targets = self.column("label")
        missing = sum(target is None for target in targets)
        if missing and self.problem in ANSWER:
            raise DataError(
                f"{missing:,} of {len(self):,} examples have no label; predictions can only be evaluated on labelled ones. "
                "Without labels, use: thawline predict"
            )
        return targets

    @cached_property
    def true(self) -> Array:
        """Label numbers, int [N], -1 where the model does not know the label; bool [N, C] with several; float [N] of numbers.

        Of other problems: what the metrics take, objects [N].
        """
        return self._encode(self.targets)

    @cached_property
    def predicted(self) -> Array:
        """What the model answered, in the form of `true`."""
        return self._encode(self.answers)

    @property
    def has_scores(self) -> bool:
        """Whether the predictions say how likely each label is."""
        return self.problem in CLASSES and "scores" in self.predictions[0]

    @cached_property
    def scores(self) -> Array:
        """How likely the model takes each label to be, float32 [N, C]. Raises DataError where the predictions do not say."""
        if not self.has_scores:
            raise DataError("The predictions have no scores, only answers; predict again with a model that gives scores.")
        scores = self._said[2]
        assert scores is not None, "has_scores says so"
        if not np.isfinite(scores).all():
            raise DataError("Some scores are not finite numbers: the training went wrong, or the file of predictions did.")
        return scores

    @cached_property
    def _said(self) -> tuple[list[str], list[Any], Array | None]:
        """Ids, answers and scores, in one pass: predictions may come from a file, and are not kept."""
        ids, said = list[str](), list[Any]()
        scores = np.empty((len(self), len(self.labels)), np.float32) if self.has_scores else None
        key = ANSWER.get(self.problem)
        for place, prediction in enumerate(self.predictions):
            ids.append(prediction["id"])
            said.append(prediction if key is None else prediction[key])  # type: ignore[literal-required]
            if scores is not None:
                scores[place] = [prediction["scores"][label] for label in self.labels]
        return ids, said, scores

    @cached_property
    def unknown(self) -> Array:
        """Whether an example has a label that the model does not know, bool [N]."""
        if not self.several:
            return np.asarray(self.true == -1) if self.problem in CLASSES else np.zeros(len(self), dtype=bool)
        known = set(self.labels)
        return np.array([not known.issuperset(names) for names in self.targets])

    @cached_property
    def right(self) -> Array:
        """Whether the answer is right, bool [N]; with several labels, whether all of them are."""
        assert self.problem in CLASSES, "only labels are right or wrong"
        same = self.true == self.predicted
        return np.asarray((same.all(axis=1) if self.several else same) & ~self.unknown)

    @cached_property
    def confidence(self) -> Array:
        """How sure the model is of its answer, float32 [N]: its score; with several labels that of its least sure decision."""
        if self.several:
            return np.asarray(np.maximum(self.scores, 1 - self.scores).min(axis=1))
        return np.asarray(np.take_along_axis(self.scores, np.maximum(self.predicted, 0)[:, None], axis=1)[:, 0])

    @cached_property
    def hot(self) -> Array:
        """The true labels as indicators, bool [N, C]; a row without any where the model does not know the label."""
        return self.true if self.several else np.asarray(self.true[:, None] == np.arange(len(self.labels)))

    def select(self, indices: Sequence[int] | Array) -> Answered:
        """Return the examples at these positions with their predictions; `indices` are integers [M] or a mask, bool [N]."""
        chosen = np.asarray(indices)
        places: list[int] = (np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen).astype(np.int64).tolist()
        examples = self.examples.select(places) if isinstance(self.examples, Examples) else [self.examples[i] for i in places]
        groups = None if self.groups is None else np.asarray(self.groups)[places]
        return replace(self, examples=examples, predictions=[self.predictions[i] for i in places], groups=groups)

    def _encode(self, values: Iterable[Any]) -> Array:
        if self.problem == "regression":
            return np.fromiter(values, dtype=float, count=len(self))
        if self.problem not in CLASSES:
            found = np.empty(len(self), dtype=object)
            for place, value in enumerate(values):
                found[place] = value
            return found
        index = {name: place for place, name in enumerate(self.labels)}
        if not self.several:
            return np.fromiter((index.get(name, -1) for name in values), dtype=np.int64, count=len(self))
        there = np.zeros((len(self), len(index)), dtype=bool)
        for row, names in enumerate(values):
            there[row, [index[name] for name in names if name in index]] = True
        return there


def parts(answered: Answered, fractions: Sequence[float], seed: int = 0) -> tuple[Answered, ...]:
    """Cut labelled examples into disjoint parts of these shares, each with its share of every label; see `deal`.

    What fits a temperature or thresholds must not see the part that then says what they are worth.
    """
    strata = list(map(_stratum, answered.targets))
    dealt = deal(answered.ids, strata, fractions=fractions, seed=seed)
    return tuple(answered.select(dealt == part) for part in range(len(fractions)))


def deal(ids: Sequence[str], strata: Sequence[Any], *, fractions: Sequence[float], seed: int = 0) -> Array:
    """Return which part each example is dealt to, int [N]; a matter of ids and strata, not of the order of the rows.

    Within a stratum the order is that of a hash of seed and id; each example goes to the part that is furthest behind its
    share, so of a stratum each part gets its share to about one example, however small the stratum is. Parts may be empty
    where there are fewer examples than parts. `fractions` sum to 1.

    >>> deal(["a", "b", "c", "d"], ["x", "x", "y", "y"], fractions=[0.5, 0.5]).tolist()
    [0, 1, 0, 1]
    """
    share = np.asarray(fractions, dtype=float)
    assert (share > 0).all() and abs(share.sum() - 1) < 1e-9, f"fractions must be above 0 and sum to 1, not {fractions}"
    key: Callable[[int], Any] = [
        (str(stratum), hashlib.blake2b(f"{seed} {own}".encode(), digest_size=16).digest(), own)
        for own, stratum in zip(ids, strata, strict=True)
    ].__getitem__
    dealt, behind = np.empty(len(ids), dtype=np.int64), np.zeros(len(share))
    for place in sorted(range(len(ids)), key=key):
        behind += share
        dealt[place] = part = int(np.argmax(behind))
        behind[part] -= 1
    return dealt


def _stratum(target: Any) -> Any:
    return tuple(sorted(target)) if isinstance(target, list | tuple) else target
