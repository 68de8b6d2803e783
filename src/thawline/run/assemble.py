"""From what was prepared to a loop that can run: model, stages, strategy, optimiser, and the decisions that are measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from thawline.errors import RecipeError, did_you_mean
from thawline.evaluate.metrics import GREATER, METRICS, main_metric
from thawline.evaluate.predict import measure
from thawline.memory import bound_kernels, has_bf16
from thawline.models.layout import is_convolutional
from thawline.models.load import load_model
from thawline.models.stages import Stages, extended, find_stages, marked
from thawline.models.trace import evaluating
from thawline.models.unpadded import Unpadded
from thawline.recipe import Recipe, recipe_from
from thawline.regularize.base import regularized
from thawline.run.derive import learning_rate
from thawline.run.prepare import Prepared, Say, source_of
from thawline.strategies.base import Groups, Strategy, strategy
from thawline.tasks.base import Task, plain_objective
from thawline.tasks.supervised import Supervised
from thawline.thaw.prefix import Prefix
from thawline.train.checkpoint import Checkpoints
from thawline.train.device import Device, bf16_wins
from thawline.train.gradients import Gradients
from thawline.train.learner import Learner
from thawline.train.loop import Loop, Rhythm, Told
from thawline.train.masters import Masters
from thawline.train.optimize import Optimization
from thawline.train.schedule import Schedule
from thawline.train.steps import PLAIN, Order, Shapes
from thawline.train.stop import Judge
from thawline.train.trust import Trust
from thawline.train.workers import Workers, workers_for
from thawline.types import Batch

Decisions = dict[str, Any]
"""What was decided by measuring, once: kept in decisions.json and never measured again on resume."""

_ROWS, _ROWS_OF_HEAD = 64, 1024
"""Examples of a batch that is evaluated, where the recipe does not say: a head alone costs little beside what a batch does."""


@dataclass(frozen=True)
class Assembled:
    """A model under a head, cut into stages, with the groups that a strategy makes of them; `recipe` has its learning rate."""

    recipe: Recipe
    model: Any
    stages: Stages
    strategy: Strategy
    groups: Groups


def assemble(prepared: Prepared, say: Say) -> Assembled:
    """Load the weights, find the stages and apply the strategy; raises UserError where they do not fit each other."""
    return fitted(prepared, *loaded(prepared, say), say=say)


def loaded(prepared: Prepared, say: Say) -> tuple[Any, Stages]:
    """Return the model with its weights, and its stages; raises UserError where it is not to be had or cannot be cut."""
    recipe, task = prepared.recipe, prepared.task
    bound_kernels(by_length=is_by_length(recipe))
    found = load_model(
        str(recipe.model.name),
        task.head_class(prepared.config),
        prepared.config,
        seed=recipe.train.seed,
        **source_of(recipe),
    )
    for note in found.notes:
        say(f"note: {note}")
    model = found.model
    if recipe.model.add_tokens:
        torch.manual_seed(recipe.train.seed)
        task.resize(model)
        say(f"note: {len(recipe.model.add_tokens)} tokens were added to the vocabulary")
    train = prepared.sets["train"]
    task.start(model, train.targets)
    stages = find_stages(model, train.batch(np.arange(min(2, len(train)))).inputs)
    if told := shared_layers(model.config, len(stages) - 2):
        say(told)
    return model, marked(stages, found.anew)


def shared_layers(config: Any, blocks: int) -> str | None:
    """Return the note that a model's layers are fewer blocks, since they share their weights; None where they do not.

    The groups say so, not the number of layers, which EfficientNet's config counts otherwise.
    """
    layers = config.num_hidden_layers if hasattr(config, "num_hidden_groups") else 0
    which = "block 0" if blocks == 1 else f"blocks 0 to {blocks - 1}"
    told = f"note: the {layers} layers of this model share their weights: they freeze and learn together, as {which}"
    return told if blocks < layers else None


def fitted(prepared: Prepared, model: Any, stages: Stages, *, say: Say) -> Assembled:
    """Apply the strategy to a model, which it may put modules into; raises UserError where they do not fit each other."""
    recipe, chosen = prepared.recipe, strategy(prepared.recipe.strategy)
    if chosen.prepare is not None:
        torch.manual_seed(recipe.train.seed)
        chosen.prepare(model, stages)
        stages = extended(stages, model)
    groups = without_fixed(chosen.groups(stages), model)
    # What does not fit is refused now, and rates that are set in the model are there before threads get their copies of it.
    regularized(plain_objective, recipe.regularize, model, stages=stages)
    if recipe.train.learning_rate == "auto":
        head_only = all(group.stage == len(stages) - 1 for group in groups)
        convolutional = is_convolutional(model)
        rate = learning_rate(prepared.config, head_only=head_only, times=chosen.rate, convolutional=convolutional)
        say(f"note: train.learning_rate is {rate:g}, from the strategy and the model's {'kind' if convolutional else 'width'}")
        recipe = recipe_from(recipe, train={"learning_rate": rate})
    return Assembled(recipe, model, stages, chosen, groups)


def without_fixed(groups: Groups, model: nn.Module) -> Groups:
    """Return the groups without what a family fixes (sinusoids, say): that stays fixed whatever the strategy opens."""
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    kept = (group._replace(parameters=tuple(n for n in group.parameters if n not in fixed)) for group in groups)
    return tuple(group for group in kept if group.parameters)


def judge_of(recipe: Recipe, task: Task) -> Judge:
    """Return what compares evaluations; raises RecipeError for a metric that they do not have."""
    train, problem = recipe.train, task.problem
    metric = (train.metric_for_best_model or main_metric(problem)).removeprefix("eval_")
    known = ["loss", *METRICS[problem].greater]
    if metric not in known:
        hint = did_you_mean(metric, known) or f"; expected one of {', '.join(known)}."
        raise RecipeError([f"train.metric_for_best_model: there is no metric {metric!r} here{hint}"])
    if why := task.unmeasured.get(metric):
        raise RecipeError([f"train.metric_for_best_model: evaluations while training have no {metric}, {why}."])
    return Judge(metric, GREATER.get(metric, False), train.early_stopping_patience, train.early_stopping_threshold)


def decide(prepared: Prepared, recipe: Recipe, device: Device, *, say: Say) -> Decisions:
    """Make the decisions that need a measurement or the machine: arithmetic, threads, number of steps."""
    train = recipe.train
    threads = train.threads or torch.get_num_threads()
    rows = train.per_device_train_batch_size * train.gradient_accumulation_steps
    alone = train.batch_norm == "batch"  # mates share statistics, so that they have to run together
    workers = workers_for(threads, rows) if device.device.type == "cpu" and not alone else 1
    decisions: Decisions = {"threads": threads, "workers": workers, "device": str(device.device), "torch": torch.__version__}
    if train.bf16 == "auto":
        gain = device.bf16_gain
        decisions |= {"bf16": bf16_wins(gain), "bf16_gain": round(gain, 2)}
        what = "bfloat16 with float32 weights" if decisions["bf16"] else "float32"
        say(f"note: training in {what}: a matrix product in bfloat16 takes {_times(gain)}")
    else:
        decisions["bf16"] = train.bf16
        if train.bf16 and device.device.type == "cpu" and not has_bf16():
            say(
                "warning: train.bf16=true: this processor cannot multiply in bfloat16, so that everything takes many times as "
                "long; leave it out to train in float32"
            )
    order = order_of(prepared.sets["train"], recipe)
    decisions["steps"] = steps_of(order, recipe)
    return decisions


def _times(gain: float) -> str:
    """Tell how long takes what is `gain` times as fast.

    >>> _times(4), _times(0.04)
    ('1/4.0 of the time', '25.0 times as long')
    """
    return f"1/{gain:.1f} of the time" if gain >= 1 else f"{1 / gain:.1f} times as long"


def steps_of(order: Order, recipe: Recipe) -> int:
    """Return how many steps a recipe asks for."""
    return recipe.train.max_steps or max(1, math.ceil(recipe.train.num_train_epochs * order.steps_per_epoch))


def is_by_length(recipe: Recipe) -> bool:
    """Whether neighbours in the order of the examples are of like length."""
    return recipe.train.train_sampling_strategy == "group_by_length"


def shapes_of(recipe: Recipe, device: Device, padding: Unpadded) -> Shapes:
    """Return how micro-batches are computed."""
    return device.shapes(real=bool(padding.blocks), by_length=is_by_length(recipe))


def order_of(data: Supervised, recipe: Recipe, shapes: Shapes = PLAIN) -> Order:
    """Return the order in which a recipe goes through the examples, in micro-batches of these shapes."""
    train = recipe.train
    size = train.per_device_train_batch_size * train.gradient_accumulation_steps
    options: dict[str, Any] = {"seed": train.seed, "tokens": train.tokens_per_step, "shapes": shapes}
    return Order(data.lengths, size, by_length=is_by_length(recipe), packed=data.task.packs, **options)


def learner_of(assembled: Assembled, masters: Masters, steps: int) -> Learner:
    """Return the model with optimiser and schedule over `steps` steps."""
    train = assembled.recipe.train
    assert train.learning_rate != "auto", "the learning rate is resolved by now"
    optimization = Optimization(
        train.optim,
        train.learning_rate,
        train.weight_decay,
        (train.adam_beta1, train.adam_beta2),
        train.adam_epsilon,
        train.momentum,
    )
    warmup = train.warmup_steps if train.warmup_steps is not None else math.ceil(train.warmup_ratio * steps)
    schedule = Schedule(train.lr_scheduler_type, steps, warmup, dict(train.lr_scheduler_kwargs))
    optimizer = optimization.build(masters.named, assembled.groups)
    model, stages, groups = assembled.model, assembled.stages, assembled.groups
    return Learner(model, stages, assembled.strategy, groups, masters, optimizer, schedule, train.max_grad_norm)


class Footing(NamedTuple):
    """What a loop computes on."""

    device: Device
    workers: Workers
    masters: Masters
    prefix: Prefix
    shapes: Shapes = PLAIN


def loop_of(
    prepared: Prepared, assembled: Assembled, footing: Footing, *, decisions: Decisions, checkpoints: Checkpoints
) -> Loop:
    """Put everything together."""
    recipe, sets = assembled.recipe, prepared.sets
    device, workers, masters, prefix, shapes = footing
    order, steps = order_of(sets["train"], recipe, shapes), decisions["steps"]
    objective = regularized(plain_objective, recipe.regularize, assembled.model, stages=assembled.stages)
    rows = recipe.train.per_device_train_batch_size
    whole = recipe.train.batch_norm == "batch"
    trust = Trust(-1) if whole else Trust()  # statistics of a batch would be taken twice
    seed, data = recipe.train.seed, sets["train"]
    gradients = Gradients(data, order, objective, rows, seed, device, workers, prefix, whole, trust)
    every = {"epoch": order.steps_per_epoch, "steps": recipe.train.eval_steps, "no": None}[recipe.train.eval_strategy]
    rhythm = Rhythm(steps, every, recipe.train.checkpoint_minutes * 60)
    learner = learner_of(assembled, masters, steps)
    learner.copies, learner.workers = prefix.replicas.models[1:], workers
    learner.frozen_statistics = recipe.train.batch_norm == "frozen"
    return Loop(
        learner,
        gradients,
        rhythm,
        judge=judge_of(recipe, prepared.task),
        evaluate=evaluator(recipe, sets.get("validation"), gradients, learner=learner) if every else None,
        checkpoints=checkpoints,
    )


def evaluator(
    recipe: Recipe, data: Supervised | None, gradients: Gradients, *, learner: Learner
) -> Callable[[nn.Module, Told], dict[str, float]] | None:
    """Return what measures the model on the validation set, as it is trained: in the same dtype, from the same prefix."""
    if data is None:
        return None
    prefix, head = gradients.prefix, len(learner.stages) - 1

    def forward(data: Supervised, indices: np.ndarray, batch: Batch) -> Any:
        with prefix.replicas.taken() as replica:
            depth = prefix.depth(learner.thaw_line)
            with prefix.replaying(replica, data, indices, batch=batch, depth=depth):
                return data.task.forward(replica.model, batch)

    def evaluate(model: nn.Module, told: Told) -> dict[str, float]:
        with ExitStack() as modes:
            for copy in learner.copies:
                modes.enter_context(evaluating(copy))
            prefix.fill(data, learner.thaw_line, later=True)
            depth = prefix.depth(learner.thaw_line)
            size = recipe.train.per_device_eval_batch_size or (_ROWS_OF_HEAD if depth == head else _ROWS)
            # What writes its answers does so with a model that others must not replay with meanwhile.
            each = map if depth > 0 and data.task.passes_to_answer else gradients.workers.each
            options: dict[str, Any] = {"autocast": gradients.device.autocast, "each": each}
            options |= {"forward": forward, "hollow": depth > 0}
            if data.task.passes_to_answer:  # answers may be drawn, and are to be the same after a resume
                modes.enter_context(gradients.device.draws(recipe.train.seed))
            return measure(model, data, batch_size=size, told=lambda done: told(done, len(data)), **options)

    return evaluate
