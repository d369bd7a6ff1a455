"""A person's question about a run, answered by a language model from what the team has on record, and never beyond."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from agents.llm import LanguageModel
from agents.prompting import COMMON, conversation, fill
from agents.provider import Answer
from shared_memory.records import Record
from shared_memory.steering import Names, Steer, Wish, bears_out

LONGEST_ANSWER = 4000
"""Characters."""
_EXPERIMENT = re.compile(r"(?<![\w./-])e\d+(?![\w-]|\.\d)")


class Steering(Record):
    """What the person asks for from now on, as far as they name it."""

    stop: bool = False
    """End the search after what has been begun."""
    prefer: tuple[Wish, ...] = ()
    avoid: tuple[Wish, ...] = ()


class TeamAnswer(Record):
    """What the team says."""

    answer: str
    cites: tuple[str, ...] = ()
    """Ids of what the answer rests on."""
    steer: Steering | None = None

    def steer_of(self, words: str) -> Steer | None:
        return Steer(words=words, **self.steer.model_dump()) if self.steer else None


def ask(
    question: str,
    facts: Mapping[str, Any],
    words: Mapping[str, Any],
    ids: Collection[str],
    names: Names,
    model: LanguageModel,
    on_answer: Callable[[str, Answer, bool], None] = lambda request, answer, kept: None,
) -> TeamAnswer:
    """The model's answer; it cites `ids` alone, and steers by what the question itself names and `names` has.

    `on_answer` is told of every answer, a refused one as well. Raises what `LanguageModel.ask` raises.
    """

    def fault(said: TeamAnswer) -> str:
        foreign = [cited for cited in said.cites if cited not in ids]
        foreign += [name for name in _EXPERIMENT.findall(said.answer) if name not in ids]
        if foreign:
            return f"`{foreign[0]}` is no id of this run"
        if not said.answer.strip() or len(said.answer) > LONGEST_ANSWER:
            return f"`answer` has between 1 and {LONGEST_ANSWER} characters"
        steer = said.steer_of(question)
        return bears_out(question, steer, names) if steer else ""

    task = fill(COMMON / "asked.md", question=question)
    messages = conversation(fill(COMMON / "chat.md"), task, facts, words, TeamAnswer)
    return model.ask(TeamAnswer, messages, fault, on_answer)
