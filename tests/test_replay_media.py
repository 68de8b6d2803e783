"""Replay of models of images and sound: stages, every depth, other batches, and what is refused."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from families import MEDIA, media_inputs, medium_of
from thawline.models.stages import find_stages
from thawline.testing import check_stages
from thawline.thaw.replay import Replay
from thawline.thaw.verify import refusal

BLOCKS = {"swin": 4, "convnext": 5, "resnet": 4, "resnet-bottleneck": 4, "efficientnet": 10, "mobilenet-v2": 16}
LENGTHS = (400, 250, 331)
SOUNDS = ["wav2vec2", "wav2vec2-group", "whisper"]
KEPT = [name for name in MEDIA if name != "wav2vec2-group"]


@cache
def replay_of(name: str) -> Replay:
    """A model with its cuts, traced on two examples; shared."""
    model, inputs = medium_of(name), media_inputs(name, LENGTHS[:2])
    return Replay(model, find_stages(model, inputs), inputs)


def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", MEDIA)
def test_stages_and_replay(name: str) -> None:
    stages = check_stages(replay_of(name).model, media_inputs(name), replay_of(name).stages)
    assert [stage.name for stage in stages] == ["stem", *(f"block {i}" for i in range(BLOCKS.get(name, 3))), "head"]
    assert any("classifier" in parameter for parameter in stages[-1].parameters)


@pytest.mark.parametrize("name", KEPT)
def test_every_depth_is_verified(name: str) -> None:
    replay = replay_of(name)
    assert replay.depths == tuple(range(1, len(replay.stages)))
    assert {refusal(replay, depth, [media_inputs(name)]) for depth in replay.depths} == {None}


@pytest.mark.parametrize("name", KEPT)
def test_in_another_batch(name: str) -> None:
    replay, batch = replay_of(name), media_inputs(name)
    # The same examples among others, and, where they have lengths, with more padding.
    other = media_inputs(name, (620, 111, 500, 77))
    width = max(value.shape[1] for value in batch.values())
    mixed = {
        key: torch.cat([value, nn.functional.pad(batch[key], (0, value.shape[1] - width)) if value.dim() == 2 else batch[key]])
        for key, value in other.items()
    }
    straight = logits(replay.model, mixed)
    ones, others = replay.run(batch, replay.depths), replay.run(other, replay.depths)
    for depth in replay.depths:
        rows = [*replay.rows(others[depth], other, depth), *replay.rows(ones[depth], batch, depth)]
        with replay.replaying(depth, replay.joined(rows, mixed, depth)):
            off = (logits(replay.model, mixed) - straight).abs().max() / straight.abs().max()
        assert off <= 1e-5, depth


def test_a_norm_that_sees_the_padding_is_refused() -> None:
    replay = replay_of("wav2vec2-group")
    told = {refusal(replay, depth, [media_inputs("wav2vec2-group")]) for depth in replay.depths}
    assert len(told) == len(replay.depths) and all("on its mates or its padding" in str(sentence) for sentence in told)
    alike = media_inputs("wav2vec2-group", (300, 300, 300))
    assert refusal(replay, 4, [alike]) is None


def test_a_dead_net_proves_nothing() -> None:
    model, inputs = medium_of("resnet"), media_inputs("resnet")
    replay = Replay(model, find_stages(model, inputs), inputs)
    with torch.no_grad():
        for name in replay.stages[-1].parameters:
            model.get_parameter(name).zero_()
    assert "nothing can be verified" in str(refusal(replay, 3, [media_inputs("resnet", (1, 1))]))


def test_layout_in_memory_comes_back() -> None:
    replay, batch = replay_of("convnext"), media_inputs("convnext")
    straight = logits(replay.model, batch)
    for depth, hidden in replay.run(batch, replay.depths).items():
        joined = replay.joined([row.contiguous() for row in replay.rows(hidden, batch, depth)], batch, depth)
        with replay.replaying(depth, joined):
            assert torch.equal(logits(replay.model, batch), straight)


@pytest.mark.parametrize("name", SOUNDS)
def test_dropout_above_is_that_of_a_straight_run(name: str) -> None:
    model = medium_of(name, hidden_dropout=0.3, dropout=0.3, layerdrop=0.0, mask_time_prob=0.5, mask_time_length=2)
    batch = media_inputs(name)
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


@pytest.mark.parametrize(("name", "count"), [("convnext_atto", 14), ("resnet10t", 6), ("vit_tiny_patch16_224", 14)])
def test_timm_through_transformers(name: str, count: int) -> None:
    """Answers and gradients at every depth, in float32 and bfloat16, as of transformers' own models."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    torch.manual_seed(0)
    side, sized = 64, {"img_size": 64} if name.startswith("vit") else None
    model = TimmWrapperForImageClassification(TimmWrapperConfig(architecture=name, num_labels=3, model_args=sized)).eval()
    inputs = {"pixel_values": torch.randn(3, 3, side, side)}
    stages = check_stages(model, inputs)
    replay = Replay(model, stages, inputs)
    assert len(replay.stages) == count
    for depth in (1, count // 2, count - 1):
        assert refusal(replay, depth, [{"pixel_values": torch.randn(4, 3, side, side)}]) is None
