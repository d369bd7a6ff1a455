"""Turns free text and flags into a goal, or into a draft of a goal file that says what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Unpack

from postgrad.api import Overrides, as_goal
from postgrad.goal_file import free_name, write_goal_file
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.goal_reading import parse_goal
from shared_memory.settings import Settings

DRAFT = Path("goal.toml")


def is_goal_file(argument: str) -> bool:
    """Whether what was typed names a file: one that is there, or a word that looks like the path of one."""
    named = argument.strip()
    return named.endswith(".toml") or (" " not in named and (Path(named).is_file() or "/" in named))


def goal_from_text(words: str, settings: Settings, **flags: Unpack[Overrides]) -> Goal:
    """The goal that the flags fill, and that a language model reads out of the text where one is configured.

    Raises BadInput where something is missing; a draft is then written in the folder one stands in, for the person to
    complete.
    """
    if not words.strip():
        raise BadInput("the goal is empty; say what you want, or give the path of a goal file")
    goal = as_goal({"text": words}, **flags)
    model = goal.brain.default or settings.brain
    if model != "playbook":
        goal = _read_by(model, goal, settings)
    missing = list(_missing(goal, settings))
    if not missing:
        return goal
    draft = write_goal_file(free_name(DRAFT), goal, [f"{what} ({how})" for what, how in missing])
    names = " and ".join(what for what, _ in missing)
    raise BadInput(f"the goal lacks {names}; complete {draft}, then: postgrad run {draft}")


def _missing(goal: Goal, settings: Settings) -> list[tuple[str, str]]:
    lacks = []
    if not goal.base_model:
        lacks.append(("base_model", "or --base-model: a Hub id, or a folder"))
    if not (goal.data.train or goal.data.generator or _is_taught(goal, settings)):
        lacks.append(("[data] train", "or --data: a file of rows to train on"))
    return lacks


def _is_taught(goal: Goal, settings: Settings) -> bool:
    """Whether a language model may write the rows: there is one, and something to measure on that it does not write."""
    from agents.brain import Role

    mind = goal.mind(Role.DATA_ENGINEER, settings.brain)
    return bool(goal.benchmark and (goal.data.teacher or mind != "playbook"))


def _read_by(model: str, goal: Goal, settings: Settings) -> Goal:
    """The goal with what the text says; what was spent on reading it is told, since no run has been opened yet."""
    from agents.goal_reader import read_goal_from_text
    from agents.llm import LanguageModel, Tally

    tally = Tally()
    reader = LanguageModel(model, api_base=goal.brain.api_base, cache=settings.home / "answers", meter=tally)
    given: dict[str, Any] = goal.model_dump(mode="json", exclude_defaults=True)
    read = parse_goal(read_goal_from_text(goal.text, given, reader), folder=Path.cwd())
    cost = "at an unknown price" if tally.usd_micro is None else f"for ${tally.usd_micro / 1e6:.4f}"
    print(f"{model} read the goal in {tally.tokens:,} tokens {cost}", file=sys.stderr)
    return read
