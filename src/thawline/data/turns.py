"""The forms in which conversations are written down, and the messages of one row of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from thawline.errors import did_you_mean

Message = dict[str, str]
Row = Mapping[str, Any]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "model", "bot", "ai", "bing", "bard", "answer", "function_call"), "assistant"
    ),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response", "ipython"), "tool"),
}
"""What the roles of other tools are called here."""

BESIDE = frozenset(("id", "meta", "metadata", "source", "url", "title", "timestamp", "date"))
"""Columns that may stand beside what is learned."""

_LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
_ANSWERS = ("output", "response", "completion", "answer")
_USED = frozenset(("role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id"))


class Fault(Exception):  # noqa: N818 - what is wrong with one row, in the words of the error that names the row
    """What is wrong with a row."""


class Form(NamedTuple):
    """How a table holds conversations: `columns` it is made from, the main one first; `fields` of a message that are used."""

    name: str
    columns: tuple[str, ...]
    answer: str = ""
    system: str = ""
    tools: str = ""
    fields: frozenset[str] = _USED


def form_of(table: pa.Table) -> Form | None:
    """Return how a table holds conversations; None where it holds none."""
    names = table.column_names
    system = "system" if "system" in names else ""
    tools = next((name for name in ("tools", "functions") if name in names), "")
    answer = next((name for name in _ANSWERS if name in names), "")

    def form(name: str, *columns: str, answer: str = "") -> Form:
        return Form(
            name, tuple(dict.fromkeys(column for column in (*columns, answer, system, tools) if column)), answer, system, tools
        )

    if (turns := next((name for name in _LISTS if name in names and _holds_turns(table.column(name))), None)) is not None:
        return form("conversations", turns)
    if "instruction" in names and "instances" in names:
        return form("tasks with instances", "instruction", "instances")
    alone = not answer and set(map(str.lower, names)) - BESIDE - {"instruction", "input", "prompt", "system", "tools"}
    if alone:
        return None  # something else is learned from these, such as a label
    if "instruction" in names and _are_texts(table, "instruction", answer):
        beside = [name for name in ("input", "context", "history") if name in names]
        return form("instructions", "instruction", *beside, answer=answer)
    if "prompt" in names and (_are_texts(table, "prompt", answer) or (answer and _holds_turns(table.column("prompt")))):
        return form("prompts", "prompt", answer=answer)
    return None


def rows_of(row: Row, form: Form) -> Iterator[list[Message]]:
    """Yield the conversations of one row: one, or one for each instance of a task. Raises Fault."""
    system = row[form.system] if form.system else None
    head = [_message("system", system)] if system and system.strip() else []
    if form.name == "conversations":
        yield head + _turns(row[form.columns[0]])
    elif form.name == "tasks with instances":
        instances = _decoded(row["instances"])
        if not isinstance(instances, list) or not instances or not all(isinstance(each, Mapping) for each in instances):
            raise Fault('there are no instances; expected a list such as [{"input": "", "output": "…"}]')
        for instance in instances:
            yield head + _instructed({**row, **instance}, "output")
    elif form.name == "instructions":
        yield head + _instructed(row, form.answer)
    else:
        yield head + _prompted(row["prompt"], "user") + (_prompted(row[form.answer], "assistant") if form.answer else [])


def tools_of(value: Any) -> str | None:
    """Return descriptions of tools as a JSON list of {"type": "function", "function": {…}}; None where there are none.

    Keys without a value are left out: Arrow gives every record of a column the keys of all.

    >>> tools_of('[{"name": "add", "parameters": {}}]')
    '[{"type": "function", "function": {"name": "add", "parameters": {}}}]'
    """
    tools = _pruned(_decoded(value))
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise Fault(f"the tools are {str(tools)[:60]!r}; expected a list of descriptions, each with a name")
    wrapped = [tool if isinstance(tool.get("function"), Mapping) else {"type": "function", "function": tool} for tool in tools]
    return json.dumps(wrapped, ensure_ascii=False)


def _instructed(row: Row, answer: str) -> list[Message]:
    told: list[Message] = []
    for pair in _decoded(row.get("history")) or []:
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise Fault(f"{str(pair)[:60]!r} in the history is no pair of question and answer")
        told += [_message("user", pair[0]), _message("assistant", pair[1])]
    parts = [_text(row, name) for name in ("instruction", "input", "context")]
    if parts[0] is None:
        raise Fault("there is no instruction")
    question = "\n".join(part for part in parts if part is not None and part.strip())  # as LLaMA-Factory joins them
    return [*told, _message("user", question), *_answered(_text(row, answer) if answer else None)]


def _text(row: Row, name: str) -> str | None:
    """Return a value as text, also where it is a number, as answers of sums are."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise Fault(f"{name} is {str(value)[:60]!r}; expected text")
    return value if isinstance(value, str | None) else str(value)


def _prompted(value: Any, role: str) -> list[Message]:
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str | None):
        return _turns(value)
    if value is None and role == "user":
        raise Fault("there is no prompt")
    return _answered(value) if role == "assistant" else [_message(role, value)]


def _answered(value: Any) -> list[Message]:
    return [] if value is None else [_message("assistant", value)]


def _turns(value: Any) -> list[Message]:
    turns = _decoded(value)
    if not isinstance(turns, list) or not turns:
        raise Fault("there are no messages")
    return [_turn(turn, place) for place, turn in enumerate(turns, 1)]


def _turn(turn: Any, place: int) -> Message:
    if not isinstance(turn, Mapping):
        raise Fault(f"message {place} is {str(turn)[:60]!r}; expected an object with role and content")
    given = turn.get("role") or turn.get("from")
    role = ROLES.get(str(given).strip().lower())
    if role is None:
        hint = did_you_mean(str(given), ROLES) or "."
        raise Fault(f"message {place} has the role {given!r}{hint} Expected one of {', '.join(ROLES)}")
    content = _content(turn["content"] if turn.get("content") is not None else turn.get("value"), place)
    calls = _decoded(content) if given == "function_call" else turn.get("tool_calls") or turn.get("function_call")
    if not calls:
        return _message(role, content, place)
    said = [content] if content and content.strip() and given != "function_call" else []
    return _message(role, "\n".join([*said, *map(_call, calls if isinstance(calls, list) else [calls])]), place)


def _content(value: Any, place: int) -> str | None:
    if not isinstance(value, list):
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in value]
    other = [part.get("type") for part in parts if part.get("type", "text") != "text"]
    if other:
        raise Fault(f"message {place} holds {other[0]!r}; expected text alone")
    return "".join(part.get("text") or "" for part in parts)


def _call(call: Any) -> str:
    """Write a call as Hermes and Qwen do, so that their templates' own words for it stand in the text."""
    call = _decoded(call)
    call = call.get("function", call) if isinstance(call, Mapping) else call
    if isinstance(call, Mapping):
        call = {key: _decoded(value) if key == "arguments" else value for key, value in _pruned(call).items()}
    return f"<tool_call>\n{call if isinstance(call, str) else json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _message(role: str, content: Any, place: int | None = None) -> Message:
    if not isinstance(content, str):
        which = f"message {place}" if place else f"the {role}'s text"
        raise Fault(f"{which} has no text" if content is None else f"{which} is {str(content)[:60]!r}; expected text")
    return {"role": role, "content": content}


def _decoded(value: Any) -> Any:
    """Return what a JSON text stands for; a text that is no JSON stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except json.JSONDecodeError:
        return value


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _pruned(each) for key, each in value.items() if each is not None}
    return [_pruned(each) for each in value] if isinstance(value, list) else value


def _holds_turns(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        names = {field.name for field in inner} if pa.types.is_struct(inner) else set()
        return bool(names & {"role", "from"} and names & {"content", "value", "tool_calls"})
    if not pa.types.is_string(kind):
        return False
    turns = _decoded(next((value for value in column.slice(0, 100).to_pylist() if value), None))
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], Mapping) and bool({"role", "from"} & set(turns[0]))


def _are_texts(table: pa.Table, *names: str) -> bool:
    kinds = [table.field(name).type for name in names if name]
    return all(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
