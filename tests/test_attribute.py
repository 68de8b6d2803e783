"""Which words and regions an answer rests on."""

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import LABELS, SENTENCES, media_inputs, medium_of, model_of, task_of, tokenizer_of
from thawline.errors import UserError
from thawline.evaluate.attribute import TOLERANCE, attribute, integrated_gradients
from thawline.evaluate.occlude import attribute_picture, attribute_sound
from thawline.evaluate.spans import spans_of

TEXT = SENTENCES[0]


class Bag(nn.Module):
    """The sum of one number a token: what each word contributes to the logit is known."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 2, dtype=torch.float64)
        self.config = SimpleNamespace(id2label=dict(enumerate(LABELS[:2])))

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=(self.embedding(input_ids) * attention_mask[..., None]).sum(1))


def family(name: str) -> tuple[Any, Any]:
    task = task_of(name)
    return model_of(name, task), task.tokenizer


def test_a_bag_of_words_gets_the_exact_answer() -> None:
    tokenizer = tokenizer_of("bert")
    model = Bag(len(tokenizer))
    found = attribute(model, tokenizer, "good film, dull scene", target="fine")
    weights = model.embedding.weight[:, 1].tolist()
    blank = weights[tokenizer.mask_token_id]
    for row in found["words"]:
        pieces = tokenizer(row["word"], add_special_tokens=False)["input_ids"]
        assert row["contribution"] == pytest.approx(sum(weights[i] - blank for i in pieces), rel=1e-6)
    assert [row["word"] for row in found["words"]] == ["good", "film", ",", "dull", "scene"]
    assert found["special"] == 0
    occluded = attribute(model, tokenizer, "good film", target="fine", method="occlusion")
    exact = attribute(model, tokenizer, "good film", target="fine")
    for one, other in zip(occluded["words"], exact["words"], strict=True):
        assert one["contribution"] == pytest.approx(other["contribution"], rel=1e-6)


@pytest.mark.parametrize(
    "name", ["bert", "roberta", "albert", "deberta-v2", "modernbert", "distilbert", "gpt2", "llama", "qwen2"]
)
def test_contributions_add_up(name: str) -> None:
    model, tokenizer = family(name)
    found = attribute(model, tokenizer, TEXT, target="good")
    assert (found["method"], found["target"], found["notes"]) == ("integrated gradients", "good", [])
    total = sum(row["contribution"] for row in found["words"]) + found["special"]
    change = found["output"] - found["baseline_output"]
    assert total == pytest.approx(change, abs=TOLERANCE * abs(change))
    for row in found["words"]:
        assert TEXT[row["start"] : row["end"]] == row["word"]
    assert [row["word"] for row in found["words"]][:4] == ["The", "film", "is", "a"]
    assert not any(p.grad is not None for p in model.parameters())
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", ["bert", "gpt2", "modernbert"])
def test_padding_changes_nothing(name: str) -> None:
    model, task = model_of(name), task_of(name)
    items = task.encode([{"id": "1", "text": TEXT}])
    length = len(items[0]["input_ids"])
    found = []
    for width in (length, length + 9):
        inputs = task.collate(items, width).inputs
        absent = inputs["attention_mask"][0].bool()
        found.append(integrated_gradients(model, inputs, 1, absent=absent, tokens=[task.tokenizer.unk_token_id]))
    kept = found[1].contributions[absent]
    torch.testing.assert_close(kept, found[0].contributions, atol=1e-5, rtol=1e-4)
    assert found[1].contributions[~absent].abs().max() == 0


def test_pairs_say_of_which_text_a_word_is() -> None:
    model, tokenizer = family("bert")
    found = attribute(model, tokenizer, ("good film", "dull scene"))
    assert [(row["word"], row["side"], row["start"]) for row in found["words"]] == [
        ("good", 0, 0), ("film", 0, 5), ("dull", 1, 0), ("scene", 1, 5),
    ]  # fmt: skip


def test_what_is_cut_off_is_told() -> None:
    model, tokenizer = family("bert")
    found = attribute(model, tokenizer, TEXT, max_length=6)
    assert len(found["words"]) == 4
    assert "longer than the model reads" in found["notes"][-1]


@pytest.mark.parametrize("name", ["bart", "t5", "xlnet"])
def test_models_without_one_embedding_a_token_are_occluded(name: str) -> None:
    model, tokenizer = family(name)
    found = attribute(model, tokenizer, "good film, dull scene")
    assert (found["method"], found["completeness_error"]) == ("occlusion", None)
    assert "exactly once" in found["notes"][0]
    assert [row["word"] for row in found["words"]] == ["good", "film", ",", "dull", "scene"]


@pytest.mark.parametrize(("target", "message"), [("goot", "did you mean 'good'"), (7, "outputs 0 to 2")])
def test_unknown_targets(target: str | int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        attribute(*family("bert"), TEXT, target=target)


def test_no_words_and_no_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no words"):
        attribute(*family("bert"), " \n")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UserError, match="pip install captum"):
        attribute(*family("bert"), TEXT)


@pytest.mark.parametrize("name", ["bert", "gpt2", "albert"])
def test_each_token_has_its_word(name: str) -> None:
    tokenizer, text = tokenizer_of(name), "Naïve films\nare 天气, aren't they?"
    ids = tokenizer(text)["input_ids"]
    found = spans_of(tokenizer, (text,), ids)
    assert found is not None
    words, place = found
    assert len(place) == len(ids)
    assert {i for i in place if i is not None} == set(range(len(words)))
    assert [text[w.start : w.end] for w in words][:3] == ["Naïve", "films", "are"]


def test_the_region_that_matters_in_a_picture() -> None:
    class Corner(nn.Module):
        """The mean of the upper left quarter."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.config = SimpleNamespace(id2label={0: "corner"})

        def forward(self, pixel_values: Tensor) -> Any:
            return SimpleNamespace(logits=pixel_values[:, :, :16, :16].mean((1, 2, 3))[:, None] * self.weight)

    found = attribute_picture(Corner(), {"pixel_values": torch.ones(1, 3, 32, 32)}, grid=2)
    assert found["contributions"] == [[1.0, 0.0], [0.0, 0.0]]
    assert (found["output"], found["baseline_output"], found["target"]) == (1.0, 0.0, "corner")


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_pictures(name: str) -> None:
    model, inputs = medium_of(name), {"pixel_values": media_inputs(name)["pixel_values"][:1]}
    found = attribute_picture(model, inputs, target=1, grid=4)
    hidden = inputs["pixel_values"].clone()
    hidden[:, :, :8, 24:] = 0
    with torch.no_grad():
        lost = found["output"] - float(model(hidden).logits[0, 1])
    assert found["contributions"][0][3] == pytest.approx(lost, abs=1e-5)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
def test_sounds(name: str) -> None:
    inputs = {key: value[:1] for key, value in media_inputs(name).items()}
    found = attribute_sound(medium_of(name), inputs, parts=5)
    assert len(found["contributions"]) == 5
    assert any(found["contributions"])


def test_only_the_real_part_of_a_sound_is_divided() -> None:
    class Late(nn.Module):
        """The mean of what is heard, the padding behind it too."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.config = SimpleNamespace(id2label={0: "late"})

        def forward(self, input_features: Tensor) -> Any:
            return SimpleNamespace(logits=input_features.mean((1, 2))[:, None] * self.weight)

    inputs = {"input_features": torch.ones(1, 8, 100)}
    found = attribute_sound(Late(), inputs, parts=5, share=0.25)
    assert found["contributions"] == pytest.approx([0.05] * 5)
    json.dumps(found, allow_nan=False)
    assert attribute_sound(Late(), inputs, parts=20, share=0.03)["contributions"] == pytest.approx([0.01] * 3)
