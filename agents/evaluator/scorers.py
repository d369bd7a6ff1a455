"""Scorers in inspect-ai's form, for what it has none for."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

MARK = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}|####[ \t]*([^\n]+)|ANSWER[ \t]*:[ \t]*([^\n]+)", re.IGNORECASE)
"""Answers as MATH, GSM8K and multiple-choice evaluators have them marked."""
NUMBER = re.compile(r"[-+]?(\d\.?){1,5}")
"""Compared by value, so that a sign counts; inspect rounds longer ones to five digits."""


def answer_in(reply: str) -> str:
    """The last marked answer, or all of a reply that marks none."""
    *_, last = [None, *MARK.finditer(reply)]
    return next(filter(None, last.groups()), "") if last else reply


def exact_match() -> Scorer:
    """inspect's `match(location="exact")`: case, and blanks and punctuation around the answer, do not count.

    A reply that marks its answer is matched by that, unless the right one is marked as well; by value where the right
    answer is a number.
    """
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import accuracy, match, scorer

    @scorer(metrics=[accuracy()], name="exact")
    def either() -> Scorer:
        text, number = match("exact"), match("exact", numeric=True)

        async def score(state: TaskState, target: Target) -> Score | None:
            if not MARK.search(target.text):
                said = copy.copy(state)
                said.output = ModelOutput.from_content(str(state.model), answer_in(state.output.completion))
                state = said
            return await (number if NUMBER.fullmatch(target.text.strip()) else text)(state, target)

        return score

    made: Scorer = either()
    return made
