"""Scorers in inspect-ai's form, for what it has none for."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents.evaluator.scoring import calls

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

MARK = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}|####[ \t]*([^\n]+)|ANSWER[ \t]*:[ \t]*([^\n]+)", re.IGNORECASE)
"""Answers as MATH, GSM8K and multiple-choice evaluators have them marked."""
LONGEST_ANSWER = 10_000
"""Characters that a pattern is matched with."""
NUMBER = re.compile(r"[-+]?(\d\.?){1,5}")
"""Compared by value, so that a sign counts; inspect rounds longer ones to five digits."""


def answer_in(reply: str) -> str:
    """The last marked answer, or all of a reply that marks none."""
    *_, last = [None, *MARK.finditer(reply)]
    return next(filter(None, last.groups()), "") if last else reply


def numeric_match() -> Scorer:
    """inspect's `match(numeric=True)` between the two marked answers: their last numbers, by value."""
    from inspect_ai.scorer import Target, match

    same = match(numeric=True)

    async def score(state: TaskState, target: Target) -> Any:
        return await same(state, Target(answer_in(target.text)))

    return of_the_answer("numeric", score)


def pattern_match() -> Scorer:
    """The reference is a regular expression that all of the marked answer matches."""
    from inspect_ai.scorer import CORRECT, INCORRECT, Score

    async def score(state: TaskState, target: Target) -> Score:
        said = state.output.completion.strip()[:LONGEST_ANSWER]
        return Score(value=CORRECT if re.fullmatch(target.text, said) else INCORRECT, answer=said)

    return of_the_answer("regex", score)


def same_calls() -> Scorer:
    """The reply makes the function calls of the item's metadata, `calls`, and no others; see calls.py."""
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer

    @scorer(metrics=[accuracy()], name="calls")
    def structure() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            made = calls.calls_in(state.output.completion)
            right = made is not None and calls.same(made, calls.of_messages(state.metadata["calls"]))
            return Score(value=CORRECT if right else INCORRECT, answer=None if made is None else str(made))

        return score

    made: Scorer = structure()
    return made


def of_the_answer(name: str, inner: Callable[..., Any]) -> Scorer:
    """A scorer that sees the marked answer of a reply, or all of one that marks none."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import accuracy, scorer

    @scorer(metrics=[accuracy()], name=name)
    def narrowed() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score | None:
            said = copy.copy(state)
            said.output = ModelOutput.from_content(str(state.model), answer_in(state.output.completion))
            found: Score | None = await inner(said, target)
            return found

        return score

    made: Scorer = narrowed()
    return made


def exact_match() -> Scorer:
    """inspect's `match(location="exact")`: case, and blanks and punctuation around the answer, do not count.

    A reply that marks its answer is matched by that, unless the right one is marked as well; by value where the right
    answer is a number.
    """
    from inspect_ai.scorer import accuracy, match, scorer

    @scorer(metrics=[accuracy()], name="exact")
    def either() -> Scorer:
        text, number = match("exact"), match("exact", numeric=True)

        async def score(state: TaskState, target: Target) -> Score | None:
            match_either = number if NUMBER.fullmatch(target.text.strip()) else text
            marked = MARK.search(target.text)
            return await (match_either if marked else of_the_answer("exact", match_either))(state, target)

        return score

    made: Scorer = either()
    return made
