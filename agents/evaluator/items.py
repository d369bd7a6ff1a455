"""The items of a benchmark: questions with four choices, and prompts with the text that should follow."""

from __future__ import annotations

from shared_memory.records import Part, Record


class Item(Record):
    """One question of a benchmark, its choices in the order in which they are shown."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: str
    """Letter of the right choice."""
    category: str = ""
    part: Part


class Message(Record):
    role: str
    content: str


class TextItem(Record):
    """A prompt and the text that should follow it."""

    id: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    """The reference answer; of a preference pair the chosen one."""
    rejected: tuple[Message, ...] = ()
    """Of a preference pair only."""
    category: str = ""
    part: Part

    @property
    def question(self) -> str:
        """What is asked: the last message of the user."""
        return next((message.content for message in reversed(self.prompt) if message.role == "user"), "")

    @property
    def choices(self) -> tuple[str, ...]:
        return ()
