"""Text classification: one label, several labels at once, pairs of texts, and numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thawline.errors import DataError, did_you_mean
from thawline.models.heads import output_layer
from thawline.tasks.base import Task, weighted_sum
from thawline.types import Batch, Example, Item, Loss, Prediction

_NOT_INPUTS = ("target", "weight", "id", "full_length")


class TextClassification(Task):
    """Sentences or pairs of sentences, with a label, several labels, or a number each.

    `tokenizer` is a fast or slow tokenizer with a pad token, `max_length` counts tokens with the special ones, `labels` are in
    the order of the model's outputs, `class_weights` maps label names to factors. For numbers, training sees (y - shift) /
    scale, and `finish` folds both into the head, so that the saved model answers in the user's unit.
    """

    auto_class = "AutoModelForSequenceClassification"
    processor_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer: Any,
        *,
        problem: str,
        labels: Sequence[str],
        max_length: int,
        class_weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.tokenizer, self.problem, self.labels, self.max_length = tokenizer, problem, tuple(labels), max_length
        self.label_smoothing = label_smoothing
        self.shift, self.scale = 0.0, 1.0
        self._weights = torch.tensor([(class_weights or {}).get(label, 1.0) for label in labels])

    def configure(self, config: Any) -> None:
        names = self.labels or ("LABEL_0",)
        config.num_labels = len(names)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
        config.problem_type = self.problem
        if config.get_text_config().pad_token_id is None:
            config.get_text_config().pad_token_id = self.tokenizer.pad_token_id

    def encoding_key(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        settings = (self.max_length, self.tokenizer.padding_side, self.tokenizer.truncation_side)
        return hashlib.blake2b(f"{content}{settings}".encode(), digest_size=16).hexdigest()

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        texts = [example["text"] for example in examples]
        pairs = [example["text_pair"] for example in examples] if examples and "text_pair" in examples[0] else None
        options = {"return_attention_mask": False, "verbose": False}
        columns = dict(self.tokenizer(texts, pairs, truncation=False, **options))
        lengths = [len(ids) for ids in columns["input_ids"]]
        for i in (i for i, length in enumerate(lengths) if length > self.max_length):
            pair = pairs[i] if pairs else None
            short = self.tokenizer(texts[i], pair, truncation=True, max_length=self.max_length, **options)
            for name, values in columns.items():
                values[i] = short[name]
        for i in (i for i, length in enumerate(lengths) if length == 0):
            for name, values in columns.items():
                values[i] = [self._blank if name == "input_ids" else 0]
        return [{**{name: values[i] for name, values in columns.items()}, "full_length": n} for i, n in enumerate(lengths)]

    @property
    def _blank(self) -> int:
        """What stands for a text of no tokens, on which no model runs: not the pad token, where there is another."""
        known = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id]
        return int(next((i for i in known if i not in (None, self.tokenizer.pad_token_id)), self.tokenizer.pad_token_id))

    def targets(self, examples: Mapping[str, Any]) -> np.ndarray:
        values = examples["label"]
        if self.problem == "regression":
            return np.asarray(values, dtype=np.float32)
        index = {name: i for i, name in enumerate(self.labels)}
        if self.problem == "single_label_classification":
            return np.asarray([self._index(index, name, examples["id"][i]) for i, name in enumerate(values)], dtype=np.int64)
        hot = np.zeros((len(values), len(self.labels)), dtype=np.bool_)
        for i, names in enumerate(values):
            for name in names:
                hot[i, self._index(index, name, examples["id"][i])] = True
        return hot

    def _index(self, index: Mapping[str, int], name: str, example: str) -> int:
        if name not in index:
            hint = did_you_mean(str(name), index)
            raise DataError(
                f"Example {example} has the label {name!r}, which the model does not know{hint} "
                f"(it knows {', '.join(list(index)[:10])}{', …' if len(index) > 10 else ''})."
            )
        return index[name]

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        inputs = self._padded([{k: v for k, v in item.items() if k not in _NOT_INPUTS} for item in items], length)
        targets = torch.from_numpy(np.stack([item["target"] for item in items])) if "target" in items[0] else None
        weights = torch.tensor([float(item.get("weight", 1.0)) for item in items])
        if targets is not None and self.problem == "single_label_classification":
            weights = weights * self._weights[targets]
        return Batch(inputs, targets, weights, [item.get("id", "") for item in items])

    def _padded(self, items: Sequence[Item], length: int | None) -> dict[str, Tensor]:
        """What the tokenizer's own `pad` does, at a fifteenth of its time: steps of a head alone take no longer than that."""
        width = length or max(len(item["input_ids"]) for item in items)
        fillers = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        columns = {name: np.full((len(items), width), fillers.get(name, 0)) for name in items[0]}
        mask = np.zeros((len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            size = len(item["input_ids"])
            place = slice(width - size, width) if self.tokenizer.padding_side == "left" else slice(size)
            mask[row, place] = 1
            for name, values in columns.items():
                values[row, place] = item[name]
        return {name: torch.from_numpy(values) for name, values in {**columns, "attention_mask": mask}.items()}

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        logits, targets = outputs.logits.float(), batch.targets
        assert targets is not None, "a loss needs targets"
        if self.problem == "regression":
            values = (logits.squeeze(-1) - (targets - self.shift) / self.scale).square()
        elif self.problem == "single_label_classification":
            values = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        else:
            values = self._binary(logits, targets)
        return weighted_sum(values, batch.weights, outputs)

    def _binary(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the labels of an example; class weights are those of the positive side."""
        soft = targets.float() * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        positive = self._weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, soft, reduction="none", pos_weight=positive).mean(-1)

    def decode(self, outputs: Any, ids: Sequence[str]) -> list[Prediction]:
        logits = outputs.logits.float()
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
        return Prediction(id=example, labels=[name for name, p in scores.items() if p >= 0.5], scores=scores)

    def answers(self, predictions: Sequence[Prediction]) -> np.ndarray:
        key = {"regression": "value", "single_label_classification": "label"}.get(self.problem, "labels")
        ids = [prediction["id"] for prediction in predictions]
        return self.targets({"id": ids, "label": [prediction[key] for prediction in predictions]})  # type: ignore[literal-required]

    def resize(self, model: Any) -> None:
        model.resize_token_embeddings(len(self.tokenizer))

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
