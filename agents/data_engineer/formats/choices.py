"""Multiple-choice rows in their usual shapes: GPQA's columns, lists with an index or labels, A to D as columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agents.data_engineer.formats.cells import Cells, UnusableRow, as_text, decoded
from agents.data_engineer.formats.columns import GPQA, INDEX, compact
from agents.data_engineer.formats.rows import Row

MOST = 10
"""Choices of a question, A to J."""
_LETTER = re.compile(r"\(?([A-Ja-j])[).:]*")


def from_gpqa(cells: Cells) -> Row:
    """GPQA's columns give the choices no order: the right one stands first until the letters are balanced."""
    question, *choices = (cells.text(part) for part in GPQA)
    return _row(cells, question, choices, 0)


def from_distractors(cells: Cells) -> Row:
    """A right answer and wrong ones, as a list or a column each; the right one stands first, as with GPQA."""
    wrong = [cells.text(part) for part in cells.layout.columns if part.startswith("wrong ")]
    if cells.column("wrong"):
        wrong, _ = _listed(cells.value("wrong"), cells.column("wrong"))
    return _row(cells, _question(cells), [cells.text("correct"), *wrong], 0)


def from_choices(cells: Cells) -> Row:
    """A question, its choices as a list or a column each, and the right one by letter, label, position or text."""
    if not any(cells.value(part) for part in cells.layout.columns):
        return Row(id=cells.id, question="", choices=("", ""), answer="A")  # a blank row is left out as one
    parts = [part for part in cells.layout.columns if part.startswith("choice ")]
    if parts:
        choices, labels = [cells.text(part) for part in parts], [part.removeprefix("choice ") for part in parts]
        while len(choices) > 2 and not choices[-1].strip():  # fewer choices than the file has columns
            choices.pop()
            labels.pop()
    else:
        choices, labels = _listed(cells.value("choices"), cells.column("choices"))
    if not 2 <= len(choices) <= MOST:
        raise UnusableRow("choices", f"the row has {len(choices)} choices; 2 to {MOST} are read")
    return _row(cells, _question(cells), _bare(choices), _right(cells, choices, labels))


def _row(cells: Cells, question: str, choices: Sequence[str], right: int) -> Row:
    return Row(
        id=cells.id,
        question=question,
        choices=tuple(choices),
        answer=chr(ord("A") + right),
        explanation=cells.text("explanation"),
    )


def _question(cells: Cells) -> str:
    context = cells.text("context")
    question = cells.text("question")
    return f"{question}\n\n{context}" if context.strip() else question


def _listed(value: Any, column: str) -> tuple[list[str], list[str]]:
    """The choices, and their labels where they bring some: `[…]`, `{"text": […], "label": […]}`, `{"A": …}`."""
    value = decoded(value)
    labels: Sequence[Any] = ()
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), list):
            value, labels = value["text"], value.get("label") or ()
        else:
            present = {key: text for key, text in value.items() if text is not None}  # Parquet has all keys in all rows
            value, labels = list(present.values()), list(present)
    elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        labels = [entry.get("label", entry.get("key")) for entry in value]
        value = [entry.get("text", entry.get("content")) for entry in value]
    if not isinstance(value, list):
        raise UnusableRow("choices", f"`{column}` holds no list of choices")
    if len(labels) != len(value):
        labels = ()
    return [as_text(entry, column) for entry in value], [str(label) for label in labels]


def _bare(choices: list[str]) -> list[str]:
    """The choices without letters of their own, where all of them have theirs: `A) 6 N` is `6 N`."""
    parts = [re.match(r"\s*\(?([A-J])[).:]\s+(?=\S)", choice) for choice in choices]
    for position, part in enumerate(parts):
        if part is None or part[1] != chr(ord("A") + position):
            return choices
    return [choice[part.end() :] for choice, part in zip(choices, parts, strict=True) if part]


def _right(cells: Cells, choices: Sequence[str], labels: Sequence[str]) -> int:
    """Position of the right choice. Whole numbers count from 0, as MMLU's do, unless they are labels of the choices."""
    column = cells.column("answer")
    value = cells.value("answer")
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    told = as_text(value, column).strip()
    found: int | None = None
    if told in labels:
        found = labels.index(told)
    elif type(value) is int or (compact(column) in INDEX and told.isdecimal()):
        found = int(told)
    elif (position := _position(told, choices)) is not None:
        found = position
    elif letter := _LETTER.fullmatch(told):
        found = ord(letter[1].upper()) - ord("A")
    elif told.isdecimal():
        found = int(told)
    if found is None or not 0 <= found < len(choices):
        known = f"letters, their texts, or 0 to {len(choices) - 1}"
        raise UnusableRow("answer_not_among_choices", f"`{column}` is `{told[:40]}`, not one of the choices ({known})")
    return found


def _position(told: str, choices: Sequence[str]) -> int | None:
    """Where the answer stands among the choices, word for word, first; a row that offers it twice is left out later."""
    same = [position for position, choice in enumerate(choices) if choice.strip() == told]
    return same[0] if told and same else None
