"""What a task must hold to."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from thawline.errors import DataError
from thawline.models.load import load_config, load_model, load_processor, quiet
from thawline.tasks.base import Step, Task, plain_objective
from thawline.tasks.supervised import Supervised
from thawline.testing.claims import claim, close
from thawline.testing.sums import check_halves, columns_of, supervised, whole
from thawline.types import Batch, Example, Prediction

_UNKNOWN = "no label is called so"
_LOOKS = 10  # steps between two looks at what is known
_LEARNED = 0.1  # share of the targets' spread by which a number may be off


def check_task(
    task: Task, model: nn.Module, examples: Sequence[Example], *, learning_rate: float = 3e-3, steps: int = 200
) -> None:
    """Check a task with a model under its head, on about 16 labelled examples of different lengths.

    An example's item, loss and answer depend on it alone, not on its mates and their padding. Loss and gradients of two halves
    add up, and weights scale them. A label that is not known is told with the example's id. Answers come in the order given and
    in the form of the targets. AdamW learns the examples by heart within `steps` steps at `learning_rate`, and `finish` leaves
    the answers as they are. What is saved, and loaded as plain transformers would, answers alike; the task is made again as
    `Task` says, with `max_length` and `options` where it has attributes of these names.

    Raises AssertionError with a sentence where this does not hold.
    """
    _check_encoding(task, examples)
    _check_labels(task, examples)
    model, data = copy.deepcopy(model).eval(), supervised(task, examples)
    _check_padding(task, model, data)
    check_halves(plain_objective, model, data)
    _check_weights(task, model, data)
    _check_answers(task, model, data)
    _check_learning(task, model, data, learning_rate=learning_rate, steps=steps)
    _check_saving(task, model, examples)


def _check_encoding(task: Task, examples: Sequence[Example]) -> None:
    items = task.encode(examples)
    claim(len(items) == len(examples), f"{len(examples)} examples became {len(items)} items; expected one each.")
    claim(task.encoding_key() == task.encoding_key(), "The encoding key is another one the second time.")
    again = task.encode(examples)
    for example, item, second in zip(examples, items, again, strict=True):
        claim(_same(item, second), f"Example {example['id']} is encoded differently the second time.")
        claim(_same(item, task.encode([example])[0]), f"Example {example['id']} is encoded differently without its mates.")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # Whose an item is depends on who its mates are, and nothing else does.
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one if key != "owner")


def _check_labels(task: Task, examples: Sequence[Example]) -> None:
    if not task.labels:
        return
    columns, row = columns_of(examples), len(examples) // 2
    several = not isinstance(columns["label"][row], str)
    columns["label"][row] = [_UNKNOWN] if several else _UNKNOWN
    wrong = columns["id"][row]
    try:
        task.targets(columns)
    except DataError as error:
        claim(wrong in str(error), f"An unknown label is told without the id of its example, {wrong}: {error}")
    else:
        raise AssertionError("A label that the task does not know is taken without an error.")


def _check_padding(task: Task, model: nn.Module, data: Supervised) -> None:
    together = _predictions(task, model, whole(data))
    for place in np.argsort(data.lengths, kind="stable")[:3]:
        name, alone = data.ids[place], data.batch(np.array([place]))
        single = _loss(task, model, alone)
        among = _loss(task, model, whole(data, (np.arange(len(data)) == place).astype(float)))
        claim(close(among, single), f"Example {name} has the loss {single} alone and {among} among longer mates.")
        said = f"Example {name} is answered differently among longer mates than alone."
        claim(_alike(together[place], _predictions(task, model, alone)[0]), said)


def _check_weights(task: Task, model: nn.Module, data: Supervised) -> None:
    batches = [whole(data), whole(data, np.ones(len(data))), whole(data, np.full(len(data), 2.0))]
    plain, once, twice = (plain_objective(Step(model, task, batch, 0.0)) for batch in batches)
    claim(close(once.total, plain.total) and close(once.weight, plain.weight), "An example without a weight does not weigh 1.")
    claim(close(twice.total, 2 * once.total.detach()), "Weights of 2 do not double the loss.")
    claim(close(twice.weight, 2 * once.weight), "Weights of 2 do not double the weight.")


def _check_answers(task: Task, model: nn.Module, data: Supervised) -> None:
    places = np.arange(len(data))
    forth, back = (_predictions(task, model, data.batch(order)) for order in (places, places[::-1]))
    claim([p["id"] for p in forth] == list(data.ids), "Predictions are not in the order of the examples, or lack their ids.")
    claim(all(map(_alike, forth, reversed(back))), "Answers change with the order of the examples.")
    answers, targets = task.answers(forth), data.targets
    if not isinstance(targets, np.ndarray):
        claim(len(answers) == len(targets), f"There are {len(answers)} answers of {len(targets)} examples.")
        return
    same = (answers.shape, answers.dtype) == (targets.shape, targets.dtype)
    claim(same, f"Answers are {answers.dtype}{answers.shape}, targets {targets.dtype}{targets.shape}; expected the same.")


def _check_learning(task: Task, model: nn.Module, data: Supervised, *, learning_rate: float, steps: int) -> None:
    task.start(model, data.targets)
    optimizer, batch = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0), whole(data)
    every = _LOOKS if type(task).answer is not Task.answer else 1  # what takes many passes is not looked at each time
    for step in range(steps):
        loss = plain_objective(Step(model, task, batch, 0.0))
        if step % every == 0 and _knows(task, data, _said(task, model, batch, outputs=loss.outputs)):
            break
        optimizer.zero_grad()
        (loss.total / loss.weight).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    before = _predictions(task, model, batch)
    claim(_knows(task, data, before), f"{len(data)} examples were not learned by heart in {steps} steps.")
    task.finish(model)
    claim(all(map(_alike, before, _predictions(task, model, batch))), "`finish` changes the answers.")


def _check_saving(task: Task, model: Any, examples: Sequence[Example]) -> None:
    kind: Any = type(task)
    own = {name: value for name in ("max_length", "options") if (value := getattr(task, name, None)) is not None}
    with tempfile.TemporaryDirectory() as folder, quiet():
        model.save_pretrained(folder)
        task.save(Path(folder))
        config = load_config(folder)
        again = load_model(folder, kind.head_class(config), config, seed=0).model
        other = kind(load_processor(folder, kind.processor_class), problem=task.problem, labels=task.labels, **own)
    other.thresholds = task.thresholds
    before, after = (_predictions(one, m, whole(supervised(one, examples))) for one, m in ((task, model), (other, again)))
    claim(all(map(_alike, before, after)), "What is saved, and loaded again, answers differently.")


def _knows(task: Task, data: Supervised, predictions: Sequence[Prediction]) -> bool:
    answers, targets = task.answers(predictions), data.targets
    if not isinstance(targets, np.ndarray):
        return [answer["text"] if isinstance(answer, Mapping) else answer for answer in answers] == list(targets)
    if targets.dtype.kind != "f":
        return np.array_equal(answers, targets)
    return bool(np.abs(answers - targets).max() <= _LEARNED * np.ptp(targets))


def _loss(task: Task, model: nn.Module, batch: Batch) -> float:
    with torch.no_grad():
        return float(plain_objective(Step(model, task, batch, 0.0)).total)


def _predictions(task: Task, model: nn.Module, batch: Batch) -> list[Prediction]:
    with torch.no_grad():
        return _said(task, model, batch, outputs=task.forward(model, batch))


def _said(task: Task, model: nn.Module, batch: Batch, *, outputs: Any) -> list[Prediction]:
    with torch.no_grad():
        return task.decode(task.answer(model, batch, outputs), batch)


def _alike(one: Any, other: Any) -> bool:
    """Tell whether predictions are equal, numbers in them to within rounding."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return close(one, other) if isinstance(one, float) else one == other
