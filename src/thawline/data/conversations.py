"""Conversations, instructions and prompts in one form: a list of messages, each with a role and a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from thawline.data.turns import BESIDE, Fault, Form, Message, Row, form_of, rows_of, tools_of
from thawline.errors import DataError
from thawline.types import Finding

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_FAULTS = {
    "no_answer": "no answer in {}: nothing is learned from them",
    "open_end": "the last message is no answer in {}: nothing is learned from what comes after the last one",
    "empty_answers": "an answer is empty in {}: the model is taught to say nothing",
    "empty_messages": "a question is empty in {}",
    "repeated_roles": "one role speaks twice in a row in {}: kept as they are; some chat templates refuse that",
    "late_system": "a system message stands after the beginning in {}; some chat templates refuse that",
    "tool_calls": "calls of tools are written as text, <tool_call> and the call as JSON, in {}",
    "two_systems": "{} have a system message and a system column: the column's comes first",
}


def conversations(table: pa.Table) -> tuple[pa.Table, tuple[Finding, ...]] | None:
    """Return the table with "messages" list<struct<role, content>> and, where there are any, "tools" (JSON) in place of the
    columns they were made from; None where it holds no conversations.

    Read are Alpaca instructions (instruction, input, output, system, history; Self-Instruct's instances too), ShareGPT and
    OpenAI conversations, prompts with completions, and texts alone, which are documents: one message of the role "document".
    Roles become system, user, assistant and tool. Calls of tools become text as Hermes and Qwen write them, ``<tool_call>`` and
    the call as JSON. The findings name rows that are odd; nothing is left out. Raises DataError by row for what is no message.

    >>> made, findings = conversations(pa.table({"prompt": ["2 + 2?"], "completion": ["4"]}))
    >>> made["messages"].to_pylist()[0]
    [{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': '4'}]
    """
    if (text := _document(table)) is not None:
        return _documents(table, text)
    form = form_of(table)
    if form is None:
        return None
    faults: dict[str, list[int]] = defaultdict(list)
    rows = list(_rows(table, form, faults))
    origins = [number for number, _, _ in rows]
    made: dict[str, Any] = {"messages": pa.array([messages for _, messages, _ in rows], MESSAGES)}
    if form.tools:
        made["tools"] = pa.array([tools for _, _, tools in rows], pa.string())
    rest = table.drop_columns(list(form.columns))
    told = [Finding("note", "form", f"{form.name}: {', '.join(map(repr, form.columns))}"), *_unused(table, form)]
    if len(rows) != table.num_rows:
        told.append(Finding("note", "instances", f"{table.num_rows} tasks with {len(rows)} instances: a row for each"))
        rest = _repeated(rest, origins)
    told += [_finding(name, numbers, table.num_rows) for name, numbers in faults.items()]
    kept = {name + "_original" * (name in made): rest.column(name) for name in rest.column_names}
    return pa.table({**made, **kept}), tuple(told)


def questions(table: pa.Table) -> pa.Table | None:
    """Return conversations in which documents have become questions of a user's; None where there is no document.

    >>> made = questions(pa.table({"messages": pa.array([[{"role": "document", "content": "2 + 2?"}]], MESSAGES)}))
    >>> made["messages"].to_pylist()
    [[{'role': 'user', 'content': '2 + 2?'}]]
    """
    rows = table.column("messages").to_pylist() if "messages" in table.column_names else []
    alone = [len(row or ()) == 1 and row[0]["role"] == "document" for row in rows]
    if not any(alone):
        return None
    asked = [[{**row[0], "role": "user"}] if only else row for row, only in zip(rows, alone, strict=True)]
    return table.set_column(table.schema.get_field_index("messages"), "messages", pa.array(asked, MESSAGES))


def _rows(table: pa.Table, form: Form, faults: dict[str, list[int]]) -> Iterator[tuple[int, list[Message], str | None]]:
    number = 0
    for batch in table.select(list(form.columns)).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            number += 1
            try:
                tools = tools_of(row[form.tools]) if form.tools else None
                for messages in rows_of(row, form):
                    for name in (*_odd(messages), *_odd_row(row, form, messages)):
                        if number not in faults[name][-1:]:
                            faults[name].append(number)
                    yield number, messages, tools
            except Fault as fault:
                raise DataError(f"Row {number}: {fault} ({form.name}: {', '.join(map(repr, form.columns))}).") from None


def _odd(messages: Sequence[Message]) -> Iterator[str]:
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        yield "no_answer"
    elif roles[-1] != "assistant":
        yield "open_end"
    empty = {message["role"] for message in messages if not message["content"].strip()}
    if "assistant" in empty:
        yield "empty_answers"
    if empty - {"assistant"}:
        yield "empty_messages"
    if any(one == other != "tool" for one, other in pairwise(roles)):
        yield "repeated_roles"
    if any(message["role"] == "assistant" and "<tool_call>\n" in message["content"] for message in messages):
        yield "tool_calls"
    if "system" in roles[1:] and roles[:2] != ["system", "system"]:
        yield "late_system"


def _odd_row(row: Row, form: Form, messages: Sequence[Message]) -> Iterator[str]:
    if form.system and (row[form.system] or "").strip() and [message["role"] for message in messages[:2]] == ["system"] * 2:
        yield "two_systems"


def _finding(name: str, numbers: list[int], total: int) -> Finding:
    first = ", ".join(map(str, numbers[:5])) + ", …" * (len(numbers) > 5)
    every = len(numbers) == total
    where = f"all {total} rows" if every else f"{len(numbers)} row{'s' * (len(numbers) != 1)} ({first})"
    # Prompts alone are what one asks a model about, and no mistake.
    known = name == "tool_calls" or (name == "no_answer" and every)
    return Finding("note" if known else "warning", name, _FAULTS[name].format(where))


def _unused(table: pa.Table, form: Form) -> Iterator[Finding]:
    kind = table.field(form.columns[0]).type
    fields = (
        {field.name for field in kind.value_type} if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) else set()
    )
    if unused := sorted(fields - form.fields):
        yield Finding("warning", "unused_fields", f"of the messages, these are not used: {', '.join(unused)}")


def _repeated(table: pa.Table, origins: Sequence[int]) -> pa.Table:
    """Give every instance the other columns of its task; ids get the number of the instance, to stay apart."""
    repeated = table.take(pa.array([number - 1 for number in origins]))
    if "id" not in table.column_names:
        return repeated
    instances, seen = Counter(origins), Counter[int]()
    ids = []
    for number, task in zip(origins, repeated.column("id").to_pylist(), strict=True):
        seen[number] += 1
        ids.append(f"{task}-{seen[number]}" if instances[number] > 1 else str(task))
    return repeated.set_column(repeated.schema.get_field_index("id"), "id", pa.array(ids))


def _document(table: pa.Table) -> str | None:
    others = {name.lower() for name in table.column_names} - BESIDE
    return (
        "text" if others == {"text"} and "text" in table.column_names and pa.types.is_string(table.field("text").type) else None
    )


def _documents(table: pa.Table, text: str) -> tuple[pa.Table, tuple[Finding, ...]]:
    texts: list[str | None] = table.column(text).to_pylist()
    bare = [number for number, each in enumerate(texts, 1) if not (each or "").strip()]
    messages = [[{"role": "document", "content": each or ""}] for each in texts]
    told = [Finding("note", "form", f"documents: {text!r}, all of which is learned")]
    if bare:
        told.append(_finding("empty_messages", bare, len(texts)))
    rest: Mapping[str, Any] = {name: table.column(name) for name in table.column_names if name != text}
    return pa.table({"messages": pa.array(messages, MESSAGES), **rest}), tuple(told)
