"""How a multiple-choice question is asked: the evaluator asks so, and training data is written so."""

from __future__ import annotations

from collections.abc import Sequence

TEMPLATE = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'ANSWER: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before answering.\n\n"
    "{question}\n\n{choices}"
)
"""Byte for byte what inspect-ai's `multiple_choice(cot=True)` sends; kept here because importing it takes seconds."""

LETTERS = "ABCDEFGHIJ"
"""Of the choices of a question, as many as it can have."""


def render_multiple_choice(question: str, choices: Sequence[str]) -> str:
    """The user message that asks a question."""
    letters = [chr(ord("A") + position) for position in range(len(choices))]
    shown = "\n".join(f"{letter}) {choice}" for letter, choice in zip(letters, choices, strict=True))
    return TEMPLATE.format(letters=",".join(letters), question=question, choices=shown)
