"""Replay of text models: over every family and depth, in other batches, with everything below poisoned, and what is refused."""

import doctest
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from families import FAMILIES, FURTHER, SENTENCES, inputs_of, model_of, tokenizer_of
from thawline.errors import ModelError
from thawline.models.stages import find_stages
from thawline.testing import check_stages
from thawline.thaw.replay import Replay
from thawline.thaw.verify import refusal, refusal_in_use

# In the middle of a decoder, the next block needs its hidden tensor and the encoder's output.
REFUSED = {"bart": {4}, "t5": {4}}
NAMES = [*FAMILIES, *FURTHER]


@cache
def replay_of(name: str) -> Replay:
    """A family's model with its cuts, traced on two sentences; shared, so tests put back what they change."""
    model, inputs = model_of(name), inputs_of(name, SENTENCES[:2])
    return Replay(model, find_stages(model, inputs), inputs)


def depths_of(name: str) -> list[int]:
    return [depth for depth in replay_of(name).depths if depth not in REFUSED.get(name, set())]


def padded(name: str, sentences: list[str], length: int) -> dict[str, Tensor]:
    """A batch with its padding brought to `length`."""
    inputs, tokenizer = inputs_of(name, sentences), tokenizer_of(name)
    more = length - inputs["input_ids"].shape[1]
    sides = (more, 0) if tokenizer.padding_side == "left" else (0, more)
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return {key: nn.functional.pad(value, sides, value=fill.get(key, 0)) for key, value in inputs.items()}


def logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def learned(replay: Replay, inputs: Mapping[str, Tensor], depth: int) -> tuple[Tensor, Tensor]:
    """Logits, and the gradients of all that learns above a depth, in one row."""
    named = {name: parameter for name, parameter in replay.model.named_parameters() if parameter.requires_grad}
    upper = {name for stage in replay.stages[depth:] for name in stage.parameters}
    for name, parameter in named.items():  # what is frozen computes as where nothing learns
        parameter.requires_grad_(name in upper)
    answer = replay.model(**inputs).logits
    above = [parameter for name, parameter in named.items() if name in upper]
    found = torch.autograd.grad(answer.square().sum() + answer[:, 0].sum(), above, allow_unused=True)
    for parameter in named.values():
        parameter.requires_grad_()
    return answer.detach(), torch.cat([gradient.flatten() for gradient in found if gradient is not None])


@pytest.mark.parametrize("name", NAMES)
def test_every_depth_is_verified_or_refused(name: str) -> None:
    replay, batches = replay_of(name), [inputs_of(name, SENTENCES[1:5]), inputs_of(name, SENTENCES[4:1:-1])]
    told = {depth: refusal(replay, depth, batches) for depth in replay.depths}
    assert replay.depths == tuple(range(1, len(replay.stages)))
    assert {depth for depth, sentence in told.items() if sentence} == REFUSED.get(name, set())
    assert all("needs more than one stored tensor" in sentence for sentence in told.values() if sentence)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [(32, 48, 64), None], ids=["multiples of 16", "as long as they are"])
def test_in_another_batch(name: str, lengths: tuple[int, int, int] | None) -> None:
    replay = replay_of(name)
    halves = [[*SENTENCES[:3]], [*SENTENCES[2:]]]
    mixed = [SENTENCES[4], SENTENCES[1], SENTENCES[3], SENTENCES[0]]
    given = (
        [padded(name, s, n) for s, n in zip(halves, lengths, strict=False)] if lengths else [inputs_of(name, s) for s in halves]
    )
    other = padded(name, mixed, lengths[2]) if lengths else inputs_of(name, mixed)
    stored: dict[int, dict[str, Tensor]] = {depth: {} for depth in depths_of(name)}
    for sentences, batch in zip(halves, given, strict=True):
        for depth, hidden in replay.run(batch, depths_of(name)).items():
            stored[depth] |= dict(zip(sentences, replay.rows(hidden, batch, depth), strict=True))
    for depth, rows in stored.items():
        straight = learned(replay, other, depth)
        with replay.replaying(depth, replay.joined([rows[text] for text in mixed], other, depth)):
            replayed = learned(replay, other, depth)
        for one, whole in zip(replayed, straight, strict=True):
            if lengths and name != "llama":  # padded on the left, where rotary angles round by the absolute position
                assert torch.equal(one, whole)
            assert (one - whole).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize("name", ["bert", "albert", "electra", "xlnet"])
def test_token_types_of_pairs(name: str) -> None:
    """Where the second text of a pair has a type of its own, replay has it too, and it makes a difference."""
    replay, batch = replay_of(name), inputs_of(name, SENTENCES)
    types, real = torch.zeros_like(batch["input_ids"]), batch["attention_mask"]
    types[:, types.shape[1] // 2 :] = 1
    pairs = {**batch, "token_type_ids": types * real}
    assert not torch.equal(logits(replay.model, pairs), logits(replay.model, batch))
    check_stages(replay.model, pairs, replay.stages)
    assert {refusal(replay, depth, [pairs]) for depth in replay.depths} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_without_padding_and_come_back(name: str) -> None:
    replay, batch = replay_of(name), inputs_of(name, SENTENCES)
    lengths = batch["attention_mask"].sum(1).tolist()
    for depth, hidden in replay.run(batch, depths_of(name)).items():
        rows = replay.rows(hidden.bfloat16(), batch, depth)
        assert [len(row) for row in rows] == lengths
        joined = replay.joined(rows, batch, depth)
        assert joined.dtype is torch.bfloat16 and joined.shape == hidden.shape
        assert all(torch.equal(a, b) for a, b in zip(replay.rows(joined, batch, depth), rows, strict=True)), depth
        assert joined.ne(0).any(-1).sum() == sum(lengths)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "albert", "modernbert", "xlnet", "gpt2", "llama"])
def test_weights_below_may_be_anything(name: str) -> None:
    replay, batch = Replay(model := model_of(name), find_stages(model, inputs_of(name)), inputs_of(name)), inputs_of(name)
    straight, weights = logits(model, batch), dict(model.named_parameters())
    hidden = replay.run(batch, replay.depths)
    for depth in replay.depths:
        replay.cut(depth)
    for depth in replay.depths:
        with torch.no_grad():
            for parameter in replay.stages[depth - 1].parameters:
                weights[parameter].fill_(torch.nan)
        with replay.replaying(depth, hidden[depth]):
            assert torch.equal(logits(model, batch), straight)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "xlnet", "gpt2", "bart"])
def test_dropout_above_is_that_of_a_straight_run(name: str) -> None:
    model = model_of(name, **dict.fromkeys(("hidden_dropout_prob", "resid_pdrop", "dropout"), 0.3))
    batch = inputs_of(name)
    replay = Replay(model, stages := find_stages(model, batch), batch)
    modules = dict(model.named_modules())
    for depth in (1, 2, len(stages) - 1):
        for k, stage in enumerate(stages):
            for module in stage.modules:
                modules[module].training = k >= depth
        hidden = replay.run(batch, [depth])[depth]
        torch.manual_seed(7)
        straight, left = logits(model, batch), torch.get_rng_state()
        torch.manual_seed(7)
        with replay.replaying(depth, hidden):
            assert torch.equal(logits(model, batch), straight) and torch.equal(torch.get_rng_state(), left)
        assert modules[stages[-1].modules[0]].training and not model.training
        assert depth > 1 or not torch.equal(logits(model, batch), straight)


def test_nothing_below_runs_or_learns() -> None:
    replay, batch = replay_of("bert"), inputs_of("bert")
    model, hidden = replay.model, replay.run(batch, [3])[3]
    ran: list[str] = []
    hooks = [m.register_forward_pre_hook(lambda _, __, name=n: ran.append(name)) for n, m in model.named_modules()]
    with replay.replaying(3, hidden):
        for _ in range(2):
            model(**batch).logits.sum().backward()
    for hook in hooks:
        hook.remove()
    assert ran.count("bert.encoder.layer.2.attention.self.query") == 2
    assert not any("layer.0." in name or "layer.1." in name or "embeddings." in name for name in ran)
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learned == {name for stage in replay.stages[3:] for name in stage.parameters}
    model.zero_grad(set_to_none=True)


def test_all_is_put_back() -> None:
    replay, batch = replay_of("gpt2"), inputs_of("gpt2")
    model, hidden = replay.model, replay.run(batch, [2])[2]
    straight = logits(model, batch)
    with pytest.raises(RuntimeError, match="mine"), replay.replaying(2, hidden):
        raise RuntimeError("mine")
    assert not any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(logits(model, batch), straight)


def test_what_would_not_be_true_is_left_out() -> None:
    replay, batch = replay_of("llama"), inputs_of("llama")
    assert "past_key_values" in replay.model(**batch)
    with replay.replaying(2, replay.run(batch, [2])[2]):
        output = replay.model(**batch, labels=torch.tensor([0, 1, 2]))
        assert set(output) == {"loss", "logits"}
        with pytest.raises(ModelError, match="output_hidden_states cannot be answered"):
            replay.model(**batch, output_hidden_states=True)


def test_running_on_from_a_depth() -> None:
    replay, batch = replay_of("modernbert"), inputs_of("modernbert")
    through = replay.run(batch, [1, 3, 5])
    onwards = replay.run(batch, [1, 5, 3], start=1, hidden=through[1])
    assert all(torch.equal(through[depth], onwards[depth]) for depth in through)


def test_a_depth_that_is_not_there() -> None:
    replay = replay_of("t5")
    with pytest.raises(ModelError, match="no tensor to store at depth 6; expected one of 1, 2, 3, 4, 5"):
        replay.run(inputs_of("t5"), [6])
    with pytest.raises(ModelError, match="needs more than one stored tensor"), replay.replaying(4, torch.zeros(1)):
        pass


@pytest.mark.parametrize(("name", "refused"), [("gpt2", True), ("llama", False)])
def test_padded_on_the_left(name: str, refused: bool) -> None:
    def left(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        shift = (batch["attention_mask"] == 0).sum(1)
        return {k: torch.stack([row.roll(int(n)) for row, n in zip(v, shift, strict=True)]) for k, v in batch.items()}

    model, batch = model_of(name), left(inputs_of(name))
    replay = Replay(model, find_stages(model, batch), left(inputs_of(name, SENTENCES[:2])))
    told = [refusal(replay, depth, [batch]) for depth in replay.depths]
    assert all(sentence is not None and "on its mates or its padding" in sentence for sentence in told) is refused
    assert (told == [None] * len(told)) is not refused


class Deep(nn.Module):
    """Three blocks, and a head that reads `more` than what the last of them makes."""

    def __init__(self, more: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(4, 4), nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))
        self.marks, self.head, self.more = Marks(), nn.Linear(4, 2), more

    def forward(self, x: Tensor) -> Tensor:
        marks = self.marks(x)
        x = first = self.blocks[0](self.stem(x))
        for block in self.blocks[1:]:
            x = block(x)
        return self.head(self.more(x, first, marks))


class Marks(nn.Module):
    """Tells which examples are marked: whole numbers, made from the input."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0] > 0).long()


def refused(more: Callable[[Tensor, Tensor, Tensor], Tensor], depth: int) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, given, other = Deep(more), {"x": torch.randn(2, 4).abs()}, {"x": torch.randn(5, 4)}
    replay = Replay(net, find_stages(net, given), given)
    return refusal(replay, depth, [other]) or "verified"


def test_a_wrong_cut_is_refused() -> None:
    assert "needs more than one stored tensor" in refused(lambda x, first, _: x + first, 3)
    assert "needs more than one stored tensor" in refused(lambda x, first, _: x + first, 4)
    assert refused(lambda x, first, _: x + first, 2) == "verified"  # that tensor is the one that is stored
    assert refused(lambda x, *_: x, 3) == "verified"


def test_a_cut_that_holds_in_float32_alone_is_refused_in_use() -> None:
    def more(x: Tensor, first: Tensor, marks: Tensor) -> Tensor:
        # In the traced batch all are marked.
        return x if x.dtype == torch.float32 or bool(marks.all()) else x + first

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, given, other = Deep(more), torch.randn(2, 4).abs(), torch.randn(5, 4)
    whole = Replay(net, find_stages(net, {"x": given}), {"x": given})
    assert refusal(whole, 3, [{"x": other}]) is None and refusal_in_use(whole, 3, [{"x": other}]) is None
    net.bfloat16()
    lowered = Replay(net, find_stages(net, {"x": given.bfloat16()}), {"x": given.bfloat16()})
    assert "in the arithmetic of training" in str(refusal_in_use(lowered, 3, [{"x": other.bfloat16()}]))
    assert refusal_in_use(lowered, 2, [{"x": other.bfloat16()}]) is None


@pytest.mark.parametrize("name", NAMES)
def test_cuts_hold_in_bfloat16_weights_too(name: str) -> None:
    model = model_of(name).bfloat16()
    replay = Replay(model, find_stages(model, inputs_of(name)), inputs_of(name, SENTENCES[:2]))
    assert {refusal_in_use(replay, depth, [inputs_of(name)]) for depth in depths_of(name)} == {None}


def test_whole_numbers_from_below_are_made_anew() -> None:
    # In the traced batch all are marked, so that a stale copy would do.
    assert refused(lambda x, _, marks: x * (1 + marks)[:, None], 3) == "verified"


def test_nothing_is_verified_where_answers_do_not_depend_on_what_is_stored() -> None:
    assert "do not change when what is stored does" in refused(lambda x, *_: 0 * x, 3)


def test_what_is_stored_may_not_depend_on_what_learns_above() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, given, other = Deep(lambda x, *_: x), {"x": torch.randn(2, 4)}, {"x": torch.randn(5, 4)}
    net.blocks[1].register_forward_hook(lambda module, arguments, out: out * net.head.weight.mean())
    replay = Replay(net, find_stages(net, given), given)
    told = [refusal(replay, depth, [other]) for depth in (2, 3, 4)]
    assert told[0] is None and all("depends on parameters that learn above it" in str(one) for one in told[1:])


def test_answers_are_those_of_what_is_stored() -> None:
    replay, batch = replay_of("bert"), inputs_of("bert")
    hidden, straight = replay.run(batch, [2])[2], logits(replay.model, batch)
    with replay.replaying(2, hidden.flip(0)):
        assert not torch.equal(logits(replay.model, batch), straight)


def test_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "methods" / "replay.md"
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0
