"""Blocks without padding: the same answers and gradients from fewer rows; what is not known is left alone."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from families import FAMILIES, LAYERS, SENTENCES, folder_of, inputs_of, model_of
from test_last import gradients
from thawline.data.batch import even_batches
from thawline.memory import KERNEL_CACHES, bound_kernels
from thawline.models.last import FirstOnly
from thawline.models.unpadded import MOST, Unpadded, computed
from thawline.run.api import recipe_for
from thawline.run.assemble import assemble
from thawline.run.carry_out import Job, device_of
from thawline.run.folder import RunFolder
from thawline.run.prepare import prepare

KNOWN = ("bert", "roberta", "electra", "distilbert")
UNLIKE = [SENTENCES[3], SENTENCES[2], *["Good."] * 6]


def unlike(name: str) -> dict[str, torch.Tensor]:
    inputs = inputs_of(name, UNLIKE)
    mask = inputs["attention_mask"]
    assert int(mask.sum()) < MOST * mask.numel()
    return inputs


def rows_of(model: Any, inputs: dict[str, torch.Tensor]) -> list[int]:
    """Return how many rows the products after attention had, a number for each block."""
    found, hooks = list[int](), []
    for name, module in model.named_modules():
        if name.endswith(("intermediate.dense", "ffn.lin1")):
            hooks.append(module.register_forward_hook(lambda module, given, out: found.append(out.shape[:-1].numel())))
    model(**inputs)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("first", [False, True], ids=["whole", "first"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", KNOWN)
def test_answers_and_gradients_stay_as_they_are(name: str, attention: str, first: bool) -> None:
    model, inputs = model_of(name), unlike(name)
    model.set_attn_implementation(attention)
    exact = gradients(model, inputs)
    last = FirstOnly(model, lambda: model(**inputs).logits) if first else None
    padding = Unpadded(model, lambda: model(**inputs).logits)
    assert len(padding.blocks) == sum(type(module).__name__.startswith("Unpadded") for module in model.modules()) > 0
    assert len(padding.blocks) == model.config.num_hidden_layers - first
    ours = gradients(model, inputs)
    assert ours.keys() == exact.keys()
    largest = max(float(gradient.abs().max()) for gradient in exact.values())
    for key, gradient in ours.items():
        assert torch.allclose(gradient, exact[key], rtol=1e-4, atol=1e-6 * largest), key
    whole = inputs["attention_mask"].numel()
    real = computed(int(inputs["attention_mask"].sum()), whole)
    blocks = len(padding.blocks)
    assert rows_of(model, inputs)[:blocks] == [real] * blocks and real < whole
    with torch.no_grad():
        assert rows_of(model, inputs)[:blocks] == [whole] * blocks
    padding.restore()
    assert rows_of(model, inputs)[:blocks] == [whole] * blocks
    if last is not None:
        last.restore()
    assert [type(module) for module in model.modules()] == [type(module) for module in model_of(name).modules()]


@pytest.mark.parametrize("name", KNOWN)
def test_without_padding_or_gradients_the_bits_are_the_same(name: str) -> None:
    model = model_of(name).eval()
    even = {key: value[:1] for key, value in inputs_of(name, UNLIKE).items()}
    with torch.no_grad():
        before = model(**unlike(name)).logits
    one = model(**even).logits
    assert Unpadded(model, lambda: model(**unlike(name)).logits).blocks
    with torch.no_grad():
        assert torch.equal(model(**unlike(name)).logits, before)
    assert torch.equal(model(**even).logits, one)


def test_every_position_answers_as_before() -> None:
    model, inputs = transformers.BertForTokenClassification(model_of("bert").config).eval(), unlike("bert")
    real = inputs["attention_mask"].bool()
    before = model(**inputs).logits.detach()
    assert Unpadded(model, lambda: model(**inputs).logits[real]).blocks
    assert torch.allclose(model(**inputs).logits[real], before[real], atol=1e-6)


def test_heads_that_read_padding_are_left_alone() -> None:
    model, inputs = model_of("bert"), unlike("bert")
    assert not Unpadded(model, lambda: model.bert(**inputs).last_hidden_state.mean(1)).blocks


def test_decoders_are_left_alone() -> None:
    config = transformers.BertConfig(**{**model_of("bert").config.to_dict(), "is_decoder": True})
    model, inputs = transformers.BertLMHeadModel(config), unlike("bert")
    assert not Unpadded(model, lambda: model(**inputs).logits).blocks


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(KNOWN)))
def test_other_families_are_left_alone(name: str) -> None:
    model, inputs = model_of(name), inputs_of(name)
    kinds = [type(module) for module in model.modules()]
    Unpadded(model, lambda: model(**inputs).logits)
    assert [type(module) for module in model.modules()] == kinds or model.config.model_type in (
        "xlm-roberta",
        "camembert",
        "ernie",
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("most", [3, 32])
def test_even_batches_hold_every_example_once_and_like_sums(workers: int, most: int) -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 32)
    parts = even_batches(lengths, workers, max_examples=most)
    assert sorted(np.concatenate(parts).tolist()) == list(range(32))
    assert len(parts) % workers == 0 or most == 3
    assert max(map(len, parts)) <= most
    sums = [int(lengths[part].sum()) for part in parts]
    assert max(sums) - min(sums) <= 2 * lengths.max()
    assert even_batches(np.array([5]), workers, max_examples=most)[0].tolist() == [0]


def job_over(data: Any, model: Any, folder: Path, *, train: dict[str, Any] | None = None, **more: Any) -> Job:
    recipe = recipe_for(data, model=model, train={"max_steps": 2, "batch_size": 8, **(train or {})}, **more)
    prepared = prepare(recipe, lambda text: None)
    parts = assemble(prepared, lambda text: None)
    return Job(prepared, parts, RunFolder(folder), device_of(parts.recipe), print, progress=False, begun=0.0)


def test_texts_and_words_are_learned_without_padding(tmp_path: Path) -> None:
    texts = [" ".join([f"film{n}"] + ["good"] * (5 * (n % 8 == 0))) for n in range(40)]
    tags = [{"tokens": text.split(), "ner_tags": ["B-a", *["O"] * (len(text.split()) - 1)]} for text in texts]
    for name, data in {"texts": (texts, ["a", "b"] * 20), "words": tags}.items():
        job = job_over(data, folder_of("bert"), tmp_path / name)
        loop = job.loop()
        assert loop.gradients.order.shapes.real and len(job.spared.padding.blocks) >= LAYERS - 1
        job.workers.close()


@pytest.mark.parametrize(("tiles", "order"), [(True, "random"), (True, "group_by_length"), (False, "random")])
def test_a_run_pads_lengths_as_its_processor_likes(
    tiles: bool, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": tiles})
    texts = [f"film{n} " + " ".join(["good"] * (17 + n % 8)) for n in range(40)]
    train = {"train_sampling_strategy": order, "bf16": True}  # what auto finds is the processor's own
    job = job_over((texts, ["a", "b"] * 20), folder_of("bert"), tmp_path / "run", train=train)
    loop = job.loop()
    gradients, data = loop.gradients, job.prepared.sets["train"]
    shown = {gradients.batch(data, np.array([n]), hollow=False).inputs["input_ids"].shape[1] for n in range(24)}
    job.workers.close()
    # 27 is the longest.
    assert shown == ({24, 27} if tiles and order == "random" else {20, 22, 24, 26, 27})


@pytest.mark.parametrize(("tiles", "by_length", "kept"), [(True, False, "512"), (True, True, "64"), (False, False, "64")])
def test_kernels_are_kept_where_they_are_dear(tiles: bool, by_length: bool, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": tiles})
    for name in KERNEL_CACHES:
        monkeypatch.delenv(name, raising=False)
    bound_kernels(by_length=by_length)
    bound_kernels()  # what was said first holds, as in oneDNN
    assert [os.environ[name] for name in KERNEL_CACHES] == [kept, "64"]
