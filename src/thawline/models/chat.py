"""Conversations as a causal language model sees them: token ids, which of them are learned, and what to generate from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from thawline.errors import DataError, ModelError

FALLBACK = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Instruction:\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Response:\\n' }}"
    "{% elif message['role'] == 'tool' %}{{ '### Result:\\n' }}{% endif %}"
    "{{ message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
"""What tokenizers without a template get: the words of Alpaca (Taori et al. 2023), which need no special token but the end."""

_TOOLS = """You may call functions. Their descriptions are within <tools></tools>:
<tools>
TOOLS
</tools>
For each call, return a JSON object with its name and its arguments within <tool_call></tool_call>:
<tool_call>
{"name": "…", "arguments": {…}}
</tool_call>"""
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "certainly"

Message = Mapping[str, str]


class Encoded(NamedTuple):
    """Token ids of a conversation and, for each, whether it is learned; both of length L."""

    input_ids: list[int]
    supervised: list[bool]


def ensure_template(tokenizer: Any) -> str:
    """Give a tokenizer without a chat template FALLBACK, which is saved with it, and return the note; "" where it has one."""
    if tokenizer.chat_template:
        return ""
    if tokenizer.eos_token is None:
        raise ModelError(
            "The tokenizer has neither a chat template nor an end token, so that no answer could end; take another."
        )
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = "{{ bos_token }}" * begins + FALLBACK
    return "the tokenizer has no chat template; it gets one of '### Instruction:' and '### Response:', which is saved with it"


def encode_conversation(tokenizer: Any, messages: Sequence[Message], tools: str | None = None) -> Encoded:
    """Return the tokens of a conversation in the model's chat template; the assistant's are learned, to their end token.

    `messages` have a role and a content; `tools` is a JSON list of descriptions, put into the system message where the template
    has no place for them. The text is rendered once, whole, and tokenized once. Where an answer begins is where the template
    asks for it (`add_generation_prompt`) after the messages before, which must be the beginning of the whole, or what the
    template marks with ``{% generation %}``. A token that reaches from the question into the answer is not learned. Where no
    end token follows the last answer it is added. One message of the role "document" is learned as it stands.
    Raises DataError where the template refuses the conversation, or writes its beginning in another way than the whole.
    """
    if _is_document(messages):
        return _document(tokenizer, messages[0]["content"])
    chat = _chat(tokenizer, messages, tools)
    text, answers = _marked(chat) if _GENERATION.search(chat.template) else _prefixed(chat)
    said_last = bool(answers) and chat.messages[-1]["role"] == "assistant"
    open_end = said_last and not text[slice(*answers[-1])].endswith(chat.ends)
    if open_end and not text[answers[-1][1] :].strip():
        text = text[: answers[-1][1]]  # so that the end token follows the answer itself
    ids, places = _tokens(tokenizer, text)
    supervised = [any(a <= begin < b and end <= b for a, b in answers) for begin, end in places]
    return Encoded([*ids, tokenizer.eos_token_id], [*supervised, True]) if open_end else Encoded(ids, supervised)


def prompt_of(tokenizer: Any, messages: Sequence[Message], tools: str | None = None) -> list[int]:
    """Return the tokens to generate the last answer from: of the messages before it, or of all where the last is no answer."""
    if _is_document(messages):
        return _document(tokenizer, messages[0]["content"]).input_ids[:-1]
    asked = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    chat = _chat(tokenizer, asked, tools)
    return _tokens(tokenizer, chat.render(len(chat.messages), prompt=True))[0]


def end_ids(tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's end token, and those that the template writes after one."""
    return sorted(tokenizer.convert_tokens_to_ids(list(_ends(tokenizer))))


def truncate(encoded: Encoded, max_length: int) -> Encoded:
    """Return the first `max_length` tokens; `cut` tells what that loses."""
    return Encoded(encoded.input_ids[:max_length], encoded.supervised[:max_length])


class Cut(NamedTuple):
    """What `truncate` takes away: how many conversations are cut, how many supervised tokens are lost of how many, and how many
    conversations keep none.
    """

    conversations: int
    lost: int
    supervised: int
    silent: int

    @property
    def share(self) -> float:
        """The part of the supervised tokens that is lost."""
        return self.lost / max(self.supervised, 1)


def cut(masks: Iterable[Sequence[bool]], max_length: int) -> Cut:
    """Return what `truncate` takes away from conversations with these masks of supervised tokens.

    >>> cut([[False, True, True], [False, False, True]], 2)
    Cut(conversations=2, lost=2, supervised=3, silent=1)
    """
    conversations = lost = supervised = silent = 0
    for mask in masks:
        count, gone = sum(mask), sum(mask[max_length:])
        conversations += len(mask) > max_length
        lost, supervised, silent = lost + gone, supervised + count, silent + (0 < count == gone)
    return Cut(conversations, lost, supervised, silent)


class _Chat(NamedTuple):
    tokenizer: Any
    messages: list[Message]
    tools: list[Any] | None
    template: str
    ends: tuple[str, ...]

    def render(self, count: int, *, prompt: bool = False) -> str:
        """Return the text of the first messages; what a template raises becomes a DataError."""
        from jinja2 import TemplateError

        some: list[Any] = self.messages[:count] or [[]]  # of nothing, what begins an answer, only in a batch
        try:
            found = self.tokenizer.apply_chat_template(some, tools=self.tools, tokenize=False, add_generation_prompt=prompt)
            text: str = found if count else found[0]
        except (TemplateError, TypeError, ValueError, IndexError) as error:
            roles = ", ".join(message["role"] for message in self.messages[:count]) or "nothing"
            raise DataError(f"The model's chat template refuses a conversation of {roles}: {error}.") from None
        return text


def _chat(tokenizer: Any, messages: Sequence[Message], tools: str | None) -> _Chat:
    if not tokenizer.chat_template:
        raise ModelError("The tokenizer has no chat template; give it one first (thawline.models.chat.ensure_template).")
    said = [{"role": message["role"], "content": message["content"]} for message in messages]
    descriptions = json.loads(tools) if tools else None
    template = tokenizer.get_chat_template(tools=descriptions)
    if descriptions and "tools" not in template:
        system = said.pop(0)["content"] + "\n\n" if said and said[0]["role"] == "system" else ""
        listed = "\n".join(json.dumps(description, ensure_ascii=False) for description in descriptions)
        said.insert(0, {"role": "system", "content": system + _TOOLS.replace("TOOLS", listed)})
        descriptions = None
    return _Chat(tokenizer, list(said), descriptions, template, _ends(tokenizer))


def _ends(tokenizer: Any) -> tuple[str, ...]:
    """Return the tokenizer's end token and the special tokens that its template writes after an answer."""
    if tokenizer.eos_token is None:
        raise ModelError("The tokenizer has no end token, so that no answer could end; take another model.")
    probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
    rest = _Chat(tokenizer, list(probe), None, "", ()).render(2).rpartition(_PROBE)[2]
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted({token for token in special if token in rest} | {tokenizer.eos_token}))


def _prefixed(chat: _Chat) -> tuple[str, list[tuple[int, int]]]:
    """Return the text and where in it answers stand, found by rendering what comes before and after each."""
    text = chat.render(len(chat.messages))
    answers: list[tuple[int, int]] = []
    for place, message in enumerate(chat.messages):
        if message["role"] != "assistant":
            continue
        before = chat.render(place, prompt=True)
        end = _answer_end(chat, text, place=place, begin=len(before)) if text.startswith(before) else None
        if end is None or (answers and len(before) < answers[-1][1]):
            raise DataError(
                f"The model's chat template writes answer {place + 1} or what comes before it differently when it is asked for "
                "than in the whole conversation, so that what is learned would not be what is asked later. Use a template "
                "that marks answers with {% generation %}, or another model."
            )
        answers.append((len(before), end))
    return text, answers


def _answer_end(chat: _Chat, text: str, *, place: int, begin: int) -> int | None:
    """Return where an answer ends, its end token included; templates may end the last message differently from others."""
    content = chat.messages[place]["content"].strip()
    after = chat.render(place + 1)
    limit = len(after) if text.startswith(after) else len(text)
    end = re.compile(r"\s*" + _any(chat.ends))
    at = text.find(content, begin, limit)
    while at >= 0:
        if (ended := end.match(text, at + len(content), limit)) is not None:
            return ended.end()
        at = text.find(content, at + 1, limit)
    return len(after.rstrip()) if text.startswith(after) else None


def _marked(chat: _Chat) -> tuple[str, list[tuple[int, int]]]:
    """Return the text and what the template marks with {% generation %}, with the end token right after it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    text = chat.render(len(chat.messages))
    conversations: list[Any] = [chat.messages]
    found: Any = render_jinja_template(
        conversations=conversations,
        tools=chat.tools,
        chat_template=chat.template,
        return_assistant_tokens_mask=True,
        **chat.tokenizer.special_tokens_map,
    )
    (rendered,), (marks,) = found
    assert rendered == text, "one template, two texts"
    end = re.compile(r"\s*" + _any(chat.ends))
    answers = []
    for begin, stop in marks:
        follows = None if text[begin:stop].rstrip().endswith(chat.ends) else end.match(text, stop)
        answers.append((begin, follows.end() if follows else stop))
    return text, answers


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return token ids and the characters [begin, end) of each."""
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell where its tokens stand in a text; a fast tokenizer is needed."
        )
    with _whole_tokens(tokenizer):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
    return list(encoded["input_ids"]), list(encoded["offset_mapping"])


@contextmanager
def _whole_tokens(tokenizer: Any) -> Iterator[None]:
    """Some post-processors (ByteLevel, as in Llama 3) take white space out of offsets: a line break alone would be nowhere."""
    backend = tokenizer.backend_tokenizer
    usual = backend.post_processor
    backend.post_processor = None
    try:
        yield
    finally:
        backend.post_processor = usual


def _is_document(messages: Sequence[Message]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == "document"


def _document(tokenizer: Any, text: str) -> Encoded:
    ids = list(tokenizer(text, truncation=False, verbose=False)["input_ids"])
    if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
        ids.append(tokenizer.eos_token_id)
    return Encoded(ids, [place > 0 for place in range(len(ids))])  # nothing comes before the first


def _any(tokens: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, tokens)) + ")"
