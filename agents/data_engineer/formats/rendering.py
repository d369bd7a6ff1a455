"""Rows as the evaluator will ask them: its prompt, and where a template is given the very text that the model reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from agents.data_engineer.checks.chat_template import ChatTemplate, Refused
from agents.data_engineer.formats.rows import Message, Row
from agents.multiple_choice import LETTERS, render_multiple_choice
from shared_memory.errors import BadInput


def render(row: Row, *, place: bool = False) -> Row:
    """A multiple-choice row as chat: asked exactly as the evaluator asks, answered in the form that it scores.

    With `place`, an explanation is put so that its value leads to the letter (see `placed`).
    """
    if row.choices is None or row.answer is None:
        return row
    explanation = row.explanation.strip()
    if place:
        explanation = placed(explanation, row.choices, row.answer)
    reply = "\n\n".join(filter(None, [explanation, f"ANSWER: {row.answer}"]))
    return replace(
        row,
        prompt=(Message("user", render_multiple_choice(row.question, row.choices)),),
        completion=(Message("assistant", reply),),
    )


def placed(explanation: str, choices: Sequence[str], answer: str) -> str:
    """`55 J A, 5 W B, 55 N C, 9 m D; F = 11 × 5 = 55 N C`: the choices with their letters behind, before the working.

    A small model computes the right value and then cannot look up the letter that stands before it. What follows a
    token that it has read earlier it does repeat: that is what induction heads are for [Olsson et al. 2022, arXiv
    2209.11895]. So the letters are put where they follow. Only for an explanation that ends in the right choice.
    """
    value = explanation.removesuffix(".")
    if not value.endswith(choices[LETTERS.index(answer)]):
        return explanation
    listed = ", ".join(f"{choice} {letter}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{listed}\n{value} {answer}"


def as_text(row: Row, template: ChatTemplate) -> tuple[str, str]:
    """Prompt and completion of a rendered row as the evaluator's chat template writes them, byte for byte.

    The prompt ends where the model begins to write; the completion has its end-of-turn token. Raises BadInput for a row
    that the template does not render, or whose reply it does not put behind the prompt.
    """
    prompt = [message.plain() for message in row.prompt]
    tools = json.loads(row.tools) if row.tools else None
    try:
        asked = template.render(prompt, tools=tools, add_generation_prompt=True)
        whole = template.render([*prompt, *(message.plain() for message in row.completion)], tools=tools)
    except Refused as error:
        raise BadInput(f"row {row.id}: the chat template does not render it ({error}); leave it out") from error
    if not whole.startswith(asked):
        raise BadInput(f"row {row.id}: the chat template changes the prompt once there is a reply; train on messages")
    return asked, whole[len(asked) :]
