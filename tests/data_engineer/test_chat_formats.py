"""Conversations with tools, parts and reasoning, transcripts, and text without a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.data_engineer.formats.tables import Message, Row, read_sources
from shared_memory.errors import BadInput
from tests.data_engineer.rows import write_jsonl

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def read(tmp_path: Path, *rows: dict[str, Any]) -> list[Row]:
    return read_sources([write_jsonl(tmp_path / "rows.jsonl", rows)])


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_calls_answers_and_lists_of_tools_are_kept_in_one_form(tmp_path: Path) -> None:
    said = {"name": "weather", "arguments": '{"city": "Bern"}'}
    openai = {
        "messages": [
            user("Bern?"),
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": said}]},
            {"role": "tool", "content": "Rain", "tool_call_id": "c1", "name": "weather"},
            {"role": "assistant", "content": "It rains."},
        ],
        "tools": [TOOL],
    }
    (row,) = read(tmp_path, openai)
    assert [message.plain() for message in row.prompt] == [
        user("Bern?"),
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", **CALL}]},
        {"role": "tool", "content": "Rain", "tool_call_id": "c1", "name": "weather"},
    ]
    assert row.completion == (Message("assistant", "It rains."),)
    assert json.loads(row.tools) == [TOOL]
    assert "weather" in row.text
    older = {"role": "assistant", "content": "", "function_call": said}
    (row,) = read(tmp_path, {"messages": [user("Bern?"), older], "tools": json.dumps([TOOL])})
    assert (row.completion[0].plain()["tool_calls"], json.loads(row.tools)) == ([CALL], [TOOL])


def test_sharegpts_calls_and_observations_are_calls_and_answers(tmp_path: Path) -> None:
    turns = [("human", "Bern?"), ("function_call", json.dumps({"name": "weather", "arguments": {"city": "Bern"}})),
             ("observation", "Rain"), ("gpt", "It rains.")]  # fmt: skip
    chat = {"conversations": [{"from": speaker, "value": text} for speaker, text in turns], "tools": "[]"}
    (row,) = read(tmp_path, chat)
    assert [message.role for message in row.prompt] == ["user", "assistant", "tool"]
    assert row.prompt[1].plain()["tool_calls"] == [CALL]
    assert (row.completion, row.tools) == ((Message("assistant", "It rains."),), "")


def test_parts_of_text_are_joined_and_reasoning_is_kept_apart(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    (row,) = read(tmp_path, {"messages": [user(parts), {"role": "assistant", "content": "A cow.", "thinking": "Moo?"}]})
    assert row.question == "What is this?"
    assert row.completion[0].plain() == {"role": "assistant", "content": "A cow.", "reasoning_content": "Moo?"}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "only parts of type `text` are read"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1"}}]},
            "arguments that are no",
        ),
        ({"role": "assistant", "tool_calls": ["f"]}, "calls a tool without saying its name"),
        ({"role": "assistant", "content": None, "tool_calls": None, "x": 1, "y": [{}]}, None),
    ],
)
def test_what_cannot_be_read_of_a_message_is_said(tmp_path: Path, message: dict[str, Any], why: str | None) -> None:
    row = {"messages": [user("Hi"), message, {"role": "assistant", "content": "Hello"}]}
    if why is None:
        assert read(tmp_path, row)[0].prompt[1] == Message("assistant", "")
        return
    with pytest.raises(BadInput, match=f"row 1: .*{why}"):
        read(tmp_path, row)


def test_text_without_a_question_is_learned_as_it_stands(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"text": "Cows say moo.", "url": "…"})
    assert (row.passage, row.text, row.prompt, row.completion) == ("Cows say moo.", "Cows say moo.", (), ())
