"""The last block for the first position alone: the same answers and gradients, and nothing is changed where others are read."""

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from families import FAMILIES, inputs_of, model_of
from thawline.models.last import FirstOnly

SHORT = ("bert", "roberta", "electra", "distilbert")


def gradients(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.zero_grad()
    model(**inputs).logits.square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SHORT)
def test_gradients_stay_as_they_are(name: str, attention: str) -> None:
    model, inputs = model_of(name), inputs_of(name)
    model.set_attn_implementation(attention)
    exact = gradients(model, inputs)
    last = FirstOnly(model, lambda: model(**inputs).logits)
    assert last.block is not None and not any(module.training != model.training for module in model.modules())
    outputs = list[Any]()
    last.block.register_forward_hook(lambda module, given, out: outputs.append(out[0] if isinstance(out, tuple) else out))
    ours = gradients(copy.deepcopy(model), inputs)
    assert ours.keys() == exact.keys()
    largest = max(float(gradient.abs().max()) for gradient in exact.values())
    for key, gradient in ours.items():
        assert torch.allclose(gradient, exact[key], rtol=1e-4, atol=1e-6 * largest), key
    model.eval()(**inputs)
    assert [out.shape[1] for out in outputs] == [1, 1]
    last.restore()
    assert type(model) is type(model_of(name)) and not any(type(m).__name__.startswith("First") for m in model.modules())


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(SHORT)))
def test_other_families_are_left_alone(name: str) -> None:
    model, inputs = model_of(name), inputs_of(name)
    kinds = [type(module) for module in model.modules()]
    FirstOnly(model, lambda: model(**inputs).logits)
    found = [type(module) for module in model.modules()]
    assert found == kinds or model.config.model_type in ("xlm-roberta", "camembert", "ernie", "data2vec-text")


def test_heads_that_read_every_position_are_left_alone() -> None:
    plain = model_of("bert")
    model = transformers.BertForTokenClassification(plain.config).train()
    inputs = inputs_of("bert")
    for training in (True, False):
        last = FirstOnly(model.train(training), lambda: model(**inputs).logits)
        assert last.block is None and all(module.training == training for module in model.modules())


def test_models_without_logits_are_left_alone() -> None:
    model, inputs = transformers.BertForQuestionAnswering(model_of("bert").config), inputs_of("bert")
    assert FirstOnly(model, lambda: model(**inputs).logits).block is None


def test_heads_that_read_the_mean_are_left_alone() -> None:
    model, inputs = model_of("bert"), inputs_of("bert")
    last = FirstOnly(model, lambda: model.bert(**inputs).last_hidden_state.mean(1))
    assert last.block is None
