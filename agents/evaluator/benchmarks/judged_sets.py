"""The published benchmarks that a language model grades, from the files that PostTrainBench has of them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from agents.evaluator.benchmarks.items import Message, TextItem, half_of
from agents.evaluator.benchmarks.published import Table
from agents.evaluator.benchmarks.registry import Entry
from agents.evaluator.benchmarks.rubrics import KEY, criteria_of
from agents.evaluator.scoring.graded import BASELINE
from shared_memory.errors import BadInput

WRITING = "creative_writing"
"""The category of Arena-Hard's questions that PostTrainBench asks."""
THEME = "theme:"


def healthbench_items(tables: list[Table], entry: Entry) -> tuple[TextItem, ...]:
    """Items of HealthBench's rows: `prompt_id`, `prompt` ([messages]), `rubrics` and `example_tags`.

    Raises BadInput for a row of another layout.
    """
    return tuple(_conversation(row, f"{entry.name}, row {number}") for number, row in enumerate(tables[0], 1))


def _conversation(row: dict[str, Any], where: str) -> TextItem:
    try:
        name, tags = str(row["prompt_id"]), row.get("example_tags") or ()
        return TextItem(
            id=name,
            prompt=tuple(Message(role=turn["role"], content=turn["content"]) for turn in row["prompt"]),
            metadata={KEY: [each.plain() for each in criteria_of(row["rubrics"])]},
            category=next((tag.removeprefix(THEME) for tag in tags if tag.startswith(THEME)), ""),
            part=half_of(name),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise BadInput(f"{where} is not laid out as HealthBench ({type(error).__name__}); check the file") from error


def arena_hard_items(tables: list[Table], entry: Entry) -> tuple[TextItem, ...]:
    """Items of Arena-Hard's questions (`uid`, `category`, `prompt`) and of a baseline's answers to them.

    Those have `uid` and `messages`, of which the last holds the answer. Raises BadInput for rows of another layout, and
    for a question without an answer of the baseline.
    """
    questions, answers = tables
    given = dict(_answer(row, f"{entry.files[1]}, row {number}") for number, row in enumerate(answers, 1))
    asked = [
        _question(row, given, f"{entry.files[0]}, row {number}")
        for number, row in enumerate(questions, 1)
        if row.get("category") == WRITING
    ]
    if not asked:
        raise BadInput(f"{entry.files[0]} has no question of the category {WRITING}; check the file")
    return tuple(asked)


def _answer(row: dict[str, Any], where: str) -> tuple[str, str]:
    try:
        content = row["messages"][-1]["content"]
        return str(row["uid"]), content["answer"] if isinstance(content, dict) else str(content)
    except (KeyError, TypeError, IndexError) as error:
        raise BadInput(
            f"{where} is not laid out as an answer of Arena-Hard ({type(error).__name__}); check the file"
        ) from error


def _question(row: dict[str, Any], answers: dict[str, str], where: str) -> TextItem:
    try:
        name = str(row["uid"])
        prompt = (Message(role="user", content=row["prompt"]),)
    except (KeyError, ValidationError) as error:
        raise BadInput(
            f"{where} is not laid out as a question of Arena-Hard ({type(error).__name__}); check the file"
        ) from error
    if name not in answers:
        raise BadInput(f"{where}: the baseline has no answer to it; the two files belong together")
    return TextItem(id=name, prompt=prompt, metadata={BASELINE: answers[name]}, category=WRITING, part=half_of(name))
