"""Stages: found by watching a forward pass, over every family, and what the check of them catches."""

import doctest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import thawline as tl
from families import FAMILIES, FURTHER, LAYERS, MEDIA, SENTENCES, folder_of, inputs_of, media_inputs, medium_of, model_of
from test_training import table
from thawline.errors import ModelError
from thawline.models.stages import Stages, find_stages
from thawline.run.assemble import shared_layers
from thawline.testing import check_stages

COUNTS = dict.fromkeys({**FAMILIES, **FURTHER}, LAYERS + 2) | {"albert": 3}
HEADS = {
    "bert": {"bert.pooler.dense", "classifier"},
    "roberta": {"classifier.dense", "classifier.out_proj"},
    "distilbert": {"pre_classifier", "classifier"},
    "albert": {"albert.pooler", "classifier"},
    "electra": {"classifier.dense", "classifier.out_proj"},
    "deberta-v2": {"pooler.dense", "classifier"},
    "modernbert": {"model.final_norm", "head.dense", "head.norm", "classifier"},
    "xlnet": {"sequence_summary.summary", "logits_proj"},
    "gpt2": {"transformer.ln_f", "score"},
    "llama": {"model.norm", "score"},
    "qwen2": {"model.norm", "score"},
    "bart": {"classification_head.dense", "classification_head.out_proj"},
    "t5": {"transformer.decoder.final_layer_norm", "classification_head.dense", "classification_head.out_proj"},
}


def owners(parameters: tuple[str, ...]) -> set[str]:
    """The modules that hold parameters."""
    return {name.rpartition(".")[0] for name in parameters}


@pytest.mark.parametrize("name", COUNTS)
def test_stages_of_every_family(name: str) -> None:
    model = model_of(name)
    stages = check_stages(model, inputs_of(name))
    blocks = [f"block {i}" for i in range(COUNTS[name] - 2)]
    assert [stage.name for stage in stages] == ["stem", *blocks, "head"]
    assert owners(stages[-1].parameters) == HEADS[name]
    words = model.get_input_embeddings().weight
    assert any(dict(model.named_parameters())[parameter] is words for parameter in stages[0].parameters)


@pytest.mark.parametrize("name", MEDIA)
def test_no_model_of_pictures_or_sounds_is_said_to_share_layers(name: str) -> None:
    model, inputs = medium_of(name), media_inputs(name)
    assert shared_layers(model.config, len(find_stages(model, inputs)) - 2) is None


@pytest.mark.parametrize("name", [*FAMILIES])
def test_shared_layers_are_told(name: str, tmp_path: Path) -> None:
    """ALBERT runs one block again and again, which is frozen whole or not at all; no other family says so."""
    told = list[str]()
    more = {
        "train": {"max_steps": 1, "bf16": False, "per_device_train_batch_size": 4},
        "strategy": "freeze(2)",
        "progress": False,
    }
    tl.finetune(table(16), model=str(folder_of(name)), say=told.append, output=str(tmp_path / "run"), **more)
    said = [line for line in told if "share their weights" in line]
    assert said == (
        ["note: the 4 layers of this model share their weights: they freeze and learn together, as block 0"]
        * (name == "albert")
    )


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2"])
def test_other_inputs_and_modes_find_the_same_stages(name: str) -> None:
    model = model_of(name).train()
    model.base_model.eval()
    modes = [module.training for module in model.modules()]
    assert find_stages(model, inputs_of(name, SENTENCES[:1])) == find_stages(model, inputs_of(name))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_convolution_between_blocks_belongs_to_the_lower() -> None:
    stages = find_stages(model_of("deberta-v2"), inputs_of("deberta-v2"))
    assert "deberta.encoder.conv.conv" in owners(stages[1].parameters)
    assert {"deberta.encoder.rel_embeddings", "deberta.encoder.LayerNorm"} <= owners(stages[0].parameters)


def test_encoder_decoder_is_cut_at_layers_not_at_attentions() -> None:
    stages = find_stages(model_of("bart"), inputs_of("bart"))
    tops = [{".".join(owner.split(".")[:4]) for owner in owners(stage.parameters) if ".layers." in owner} for stage in stages]
    assert tops[1:-1] == [{f"model.{half}.layers.{i}"} for half in ("encoder", "decoder") for i in (0, 1)]


class Block(nn.Module):
    """A residual block with a norm."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.mix(x).relu())


class Wide(Block):
    """A block of another class, of the same weight."""


class Resolution(nn.Module):
    """Two blocks, as a convolutional net has them in each resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(), Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Residual(nn.Module):
    """Two blocks past which the input runs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(), Block()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Net(nn.Module):
    """A stem, parts that run one after the other (one may run twice), and a head that may be tied to the stem."""

    def __init__(self, make: Callable[[], list[nn.Module]], *, tied: bool = False) -> None:
        super().__init__()
        self.stem, self.parts, self.head = nn.Linear(4, 4), nn.ModuleList(dict.fromkeys(made := make())), nn.Linear(4, 4)
        self.order, self.unused = [list(dict.fromkeys(made)).index(part) for part in made], nn.Linear(4, 4)
        if tied:
            self.head.weight = self.stem.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in self.order:
            x = self.parts[i](x)
        return self.head(x)


def shared() -> list[nn.Module]:
    first, second, third = Block(), Block(), Block()
    return [first, second, first, third]


NETS = {
    "plain": (lambda: [Block(), Block(), Block()], 3),
    "nested": (lambda: [Resolution(), Resolution()], 4),
    "halves of residual blocks": (lambda: [Residual(), Residual(), Residual()], 3),
    "sequences": (lambda: [nn.Sequential(Block(), nn.ReLU()) for _ in range(3)], 3),
    "two classes": (lambda: [Block(), Block(), Wide(), Wide()], 4),
    "alternating": (lambda: [Block(), Wide(), Block(), Wide()], 4),
    "shared around another": (shared, 2),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("tied", [False, True])
def test_nets_by_their_calls(name: str, tied: bool) -> None:
    make, blocks = NETS[name]
    net = Net(make, tied=tied)
    stages = check_stages(net, {"x": torch.randn(3, 4)})
    assert [stage.name for stage in stages] == ["stem", *(f"block {i}" for i in range(blocks)), "head"]
    assert ("head.weight" in stages[-1].parameters) is not tied
    assert "unused.weight" in stages[0].parameters


def test_no_blocks_is_told() -> None:
    with pytest.raises(ModelError, match="No repeated blocks were found in Linear, so it cannot be cut into stages"):
        find_stages(nn.Linear(4, 4), {"input": torch.randn(2, 4)})


def moved(stages: Stages, name: str, *, source: int, target: int | None) -> Stages:
    """The same stages with one parameter under another of them, or under none."""
    changed = list(stages)
    changed[source] = replace(stages[source], parameters=tuple(p for p in stages[source].parameters if p != name))
    if target is not None:
        changed[target] = replace(stages[target], parameters=(*stages[target].parameters, name))
    return tuple(changed)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: moved(s, "stem.weight", source=0, target=None), "No stage holds the parameters 'stem.weight'"),
        (lambda s: moved(s, "stem.weight", source=1, target=2), "not disjoint; two hold the parameters 'stem.weight'"),
        (lambda s: moved(s, "nose.weight", source=1, target=2), "that the model has not: 'nose.weight'"),
        (lambda s: moved(s, "parts.0.mix.weight", source=1, target=2), "depends on a parameter of a stage above its own"),
        (lambda s: (s[1], s[0], *s[2:]), "'parts.0' of block 0 first runs after 'stem' of stem"),
        (lambda s: (*s[:-1], replace(s[-1], modules=())), "No stage holds the modules 'head'"),
    ],
)
def test_check_catches_wrong_stages(spoil: Callable[[Stages], Stages], told: str) -> None:
    net, inputs = Net(NETS["plain"][0]), {"x": torch.randn(3, 4)}
    stages = find_stages(net, inputs)
    with pytest.raises(AssertionError, match=told):
        check_stages(net, inputs, spoil(stages))


def test_check_catches_outputs_that_ignore_the_model() -> None:
    net = Net(NETS["plain"][0])
    with torch.no_grad():
        net.parts[2].norm.weight.zero_()  # what comes before it no longer matters
    with pytest.raises(AssertionError, match="Nothing in stem has a gradient"):
        check_stages(net, {"x": torch.randn(3, 4)})


def test_check_leaves_the_model_as_it_was() -> None:
    model = model_of("bert").train()
    model.bert.embeddings.requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad, p.grad) for name, p in model.named_parameters()}
    check_stages(model, inputs_of("bert"))
    assert model.training
    for name, parameter in model.named_parameters():
        weight, learns, gradient = before[name]
        assert torch.equal(parameter, weight) and parameter.requires_grad is learns and parameter.grad is gradient


def test_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "methods" / "stages.md"
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0
