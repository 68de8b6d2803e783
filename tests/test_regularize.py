"""Regularisers: the contract over all of them, what penalties add up to, and dropout rates that really act."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import EXAMPLES, FAMILIES, FURTHER, LAYERS, inputs_of, model_of, task_of
from thawline.errors import UserError
from thawline.models.heads import decays
from thawline.models.stages import Stages, find_stages
from thawline.regularize.base import REGULARIZERS, Regularizer, regularized, regularizer
from thawline.tasks.base import Objective, Step, plain_objective
from thawline.testing import check_regularizer
from thawline.testing.sums import supervised, whole
from thawline.types import Loss

# One entry for each of the table, or `test_every_regularizer_is_checked` fails.
CALLS = {
    "l1": ["l1(1e-4)", "l1(0)"],
    "l2": ["l2(0.01)", "l2(strength=1)"],
    "dropout": ["dropout(0.3)", "dropout(0)", "dropout([0.0, 0.1, 0.5])"],
}


def test_every_regularizer_is_checked() -> None:
    assert set(CALLS) == set(REGULARIZERS.entries)


@pytest.mark.parametrize("name", FAMILIES)
def test_contract_over_every_family(name: str) -> None:
    task = task_of(name)
    model = model_of(name, task)
    for spec in (specs[0] for specs in CALLS.values()):
        check_regularizer(spec, model, task, examples=EXAMPLES[:4])


@pytest.mark.parametrize("spec", [spec for specs in CALLS.values() for spec in specs])
@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_contract_over_other_problems(spec: str, problem: str) -> None:
    task = task_of("bert", problem)
    labels = [["bad", "good"], [], ["fine"], ["fine"]] if task.labels else [0.5, -3.0, 2.0, 0.0]
    check_regularizer(
        spec, model_of("bert", task), task, examples=[{**e, "label": y} for e, y in zip(EXAMPLES, labels, strict=False)]
    )


def penalty(spec: str, model: nn.Module) -> float:
    """What a regulariser adds to the mean loss of a batch."""
    task = task_of("bert")
    step = Step(model, task, whole(supervised(task, EXAMPLES[:4])), 0.0)
    found = regularizer(spec)(plain_objective, model, find_stages(model, inputs_of("bert")))(step)
    return float((found.total - plain_objective(step).total).detach() / found.weight)


@pytest.mark.parametrize(("spec", "power", "factor"), [("l1(1e-3)", 1, 1e-3), ("l2(1e-3)", 2, 5e-4)])
def test_penalties_are_those_of_the_weights_that_learn(spec: str, power: int, factor: float) -> None:
    model = model_of("bert")
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1 and not n.endswith("bias")}
    assert {n for n, p in model.named_parameters() if decays(n, p.dim())} == set(weights)
    size = sum(float(p.detach().double().abs().pow(power).sum()) for p in weights.values())
    assert penalty(spec, model) == pytest.approx(factor * size, rel=1e-4)
    model.bert.requires_grad_(False)
    left = float(model.classifier.weight.detach().double().abs().pow(power).sum())
    assert penalty(spec, model) == pytest.approx(factor * left, rel=2e-2, abs=1e-6)  # float32 of a loss near 1


def test_penalty_has_the_gradient_it_should() -> None:
    model, task = model_of("bert"), task_of("bert")
    batch = whole(supervised(task, EXAMPLES[:4]))

    def gradient(*specs: str) -> Tensor:
        model.zero_grad()
        loss = regularized(plain_objective, specs, model, stages=find_stages(model, batch.inputs))(
            Step(model, task, batch, 0.0)
        )
        (loss.total / loss.weight).backward()
        found = model.classifier.weight.grad
        assert found is not None
        return found.clone()

    weight = model.classifier.weight.detach()
    assert torch.allclose(gradient("l2(0.5)") - gradient(), 0.5 * weight, atol=1e-6)
    assert torch.allclose(gradient("l1(0.5)") - gradient(), 0.5 * weight.sign(), atol=1e-6)
    assert torch.allclose(gradient("l1(0.5)", "l2(0.5)") - gradient(), 0.5 * (weight + weight.sign()), atol=1e-6)


RATES = ["dropout(0)", *(f"dropout({[0.5 if i == k else 0.0 for i in range(LAYERS + 2)]})" for k in range(LAYERS + 2))]
# What the authors of a family gave no dropout at all cannot have its rate set.
WITHOUT = {"llama": {0, LAYERS + 1}, "qwen2": {0, LAYERS + 1}, "gpt2": {LAYERS + 1}}


def varies(model: nn.Module, inputs: dict[str, Tensor]) -> bool:
    """Whether the answers in train mode depend on the seed."""
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            answers.append(model(**inputs).logits)
    return not torch.equal(*answers)


@pytest.mark.parametrize("name", sorted({*FAMILIES, *FURTHER} - {"albert"}))
def test_rates_act_in_the_stage_they_are_for(name: str) -> None:
    model, inputs = model_of(name), inputs_of(name)
    stages = find_stages(model, inputs)
    model.train()
    seen = []
    for spec in RATES:
        regularizer(spec)(plain_objective, model, stages)
        seen.append(varies(model, inputs))
    assert seen == [False, *(k not in WITHOUT.get(name, ()) for k in range(LAYERS + 2))]


ATTENTION = {"bert", "roberta", "distilbert", "albert", "electra", "modernbert", "gpt2", "llama", "qwen2", "bart"}


@pytest.mark.parametrize("name", sorted(ATTENTION))
def test_rate_reaches_the_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = model_of(name), inputs_of(name)
    plain, seen = nn.functional.scaled_dot_product_attention, list[float]()

    def attention(*args: Any, dropout_p: float = 0.0, **more: Any) -> Tensor:
        seen.append(dropout_p)
        return plain(*args, dropout_p=dropout_p, **more)

    regularizer("dropout(0.25)")(plain_objective, model, find_stages(model, inputs))
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attention)
    model.train()(**inputs)
    assert len(seen) >= LAYERS and set(seen) == {0.25}


@pytest.mark.parametrize("name", ["deberta-v2", "xlnet", "t5"])
def test_rate_reaches_the_attention_that_is_written_out(name: str) -> None:
    """In these the probabilities go through a dropout of their own, or through the function."""
    model, inputs = model_of(name), inputs_of(name)
    regularizer("dropout(0)")(plain_objective, model, find_stages(model, inputs))
    attentions = [
        m for m in model.modules() if type(m).__name__ in ("DisentangledSelfAttention", "XLNetRelativeAttention", "T5Attention")
    ]
    model.train()
    assert len(attentions) >= LAYERS and not varies(model, inputs)
    regularizer("dropout(0.5)")(plain_objective, model, find_stages(model, inputs))
    for module in model.modules():
        module.training = any(module is part or module in part.children() for part in attentions)
    assert varies(model, inputs)


def test_rates_are_for_equal_groups_of_stages() -> None:
    model = model_of("bert")
    regularizer("dropout([0.1, 0.2, 0.3])")(plain_objective, model, find_stages(model, inputs_of("bert")))
    layers = model.bert.encoder.layer
    assert [model.bert.embeddings.dropout.p, *(layer.output.dropout.p for layer in layers), model.dropout.p] == [
        0.1,
        0.1,
        0.2,
        0.2,
        0.3,
        0.3,
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dropuot(0.1)", "no regularizer called 'dropuot', did you mean 'dropout'"),
        ("l1", "missing a required argument: 'strength'"),
        ("l1(-1)", "out of range; expected a strength of 0 or more"),
        ("l2(true)", "out of range"),
        ("l2('much')", "out of range"),
        ("l1(strenght=1)", r"has no argument 'strenght', did you mean 'strength'\? It is l1\(strength\)"),
        ("dropout(1)", "expected a rate from 0 to below 1"),
        ("dropout(-0.1)", "out of range"),
        ("dropout([])", "out of range"),
        ("dropout('0.1')", "out of range"),
        ("dropout(null)", "out of range"),
        ("dropout(l1)", "out of range"),
    ],
)
def test_mistakes_are_told(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        regularizer(spec)


def test_more_rates_than_stages_are_told() -> None:
    model = model_of("bert")
    with pytest.raises(UserError, match="dropout has 7 rates, but this model has 6 stages"):
        regularizer("dropout([0, 0, 0, 0, 0, 0, 0])")(plain_objective, model, find_stages(model, inputs_of("bert")))


def broken(kind: str) -> Regularizer:
    """A regulariser that breaks one rule."""

    def change(loss: Loss) -> Loss:
        scale = loss.total.detach() * 0
        changed = {
            "mean": loss._replace(total=loss.total + 1.0),
            "heavy": loss._replace(weight=loss.weight + 1.0),
            "wild": loss._replace(total=loss.total + (loss.outputs.logits.sum() * 0).sqrt()),
            "talks": loss._replace(outputs=loss.outputs.logits * 2),
            "none of these": loss._replace(total=loss.total + scale),
        }
        return changed[kind]

    def wrap(objective: Objective, model: nn.Module, stages: Stages) -> Objective:
        return lambda step: change(objective(step))

    return wrap


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mean", "The losses of two halves come to"),
        ("heavy", "The weights of two halves come to"),
        ("wild", "is not finite"),
        ("talks", "changes what the model answers"),
    ],
)
def test_check_catches(kind: str, words: str) -> None:
    task = task_of("bert")
    model = model_of("bert", task)
    with pytest.raises(AssertionError, match=words):
        check_regularizer(broken(kind), model, task, examples=EXAMPLES[:4])
    check_regularizer(broken("none of these"), model, task, examples=EXAMPLES[:4])


def test_saved_config_keeps_the_rates_of_the_family(tmp_path: Path) -> None:
    """Rates are of one run: the config that is saved with the model is not touched."""
    model = model_of("bert")
    before = model.config.to_dict()
    regularizer("dropout(0.4)")(plain_objective, model, find_stages(model, inputs_of("bert")))
    assert model.config.to_dict() == before
