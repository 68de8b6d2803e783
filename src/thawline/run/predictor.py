"""A saved model as a predictor: what `predict`, the final metrics and every later evaluation use."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, final

import numpy as np
import torch

from thawline.errors import ModelError, RunError
from thawline.evaluate.predict import predict
from thawline.models.layout import fast_layout, usual_layout
from thawline.models.load import load_config, load_model, load_processor, quiet
from thawline.recipe import Recipe
from thawline.run.folder import RunFolder
from thawline.run.prepare import processor_of, source_of
from thawline.tasks.base import Task, own_options, task_class
from thawline.tasks.supervised import Supervised, of_examples
from thawline.thaw.replicas import Replicas
from thawline.train.workers import LEAST_ROWS, Workers, workers_for
from thawline.types import Batch, Example, Prediction

THRESHOLDS = "thresholds.json"
"""Beside a model of several labels: the score from which each is given."""


@final
class SavedModel:
    """The model of a finished run, loaded as plain transformers would; called with examples it is a Predictor.

    `dtype` is that of its weights, where it is not the recipe's. Raises RunError where the run is not finished.
    """

    def __init__(self, folder: RunFolder, *, device: str = "cpu", dtype: str | None = None) -> None:
        recipe = folder.trained()
        if not (folder.model / "config.json").is_file():
            raise RunError(f"{folder.path} has no trained model yet; type thawline resume {folder.path} to finish the run.")
        kind: Any = task_class(recipe.task.name)
        # What was trained in code of its own is loaded by that code, which was saved beside the weights.
        code: dict[str, Any] = {"trust_remote_code": recipe.model.trust_remote_code}
        config = load_config(str(folder.model), **code)
        processor = load_processor(str(folder.model), kind.processor_class, **code)
        folder.refuse_backend(processor)
        self.unfit: Callable[[Sequence[Example]], list[tuple[int, str]]] = partial(kind.unfit, processor, config)
        columns = folder.data()["columns"]
        # In the order of the model's outputs, which is that of its config.
        labels = [config.id2label[i] for i in range(config.num_labels)] if columns["labels"] else []
        self._made = {"problem": columns["problem"], "labels": labels, "max_length": recipe.data.max_length}
        self._made |= own_options(kind, recipe.task.options)
        self.task: Task = kind(processor, **self._made)
        if (folder.model / THRESHOLDS).is_file():
            self.task.thresholds = json.loads((folder.model / THRESHOLDS).read_text(encoding="utf-8"))
        self.dtype = dtype or recipe.predict.dtype
        kept = getattr(torch, self.dtype)
        found = load_model(str(folder.model), kind.head_class(config), config, seed=0, dtype=kept, **code)
        if found.anew:
            raise RunError(f"{folder.model} lacks {len(found.anew)} of the model's weights, {min(found.anew)} among them.")
        self.model: Any = found.model.to(device)
        fast_layout(self.model)
        self.batch_size = recipe.predict.batch_size or 64

    def __call__(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction an example, in the order given."""
        return list(self.stream(iter(examples)))

    def save(self, folder: RunFolder) -> None:
        """Write the model as it is now in the place of the run's."""
        usual_layout(self.model)
        with quiet():
            self.model.save_pretrained(folder.model)
        fast_layout(self.model)

    def untrained(self, recipe: Recipe) -> SavedModel:
        """Return the same with the weights, and the processor, that training began from.

        Raises ModelError where they are not to be had, or had no head that could answer.
        """
        kind: Any = type(self.task)
        config, processor, _ = processor_of(recipe, kind, {}, say=lambda text: None)
        other, parameter = copy.copy(self), next(self.model.parameters())
        other.task = kind(processor, **self._made)
        other.task.configure(config)
        name, head = str(recipe.model.name), kind.head_class(config)
        found = load_model(name, head, config, seed=recipe.train.seed, dtype=parameter.dtype, **source_of(recipe))
        if found.anew:
            raise ModelError(f"{name} had no head before it was trained.")
        other.model = found.model.to(parameter.device)
        fast_layout(other.model)
        if recipe.model.add_tokens:
            other.task.resize(other.model)
        other.task.start(other.model, None)
        return other

    def stream(
        self,
        examples: Iterator[Example],
        told: Callable[[int], object] = lambda done: None,
        *,
        answered: np.ndarray | None = None,
    ) -> Iterator[Prediction]:
        """Yield predictions in the order given; `told` is called with the number done. Memory stays flat.

        `answered`, bool [N], says which examples are answered in full, as in `thawline.evaluate.predict.predict`.
        """
        done = 0
        while chunk := list(islice(examples, 4 * self.task.at_once)):
            data, some = of_examples(self.task, chunk), None if answered is None else answered[done : done + len(chunk)]
            options: dict[str, Any] = {"batch_size": self.batch_size, "told": lambda n, done=done: told(done + n)}
            with self._side_by_side(len(data)) as how:
                found = predict(self.model, data, answered=some, **options, **how)
            done += len(chunk)
            yield from map(self.task.describe, found, chunk)

    @contextmanager
    def _side_by_side(self, items: int) -> Iterator[dict[str, Any]]:
        """Give the options that let `predict` run batches in all threads of a processor, where there are batches enough.

        Not where a pass is not yet the answer: what is written piece by piece is written with all threads inside an operation.
        """
        batches = -(-items // self.batch_size)
        alone = self.model.device.type != "cpu" or self.task.passes_to_answer
        count = 1 if alone else workers_for(torch.get_num_threads(), batches * LEAST_ROWS)
        if count == 1:
            yield {}
            return
        replicas, workers = Replicas(self.model, count), Workers(count)

        def forward(data: Supervised, indices: np.ndarray, batch: Batch) -> Any:
            with replicas.taken() as replica:
                return data.task.forward(replica.model, batch)

        try:
            yield {"each": workers.each, "forward": forward}
        finally:
            workers.close()
