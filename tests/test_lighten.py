"""Less work for the same result: own random numbers, workers, lower weights over masters, only the rows in use."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from families import FAMILIES, folder_of, inputs_of, media_inputs, medium_of, model_of
from test_plan import job_of
from test_training import assembled, gradient, options, run, silent, table
from thawline.models.rows import Rows, embedding_of, touched
from thawline.models.stages import Stage
from thawline.recipe import recipe_from
from thawline.run.api import recipe_for
from thawline.run.assemble import Assembled, assemble
from thawline.run.lighten import narrowed
from thawline.run.prepare import prepare
from thawline.strategies.base import Group, strategy
from thawline.thaw.prefix import Below, Prefix
from thawline.thaw.replicas import Replicas
from thawline.train.draws import Draws
from thawline.train.gradients import Gradients
from thawline.train.learner import Learner
from thawline.train.masters import Masters
from thawline.train.optimize import Optimization, state_tensors
from thawline.train.schedule import Schedule
from thawline.train.workers import Workers, shares, workers_for


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(p: float) -> None:
    with Draws((1, 2)):
        once, again = (functional.dropout(torch.ones(400_000), p) for _ in range(2))
    for found in (once, again):
        assert float((found == 0).float().mean()) == pytest.approx(p, abs=0.004)
        assert float(found.mean()) == pytest.approx(1, abs=0.02)
    both = ((once == 0) & (again == 0)).float().mean()
    assert float(both) == pytest.approx(p * p, abs=0.004)  # independent of one another


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.8])
def test_what_is_kept_has_the_factor_in_every_dtype(dtype: torch.dtype, p: float) -> None:
    with Draws((5,)):
        found = functional.dropout(torch.ones(7, 11, dtype=dtype), p)
    factor = torch.ones(1, dtype=dtype).mul_(65_536 / (65_536 - round(p * 65_536)))
    assert found.dtype == dtype and found.shape == (7, 11)
    assert set(found.unique().tolist()) == {0.0, float(factor)}


@pytest.mark.parametrize("length", [7, 26, 70])
def test_attention_in_bfloat16_is_that_in_float32_rounded(length: int) -> None:
    torch.manual_seed(0)
    whole = [torch.randn(2, 4, length, 8).bfloat16().float().requires_grad_() for _ in range(3)]
    lower = [each.detach().bfloat16().requires_grad_() for each in whole]
    found = []
    for given in (whole, lower):
        with Draws((3,)):
            answer = functional.scaled_dot_product_attention(*given, dropout_p=0.1)
        found.append([answer, *torch.autograd.grad(answer.float().square().sum(), given)])
    for exact, rounded in zip(*([each.detach() for each in side] for side in found), strict=True):
        assert rounded.dtype == torch.bfloat16
        assert float((rounded.float() - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("kind", [torch.nn.MultiheadAttention, torch.nn.TransformerEncoderLayer])
def test_attention_of_torchs_own_modules_draws_from_the_key(kind: Any) -> None:
    module, given = kind(8, 2, dropout=0.5).train(), torch.ones(1, 3, 8)

    def drawn(*key: int) -> torch.Tensor:
        with Draws(key):
            said = module(given, given, given) if kind is torch.nn.MultiheadAttention else module(given)
        return said if isinstance(said, torch.Tensor) else said[0]

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))


def test_rows_of_a_gradient_add_up_to_the_whole() -> None:
    """Of a table some rows come, some twice; added in float32, whatever they are rounded to."""
    table = nn.Embedding(9, 4)
    summed = []
    for sparse in (False, True):
        table.sparse = sparse
        masters = Masters(table)
        masters.open({"weight"})
        for ids in ([1, 1, 5], [5, 8, 0]):
            masters.add(torch.autograd.grad(table(torch.tensor(ids)).square().sum(), masters.learning))
        summed.append(masters.now[0].grad)
        table.weight.grad = None
    assert summed[1].layout == torch.strided
    torch.testing.assert_close(summed[1], summed[0])


def test_dropout_at_the_ends() -> None:
    with Draws((0,)):
        ones = torch.ones(5, 3)
        assert functional.dropout(ones, 0.0) is ones
        assert functional.dropout(ones, 0.5, training=False) is ones
        assert not functional.dropout(ones, 1.0).any()
        assert nn.Dropout(0.5).eval()(ones) is ones
        assert functional.dropout(torch.ones(0), 0.5).shape == (0,)


@pytest.mark.parametrize("case", ["plain", "bool", "additive", "causal", "grouped"])
def test_attention_with_dropout_is_attention(case: str) -> None:
    """Averaged over many draws it is what torch computes without dropout; at a rate next to nothing it is equal."""
    torch.manual_seed(0)
    heads = 2 if case == "grouped" else 4
    query, key, value = torch.randn(2, 4, 7, 8), torch.randn(2, heads, 7, 8), torch.randn(2, heads, 7, 8)
    options: dict[str, Any] = {
        "bool": {"attn_mask": torch.rand(2, 1, 7, 7) > 0.3},
        "additive": {"attn_mask": torch.randn(2, 1, 7, 7)},
        "causal": {"is_causal": True},
        "grouped": {"enable_gqa": True, "scale": 0.2},
    }.get(case, {})
    if case == "bool":
        options["attn_mask"][..., 0] = True
    whole = functional.scaled_dot_product_attention(query, key, value, **options)
    with Draws((3,)):
        small = functional.scaled_dot_product_attention(query, key, value, dropout_p=1e-9, **options)
        many = [functional.scaled_dot_product_attention(query, key, value, dropout_p=0.3, **options) for _ in range(400)]
    torch.testing.assert_close(small, whole)
    torch.testing.assert_close(torch.stack(many).mean(0), whole, rtol=0, atol=0.25)
    assert not torch.equal(many[0], many[1])


def test_all_that_is_drawn_follows_from_the_key() -> None:
    def drawn(key: int) -> list[torch.Tensor]:
        with Draws((key,)):
            return [
                torch.rand(3),
                torch.bernoulli(torch.full((9,), 0.5)),
                functional.dropout2d(torch.ones(2, 8, 2, 2)),
                torch.randn(2),
            ]

    for one, same, other in zip(drawn(1), drawn(1), drawn(2), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other) or one.numel() < 10
    before = torch.random.get_rng_state()
    with Draws((1,)):
        functional.dropout(torch.ones(9), 0.5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_workers_answer_in_order_and_pass_errors_on() -> None:
    workers = Workers(2, 2)
    assert list(workers.each(lambda n: n * n, range(20))) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(workers.each(lambda n: 1 // n, [3, 2, 0, 1]))
    assert list(workers.each(str, [1])) == ["1"]
    assert [workers_for(*each) for each in ((1, 32), (2, 32), (3, 32), (16, 32), (2, 4), (6, 16))] == [1, 2, 3, 8, 1, 3]


def shared(loop: Any, workers: Workers) -> Gradients:
    prefix = Prefix(Replicas(loop.learner.model, workers.count), (), Below(64, {}))
    loop.learner.copies = prefix.replicas.models[1:]
    loop.learner._active = None  # the copies have not been opened yet
    return replace(loop.gradients, workers=workers, prefix=prefix)


def test_two_workers_come_to_the_gradients_of_one(tmp_path: Path) -> None:
    _, _, loop = assembled(tmp_path, batch_size=16)
    one, many = gradient(loop, 16)
    loop.gradients = shared(loop, Workers(2, 2))
    two, found = gradient(loop, 16)
    assert two.pop("positions") < one.pop("positions")  # less of it is padding
    assert two == pytest.approx(one, rel=1e-5)
    for name, value in many.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_two_workers_draw_the_same_each_time(tmp_path: Path, name: str) -> None:
    """Whoever is done first: with dropout on, gradients are the same bytes."""
    _, _, loop = assembled(tmp_path, batch_size=16, model=str(folder_of(name)))
    loop.learner.open(0)
    gradients, found = shared(loop, Workers(2, 2)), []
    for _ in range(3):
        gradients(loop.learner, 0, 0.0)
        found.append({n: p.grad.clone() for n, p in loop.learner.masters.named.items() if p.grad is not None})
        loop.learner.forget()
    assert all(torch.equal(found[0][n], other[n]) for other in found[1:] for n in found[0])
    gradients(loop.learner, 1, 0.0)
    loop.learner.forget()


def test_two_workers_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name, epochs=1, threads=2, bf16=True)
    one, two = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("name", FAMILIES)
def test_lower_weights_come_close_and_masters_come_back(name: str) -> None:
    model, inputs = model_of(name), inputs_of(name)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    whole = model(**inputs).logits
    masters = Masters(model, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(model(**inputs).logits.float(), whole, rtol=0.1, atol=0.1)
    masters.restore()
    assert all(torch.equal(p, before[n]) and p.dtype == torch.float32 for n, p in model.named_parameters())
    assert torch.equal(model(**inputs).logits, whole)


@pytest.mark.parametrize("name", ["resnet", "convnext", "efficientnet", "mobilenet-v2"])
def test_norms_with_running_statistics_stay_whole(name: str) -> None:
    """They learn all the same, at each of the steps, and nothing else is kept in float32."""
    model, inputs = medium_of(name), media_inputs(name)
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    masters = Masters(model, torch.bfloat16)
    assert all((p.dtype == torch.float32) == (id(p) in norms) for p in model.parameters())
    masters.open({name for name, _ in model.named_parameters()})
    before = {name: master.detach().clone() for name, master in masters.named.items()}
    optimizer = torch.optim.AdamW(masters.named.values(), lr=1e-2)
    said = model(**{key: value.bfloat16() for key, value in inputs.items()}).logits
    masters.add(torch.autograd.grad(said.float().square().sum(), masters.learning, allow_unused=True))
    optimizer.step()
    masters.publish()
    moved = {name for name, master in masters.named.items() if not torch.equal(master, before[name])}
    assert {name for name, p in model.named_parameters() if id(p) in norms} <= moved
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, masters.named[key].to(parameter.dtype))
    masters.restore()
    assert all(p.dtype == torch.float32 and torch.equal(p, masters.named[n]) for n, p in model.named_parameters())


def test_masters_add_up_what_is_too_small_for_the_model() -> None:
    """A thousand steps of 1e-5 from 1: each is lost in bfloat16, all together are not."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    masters = Masters(model, torch.bfloat16)
    masters.open({"weight"})
    optimizer = torch.optim.SGD(masters.named.values(), lr=1e-5)
    for _ in range(1000):
        masters.add([torch.ones(1, 1, dtype=torch.bfloat16)])
        optimizer.step()
        optimizer.zero_grad()
        masters.publish()
    masters.restore()
    assert model.weight.item() == pytest.approx(0.99, abs=1e-4)


def test_gradients_add_up_in_float32() -> None:
    model = nn.Linear(2, 1, bias=False)
    masters = Masters(model, torch.bfloat16)
    masters.open({"weight"})
    masters.add([torch.full((1, 2), 256.0, dtype=torch.bfloat16)])
    masters.add([torch.full((1, 2), 0.5, dtype=torch.bfloat16)])
    masters.add([None])
    assert masters.named["weight"].grad.tolist() == [[256.5, 256.5]]


@pytest.mark.parametrize(("optim", "decay"), [("adamw", 0.1), ("sgd", 0.1), ("adam", 0.0)])
def test_rows_in_use_learn_as_the_whole_table_does(optim: str, decay: float) -> None:
    """Also what no example touches: it decays."""
    inputs = inputs_of("bert")
    used = touched([inputs["input_ids"].numpy().ravel()], 10_000)
    trained = []
    for narrow in (False, True):
        model = model_of("bert")
        rows = Rows(model, used) if narrow else None
        masters = Masters(model)
        masters.open(set(masters.named))
        optimization = Optimization(optim, 1e-2, weight_decay=decay)
        optimizer = optimization.build(masters.named, (Group(0, tuple(masters.named)),))
        for _ in range(5):
            loss = model(**inputs).logits.square().sum()
            masters.add(torch.autograd.grad(loss, masters.learning, allow_unused=True))
            optimizer.step()
            optimizer.zero_grad()
        if rows is not None:
            rows.widen()
        trained.append({n: p.detach() for n, p in model.named_parameters()})
    whole, narrowed = trained
    for name, value in whole.items():
        torch.testing.assert_close(narrowed[name], value, rtol=1e-5, atol=1e-7)
    words = "bert.embeddings.word_embeddings.weight"
    assert len(used) < len(whole[words])
    unused = np.setdiff1d(np.arange(len(whole[words])), used)
    if decay:
        assert not torch.equal(whole[words][unused], dict(model_of("bert").named_parameters())[words][unused])


def test_a_table_scaled_by_how_often_a_word_occurs_is_narrowed_too() -> None:
    model, inputs = model_of("bert"), inputs_of("bert")
    model.get_input_embeddings().scale_grad_by_freq = True
    found = []
    for narrow in (False, True):
        table = model.get_input_embeddings()
        used = touched([inputs["input_ids"].numpy().ravel()], len(table.weight))
        if narrow:
            Rows(model, used)
        (gradient,) = torch.autograd.grad(model(**inputs).logits.square().sum(), [table.weight])
        found.append(gradient[:-1] if narrow else gradient[used])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_narrowed_model_answers_bit_for_bit(name: str) -> None:
    model, inputs = model_of(name), inputs_of(name)
    whole, table = model(**inputs).logits, embedding_of(model)
    if table is None:
        pytest.skip(f"{name} has no word embeddings of its own")
    before = table.weight.detach().clone()
    rows = Rows(model, touched([inputs["input_ids"].numpy().ravel()], len(table.weight)))
    assert torch.equal(model(**inputs).logits, whole)
    assert len(table.weight) < len(before)
    rows.widen()
    assert torch.equal(table.weight, before)
    assert torch.equal(model(**inputs).logits, whole)


def test_a_word_that_was_not_foreseen_is_an_error_and_not_a_wrong_answer() -> None:
    model, inputs = model_of("bert"), inputs_of("bert")
    Rows(model, np.arange(3))
    with pytest.raises(IndexError):
        model(**inputs)


def test_run_with_narrowed_rows_saves_the_whole_vocabulary(tmp_path: Path) -> None:
    """Float32, with and without a penalty of nothing that keeps the whole table: the same model to rounding."""
    told: list[str] = []
    import thawline as tl

    kept = {"epochs": 1, "max_grad_norm": None}
    for name, more in (("narrow", {}), ("whole", {"regularize": ["l2(0.0)"]})):
        tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / name), **options(**kept, **more))
    narrow, whole = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("narrow", "whole"))
    assert any("rows of the word embeddings are in use" in line for line in told)
    assert any("every row of the word embeddings is trained" in line for line in told)
    for name, value in whole.items():
        torch.testing.assert_close(narrow[name], value, rtol=1e-4, atol=1e-5)


class Own(torch.optim.AdamW):
    """An optimiser of which nothing is known."""


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"optim": "test_lighten:Own"}, "it is not known what test_lighten:Own does to rows that are not in use"),
        ({"optim": "adam", "weight_decay": 0.1}, "a penalty on the weights changes the unused ones too"),
        ({"model": "bart"}, "the decoder uses them too"),
        ({"regularize": ["l2(0.0)"], "strategy": "head"}, None),
        ({"optim": "adam", "weight_decay": 0.0}, None),
    ],
    ids=str,
)
def test_the_whole_table_is_trained_and_told_only_where_less_would_do(more: dict[str, Any], why: str | None) -> None:

    more = {**more, "model": str(folder_of(more.get("model", "bert")))}
    prepared, told = prepare(recipe_for(table(), **options(**more)), silent), list[str]()
    rows = narrowed(prepared, assemble(prepared, silent), told.append)
    notes = [line for line in told if "every row of the word embeddings is trained" in line]
    assert [line.partition(", because ")[2] for line in notes] == ([why] if why else [])
    assert (rows is None) == (why is not None or more.get("strategy") == "head")


@pytest.mark.parametrize(("tied", "why"), [(True, "another layer uses them too"), (False, "what the model writes")])
def test_a_model_that_writes_keeps_its_whole_table(tied: bool, why: str) -> None:
    config = transformers.GPT2Config(vocab_size=100, n_embd=8, n_layer=1, n_head=1, tie_word_embeddings=tied)
    model = transformers.GPT2LMHeadModel(config)
    names = tuple(name for name, _ in model.named_parameters())
    values = [np.array([1, 2, 3])]
    data = SimpleNamespace(items=SimpleNamespace(values=lambda name: values), lengths=np.array([3]))
    data.batch = lambda indices: SimpleNamespace(inputs={"input_ids": torch.tensor([[1, 2, 3]])})
    prepared: Any = SimpleNamespace(sets={"train": data}, processor=None, task=SimpleNamespace(generates=True))
    recipe = recipe_from({"data": {"path": "none"}})
    told = list[str]()
    assert narrowed(prepared, Assembled(recipe, model, (), strategy("full"), (Group(0, names),)), told.append) is None
    assert len(told) == 1 and why in told[0]


def test_rates_of_dropout_hold_in_every_thread(tmp_path: Path) -> None:
    job = job_of(tmp_path, **options(strategy="freeze(2)", regularize=["dropout(0.25)"], threads=2, batch_size=16))
    loop = job.loop()
    assert loop.learner.copies
    for model in (loop.learner.model, *loop.learner.copies):
        assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("optim", ["adamw", "sgd", "adam"])
def test_a_step_shared_by_threads_is_the_step_of_one(optim: str) -> None:
    stepped = []
    for workers in (None, Workers(2, 2)):
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(600, 600) for _ in range(3)))
        names = [name for name, _ in model.named_parameters()]
        stages = tuple(Stage(f"block {i}", tuple(names[2 * i : 2 * i + 2]), (str(i),)) for i in range(3))
        masters, made = Masters(model, torch.bfloat16), strategy("full")
        optimizer = Optimization(optim, 1e-2).build(masters.named, made.groups(stages))
        learner = Learner(model, stages, made, made.groups(stages), masters, optimizer, Schedule("constant", 9), 1.0)
        learner.workers = workers
        learner.open(0)
        norms = []
        for step in range(3):
            for _ in range(2):
                gradients = [torch.randn_like(p) for p in masters.learning]
                masters.add(gradients, workers)
            norms.append(learner.step(step, 2.0)[0])
        stepped.append((norms, {n: p.detach().clone() for n, p in masters.named.items()}, state_tensors(optimizer)))
    (one_norms, one, one_state), (norms, other, state) = stepped
    assert norms == one_norms
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(one_state[name], state[name]) for name in one_state)
    sizes = [torch.empty(n * 100_000) for n in (1, 5, 3, 7, 2)]
    dealt = shares(sizes, 2)
    assert sorted(place for places in dealt for place in places) == list(range(5))
    assert abs(sum(sizes[i].numel() for i in dealt[0]) - sum(sizes[i].numel() for i in dealt[1])) <= 200_000
