"""Adapters and biases: they learn beside weights that stay as they are, and what is saved is the plain model."""

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import thawline as tl
from families import MEDIA, folder_of, inputs_of, media_inputs, medium_of, model_of
from test_resume import begin, outcome
from test_training import assembled, options, run, silent, table
from thawline.errors import ModelError, UserError
from thawline.models.adapters import has_adapters, is_adapter, take_out
from thawline.models.load import load_config, load_model, quiet
from thawline.models.stages import Stages, extended, find_stages, marked
from thawline.recipe import recipe_from
from thawline.strategies.base import Groups, Strategy, strategy
from thawline.testing import check_strategy
from thawline.train.masters import Masters

KINDS = ["bert", "gpt2", "llama", "distilbert", "vit", "whisper"]
OTHER = {"resnet": "lora(r=2, target=[convolution])", "swin": "lora(r=2, target=attention)", "deberta-v2": "lora(r=2)"}


def made(name: str) -> tuple[Any, dict[str, Tensor], str]:
    """A tiny model, a batch for it, and the transformers class that loads it."""
    if name in MEDIA:
        return medium_of(name), media_inputs(name), MEDIA[name].head
    return model_of(name), inputs_of(name), "AutoModelForSequenceClassification"


def adapted(spec: str, model: Any, inputs: dict[str, Tensor]) -> tuple[Strategy, Stages, Groups]:
    """Put adapters into a model whose head is new, and let everything that learns be something else than at first."""
    one, found = strategy(spec), find_stages(model, inputs)
    stages = marked(found, found[-1].parameters)
    assert one.prepare is not None
    one.prepare(model, stages)
    stages = extended(stages, model)
    groups, named = one.groups(stages), dict(model.named_parameters())
    torch.manual_seed(7)
    with torch.no_grad():
        for group in groups:
            for name in group.parameters:
                named[name].add_(torch.randn_like(named[name]) * 0.1)
    return one, stages, groups


@torch.no_grad()
def answers(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(**inputs).logits
    return found


@pytest.mark.parametrize("name", [*KINDS, *OTHER])
def test_what_is_saved_is_a_plain_model_that_answers_the_same(name: str, tmp_path: Path) -> None:
    model, inputs, auto = made(name)
    names, before = list(model.state_dict()), {n: p.clone() for n, p in model.named_parameters()}
    plain = answers(model, inputs)
    one, stages, groups = adapted(OTHER.get(name, "lora(r=4)"), model, inputs)
    learned = {name for group in groups for name in group.parameters}
    assert len(groups) == len(stages) - 1 and set(stages[-1].parameters) <= learned
    for n, p in model.named_parameters():
        if n not in learned:
            assert torch.equal(p, before[n.replace(".base_layer", "")]), n
    unmerged = answers(model, inputs)
    assert (unmerged - plain).abs().max() > 1e-3
    assert one.finish is not None
    one.finish(model, groups, tmp_path)
    assert list(model.state_dict()) == names and not has_adapters(model)
    with quiet():
        model.save_pretrained(tmp_path)
        again, info = getattr(transformers, auto).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert not any("peft" in type(module).__module__ for module in again.modules())
    for found in (model, again):
        torch.testing.assert_close(answers(found, inputs), unmerged, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # which peft asks for
@pytest.mark.parametrize("name", KINDS)
def test_adapters_kept_apart_are_put_in_by_transformers_and_by_peft(name: str, tmp_path: Path) -> None:
    import peft

    model, inputs, auto = made(name)
    base = copy.deepcopy(model)
    one, stages, groups = adapted("lora(r=4, merge=false)", model, inputs)
    trained = answers(model, inputs)
    assert one.finish is not None
    one.finish(model, groups, tmp_path)
    with quiet():
        model.save_pretrained(tmp_path)
        by_transformers = getattr(transformers, auto).from_pretrained(tmp_path)
        loaded = load_model(str(tmp_path), auto, load_config(str(tmp_path)), seed=0)
    below = {name for stage in stages[:-1] for name in stage.parameters}
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, saved[n]) for n, tensor in base.state_dict().items() if n in below and n in saved)
    by_peft = peft.PeftModel.from_pretrained(base, str(tmp_path))  # the head comes with them
    assert has_adapters(by_transformers) and not has_adapters(loaded.model)
    assert any("merged" in note for note in loaded.notes) and not loaded.anew
    assert list(loaded.model.state_dict()) == list(model.state_dict())
    for found in (by_transformers, by_peft, loaded.model):
        torch.testing.assert_close(answers(found, inputs), trained, rtol=0, atol=1e-5)


def test_adapters_are_not_passed_over_where_peft_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, auto = made("bert")
    one, _, groups = adapted("lora(r=4, merge=false)", model, inputs)
    assert one.finish is not None and one.prepare is not None
    one.finish(model, groups, tmp_path)
    with quiet():
        model.save_pretrained(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr("thawline.models.adapters.find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(UserError, match="peft, which is not installed; type: pip install peft"):
        load_model(str(tmp_path), auto, load_config(str(tmp_path)), seed=0)
    with pytest.raises(UserError, match="Adapters are made by peft, which is not installed"):
        one.prepare(model, find_stages(model, inputs))
    assert strategy("lora(r=16)").spec == "lora(r=16)"  # a recipe can be read


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("spec", ["lora(r=2)", "gradual(lora(r=2, top=0.5), until=0.5)", "bitfit", "bitfit(top=2)"])
def test_what_is_frozen_stays_as_it_was_bit_for_bit(spec: str, bf16: bool, tmp_path: Path) -> None:
    _, parts, loop = assembled(tmp_path, strategy=spec, bf16=bf16, epochs=1)
    masters, model = loop.learner.masters, parts.model
    learned = {name for group in parts.groups for name in group.parameters}
    before = {name: master.detach().clone() for name, master in masters.named.items()}
    seen = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert (next(model.parameters()).dtype == torch.bfloat16) is bf16
    loop.run()
    changed = {name for name, master in masters.named.items() if not torch.equal(master, before[name])}
    assert changed == learned
    assert all(torch.equal(p, seen[name]) for name, p in model.named_parameters() if name not in learned)
    upper = {"lora(r=2)": 1, "bitfit": 1}.get(spec, 3)
    assert {group.stage for group in parts.groups} == set(range(upper, len(parts.stages)))
    assert loop.learner.thaw_line == upper
    kept = load_file(next((tmp_path / "checkpoints").glob("step-*/model.safetensors")))
    assert set(kept) == learned
    state = load_file(next((tmp_path / "checkpoints").glob("step-*/optimizer.safetensors")))
    assert {name.rpartition("/")[0] for name in state} == learned


def test_a_run_saves_a_plain_model(tmp_path: Path) -> None:
    run(tmp_path / "run", strategy="layerwise(lora(r=2, dropout=0.1), decay=0.9)", epochs=1)
    saved, base = (
        load_file(tmp_path / "run" / "model" / "model.safetensors"),
        load_file(folder_of("bert") / "model.safetensors"),
    )
    assert set(saved) == {*(f"bert.{name}" for name in base), "classifier.weight", "classifier.bias"}
    changed = {name for name, tensor in base.items() if not torch.equal(saved[f"bert.{name}"], tensor)}
    assert len(changed) == 4 * 6 + 2  # the layers of four blocks, and the pooler, which belongs to the head
    assert all((".layer." in name and name.endswith("weight")) or "pooler" in name for name in changed)
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    rates = next(line["learning_rates"] for line in lines if line["kind"] == "step")
    assert list(rates) == ["1", "2", "3", "4", "5"] and rates["4"] == pytest.approx(0.9 * rates["5"])


def test_the_seed_draws_the_adapters(tmp_path: Path) -> None:
    def drawn(seed: int) -> list[Tensor]:
        _, parts, _ = assembled(tmp_path, strategy="lora(r=2)", seed=seed)
        return [parameter for name, parameter in parts.model.named_parameters() if ".lora_A." in name]

    one, again, other = drawn(3), drawn(3), drawn(4)
    assert len(one) == 4 * 6 and all(map(torch.equal, one, again)) and not any(map(torch.equal, one, other))


def test_a_run_keeps_adapters_apart_and_goes_on_from_them(tmp_path: Path) -> None:
    run(tmp_path / "apart", strategy="lora(r=2, merge=false)", epochs=1)
    model = tmp_path / "apart" / "model"
    assert (model / "adapter_model.safetensors").stat().st_size < (model / "model.safetensors").stat().st_size / 2
    assert json.loads((model / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder_of("bert"))
    told: list[str] = []
    tl.finetune(
        table(), say=told.append, progress=False, output=str(tmp_path / "on"), **options(model=str(model), strategy="lora(r=2)")
    )
    assert any("were merged into them" in text for text in told)
    head, on = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("apart", "on"))
    assert torch.equal(head["classifier.weight"], on["classifier.weight"])  # it is not new any more


def test_head_learns_where_it_is_new_or_where_that_is_said() -> None:
    model = model_of("bert")
    stages = find_stages(model, inputs_of("bert"))
    top = len(stages) - 1
    new = marked(stages, ["classifier.weight", "classifier.bias"])
    for spec, where, learns in [
        ("lora(r=2)", stages, False),
        ("lora(r=2)", new, True),
        ("lora(r=2, head=false)", new, False),
        ("lora(r=2, head=true)", stages, True),
        ("bitfit", new, True),
        ("bitfit(head=false)", new, False),
    ]:
        last = strategy(spec).groups(where)[-1:]
        assert (bool(last) and last[0].stage == top and last[0].parameters == stages[top].parameters) is learns
    assert [stage.anew for stage in new] == [()] * top + [("classifier.weight", "classifier.bias")]


@pytest.mark.parametrize(
    ("top", "lowest"), [("1.0", 1), ("0.5", 3), ("0.6", 3), ("0.75", 2), ("0.01", 4), ("1", 4), ("3", 2), ("4", 1)]
)
def test_top_counts_blocks_or_is_their_share(top: str, lowest: int) -> None:
    model = model_of("bert")
    stages = find_stages(model, inputs_of("bert"))
    assert min(group.stage for group in strategy(f"bitfit(top={top})").groups(stages)) == lowest
    one = strategy(f"lora(r=2, top={top})")
    assert one.prepare is not None
    one.prepare(model, stages)
    assert [group.stage for group in one.groups(extended(stages, model))] == list(range(lowest, 5))
    adapters = [name for name, _ in model.named_parameters() if is_adapter(name)]
    assert len(adapters) == (5 - lowest) * 6 * 2


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "distilbert"])
def test_targets(family: str) -> None:
    def layers(target: str) -> set[str]:
        model = model_of(family)
        check_strategy(f"lora(r=1, target={target})", find_stages(model, inputs_of(family)), model)
        one = strategy(f"lora(r=1, target={target})")
        assert one.prepare is not None
        one.prepare(model, find_stages(model, inputs_of(family)))
        names = {name.split(".lora_")[0] for name, _ in model.named_parameters() if is_adapter(name)}
        return {name.split(".")[-1] for name in names if ".0." in name or ".0" in name}

    attention = {
        "bert": {"query", "key", "value", "dense"},
        "gpt2": {"c_attn", "c_proj"},
        "llama": {"q_proj", "k_proj", "v_proj", "o_proj"},
        "distilbert": {"q_lin", "k_lin", "v_lin", "out_lin"},
    }[family]
    fed = {
        "bert": set(),
        "gpt2": {"c_fc"},
        "llama": {"gate_proj", "up_proj", "down_proj"},
        "distilbert": {"lin1", "lin2"},
    }[family]
    assert layers("attention") == attention
    assert layers("'all-linear'") == attention | fed
    assert layers(f"[{min(attention)}, {max(attention)}]") == {min(attention), max(attention)}


def test_upper_half_is_trained_from_what_is_stored_of_the_lower(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"strategy": "lora(r=2, top=0.5)", "epochs": 2}
    cache = {"path": str(tmp_path / "cache")}
    stored = run(tmp_path / "stored", **wanted, store={"features": True, **cache})
    bare = run(tmp_path / "bare", **wanted, store={"features": False})
    assert outcome(tmp_path / "stored") == outcome(tmp_path / "bare")
    prefix = stored.metrics["train"]["prefix"]
    assert (prefix["depths"], prefix["stored"]) == ([3], [3]) and bare.metrics["train"]["prefix"]["stored"] == []
    assert {line["thaw_line"] for line in outcome(tmp_path / "stored")["history"] if line["kind"] == "step"} == {3}
    again = run(tmp_path / "freeze", strategy="freeze(0.5)", epochs=1, store={"features": True, **cache})
    assert again.metrics["train"]["prefix"]["examples_computed"] == 0  # since the lower half is the same


def test_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    wanted = {"strategy": "gradual(lora(r=2, dropout=0.1), until=0.5)", "checkpoint_minutes": 1e-6}
    run(tmp_path / "whole", **wanted)
    process = begin(tmp_path / "run", 7, **wanted)
    process.kill()
    process.communicate()
    tl.resume(tmp_path / "run", say=silent, progress=False)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_ranks_are_varied_over_one_preparation(tmp_path: Path) -> None:
    grid = {"strategy": ["lora(r=1)", "lora(r=4, top=0.5)", "bitfit"]}
    tl.finetune(table(), say=silent, progress=False, output=str(tmp_path / "run"), **options(epochs=1, vary=grid))
    table_of = json.loads((tmp_path / "run" / "trials.json").read_text())
    assert [trial["state"] for trial in table_of["trials"]] == ["finished"] * 3
    sizes = [
        sum(t.numel() for n, t in load_file(next(path.glob("checkpoints/*/model.safetensors"))).items() if is_adapter(n))
        for path in sorted((tmp_path / "run" / "trials").iterdir())
    ]
    assert sizes[1] == 2 * sizes[0] > 0 == sizes[2]  # four times the rank in half of the blocks
    run(tmp_path / "alone", strategy=grid["strategy"][int(table_of["best"]) - 1], epochs=1)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "alone"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_plan_counts_what_learns() -> None:
    plan = tl.plan(table(), say=silent, **options(strategy="lora(r=2, top=2)", lr="auto", store={"features": True}))
    learning = [stage["learning"] for stage in plan["stages"]]
    block = 2 * (4 * (32 + 32) + 2 * (32 + 64))  # r(in + out) for query, key, value, dense, and the two of the feed-forward
    assert learning[1:5] == [0, 0, block, block] and learning[0] == 0
    assert learning[5] == plan["stages"][5]["parameters"] == 33 * 32 + 33 * 2
    assert plan["stages"][4]["parameters"] - plan["stages"][1]["parameters"] == block
    assert plan["stages"][5]["learning_rates"] == [5e-3]  # ten times what suits full
    assert [store["depth"] for store in plan["store"]] == [3]


def test_masters_hold_no_second_copy_of_what_never_learns() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    for name, parameter in model.named_parameters():
        if name.startswith(("0", "2")):
            parameter.data = parameter.data.bfloat16().float()
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    masters = Masters(model, torch.bfloat16, {"2.weight", "2.bias"})
    kinds = {name: master.dtype for name, master in masters.named.items()}
    assert {name for name, kind in kinds.items() if kind == torch.bfloat16} == {"0.weight", "0.bias"}
    masters.publish()
    masters.restore()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, before[name])


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("lora", "lora(r=16)"),
        ("lora(8)", "lora(r=8)"),
        ("lora(r=8, alpha=16, merge=true, head=auto, target='all-linear')", "lora(r=8, alpha=16)"),
        ("lora(target=attention)", "lora(r=16, target='attention')"),
        ("lora(target=[query, value], top=2)", "lora(r=16, target=['query', 'value'], top=2)"),
        ("lora(top=1, dropout=0.0)", "lora(r=16, top=1)"),  # one block is another thing than all of them
        ("bitfit()", "bitfit"),
        ("bitfit(top=1)", "bitfit(top=1)"),
        ("bitfit(top=1.0)", "bitfit"),
        ("gradual(bitfit(top=0.5, head=auto))", "gradual(bitfit(top=0.5), until=0.5)"),
    ],
)
def test_call_forms(written: str, spec: str) -> None:
    assert strategy(written).spec == spec == strategy(spec).spec
    assert recipe_from({"data": "reviews.csv"}, [f"strategy={written}"]).strategy == spec
    assert tl.lora(r=8, alpha=16).spec == "lora(r=8, alpha=16)" and tl.bitfit().spec == "bitfit"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lora(r=0)", r"lora\(r=0\) is out of range; expected a whole number of at least 1, such as 16"),
        ("lora(r=2.5)", "expected a whole number"),
        ("lora(rank=8)", r"lora has no argument 'rank'. It is lora\(r=16"),
        ("lora(alpha=0)", "expected a number above 0"),
        ("lora(dropout=1)", "expected a rate from 0 to below 1"),
        ("lora(target=[])", r"lora\(target=\[\]\) is out of range; expected 'all-linear', 'attention' or a list"),
        ("lora(target=3)", "expected 'all-linear'"),
        ("lora(merge=1)", "expected true or false"),
        ("lora(head=maybe)", r"lora\(head='maybe'\) is out of range; expected true, false or 'auto'"),
        ("lora(top=0)", "expected a number of blocks such as 4, or a share above 0 up to 1.0"),
        ("bitfit(top=1.5)", r"bitfit\(top=1.5\) is out of range"),
        ("gradual(loar)", "no strategy called 'loar', did you mean 'lora'?"),
    ],
)
def test_mistakes_are_told(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        strategy(spec)


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("bert", "lora(target=[querry])", r"no layer in those blocks is called 'querry', did you mean 'query'\?"),
        ("bert", "lora(target=dropout)", "BertForSequenceClassification cannot be given adapters: Target module Dropout"),
        ("bert", "lora(top=9)", r"lora\(top=9\) asks for more blocks than the 4 of this model"),
        ("resnet", "lora", r"finds no layer in the blocks of ResNetForImageClassification; .* target=\[convolution\]"),
        ("xlnet", "lora(target=attention)", r"target=\[layer_1, layer_2, rel_attn\]"),
    ],
)
def test_what_does_not_fit_the_model_is_told(name: str, spec: str, words: str) -> None:
    model, inputs, _ = made(name)
    one = strategy(spec)
    assert one.prepare is not None
    with pytest.raises((UserError, ModelError), match=words):
        one.prepare(model, find_stages(model, inputs))


def test_nothing_of_a_model_is_shared_but_what_it_was_before() -> None:
    """Adapters of a trial that is only looked at leave the weights of the others alone."""
    from thawline.thaw.replicas import sharing

    model = model_of("bert")
    other, stages = sharing(model), find_stages(model, inputs_of("bert"))
    adapted("lora(r=2)", other, inputs_of("bert"))
    assert find_stages(model, inputs_of("bert")) == stages and not has_adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    take_out(other, merge=False)
    assert all(one is two for one, two in zip(model.parameters(), other.parameters(), strict=True))
