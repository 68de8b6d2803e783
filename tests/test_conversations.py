"""Conversations: every form gives the same messages; what is odd is told, what is none is refused by row."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from thawline.data.conversations import conversations
from thawline.data.json_rows import parse
from thawline.data.memory import to_table
from thawline.errors import DataError


def made(*rows: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows, and the text of each finding by its name."""
    result = conversations(to_table(list(rows)))
    assert result is not None
    return result[0].to_pylist(), {finding.name: finding.text for finding in result[1]}


def said(*texts: str, system: str = "") -> list[dict[str, str]]:
    """Messages of user and assistant in turn."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + turns


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"instruction": "q", "input": "", "output": "a"}, said("q", "a")),
        ({"instruction": "q", "input": "x", "output": "a", "category": "c"}, said("q\nx", "a")),
        ({"instruction": "q", "output": "a", "system": "s", "history": [["q0", "a0"]]}, said("q0", "a0", "q", "a", system="s")),
        ({"instruction": "q", "context": "x", "response": "a"}, said("q\nx", "a")),
        ({"instruction": "q", "instances": [{"input": "x", "output": "a"}]}, said("q\nx", "a")),
        ({"prompt": "q", "completion": "a"}, said("q", "a")),
        ({"prompt": said("q"), "completion": said("", "a")[1:]}, said("q", "a")),
        ({"messages": said("q", "a", system="s"), "id": "7"}, said("q", "a", system="s")),
        ({"messages": json.dumps(said("q", "a"))}, said("q", "a")),
        ({"messages": [{"role": "developer", "content": "s"}, *said("q", "a")]}, said("q", "a", system="s")),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "model", "content": "a"}]},
            said("q", "a"),
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
            said("q", "a", system="s"),
        ),
        ({"text": "t", "source": "u"}, [{"role": "document", "content": "t"}]),
    ],
)
def test_every_form(row: dict[str, Any], messages: list[dict[str, str]]) -> None:
    rows, told = made(row)
    assert rows[0]["messages"] == messages
    assert set(told) == {"form"}
    assert {name: row[name] for name in ("category", "id", "source") if name in row}.items() <= rows[0].items()


@pytest.mark.parametrize(
    "row",
    [
        {"text": "good", "label": "pos"},
        {"prompt": "q", "label": "toxic"},
        {"question": "q", "answer": "a"},
        {"messages": "hello", "label": "x"},
        {"tokens": ["a"], "tags": ["O"]},
    ],
)
def test_other_tables(row: dict[str, Any]) -> None:
    assert conversations(to_table([row])) is None


CALL = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("turn", "content"),
    [
        ({"from": "function_call", "value": '{"name": "add", "arguments": {"x": 1}}'}, CALL),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}],
            },
            CALL,
        ),
        (
            {"role": "assistant", "content": "Well.", "function_call": {"name": "add", "arguments": {"x": 1, "y": None}}},
            "Well.\n" + CALL,
        ),
    ],
)
def test_calls_of_tools_become_text(turn: dict[str, Any], content: str) -> None:
    key = "from" if "from" in turn else "role"
    text = {"from": "value", "role": "content"}[key]
    rows, told = made({"messages": [{key: "user", text: "q"}, turn, {key: "tool", text: "2"}], "tools": [{"name": "add"}]})
    assert rows[0]["messages"] == [*said("q", content), {"role": "tool", "content": "2"}]
    assert json.loads(rows[0]["tools"]) == [{"type": "function", "function": {"name": "add"}}]
    assert {"tool_calls", "open_end"} <= set(told)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": said("q", "")}, "empty_answers"),
        ({"messages": said(" ", "a")}, "empty_messages"),
        ({"messages": said("q", "a", "q")}, "open_end"),
        ({"messages": said("q")}, "no_answer"),
        ({"messages": [*said("q"), *said("q", "a")]}, "repeated_roles"),
        ({"messages": [*said("q"), *said("q", "a", system="s")]}, "late_system"),
    ],
)
def test_odd_rows_are_told_and_kept(row: dict[str, Any], name: str) -> None:
    rows, told = made({"messages": said("q", "a")}, row)
    assert "1 row (2)" in told[name]
    assert rows[1] == row


def test_prompts_alone_are_no_fault() -> None:
    result = conversations(pa.table({"prompt": ["q", "r"]}))
    assert result is not None
    assert [(finding.level, finding.name) for finding in result[1]] == [("note", "form"), ("note", "no_answer")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "asistant", "content": "a"}]}, "has the role 'asistant', did you mean 'assistant'?"),
        ({"messages": [{"role": "user", "content": None}]}, "Row 2: message 1 has no text"),
        ({"messages": []}, "Row 2: there are no messages"),
        ({"messages": None}, "Row 2: there are no messages"),
        ({"messages": json.dumps([{"role": "user", "content": [{"type": "image_url"}]}])}, "message 1 holds 'image_url'"),
        ({"messages": said("q", "a"), "tools": '{"name": "x"}'}, "Row 2: the tools are"),
    ],
)
def test_what_is_no_conversation_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        made({"messages": said("q", "a")}, row)
    assert str(caught.value).startswith("Row 2: ") and message in str(caught.value)


def test_every_instance_is_a_row() -> None:
    one, two = {"input": "", "output": "a"}, {"input": "x", "output": "b"}
    rows, told = made(
        {"id": "s0", "instruction": "q", "instances": [one, two]}, {"id": "s1", "instruction": "r", "instances": [one]}
    )
    assert [(row["id"], row["messages"]) for row in rows] == [
        ("s0-1", said("q", "a")),
        ("s0-2", said("q\nx", "b")),
        ("s1", said("r", "a")),
    ]
    assert "2 tasks with 3 instances" in told["instances"]


def test_fields_that_are_not_used_are_told() -> None:
    turns = [{**turn, "weight": 0} for turn in said("q", "a")]
    assert "weight" in made({"messages": turns})[1]["unused_fields"]


FILES = {
    "alpaca_en_demo": (999, 0),
    "alpaca_zh_demo": (1000, 0),
    "glaive_toolcall_en_demo": (300, 191),
    "identity": (91, 0),
    "seed_tasks_175": (175, 0),
    "user_oriented_instructions_252": (252, 0),
}


@pytest.mark.parametrize("name", FILES)
def test_real_files(name: str, shared: Path) -> None:
    parsed = parse(shared / "data/instruct" / f"{name}.jsonl", None)
    result = conversations(pa.Table.from_batches(list(parsed.batches), parsed.schema))
    assert result is not None
    table, told = result
    tools = len(table) - table["tools"].null_count if "tools" in table.column_names else 0
    assert (len(table), tools) == FILES[name]
    assert {finding.level for finding in told} == {"note"}
    assert all(row[-1]["role"] == "assistant" for row in table["messages"].to_pylist())
