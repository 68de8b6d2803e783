"""What all tasks have in common that learn labels: one class, several labels at once, or a number, of whatever inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thawline.errors import DataError, did_you_mean
from thawline.models.heads import output_layer
from thawline.tasks.base import Task, weighted_sum
from thawline.types import Batch, Item, Loss, Prediction

_TOP = 5  # of so many labels one is right: a metric where there are more


def name_outputs(config: Any, names: Sequence[str]) -> None:
    """Write the names of a model's outputs into its config."""
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


def index_of(index: Mapping[str, int], name: str, example: str) -> int:
    """Return the place of a label among the model's; raises DataError that names the example for one it does not know."""
    if name not in index:
        hint = did_you_mean(str(name), index)
        raise DataError(
            f"Example {example} has the label {name!r}, which the model does not know{hint} "
            f"(it knows {', '.join(list(index)[:10])}{', …' if len(index) > 10 else ''})."
        )
    return index[name]


class Classification(Task):
    """Examples with a label, several labels, or a number each; what they are made of is for the task itself.

    `labels` are in the order of the model's outputs, `class_weights` maps label names to factors. For numbers, training sees
    (y - shift) / scale, and `finish` folds both into the head, so that the saved model answers in the user's unit.
    """

    def __init__(
        self,
        *,
        problem: str,
        labels: Sequence[str],
        class_weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.problem, self.labels, self.label_smoothing = problem, tuple(labels), label_smoothing
        self.shift, self.scale = 0.0, 1.0
        if len(labels) <= _TOP:
            self.unmeasured = {f"accuracy_top{_TOP}": f"since there are no more than {_TOP} labels; take accuracy"}
        self._weights = torch.tensor([(class_weights or {}).get(label, 1.0) for label in labels])

    def configure(self, config: Any) -> None:
        name_outputs(config, self.labels or ("LABEL_0",))
        config.problem_type = self.problem

    def batched(self, inputs: Mapping[str, Tensor], items: Sequence[Item]) -> Batch:
        """Return a batch of these inputs, with the targets, weights and ids of the items."""
        targets = torch.from_numpy(np.stack([item["target"] for item in items])) if "target" in items[0] else None
        weights = torch.tensor([float(item.get("weight", 1.0)) for item in items])
        if targets is not None and self.problem == "single_label_classification":
            weights = weights * self._weights[targets]
        return Batch(inputs, targets, weights, [item.get("id", "") for item in items], items)

    def targets(self, examples: Mapping[str, Any]) -> np.ndarray:
        values = examples["label"]
        if self.problem == "regression":
            return np.asarray(values, dtype=np.float32)
        index = {name: i for i, name in enumerate(self.labels)}
        if self.problem == "single_label_classification":
            return np.asarray([index_of(index, name, examples["id"][i]) for i, name in enumerate(values)], dtype=np.int64)
        hot = np.zeros((len(values), len(self.labels)), dtype=np.bool_)
        for i, names in enumerate(values):
            for name in names:
                hot[i, index_of(index, name, examples["id"][i])] = True
        return hot

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        logits, targets = outputs.logits.float(), batch.targets
        assert targets is not None, "a loss needs targets"
        if self.problem == "regression":
            values = (logits.squeeze(-1) - (targets - self.shift) / self.scale).square()
        elif self.problem == "single_label_classification":
            # Of classes, or of shares of them where examples are mixed.
            values = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        else:
            values = self._binary(logits, targets)
        return weighted_sum(values, batch.weights, outputs)

    def _binary(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the labels of an example; class weights are those of the positive side."""
        soft = targets.float() * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        positive = self._weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, soft, reduction="none", pos_weight=positive).mean(-1)

    def decode(self, outputs: Any, batch: Batch) -> list[Prediction]:
        logits, ids = outputs.logits.float(), batch.ids
        if self.problem == "regression":
            values = (logits.squeeze(-1) * self.scale + self.shift).tolist()
            return [Prediction(id=i, value=value) for i, value in zip(ids, values, strict=True)]
        one = self.problem == "single_label_classification"
        rows = (logits.softmax(-1) if one else logits.sigmoid()).tolist()
        return [self._prediction(i, dict(zip(self.labels, row, strict=True)), one) for i, row in zip(ids, rows, strict=True)]

    def _prediction(self, example: str, scores: dict[str, float], one: bool) -> Prediction:
        best = max(scores, key=lambda name: scores[name])
        if one:
            return Prediction(id=example, label=best, score=scores[best], scores=scores)
        given = [name for name, p in scores.items() if p >= self.thresholds.get(name, 0.5)]
        return Prediction(id=example, labels=given, scores=scores)

    def answers(self, predictions: Sequence[Prediction]) -> np.ndarray:
        key = {"regression": "value", "single_label_classification": "label"}.get(self.problem, "labels")
        ids = [prediction["id"] for prediction in predictions]
        return self.targets({"id": ids, "label": [prediction[key] for prediction in predictions]})  # type: ignore[literal-required]

    def start(self, model: nn.Module, targets: np.ndarray | None) -> None:
        """Numbers are learned in units of their own spread, so that no learning rate depends on the user's unit."""
        if self.problem != "regression" or targets is None:
            return
        shift = float(targets.mean()) if output_layer(model, 1).bias is not None else 0.0
        self.shift, self.scale = shift, float(np.sqrt(np.mean((targets - shift) ** 2))) or 1.0

    def finish(self, model: nn.Module) -> None:
        if (self.shift, self.scale) == (0.0, 1.0):
            return
        layer = output_layer(model, 1)
        with torch.no_grad():
            layer.weight.mul_(self.scale)
            if layer.bias is not None:
                layer.bias.mul_(self.scale).add_(self.shift)
        self.shift, self.scale = 0.0, 1.0
