"""Conversations of every usual kind as messages: OpenAI's with tools, ShareGPT's, and transcripts in one text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agents.data_engineer.formats.cells import Cells, UnusableRow, as_text, decoded
from agents.data_engineer.formats.rows import Message, Row

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
    "function_call": "assistant",
}  # fmt: skip
"""What data sets call who speaks → what chat templates call it; the turns of `function_call` are nothing but a call."""
REASONING = ("reasoning_content", "reasoning", "thinking")
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_KNOWN = frozenset(ROLES.values())


def from_chat(cells: Cells) -> Row:
    """The last reply is the completion, everything before it the prompt; what the user says after it is left out."""
    messages = messages_of(cells, "messages")
    last = len(messages) - 1
    while last >= 0 and messages[last].role != "assistant":
        last -= 1
    if messages and last < 0:
        column = cells.column("messages")
        raise UnusableRow("no_reply", f"`{column}` has no reply: the last of its messages is not the assistant's")
    last = max(last, 0)
    return pair_row(cells, with_system(messages[:last], cells), messages[last : last + 1])


def from_pair(cells: Cells) -> Row:
    """A question and its answer, both as text or as lists of chat messages."""
    row = pair_row(cells, asked(cells), messages_of(cells, "answer", "assistant"))
    if not cells.column("label"):
        return row
    return replace(row, label=_verdict(cells.value("label")))


def from_text(cells: Cells) -> Row:
    """Text that nobody asked for, to be learned as it stands."""
    return Row(id=cells.id, question="", passage=cells.text("text"))


def _verdict(value: Any) -> bool | None:
    """KTO's label; None for what is no yes or no, as where `label` is a topic."""
    return _VERDICTS.get(str(value).strip().lower())


_VERDICTS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def pair_row(cells: Cells, prompt: tuple[Message, ...], completion: tuple[Message, ...]) -> Row:
    return Row(
        id=cells.id,
        question=last_question(prompt),
        prompt=prompt,
        completion=completion,
        tools=_tools(cells) if cells.column("tools") else "",
    )


def last_question(prompt: Sequence[Message]) -> str:
    for message in reversed(prompt):
        if message.role == "user":
            return message.content
    return ""


def asked(cells: Cells) -> tuple[Message, ...]:
    """The question as messages, with what it is about behind it, and the system message before it."""
    prompt = messages_of(cells, "question", "user")
    context = cells.text("context")
    if prompt and context.strip():
        prompt = (*prompt[:-1], replace(prompt[-1], content=f"{prompt[-1].content}\n\n{context}"))
    return with_system(prompt, cells)


def with_system(prompt: tuple[Message, ...], cells: Cells) -> tuple[Message, ...]:
    """A prompt with the row's system message, unless it brings one."""
    if not cells.column("system"):
        return prompt
    system = cells.text("system")
    if not system.strip() or not prompt or prompt[0].role == "system":
        return prompt
    return (Message("system", system), *prompt)


def messages_of(cells: Cells, part: str, role: str = "") -> tuple[Message, ...]:
    """The chat messages of a part; a text is one message of `role`, if it may be one, an absent value none."""
    value = cells.value(part)
    if type(value) is str and (chat := decoded(value)) is not value and _is_chat(chat):
        value = chat
    column = cells.column(part)
    if isinstance(value, list):
        return tuple(_message(entry, column) for entry in value)
    if isinstance(value, dict) and _is_chat([value]):
        return (_message(value, column),)
    content = as_text(value, column)
    if content.strip() and not role:
        raise UnusableRow("bad_message", f"`{column}` holds text, not a list of messages")
    return (Message(role, content),) if content else ()


def transcript(text: str) -> tuple[Message, ...]:
    r"""The turns of `\n\nHuman: … \n\nAssistant: …` [Anthropic's HH-RLHF]; none where the text is no such thing."""
    start, *parts = _TURN.split(text)
    if start.strip() or "Assistant" not in parts:
        return ()
    turns = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message("user" if speaker == "Human" else "assistant", said.strip()) for speaker, said in turns)


def _is_chat(value: Any) -> bool:
    pairs = ({"role", "content"}, {"from", "value"})
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(entry, dict) and any(pair <= set(entry) for pair in pairs) for entry in value)
    )


def _message(entry: Any, column: str) -> Message:
    """`{"role": …, "content": …}`, or ShareGPT's `{"from": …, "value": …}`."""
    if type(entry) is not dict:
        entry = {}
    role = entry.get("role")
    content = "content" if role is not None else "value"
    if role is None:
        role = entry.get("from")
    calls = (len(entry) > 2 or content not in entry) and (entry.get("tool_calls") or entry.get("function_call"))
    if type(role) is not str or (content not in entry and not calls):
        raise UnusableRow("bad_message", f'`{column}` has an entry that is not {{"role": …, "content": …}}')
    speaker = role if role in _KNOWN else ROLES.get(role.strip().lower().replace("-", "_"))
    if speaker is None:
        known = ", ".join(ROLES)
        raise UnusableRow("unknown_role", f"`{column}` has the role `{role[:40]}`; it is one of {known}")
    said = entry.get(content)
    if role == "function_call":
        return Message("assistant", "", tool_calls=_calls(decoded(said), column))
    text = said if type(said) is str and said.isascii() else _content(said, content)
    if len(entry) == 2 and not calls:
        return Message(speaker, text)
    thought = next((as_text(entry[key], key) for key in REASONING if entry.get(key)), "")
    return Message(
        speaker,
        text,
        tool_calls=_calls(calls, column) if calls else "",
        reasoning=thought if speaker == "assistant" else "",
        name=as_text(entry.get("name"), "name") if speaker == "tool" else "",
        tool_call_id=as_text(entry.get("tool_call_id"), "tool_call_id") if speaker == "tool" else "",
    )


def _content(value: Any, column: str) -> str:
    """Text, or OpenAI's list of parts where all of them are text."""
    if not isinstance(value, list):
        return as_text(value, column)
    parts = []
    for part in value:
        if not (isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)):
            raise UnusableRow("not_text", f"`{column}` holds a list, not text; only parts of type `text` are read")
        parts.append(as_text(part["text"], column))
    return "".join(parts)


def _calls(value: Any, column: str) -> str:
    """Calls of tools in OpenAI's form, the arguments as an object: templates write them out themselves."""
    calls = []
    for entry in value if isinstance(value, list) else [value]:
        function = entry.get("function", entry) if isinstance(entry, dict) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise UnusableRow("tool_calls", f"`{column}` calls a tool without saying its name")
        arguments = function.get("arguments")
        arguments = decoded(arguments) if arguments else {}
        if not isinstance(arguments, dict):
            raise UnusableRow(
                "tool_calls", f"`{column}` calls `{function['name'][:40]}` with arguments that are no object"
            )
        call: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        if isinstance(entry.get("id"), str):
            call = {"id": entry["id"]} | call
        calls.append(call)
    return _as_json(calls, column)


def _tools(cells: Cells) -> str:
    column = cells.column("tools")
    value = decoded(cells.value("tools"))
    if not value or (isinstance(value, str) and not value.strip()):
        return ""
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise UnusableRow("tool_calls", f"`{column}` holds no list of tools as JSON schemas")
    return _as_json(value, column)


def _as_json(value: Any, column: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except (ValueError, RecursionError) as error:
        raise UnusableRow("tool_calls", f"`{column}` holds what is no JSON ({error})") from error
