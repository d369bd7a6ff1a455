"""The items of a benchmark: questions with choices, prompts with the text that should follow, whole texts, and the
samples of somebody else's task."""

from __future__ import annotations

import hashlib
from string import ascii_uppercase
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from agents.multiple_choice import LETTERS
from shared_memory.records import Part, Record


class Item(Record):
    """One question of a benchmark, its choices in the order in which they are shown."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: str
    """Letter of the right choice."""
    passage: str = ""
    """The text that the question is about, shown before it."""
    category: str = ""
    cluster: str = ""
    """What items share that are not independent of one another: a passage, a scenario. Empty stands alone."""
    part: Part

    @property
    def reference(self) -> str:
        """The right answer in words."""
        return self.choices[LETTERS.index(self.answer)]


class _Sparse(Record):
    """Its plain form has some keys only where there is something to say: chat templates ask whether they are there."""

    SPARSE: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_empty(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value or key not in self.SPARSE}


class Message(_Sparse):
    """One turn of a chat, as chat templates take it."""

    SPARSE = frozenset({"tool_calls", "reasoning_content", "name", "tool_call_id"})
    role: str
    content: str
    """Empty where the turn only calls tools."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Each `{"type": "function", "function": {"name", "arguments"}}`."""
    reasoning_content: str = ""
    """What a reasoning model thinks before it speaks."""
    name: str = ""
    """Of the tool that answers."""
    tool_call_id: str = ""

    @property
    def is_blank(self) -> bool:
        return not (self.content.strip() or self.tool_calls)


class TextItem(_Sparse):
    """A prompt and the text that should follow it, or a text without a prompt."""

    SPARSE = frozenset({"tools", "text", "metadata", "passage"})
    id: str
    prompt: tuple[Message, ...] = ()
    completion: tuple[Message, ...] = ()
    """The reference answer; of a preference pair the chosen one."""
    rejected: tuple[Message, ...] = ()
    """Of a preference pair only."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the tools that may be called."""
    text: str = ""
    """Of an item without prompt and completion: it is predicted from its beginning."""
    passage: str = ""
    """The text at the beginning of the prompt that the question is about."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What a scorer needs beside the reference: criteria, a baseline's answer."""
    category: str = ""
    cluster: str = ""
    """As of an `Item`."""
    part: Part

    @property
    def reference(self) -> str:
        """The right answer in words; empty where there is none."""
        return "\n".join(message.content for message in self.completion)

    @property
    def question(self) -> str:
        """What is asked: the last message of the user. Of a text, all of it."""
        asked = next((message.content for message in reversed(self.prompt) if message.role == "user"), "")
        return self.text or asked.removeprefix(self.passage).strip()

    @property
    def choices(self) -> tuple[str, ...]:
        return ()

    @property
    def can_be_matched(self) -> bool:
        """Whether an answer can be compared with the reference: one message, and not of signs alone, which the
        comparison strips; without tools, which whoever asks does not show."""
        if self.tools or len(self.completion) != 1 or any(turn.tool_calls for turn in self.prompt + self.completion):
            return False
        return any(map(str.isalnum, self.completion[0].content))


class TaskItem(_Sparse):
    """A sample of a task whose solver asks and whose scorer marks, as inspect-ai has them."""

    SPARSE = frozenset({"choices", "metadata"})
    id: str
    prompt: tuple[Message, ...]
    """The sample's input."""
    choices: tuple[str, ...] = ()
    target: tuple[str, ...]
    metadata: dict[str, Any] = Field(default_factory=dict)
    category: str = ""
    cluster: str = ""
    """As of an `Item`."""
    part: Part

    @property
    def question(self) -> str:
        """What is asked: the last message of the user."""
        return next((message.content for message in reversed(self.prompt) if message.role == "user"), "")

    @property
    def reference(self) -> str:
        """The right answer in words: of letters, the choices that they stand for."""
        if self.choices and all(target in ascii_uppercase[: len(self.choices)] for target in self.target):
            return "\n".join(self.choices[ascii_uppercase.index(target)] for target in self.target)
        return "\n".join(self.target)


AnyItem = Item | TextItem | TaskItem


def half_of(record_id: str) -> Part:
    """The part of an item by a hash of its id alone: in whatever sets it is, half of them selects and half reports."""
    return Part.SELECTION if hashlib.sha256(record_id.encode()).digest()[0] % 2 else Part.REPORT


def as_text(value: Any) -> str:
    """A value as text: absent ones are empty, and surrogates that no file can hold are replaced."""
    return "" if value is None else str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
