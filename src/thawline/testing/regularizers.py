"""What a regulariser must hold to."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from thawline.models.stages import find_stages
from thawline.regularize.base import Regularizer, regularizer
from thawline.tasks.base import Step, Task, plain_objective
from thawline.testing.claims import claim, tensors
from thawline.testing.sums import check_halves, supervised, whole
from thawline.types import Example


def check_regularizer(made: str | Regularizer, model: nn.Module, task: Task, *, examples: Sequence[Example]) -> None:
    """Check a regulariser, or the one that a call form names, on labelled examples, in eval mode.

    Two halves make the whole, so that cutting a step into micro-batches changes nothing. The outputs stay the model's own,
    gradients are finite, and examples of weight 0 leave a step that is skipped.

    Raises AssertionError with a sentence where this does not hold.
    """
    model, data = copy.deepcopy(model), supervised(task, examples)
    batch = whole(data)
    wrapper = regularizer(made) if isinstance(made, str) else made
    objective = wrapper(plain_objective, model, find_stages(model, batch.inputs))
    model.eval()
    check_halves(objective, model, data)
    plain, found = (function(Step(model, task, batch, 0.5)) for function in (plain_objective, objective))
    pairs = zip(tensors(plain.outputs), tensors(found.outputs), strict=True)
    claim(all(torch.equal(one, other) for one, other in pairs), f"{made} changes what the model answers.")
    nothing = objective(Step(model, task, whole(data, np.zeros(len(data))), 0.5))
    claim(float(nothing.weight) == 0, f"{made} gives weight to examples that have none.")
    claim(float(nothing.total.detach()) == 0, f"{made} has a loss where no example has weight.")
