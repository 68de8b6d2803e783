"""Chat: what is learned of a conversation in each kind of template, and packing that lets nothing through."""

from pathlib import Path
from string import ascii_letters
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from families import tokenizer_of
from thawline.errors import DataError, ModelError
from thawline.models.chat import cut, encode_conversation, end_ids, ensure_template, prompt_of, truncate
from thawline.models.packing import IGNORED, laid_out, pack, sees_through

LOOP = "{% for m in messages %}"
CHATML = (
    LOOP + "{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe kind<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As in Qwen3: the last answer is written with empty thoughts, those before it without.
THINKING = (
    LOOP + "<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As in Phi-3: the end of a turn, and at the very end of the text another end.
TWO_ENDS = (
    LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
# As in Llama 2: answers are asked for by nothing but the end of the question.
BRACKETS = (
    LOOP
    + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
MARKED = (
    LOOP + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNING = "{{ messages | length }}" + CHATML
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('questions come first') }}{% endif %}" + CHATML
TALK = [
    {"role": "user", "content": "Is it good?"},
    {"role": "assistant", "content": "A film,\n\nwith 好 heart. "},
    {"role": "user", "content": "Sure?\n"},
    {"role": "assistant", "content": "yes"},
]


def tokenizer(template: str | None, family: str = "gpt2") -> Any:
    made = sentencepiece() if family == "llama" else tokenizer_of(family)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    return made


def sentencepiece() -> Any:
    """As Llama 2: a piece for each letter, and bytes for what has none (line breaks, 好)."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *ascii_letters, *"!#:.,?"]
    return transformers.LlamaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


def learned(made: Any, encoded: Any) -> list[str]:
    """The text of each run of supervised tokens."""
    runs: list[list[int]] = []
    before = False
    for token, supervised in zip(*encoded, strict=True):
        if supervised:
            runs = runs if before else [*runs, []]
            runs[-1].append(token)
        before = supervised
    return [made.decode(run) for run in runs]


ANSWERS = [TALK[1]["content"] + "<|im_end|>", "yes<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ANSWERS),
        (THINKING, [ANSWERS[0], "<think></think>" + ANSWERS[1]]),
        (TWO_ENDS, ANSWERS),
        (BRACKETS, [" " + TALK[1]["content"] + " EOS", " yes EOS"]),
        (MARKED, ANSWERS),
    ],
    ids=["chatml", "thinking", "two ends", "brackets", "marked"],
)
@pytest.mark.parametrize("trims", [False, True])
def test_answers_and_their_ends_are_learned(template: str, expected: list[str], *, trims: bool) -> None:
    made = tokenizer(template)
    usual = processors.ByteLevel(trim_offsets=trims)
    made.backend_tokenizer.post_processor = usual
    encoded = encode_conversation(made, TALK)
    assert learned(made, encoded) == [text.replace("EOS", made.eos_token) for text in expected]
    assert made.decode(encoded.input_ids) == made.apply_chat_template(TALK, tokenize=False)
    prompt = prompt_of(made, TALK)
    assert encoded.input_ids[: len(prompt)] == prompt and not any(encoded.supervised[len(prompt) - 1 : len(prompt)])
    assert encoded.supervised[len(prompt)]
    assert str(made.backend_tokenizer.post_processor) == str(usual)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_the_end_is_learned_though_padding_is_the_same(family: str, tmp_path: Path) -> None:
    made = tokenizer(None, family)
    made.pad_token = made.eos_token
    assert "no chat template" in ensure_template(made)
    assert ensure_template(made) == ""
    talk = [{"role": "system", "content": "Be kind"}, *TALK[:1], {"role": "assistant", "content": "yes"}, *TALK[2:]]
    encoded = encode_conversation(made, talk)
    assert learned(made, encoded) == ["yes" + made.eos_token] * 2
    assert end_ids(made) == [made.eos_token_id]
    prompt = prompt_of(made, talk)
    assert encoded.input_ids[: len(prompt)] == prompt
    made.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.apply_chat_template(talk)["input_ids"] == encoded.input_ids


def test_ends_are_those_of_template_and_tokenizer() -> None:
    made = tokenizer(CHATML)
    assert end_ids(made) == sorted([made.eos_token_id, made.convert_tokens_to_ids("<|im_end|>")])


def test_an_answer_without_end_gets_one() -> None:
    made = tokenizer(LOOP + "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}")
    encoded = encode_conversation(made, TALK)
    assert learned(made, encoded)[-1] == f" yes{made.eos_token}"
    assert not encode_conversation(made, TALK[:3]).supervised[-1]


def test_a_token_across_the_border_is_not_learned() -> None:
    made = tokenizer(
        "{{ messages[0].content }} {% if messages | length > 1 %}{{ messages[1].content }}{{ eos_token }}{% endif %}"
    )
    encoded = encode_conversation(made, [{"role": "user", "content": "it"}, {"role": "assistant", "content": "is good"}])
    assert made.convert_ids_to_tokens(encoded.input_ids) == ["i", "t", "Ġis", "Ġgood", made.eos_token]
    assert encoded.supervised == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (TURNING, TALK, "answer 2 or what comes before it differently|answer 4 or"),
        (STRICT, [{"role": "system", "content": "s"}, *TALK], "refuses a conversation of system, user.*questions come first"),
        (STRICT, TALK[1:2], "refuses a conversation of assistant"),
    ],
)
def test_templates_that_do_not_go_are_told(template: str, messages: list[dict[str, str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_conversation(tokenizer(template), messages)


def test_tokenizers_that_do_not_go_are_told() -> None:
    made = tokenizer(None)
    with pytest.raises(ModelError, match="has no chat template"):
        encode_conversation(made, TALK)
    made.eos_token = None
    with pytest.raises(ModelError, match="neither a chat template nor an end token"):
        ensure_template(made)


def test_tools_have_a_place_in_every_template() -> None:
    tools = '[{"type": "function", "function": {"name": "add"}}]'
    made = tokenizer(CHATML)
    talk = [{"role": "system", "content": "Be kind"}, *TALK]
    for messages in (TALK, talk):
        encoded = encode_conversation(made, messages, tools)
        text = made.decode(encoded.input_ids)
        assert '{"type": "function", "function": {"name": "add"}}' in text and text.count("<|im_start|>system") == 1
        assert learned(made, encoded) == ANSWERS
        prompt = prompt_of(made, messages, tools)
        assert encoded.input_ids[: len(prompt)] == prompt
    assert talk[0]["content"] == "Be kind"
    made = tokenizer("{{ tools | tojson }}" + CHATML)
    assert made.decode(encode_conversation(made, TALK, tools).input_ids).count("add") == 1


def test_a_document_is_learned_whole() -> None:
    made = tokenizer(None, "llama")
    encoded = encode_conversation(made, [{"role": "document", "content": "a film"}])
    assert encoded.input_ids == [*made("a film")["input_ids"], made.eos_token_id]
    assert encoded.supervised == [False] + [True] * (len(encoded.input_ids) - 1)


def test_what_is_cut_is_counted() -> None:
    encoded = encode_conversation(tokenizer(CHATML), TALK)
    short = truncate(encoded, 40)
    assert (len(short.input_ids), len(short.supervised)) == (40, 40)
    lost = cut([encoded.supervised, [False]], 40)
    assert (lost.conversations, lost.supervised - lost.lost) == (1, sum(short.supervised))
    assert 0 < lost.share < 1


@given(st.lists(st.integers(1, 9), max_size=30))
def test_bins_hold_everything_once(lengths: list[int]) -> None:
    bins = pack(lengths, 9)
    assert sorted(place for each in bins for place in each) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in each) <= 9 for each in bins)
    assert len(bins) <= 11 / 9 * -(-sum(lengths) // 9) + 0.67 * len(lengths) + 1
    with pytest.raises(ValueError, match="truncate first"):
        pack([*lengths, 10], 9)


SIZES: dict[str, dict[str, Any]] = {
    "Llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
}
SIZES["Mistral"] = {**SIZES["Llama"], "sliding_window": 6}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", SIZES)
def test_packed_conversations_do_not_see_one_another(name: str, attention: str) -> None:
    made = tokenizer(CHATML)
    config = getattr(transformers, f"{name}Config")(vocab_size=len(made), attn_implementation=attention, **SIZES[name])
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert not sees_through(model)
    items = [encode_conversation(made, TALK[:count]) for count in (2, 4, 1, 3)]
    items.append(encode_conversation(made, [{"role": "document", "content": "a film"}]))
    lengths = [len(item.input_ids) for item in items]
    bins = pack(lengths, max(lengths) + 20)
    table = laid_out(items, bins, pad=made.eos_token_id, length=max(lengths) + 20)
    labels, owners = table["labels"], table["owners"]
    batch = {name: torch.from_numpy(table[name]) for name in ("input_ids", "position_ids")}
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits
    for row, each in enumerate(bins):
        begin = 0
        for place in each:
            ids = torch.tensor([items[place].input_ids])
            with torch.no_grad():
                alone = model(input_ids=ids).logits[0]
            here = slice(begin, begin + lengths[place])
            torch.testing.assert_close(logits[row, here], alone, atol=1e-5, rtol=0)
            expected = [token if supervised else IGNORED for token, supervised in zip(*items[place], strict=True)]
            assert labels[row, here].tolist() == [IGNORED, *expected[1:]] and (owners[row, here] == place).all()
            begin += lengths[place]
        assert (labels[row, begin:] == IGNORED).all() and (owners[row, begin:] == -1).all()
