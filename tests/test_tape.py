"""The way from a stored tensor to the answer: the same bits as the model's own code, or none at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from families import inputs_of, medium_of, model_of
from test_prefix import weights
from test_replay_media import media_inputs
from test_training import run
from thawline.models.last import FirstOnly
from thawline.models.stages import find_stages
from thawline.thaw.replay import Replay
from thawline.thaw.tape import Recorder, Shortcut
from thawline.thaw.verify import refusal
from thawline.train.draws import Draws
from thawline.train.trust import Trust

TEXTS, PICTURES = ("bert", "roberta", "electra", "distilbert"), ("resnet", "convnext")


def short(name: str) -> tuple[Any, dict[str, Tensor], Any]:
    """A model whose head reads one tensor an example, and its stages."""
    model, inputs = (model_of(name), inputs_of(name)) if name in TEXTS else (medium_of(name), media_inputs(name))
    stages = find_stages(model, inputs)
    FirstOnly(model, lambda: model(**inputs).logits)
    return model, inputs, stages


def gradients(model: Any, inputs: dict[str, Tensor], stages: Any) -> tuple[Tensor, ...]:
    learning = [model.get_parameter(name) for name in stages[-1].parameters]
    with Draws((1, 2)):
        loss = model(**inputs).logits.float().square().sum()
    return (loss.detach(), *torch.autograd.grad(loss, learning))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", [*TEXTS, *PICTURES])
def test_the_short_way_leads_to_the_same_bits(name: str, bf16: bool) -> None:
    model, inputs, stages = short(name)
    if bf16:
        model.bfloat16()
        inputs = {key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs.items()}
    replay, depth = Replay(model, stages, inputs), len(stages) - 1
    hidden = replay.run(inputs, [depth])[depth]
    for stage_name in stages[-1].modules:
        model.get_submodule(stage_name).train(name in TEXTS)  # batch norms aside
    other = {key: value.flip(0) for key, value in inputs.items()}
    for batch, stored in ((inputs, hidden), (other, hidden.flip(0)), (inputs, hidden)):
        with replay.replaying(depth, stored):
            exact = gradients(model, batch, stages)
        with replay.replaying(depth, stored, short=True):
            found = gradients(model, batch, stages)
        assert all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))
    assert replay._shortcuts[depth].known


@pytest.mark.parametrize("name", TEXTS)
def test_one_position_is_stored(name: str) -> None:
    model, inputs, stages = short(name)
    replay, depth = Replay(model, stages, inputs), len(stages) - 1
    rows = replay.rows(replay.run(inputs, [depth])[depth], inputs, depth)
    assert {tuple(row.shape) for row in rows} == {(1, model.config.hidden_size)}
    assert replay.layout(depth).time is None and replay.layout(depth).masked
    assert refusal(replay, depth, [inputs, {key: value[1:] for key, value in inputs.items()}]) is None


class Head(nn.Module):
    """A model of a stored tensor and a mask."""

    def __init__(self, answer: Callable[[nn.Linear, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.answer = nn.Linear(4, 2), answer

    def forward(self, hidden: Tensor, mask: Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.answer(self.linear, hidden, mask))


def changed(linear: nn.Linear, hidden: Tensor, mask: Tensor) -> Tensor:
    found = linear(hidden)
    found[0] = 0.0
    return found


def looked_at(linear: nn.Linear, hidden: Tensor, mask: Tensor) -> Tensor:
    return linear(hidden) if hidden.sum() > 0 else linear(-hidden)


def apart(linear: nn.Linear, hidden: Tensor, mask: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return linear(hidden)


NOT_NOTED = {
    "masks": lambda linear, hidden, mask: linear(hidden * mask[:, None]),
    "changes in place": changed,
    "values": looked_at,
    "arithmetic": apart,
    "weights made anew": lambda linear, hidden, mask: nn.functional.linear(hidden, linear.weight * 2),
}


@pytest.mark.parametrize("what", NOT_NOTED)
def test_what_more_depends_on_is_left_to_the_model(what: str) -> None:
    torch.manual_seed(0)
    model, mask = Head(NOT_NOTED[what]), torch.ones(3)
    shortcut = Shortcut(model)
    shortcut.forward = model.forward
    for _ in range(2):
        shortcut.hidden = torch.randn(3, 4)
        assert torch.equal(shortcut(shortcut.hidden, mask).logits, model(shortcut.hidden, mask).logits)
        assert not shortcut.known


def test_sizes_may_be_looked_at() -> None:
    model = Head(lambda linear, hidden, mask: linear(hidden.view(hidden.shape[0], hidden.size(1))) * len(hidden))
    hidden = torch.randn(3, 4)
    with Recorder(model, hidden) as recorder:
        output = model(hidden, torch.ones(3))
    tape = recorder.tape(output)
    assert tape is not None and [operation.function.__name__ for operation in tape.operations] == ["view", "linear", "mul"]
    other = torch.randn(3, 4)
    assert torch.equal(tape(other).logits, model(other, torch.ones(3)).logits)


def test_a_short_way_that_leads_elsewhere_is_not_gone() -> None:
    calls = list[bool]()

    def way(short: bool) -> Any:
        calls.append(short)
        return {"total": 1.0}, (torch.tensor([1.0 + (short and len(calls) > 2)]), None)

    trust = Trust()
    found = [trust(way) for _ in range(4)]
    assert calls == [False, True, False, True, False, False]
    assert all(gradients[0].item() == 1.0 for _, gradients in found)


def test_the_way_that_agrees_is_gone_alone_from_then_on() -> None:
    calls = list[bool]()
    trust = Trust(1)
    for _ in range(3):
        trust(lambda short: calls.append(short) or ({"total": 1.0}, (torch.ones(1), None)))
    assert calls == [False, True, True, True]


@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_is_the_same_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    run(tmp_path / "short", strategy="head", bf16=bf16, epochs=3)
    monkeypatch.setattr("thawline.run.assemble.Trust", lambda left=0: Trust(-1))
    run(tmp_path / "long", strategy="head", bf16=bf16, epochs=3)
    assert weights(tmp_path / "short") == weights(tmp_path / "long")
