"""Four-choice questions: the item, and the prompt that the evaluator asks it with."""

from __future__ import annotations

from collections.abc import Sequence

from shared_memory.records import Part, Record

TEMPLATE = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'ANSWER: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before answering.\n\n"
    "{question}\n\n{choices}"
)
"""Byte for byte what inspect-ai's `multiple_choice(cot=True)` sends; kept here because importing it takes seconds."""

LETTERS = "ABCD"


class Item(Record):
    """One question of a benchmark, its choices in the order in which they are shown."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: str
    """Letter of the right choice."""
    category: str = ""
    part: Part


def render_multiple_choice(question: str, choices: Sequence[str]) -> str:
    """The user message that asks a question."""
    letters = [chr(ord("A") + position) for position in range(len(choices))]
    shown = "\n".join(f"{letter}) {choice}" for letter, choice in zip(letters, choices, strict=True))
    return TEMPLATE.format(letters=",".join(letters), question=question, choices=shown)
