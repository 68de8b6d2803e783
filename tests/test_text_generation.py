"""Text generation: the contract, what of a conversation is learned, packing, and whole runs that plain transformers repeats."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

import thawline as tl
from families import SENTENCES, tokenizer_of
from stored import stored_of
from test_plan import job_of
from thawline.errors import DataError, UserError
from thawline.evaluate.predict import measure, spread
from thawline.models.chat import ensure_template
from thawline.models.load import quiet
from thawline.models.packing import sees_through
from thawline.tasks.base import own_options
from thawline.tasks.likelihood import token_losses
from thawline.tasks.text_generation import GenerationOptions, TextGeneration
from thawline.testing import check_task
from thawline.testing.sums import supervised, whole
from thawline.train.loop import untold

POSITIONS = 160
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": POSITIONS},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": POSITIONS,
    },
    "opt": {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 32},
}
SIZES["qwen2"] = {**SIZES["llama"], "tie_word_embeddings": True}
_WORDS = " ".join(SENTENCES).split()


def conversation(number: int) -> list[dict[str, str]]:
    """Of one question and answer, or two, by number; no two alike."""
    turns = []
    for turn in range(1 + number % 2):
        start = 3 * number + 7 * turn
        turns.append({"role": "user", "content": " ".join([*_WORDS[start % 40 :][: 1 + start % 4], str(number)])})
        turns.append({"role": "assistant", "content": " ".join(_WORDS[5 * number % 50 :][: 1 + number % 2])})
    return turns


EXAMPLES = [{"id": f"e{i}", "messages": conversation(i), "label": conversation(i)[-1]["content"]} for i in range(16)]


def task_of(family: str = "qwen2", max_length: int = POSITIONS, **options: Any) -> TextGeneration:
    tokenizer = tokenizer_of("gpt2" if family == "opt" else family)
    ensure_template(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    return TextGeneration(tokenizer, max_length=max_length, options=GenerationOptions(**{"max_new_tokens": 16, **options}))


def model_of(task: TextGeneration, family: str = "qwen2") -> Any:
    tokenizer = task.tokenizer
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = transformers.AutoConfig.for_model(family, vocab_size=len(tokenizer), **special, **SIZES[family])
    task.configure(config)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    task.start(model, None)
    return model


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_contract(family: str, *, packing: bool) -> None:
    """With packing it says that nothing leaks: no example's loss or answer depends on its mates."""
    task = task_of(family, packing=packing)
    check_task(task, model_of(task, family), EXAMPLES, learning_rate=1e-2)


@pytest.mark.parametrize("packing", [False, True])
def test_loss_is_that_of_transformers_on_answers_alone(*, packing: bool) -> None:
    task = task_of(packing=packing)
    model = model_of(task)
    total = count = 0.0
    for item in task.encode(EXAMPLES):
        ids, learned = torch.tensor(item["input_ids"])[None].long(), torch.tensor(item["learned"]).bool()[None]
        assert learned[0, -1] and ids[0, -1] == task.tokenizer.eos_token_id == task.tokenizer.pad_token_id
        logits = model(ids).logits[0, :-1]
        labels = torch.where(learned, ids, -100)[0, 1:]
        total += float(functional.cross_entropy(logits, labels, reduction="sum").detach())
        count += int(learned.sum())
    batch = whole(supervised(task, EXAMPLES))
    loss = task.loss(task.forward(model, batch), batch)
    assert (float(loss.total.detach()), float(loss.weight)) == (pytest.approx(total), count)
    assert loss.outputs.logits.shape == (count, len(task.tokenizer))
    predicted = task.decode(loss.outputs, batch)
    assert sum(one["loss"] for one in predicted) == pytest.approx(total)
    assert [one["tokens"] for one in predicted] == [int(item["learned"].sum()) for item in task.encode(EXAMPLES)]
    bare = task.loss(model(**batch.inputs, use_cache=False), batch)  # of a model that gives all logits
    assert float(bare.total.detach()) == pytest.approx(total)
    assert measure(model, supervised(task, EXAMPLES)) == pytest.approx(
        {"loss": total / count, "perplexity": np.exp(total / count)}
    )


def test_packing_saves_padding_and_is_refused_where_it_leaks() -> None:
    packed, plain = (whole(supervised(task_of(packing=packing), EXAMPLES)).inputs for packing in (True, False))
    assert packed["input_ids"].numel() < plain["input_ids"].numel()
    assert "attention_mask" not in packed and (packed["position_ids"] == 0).sum() >= len(EXAMPLES)
    task = task_of("opt")
    assert sees_through(model_of(task, "opt"))
    with pytest.raises(UserError, match="OPTForCausalLM conversations of one row see one another"):
        model_of(task_of("opt", packing=True), "opt")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_token_losses_are_those_of_torch(kind: torch.dtype, smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels, above = torch.randn(600, 50).to(kind), torch.randint(50, (600,)), torch.rand(600)
    found = []
    for losses in (
        lambda own: token_losses(own, labels, smoothing),
        lambda own: functional.cross_entropy(own.float(), labels, reduction="none", label_smoothing=smoothing),
    ):
        own = logits.clone().requires_grad_()
        values = losses(own)
        (values * above).sum().backward()
        found.append((values.detach(), own.grad))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
    assert found[0][1].dtype == kind


def test_what_is_cut_is_counted_and_stops_training(tmp_path: Path) -> None:
    path, task = chats(tmp_path), {"options": {"max_lost": 0.0}}
    said: list[str] = []
    with pytest.raises(DataError, match=r"cuts .* conversations in train and loses .* of the tokens to learn.*max_lost"):
        train(path, say=said.append, task=task, data={"max_length": 20})
    assert any("conversations in test" in line for line in said)
    item = task_of(max_length=12).encode(EXAMPLES[1:2])[0]
    whole_item = task_of().encode(EXAMPLES[1:2])[0]
    assert item["learned"].sum() + item["lost"][0] == whole_item["learned"].sum()
    assert len(item["input_ids"]) == 12 < item["full_length"] == len(whole_item["input_ids"])
    assert item["prompt"].tolist() == whole_item["prompt"].tolist()


def test_conversations_without_answers(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"{word} {i}"}) for i, word in enumerate(_WORDS[:40])))
    with pytest.raises(DataError, match="None of the 28 conversations in train has an answer"):
        train(path)
    run, said = train(chats(tmp_path, 40)), list[str]()
    assert run.evaluate(path, say=said.append).section == {"n": 40}
    assert any("40 examples have nothing to be measured by" in line for line in said)


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match=r"task.options.max_tokens: there is no such option, did you mean 'max_new_tokens'\?"):
        own_options(TextGeneration, {"max_tokens": 3})
    with pytest.raises(UserError, match=r"task.options.max_new_tokens: is 0; input should be greater than or equal to 1"):
        own_options(TextGeneration, {"max_new_tokens": 0})
    with pytest.raises(UserError, match=r"task.options.generation: there is no 'temprature', did you mean 'temperature'\?"):
        model_of(task_of(generation={"temprature": 0.5}))
    task = task_of()
    task.tokenizer.chat_template = "{% if messages | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}x</s>"
    with pytest.raises(DataError, match=r"Example e3: .*one at a time"):
        task.encode(EXAMPLES[3:4])


def test_a_prompt_without_room_for_an_answer_gets_none() -> None:
    task = task_of()
    model = model_of(task)
    long = {**EXAMPLES[0], "messages": [{"role": "user", "content": "x" * POSITIONS}]}
    batch = task.collate(task.encode([long, EXAMPLES[1]]))
    with torch.no_grad():
        first, second = task.decode(task.answer(model, batch, task.forward(model, batch)), batch)
    assert "text" not in first and "loss" not in first and "text" in second


def test_examples_answered_are_spread() -> None:
    assert spread(np.ones(9, bool), 3).nonzero()[0].tolist() == [0, 4, 8]
    assert not spread([False, False], 3).any() and spread([True, True], 5).all()


def chats(folder: Path, count: int = 60) -> Path:
    rows = [
        {"instruction": f"{_WORDS[i % 50]} {i}", "input": "", "output": " ".join(_WORDS[7 * i % 50 :][: 1 + i % 2])}
        for i in range(count)
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "data.jsonl"


@cache
def _checkpoint() -> str:
    import tempfile

    folder, task = tempfile.mkdtemp(prefix="thawline-chat-"), task_of()
    model = model_of(task)
    task.tokenizer.chat_template, task.tokenizer.model_max_length = None, POSITIONS
    model.generation_config = transformers.GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9)  # as many have it
    with quiet():
        model.save_pretrained(folder)
    task.tokenizer.save_pretrained(folder)
    return folder


def train(path: Path, *, say: Callable[[str], object] = lambda text: None, **sections: Any) -> tl.Run:
    options = {"max_new_tokens": 8, **sections.pop("task", {}).get("options", {})}
    arguments = {"max_steps": 4, "batch_size": 8, "lr": 5e-3, "bf16": False, "device": "cpu", **sections.pop("train", {})}
    return tl.finetune(
        path,
        model=_checkpoint(),
        task={"name": "text-generation", "options": options},
        train=arguments,
        **{"evaluate": {"bootstrap_samples": 10}, **sections},
        output=str(path.parent / f"run{len(list(path.parent.iterdir()))}"),
        say=say,
        progress=False,
    )


def test_a_run_is_measured_beside_the_model_before_it_and_plain_transformers_repeats_it(tmp_path: Path) -> None:
    said: list[str] = []
    path = chats(tmp_path)
    run = train(path, say=said.append, task={"options": {"generate": 4}}, train={"max_steps": 30})
    test, before = run.metrics["test"], run.metrics["test"]["baseline"]["before"]
    assert test["loss"] < before["loss"] and test["perplexity"] == pytest.approx(np.exp(test["loss"]))
    assert before["loss_difference"] == pytest.approx(test["loss"] - before["loss"])
    assert {"exact_match", "rouge_l"} <= set(test) and {"exact_match", "rouge_l"} <= set(before)
    assert any("4 of 12 examples are answered in full" in line for line in said)
    kept = [json.loads(line) for line in (run.folder / "predictions" / "test.jsonl").read_text().splitlines()]
    assert sum("text" in one for one in kept) == 4 and all(one["tokens"] > 0 for one in kept)

    asked = [conversation(i)[:1] for i in range(4)]
    (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps({"messages": messages}) for messages in asked))
    predicted = run.predict(tmp_path / "asked.jsonl")
    assert all(set(one) == {"id", "text"} for one in predicted)
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": messages[0]["content"]}) for messages in asked))
    assert [one["text"] for one in run.predict(texts)] == [one["text"] for one in predicted]

    tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(run.folder / "model")
    config = model.generation_config
    assert (config.eos_token_id, config.do_sample, config.max_new_tokens) == (tokenizer.eos_token_id, False, 8)
    plain = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    for messages, one in zip(asked, predicted, strict=True):
        (answer,) = plain(messages)
        assert answer["generated_text"][-1]["content"] == one["text"]


@pytest.mark.parametrize("ending", ["jsonl", "txt"])
def test_documents_are_learned_whole_and_go_on(ending: str, tmp_path: Path) -> None:
    path, texts = tmp_path / f"texts.{ending}", [" ".join(_WORDS[i : i + 6]) for i in range(40)]
    path.write_text("\n".join(texts if ending == "txt" else [json.dumps({"text": text}) for text in texts]))
    run = train(path)
    assert set(run.metrics["test"]) >= {"loss", "perplexity"} and "rouge_l" not in run.metrics["test"]
    (one,) = run.predict([{"text": "The film is"}])
    assert one["text"] and one["tokens"] > 1


def test_conversations_say_what_is_learned_of_them(tmp_path: Path) -> None:
    """Nobody names the task."""
    train = {"max_steps": 2, "batch_size": 8, "lr": 5e-3, "bf16": False, "device": "cpu"}
    more: dict[str, Any] = {"evaluate": {"baselines": False}, "task": {"options": {"max_new_tokens": 2}}}
    output = str(tmp_path / "run")
    run = tl.finetune(
        chats(tmp_path), model=_checkpoint(), train=train, output=output, say=lambda text: None, progress=False, **more
    )
    assert run.recipe.task.name == "text-generation" and "rouge_l" in run.metrics["test"]


def test_adapters_are_merged_and_plain_transformers_answers_alike(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    run = train(chats(tmp_path), strategy="lora(r=4)", train={"max_steps": 12, "lr": 2e-2}, evaluate={"baselines": False})
    saved = run.folder / "model"
    assert not list(saved.glob("adapter*"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    assert tokenizer.chat_template == run.model.task.tokenizer.chat_template is not None
    before, after = (transformers.AutoModelForCausalLM.from_pretrained(place).state_dict() for place in (_checkpoint(), saved))
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    asked = [conversation(i)[:1] for i in range(4)]
    (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps({"messages": messages}) for messages in asked))
    plain = transformers.pipeline("text-generation", model=str(saved))
    for messages, one in zip(asked, run.predict(tmp_path / "asked.jsonl"), strict=True):
        (answer,) = plain(messages)
        assert answer["generated_text"][-1]["content"] == one["text"]


@pytest.mark.parametrize("strategy", ["head", "freeze(2)", "layerwise(full)", "gradual(full)"])
def test_strategies_come_to_the_same_with_and_without_a_store(tmp_path: Path, strategy: str) -> None:
    path = chats(tmp_path, 40)
    runs = [
        train(path, strategy=strategy, store={"features": kept}, train={"max_steps": 6}, evaluate={"baselines": False})
        for kept in (True, False)
    ]
    weights = [transformers.AutoModelForCausalLM.from_pretrained(run.folder / "model").state_dict() for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert runs[0].metrics["test"]["loss"] == runs[1].metrics["test"]["loss"]
    stored = [stored_of(run) for run in runs]
    assert stored[1] == [] and bool(stored[0]) == (strategy != "layerwise(full)")


def test_options_that_cannot_be_saved_and_metrics_that_are_not_there_are_told_before_training(tmp_path: Path) -> None:
    path = chats(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"task\.options\.generation: .*temperature.*do_sample: true"):
        train(path, task={"options": {"generation": {"temperature": 0.7}}})
    with pytest.raises(UserError, match=r"no rouge_l, since no text is generated then; .*generate_in_training: 100"):
        train(path, train={"metric": "rouge_l"})
    assert set(tmp_path.iterdir()) == before
    asked = {"options": {"generation": {"temperature": 0.7, "do_sample": True}, "generate": 2, "generate_in_training": 2}}
    assert "rouge_l" in train(path, task=asked, train={"metric": "rouge_l"}).metrics["test"]


def test_a_packed_run_comes_to_about_the_same(tmp_path: Path) -> None:
    path = chats(tmp_path, 40)
    runs = [train(path, task={"options": {"packing": packed, "generate": 0}}, strategy="freeze(1)") for packed in (True, False)]
    one, other = (run.metrics["test"]["loss"] for run in runs)
    assert one == pytest.approx(other, rel=1e-4)


def test_answers_while_training_where_asked_for(tmp_path: Path) -> None:
    run = train(chats(tmp_path), task={"options": {"generate_in_training": 2}}, train={"metric": "rouge_l"})
    lines = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]
    assert all("rouge_l" in line for line in lines if line["kind"] == "evaluation")


def test_answers_while_training_beside_a_frozen_part_in_two_threads(tmp_path: Path) -> None:
    """What writes does so with the model that a worker would replay with meanwhile; drawn answers are the same each time."""
    asked = {"generate_in_training": None, "max_new_tokens": 8, "generation": {"do_sample": True}}
    kinds = {"num_train_epochs": 1, "batch_size": 8, "per_device_eval_batch_size": 4, "seed": 0, "bf16": False}
    found = list[Any]()
    for threads in (1, 2):
        more: dict[str, Any] = {
            "train": {**kinds, "threads": threads},
            "data": {"validation_size": 0.5},
            "strategy": "freeze(1)",
        }
        home, task = tmp_path / str(threads), {"name": "text-generation", "options": asked}
        home.mkdir()
        job = job_of(home, str(chats(home, 80)), model=_checkpoint(), task=task, **more)
        loop = job.loop()
        loop.learner.open(0)
        assert loop.evaluate is not None and job.workers.count == threads
        found += [loop.evaluate(loop.learner.model, untold) for _ in range(2)]
        job.workers.close()
    assert found[0] == found[1] and found[2] == found[3]
    assert found[0]["loss"] == pytest.approx(found[2]["loss"], rel=1e-5)
