"""Multiple-choice rows whose choices are a list, as MMLU, MMLU-Pro and ARC have them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agents.evaluator.benchmarks.items import as_text
from agents.multiple_choice import LETTERS
from shared_memory.errors import BadInput

LISTED = (("question", "choices", "answer"), ("question", "choices", "answerKey"), ("question", "options", "answer"))
"""Columns of such rows. The answer is a letter, a label, the text of a choice, or its place, counted from 0."""
_OF_OTHERS = re.compile(r"\b(?:above|below|[A-J],? (?:and|or|nor) [A-J])\b|^(?:both|neither|all|none)\b", re.IGNORECASE)
"""See `keep_their_places`."""


def choices_of(row: Mapping[str, Any], columns: tuple[str, ...], where: str) -> tuple[list[str], int]:
    """The choices in the file's order, and the place of the right one.

    Raises BadInput, naming the row by `where`, for what is no list of different choices and for an answer that is not
    among them.
    """
    _, listed, answer = columns
    choices, labels = _listed(row.get(listed))
    if not 2 <= len(choices) <= len(LETTERS):
        raise BadInput(f"{where}: `{listed}` is no list of 2 to {len(LETTERS)} choices; mend or drop the row")
    if not all(choice.strip() for choice in choices):
        raise BadInput(f"{where}: `{listed}` has an empty choice; mend or drop the row")
    if len(set(choices)) < len(choices):
        raise BadInput(f"{where}: two of the {len(choices)} choices are the same; mend or drop the row")
    right = _right(row.get(answer), choices, labels)
    if right is None:
        raise BadInput(
            f"{where}: `{answer}` is `{str(row.get(answer))[:40]}`, which is not among the choices; it is a letter, "
            f"the text of a choice, or its place from 0 to {len(choices) - 1}; mend or drop the row"
        )
    return choices, right


def keep_their_places(choices: list[str]) -> bool:
    """Whether a choice speaks of the others (`all of the above`), so that they cannot be shown in another order."""
    return any(_OF_OTHERS.search(choice.strip()) for choice in choices)


def _listed(value: Any) -> tuple[list[str], list[str]]:
    """Choices and their labels, if they bring some: `[…]`, `{"text": […], "label": […]}`, either as JSON text too."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [], []
    labels: Any = []
    if isinstance(value, dict):
        value, labels = value.get("text"), value.get("label")
    if not isinstance(value, list) or not all(isinstance(entry, str | int | float) for entry in value):
        return [], []
    labels = labels if isinstance(labels, list) and len(labels) == len(value) else []
    return [as_text(entry) for entry in value], [as_text(label).strip() for label in labels]


def _right(told: Any, choices: list[str], labels: list[str]) -> int | None:
    """Place of the right choice; None where it is not among them. A number is a place, unless the choices are labelled
    with numbers; a text is first of all one of the choices."""
    if isinstance(told, float) and told.is_integer():
        told = int(told)
    text = as_text(told).strip()
    if text in labels:
        return labels.index(text)
    texts = [choice.strip() for choice in choices]
    if type(told) is not int:
        if text in texts:
            return texts.index(text)
        if letter := re.fullmatch(r"\(?([A-Ja-j])[).:]?", text):
            place = LETTERS.index(letter[1].upper())
            return place if place < len(choices) else None
    return int(text) if text.isascii() and text.isdecimal() and int(text) < len(choices) else None
