"""A training row, whatever format it came in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    """system, user, assistant or tool."""
    content: str
    """Empty where the turn only calls tools."""
    tool_calls: str = ""
    """JSON list of `{"type": "function", "function": {"name", "arguments"}}`: as text, a message compares by value."""
    reasoning: str = ""
    """What a reasoning model thinks before it speaks; templates know it as `reasoning_content`."""
    name: str = ""
    """Of the tool that answers."""
    tool_call_id: str = ""

    @property
    def says(self) -> str:
        """All of its text."""
        if not (self.reasoning or self.tool_calls):
            return self.content
        return "\n".join(filter(None, (self.reasoning, self.content, self.tool_calls)))

    def plain(self) -> dict[str, Any]:
        """As chat templates take it."""
        value: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            value["reasoning_content"] = self.reasoning
        if self.tool_calls:
            value["tool_calls"] = json.loads(self.tool_calls)
        if self.name:
            value["name"] = self.name
        if self.tool_call_id:
            value["tool_call_id"] = self.tool_call_id
        return value


@dataclass(frozen=True, slots=True)
class Row:
    """One training row. A multiple-choice row gets its messages when it is rendered; until then they are empty."""

    id: str
    """`SOURCE:ROW`, both counted from 1: the same for as long as the sources and their order are."""
    question: str
    """What is asked: the question of a multiple-choice row, else the last message of the user."""
    prompt: tuple[Message, ...] = ()
    completion: tuple[Message, ...] = ()
    """The reply; of a preference row the chosen one."""
    choices: tuple[str, ...] | None = None
    """None where the row is not multiple choice."""
    answer: str | None = None
    """Letter of the right choice."""
    explanation: str = ""
    """Worked solution of a multiple-choice row."""
    rejected: tuple[Message, ...] = ()
    """The worse reply of a preference row, which always has one, if a blank one; empty in other rows."""
    label: bool | None = None
    """Whether the reply is a wanted one (KTO); None where nobody said."""
    tools: str = ""
    """JSON list of the tools that may be called, as JSON schemas; empty where there are none."""
    passage: str = ""
    """Text without a question, to be learned as it stands; such a row has nothing else."""

    @property
    def text(self) -> str:
        """Everything that a model would read or write in this row, one part a line."""
        if self.passage:
            return self.passage
        messages = [message.says for message in self.prompt + self.completion + self.rejected]
        return "\n".join(messages or [self.question, *(self.choices or ()), self.explanation])
