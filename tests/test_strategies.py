"""Strategies: what learns, how fast and when, as groups, and as it comes out in a learner."""

import copy
import doctest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn

import thawline as tl
from families import EXAMPLES, FAMILIES, LAYERS, inputs_of, model_of, task_of
from thawline.errors import UserError
from thawline.models.stages import Stage, Stages, find_stages
from thawline.models.trace import evaluating
from thawline.run.assemble import without_fixed
from thawline.strategies.base import STRATEGIES, Group, Groups, Strategy, strategy
from thawline.strategies.what import all_stages
from thawline.tasks.base import Step, plain_objective
from thawline.testing import check_strategy
from thawline.testing.sums import supervised, whole
from thawline.train.learner import Learner
from thawline.train.masters import Masters
from thawline.train.optimize import Optimization
from thawline.train.optimizers import OPTIMIZERS
from thawline.train.schedule import Schedule

# One entry for each of the table, or `test_every_strategy_is_checked` fails.
CALLS = {
    "full": ["full"],
    "head": ["head"],
    "encoder": ["encoder"],
    "freeze": ["freeze(0)", "freeze(1)", "freeze(2)", "freeze(0.0)", "freeze(0.5)", "freeze(1.0)"],
    "layerwise": ["layerwise(full)", "layerwise(head, decay=1)", "layerwise(layerwise(full, decay=0.5), decay=0.9)"],
    "discriminative": ["discriminative(full, rates=[1e-5, 2e-5, 1e-4])", "discriminative(encoder, rates=[0.1])"],
    "adaptive": [
        "adaptive(full)",
        "adaptive(freeze(1), most=1.0, after=0)",
        "adaptive(layerwise(full, decay=0.9), change=1)",
        "layerwise(adaptive(full), decay=0.9)",
        "gradual(adaptive(full), until=0.4)",
        "adaptive(gradual(full, until=0.4))",
    ],
    "gradual": ["gradual(full)", "gradual(full, until=0)", "gradual(layerwise(encoder, decay=0.9), until=1.0)"],
    "lora": [
        "lora(r=2)",
        "lora(r=3, alpha=4, dropout=0.1, top=0.5, head=true, merge=false)",
        "gradual(layerwise(lora(r=2, top=2), decay=0.9), until=0.5)",
        "adaptive(discriminative(lora(r=2, head=true), rates=[1e-4, 1e-3]))",
    ],
    "bitfit": ["bitfit", "gradual(bitfit(top=0.5, head=true))"],
}
NO_BIASES = {"modernbert", "llama"}
ONE_BLOCK = {"albert"}


def ladder(blocks: int) -> Stages:
    """Stages without a model: one parameter each, called like the stage."""
    return tuple(Stage(name, (name,), (name,)) for name in ["stem", *(f"block {i}" for i in range(blocks)), "head"])


def learned(spec: str, blocks: int = 6) -> list[str]:
    """The stages that a strategy ever trains."""
    return [name for group in strategy(spec).groups(ladder(blocks)) for name in group.parameters]


def open_at(spec: str, progress: float, blocks: int = 4) -> list[int]:
    made = strategy(spec)
    return sorted(made.active(made.groups(ladder(blocks)), progress))


def test_every_strategy_is_checked() -> None:
    assert set(CALLS) == set(STRATEGIES.entries)


@pytest.mark.parametrize("name", FAMILIES)
def test_contract_over_every_family(name: str) -> None:
    model = model_of(name)
    stages = find_stages(model, inputs_of(name))
    for spec in (spec for specs in CALLS.values() for spec in specs):
        if "bitfit" in spec and name in NO_BIASES:
            with pytest.raises(UserError, match="have no biases"):
                check_strategy(spec, stages)
        elif "top=2" in spec and name in ONE_BLOCK:
            with pytest.raises(UserError, match=r"top=2\) asks for more blocks than the 1"):
                check_strategy(spec, stages, model)
        else:
            check_strategy(spec, stages, model)


BLOCKS = [f"block {i}" for i in range(6)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("full", ["stem", *BLOCKS, "head"]),
        ("head", ["head"]),
        ("encoder", BLOCKS),
        ("freeze(0)", ["stem", *BLOCKS, "head"]),
        ("freeze(4)", [*BLOCKS[3:], "head"]),
        ("freeze(7)", ["head"]),
        ("freeze(0.5)", [*BLOCKS[3:], "head"]),
        ("freeze(0.0)", [*BLOCKS, "head"]),
        ("freeze(1.0)", ["head"]),
        ("gradual(freeze(4))", [*BLOCKS[3:], "head"]),
    ],
)
def test_what_learns(spec: str, expected: list[str]) -> None:
    assert learned(spec) == expected


@pytest.mark.parametrize(("blocks", "frozen"), [(1, 1), (2, 1), (3, 2), (5, 3), (12, 6)])
def test_half_of_an_odd_number_of_blocks_is_rounded_up(blocks: int, frozen: int) -> None:
    assert len(learned("freeze(0.5)", blocks)) == blocks + 2 - 1 - frozen


def test_layerwise_rates_fall_from_the_head() -> None:
    groups = strategy("layerwise(full, decay=0.9)").groups(ladder(4))
    assert [group.scale for group in reversed(groups)] == pytest.approx([1.0, 0.9, 0.81, 0.729, 0.6561, 0.59049])
    assert [group.rate for group in groups] == [None] * 6
    # The distance from the head counts, whether or not the head learns.
    assert strategy("layerwise(encoder, decay=0.5)").groups(ladder(2))[-1].scale == 0.5
    assert [g.scale for g in strategy("layerwise(layerwise(full, decay=0.5), decay=0.5)").groups(ladder(1))] == [
        1 / 16,
        1 / 4,
        1,
    ]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([1.0, 2.0, 3.0], [1, 1, 2, 2, 3, 3]),
        ([1.0, 2.0], [1, 1, 1, 2, 2, 2]),
        ([1.0, 2.0, 3.0, 4.0], [1, 1, 2, 3, 3, 4]),
        ([5.0], [5] * 6),
    ],
)
def test_discriminative_rates_stand_bottom_first_in_equal_groups(rates: list[float], expected: list[float]) -> None:
    groups = tl.discriminative(tl.full(), rates=rates).groups(ladder(4))
    assert [group.rate for group in groups] == expected
    counts = [expected.count(rate) for rate in rates]
    assert max(counts) - min(counts) <= 1


def test_discriminative_and_layerwise_multiply() -> None:
    groups = strategy("layerwise(discriminative(full, rates=[1e-4, 1e-3]), decay=0.5)").groups(ladder(2))
    made = Optimization(learning_rate=7.0).build(nn.ParameterDict({s.name: torch.ones(2, 2) for s in ladder(2)}), groups)
    assert [entry["lr"] for entry in made.param_groups] == pytest.approx([1e-4 / 8, 1e-4 / 4, 1e-3 / 2, 1e-3])


def test_gradual_opens_from_the_top_at_equal_shares() -> None:
    spec = "gradual(full, until=0.5)"
    assert [open_at(spec, p) for p in (0.0, 0.0999)] == [[5], [5]]
    assert [open_at(spec, p)[0] for p in (0.1, 0.2, 0.3, 0.4, 0.4999)] == [4, 3, 2, 1, 1]
    assert [open_at(spec, p) for p in (0.5, 0.7, 1.0)] == [[0, 1, 2, 3, 4, 5]] * 3
    assert open_at("gradual(full, until=0)", 0.0) == [0, 1, 2, 3, 4, 5]
    assert open_at("gradual(encoder, until=0.4)", 0.0) == [4]
    assert open_at("gradual(freeze(4), until=1.0)", 0.99) == [5] and open_at("gradual(freeze(4), until=1.0)", 1.0) == [4, 5]


@given(some.integers(1, 40), some.floats(0.001, 1.0))
@settings(deadline=None)
def test_gradual_lets_everything_learn_by_until(blocks: int, until: float) -> None:
    stages, made = ladder(blocks), tl.gradual(tl.full(), until=until)
    groups = made.groups(stages)
    assert len(made.active(groups, until)) == blocks + 2
    counts = [len(made.active(groups, i / 50)) for i in range(51)]
    assert counts == sorted(counts) and counts[0] == 1


def test_python_and_text_say_the_same() -> None:
    written = "gradual(layerwise(freeze(2), decay=0.8), until=0.25)"
    made = tl.gradual(tl.layerwise(tl.freeze(2), decay=0.8), until=0.25)
    assert made.spec == strategy(written).spec == written
    assert made.groups(ladder(3)) == strategy(written).groups(ladder(3))
    assert strategy(made) is made
    assert tl.layerwise("head", decay=0.5).spec == "layerwise(head, decay=0.5)"


def written_strategies() -> some.SearchStrategy[str]:
    fractions = some.floats(0.01, 1.0)
    kept = some.one_of(some.integers(0, 7).map(str), some.floats(0.0, 1.0).map(repr)).map("freeze({})".format)
    bare = some.one_of(some.sampled_from(["full", "head", "encoder"]), kept)
    rates = some.lists(some.floats(1e-8, 1.0), min_size=1, max_size=8).map(repr)

    def wrapped(inner: some.SearchStrategy[str]) -> some.SearchStrategy[str]:
        return some.one_of(
            some.builds("layerwise({}, decay={!r})".format, inner, fractions),
            some.builds("gradual({}, until={!r})".format, inner, fractions),
            some.builds("discriminative({}, rates={})".format, inner, rates),
        )

    return some.recursive(bare, wrapped, max_leaves=4)


@given(written_strategies())
@settings(deadline=None, max_examples=60)
def test_any_composition_holds_the_contract(spec: str) -> None:
    made = check_strategy(spec, ladder(6))
    assert made.spec.count("(") == spec.count("(")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ful", "no strategy called 'ful', did you mean 'full'?"),
        ("gradual(fulll)", "no strategy called 'fulll', did you mean 'full'?"),
        ("layerwise(full, deacy=0.9)", r"has no argument 'deacy', did you mean 'decay'\? It is layerwise\(base, decay=0.9\)"),
        ("full(3)", r"full\(3\) does not fit full\(\)"),
        ("freeze", "missing a required argument: 'below'"),
        ("gradual", "missing a required argument: 'base'"),
        ("gradual(0.5)", "0.5 is not a strategy; expected one such as full"),
        ("layerwise(null)", "None is not a strategy"),
        ("layerwise(full, decay=0)", r"layerwise\(decay=0\) is out of range"),
        ("layerwise(full, decay=1.5)", "expected a number above 0 and at most 1, such as 0.9"),
        ("layerwise(full, decay=null)", "is out of range"),
        ("gradual(full, until=-0.1)", "expected a share of the training from 0 to 1"),
        ("gradual(full, until='half')", "is out of range"),
        ("freeze(-1)", r"freeze\(-1\) is out of range"),
        ("freeze(1.5)", "a number of stages such as 4, or a fraction from 0.0 to 1.0"),
        ("freeze(true)", "is out of range"),
        ("freeze('4')", "is out of range"),
        ("discriminative(full, rates=[])", "expected learning rates such as"),
        ("discriminative(full, rates=[1e-5, 0])", "is out of range"),
        ("discriminative(full, rates=full)", "is out of range"),
        ("no_such_module:thing", "cannot be imported"),
    ],
)
def test_mistakes_are_told(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        strategy(spec)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("freeze(6)", r"freeze\(6\) leaves nothing to learn: this model has 6 stages; try 5 at most"),
        ("discriminative(full, rates=[1, 2, 3, 4, 5, 6, 7])", "has 7 rates, but this model has 6 stages"),
    ],
)
def test_what_does_not_fit_the_model_is_told(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        strategy(spec).groups(ladder(4))


def test_one_of_your_own_is_named_by_its_place() -> None:
    made = check_strategy("gradual(test_strategies:ends(2), until=0.5)", ladder(4))
    assert made.spec == "gradual(test_strategies:ends(2), until=0.5)"
    assert [group.stage for group in made.groups(ladder(4))] == [0, 1, 4, 5]


def ends(count: int) -> Strategy:
    """The outermost stages on both sides learn."""

    def groups(stages: Stages) -> Groups:
        return tuple(Group(i, s.parameters) for i, s in enumerate(stages) if min(i, len(stages) - 1 - i) < count)

    return Strategy(f"test_strategies:ends({count})", groups, all_stages)


def broken(kind: str) -> Strategy:
    """A strategy that breaks one rule."""
    plain, asked = Group(1, ("block 0",)), list[float]()

    def groups(stages: Stages) -> Groups:
        made = {
            "nothing": (),
            "twice": (plain, plain),
            "elsewhere": (Group(2, ("block 0",)),),
            "beyond": (Group(9, ("block 0",)),),
            "bare": (plain._replace(parameters=()),),
            "still": (plain._replace(scale=0.0),),
        }
        return made.get(kind, (plain,))

    def active(groups: Groups, progress: float) -> frozenset[int]:
        asked.append(progress)
        found = {"closed": set() if progress == 1.0 else {1}, "strange": {0}, "moody": {1} if len(asked) < 50 else set()}
        return frozenset(found.get(kind, {1}))

    return Strategy("full" if kind == "liar" else f"test_strategies:broken({kind!r})", groups, active)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", "has no group"),
        ("twice", "holds block 0 twice"),
        ("elsewhere", "holds parameters that block 1 has not: block 0"),
        ("beyond", "a group for stage 9; there are 4"),
        ("bare", "a group without parameters"),
        ("still", "expected numbers above 0"),
        ("closed", "lets nothing learn at progress 1.0"),
        ("strange", "opens stages that have no group"),
        ("moody", "when asked in another order"),
        ("liar", "makes other groups once it was parsed"),
    ],
)
def test_check_catches(kind: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_strategy(broken(kind), ladder(2))
    check_strategy(broken("none of these"), ladder(2))


# What a strategy says, as it comes out in a model that learns.


class FeatureNorm(nn.BatchNorm1d):
    """Batch norm over the last dimension of [B, T, C]: it has buffers that train mode changes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def tiny() -> Any:
    """A tiny BERT with batch norms instead of layer norms in its blocks."""
    model = model_of("bert")
    for layer in model.bert.encoder.layer:
        layer.output.LayerNorm = FeatureNorm(model.config.hidden_size)
    return model


def learner(spec: str | Strategy, model: Any = None, *, total: int = 10, optim: str = "adamw", **numbers: Any) -> Learner:
    model = model or tiny()
    stages, made = find_stages(model, inputs_of("bert")), strategy(spec)
    groups = without_fixed(made.groups(stages), model)
    masters = Masters(model)
    optimizer = Optimization(optim, **{"learning_rate": 1e-2, **numbers}).build(masters.named, groups)
    return Learner(model, stages, made, groups, masters, optimizer, Schedule("constant", total), 1.0)


def train(learner: Learner, steps: Sequence[int]) -> None:
    task = task_of("bert")
    batch = whole(supervised(task, EXAMPLES[:8]))
    for step in steps:
        torch.manual_seed(step)
        learner.open(step)
        loss = plain_objective(Step(learner.model, task, batch, 0.0))
        learner.masters.add(torch.autograd.grad(loss.total, learner.masters.learning, allow_unused=True))
        learner.step(step, float(loss.weight))


def tensors_of(learner: Learner, k: int) -> dict[str, Tensor]:
    """Weights and buffers of a stage."""
    modules = set(learner.stages[k].modules)
    buffers = {name: b for name, b in learner.model.named_buffers() if name.rpartition(".")[0] in modules}
    named = dict(learner.model.named_parameters())
    return {**{name: named[name] for name in learner.stages[k].parameters}, **buffers}


@pytest.mark.parametrize("optim", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("spec", "learning"),
    [("full", {0, 1, 2, 3, 4, 5}), ("head", {5}), ("encoder", {1, 2, 3, 4}), ("freeze(4)", {4, 5}), ("gradual(full)", {5})],
)
def test_frozen_stays_as_it_was_bit_for_bit(spec: str, learning: set[int], optim: str) -> None:
    one = learner(spec, optim=optim)
    one.frozen_statistics = False
    before = [copy.deepcopy(tensors_of(one, k)) for k in range(LAYERS + 2)]
    train(one, [0, 0, 0])
    named, modules = dict(one.model.named_parameters()), dict(one.model.named_modules())
    assert one.thaw_line == min(learning)
    for k, stage in enumerate(one.stages):
        changed = {name for name, tensor in tensors_of(one, k).items() if not torch.equal(tensor, before[k][name])}
        assert {modules[name].training for name in stage.modules} == {k in learning}
        assert bool(changed) is (k in learning)
        if k in learning:
            assert {name for name in before[k] if "running_" in name} <= changed
        else:
            assert all(named[name].grad is None and not named[name].requires_grad for name in stage.parameters)
            assert not any(named[name] in one.optimizer.state for name in stage.parameters)


def test_gradual_opens_with_dropout_and_closes_nothing() -> None:
    one = learner("gradual(full, until=0.5)")
    drop = {
        k: [dict(one.model.named_modules())[n] for n in s.modules if n.endswith("dropout")] for k, s in enumerate(one.stages)
    }
    for step, line in enumerate([5, 4, 3, 2, 1, 0, 0]):
        train(one, [step])
        assert one.thaw_line == line
        assert {k for k, modules in drop.items() for module in modules if module.training} == set(range(line, LAYERS + 2))
        with evaluating(one.model):
            assert not any(module.training for module in one.model.modules())
        assert {k for k, modules in drop.items() for module in modules if module.training} == set(range(line, LAYERS + 2))


def test_dropout_is_on_where_something_learns_and_nowhere_else() -> None:
    one, inputs = learner("gradual(full, until=0.5)"), inputs_of("bert")
    seen: dict[str, list[Tensor]] = {}
    for k in range(LAYERS):
        layer = one.model.bert.encoder.layer[k]
        layer.register_forward_hook(lambda _, __, out, k=k: seen.setdefault(f"block {k}", []).append(out))
    one.open(2)
    for seed in (1, 2):
        torch.manual_seed(seed)
        one.model(**inputs)
    same = {name: torch.equal(*outputs) for name, outputs in seen.items()}
    assert same == {"block 0": True, "block 1": True, "block 2": False, "block 3": False}


def test_what_a_family_fixes_stays_fixed() -> None:
    model = tiny()
    fixed = model.bert.embeddings.position_embeddings.weight.requires_grad_(False)
    before = fixed.clone()
    one = learner("full", model)
    train(one, [0, 1])
    assert torch.equal(fixed, before) and fixed.grad is None and not fixed.requires_grad


def test_rates_of_a_step_are_those_of_the_strategy() -> None:
    one = learner("layerwise(full, decay=0.5)", learning_rate=0.5)
    one.open(0)
    one.model(**inputs_of("bert")).logits.sum().backward()
    _, rates = one.step(0, 1.0)
    assert rates == {str(k): pytest.approx(0.5 ** (LAYERS + 2 - k)) for k in range(LAYERS + 2)}


def test_checkpoint_holds_what_can_change_and_nothing_else() -> None:
    one = learner("freeze(4)")
    train(one, [0, 1])
    kept = copy.deepcopy(one.tensors())
    assert set(kept["model"]) == set(tensors_of(one, 4)) | set(tensors_of(one, 5))
    other = learner("freeze(4)")
    other.load(kept)
    for each in (one, other):
        train(each, [2])
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


@pytest.mark.parametrize("name", FAMILIES)
def test_no_weight_decay_on_norms_and_biases(name: str) -> None:
    model = model_of(name)
    groups = strategy("full").groups(find_stages(model, inputs_of(name)))
    optimizer = Optimization(weight_decay=0.1).build(dict(model.named_parameters()), groups)
    decay = {n: entry["weight_decay"] for entry in optimizer.param_groups for n in entry["names"]}
    assert set(decay) == {n for n, _ in model.named_parameters()}
    for owner, module in model.named_modules():
        for own, _ in module.named_parameters(recurse=False):
            full = f"{owner}.{own}" if owner else own
            if full in decay:
                assert decay[full] == (0.0 if "Norm" in type(module).__name__ or own.endswith("bias") else 0.1), full


@pytest.mark.parametrize("optim", list(OPTIMIZERS))
def test_decay_shrinks_weights_without_a_gradient(optim: str) -> None:
    model = nn.Linear(2, 2)
    groups = (Group(0, ("weight", "bias")),)
    named = dict(model.named_parameters())
    optimizer = Optimization(optim, learning_rate=0.1, weight_decay=0.5, momentum=0.0).build(named, groups)
    before = copy.deepcopy(dict(model.named_parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.bias, before["bias"])
    assert ((model.weight - before["weight"]) * before["weight"] < 0).all()
    if optim != "adam":  # its decay goes through the moments
        assert torch.allclose(model.weight, before["weight"] * 0.95)


@pytest.mark.parametrize("optim", list(OPTIMIZERS))
def test_every_optimizer_lowers_the_loss(optim: str) -> None:
    one, task = learner("full", model_of("bert"), optim=optim), task_of("bert")
    batch = whole(supervised(task, EXAMPLES[:8]))
    train(one, [0])
    one.model.eval()
    first = float(plain_objective(Step(one.model, task, batch, 0.0)).total.detach())
    for parameters in one.optimizer.param_groups:
        parameters["rate"] *= 0.3
    one._active = None
    train(one, range(1, 9))
    one.model.eval()
    assert float(plain_objective(Step(one.model, task, batch, 0.0)).total.detach()) < first


def test_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "methods" / "strategies.md"
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0
