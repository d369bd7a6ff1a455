"""Asks a language model many things, some of them side by side; what goes wrong with one leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from agents.llm import InvalidAnswer, LanguageModel
from agents.provider import Message
from shared_memory.errors import BudgetSpent
from shared_memory.records import Record

SIDE_BY_SIDE = 4
"""Requests in flight together; so many at most are paid for and lost where the run is killed."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Question(Generic[R]):
    """One request for a record."""

    kind: type[R]
    messages: Sequence[Message]
    fault: Callable[[R], str]
    """What is wrong with a well-formed answer; empty accepts it."""


NoAnswer = InvalidAnswer | BudgetSpent
"""Why there is none: the model gave no usable one, or a cap leaves no room for the request."""


def ask_some(model: LanguageModel, questions: Sequence[Question[R]]) -> list[R | NoAnswer]:
    """The outcomes of up to SIDE_BY_SIDE questions, in their order.

    Raises Unavailable or ContextExhausted where the model cannot be used, when all that were sent have ended.
    """

    def outcome(question: Question[R]) -> R | NoAnswer:
        try:
            return model.ask(question.kind, question.messages, question.fault)
        except (InvalidAnswer, BudgetSpent) as error:
            return error

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        return list(threads.map(outcome, questions))


def heedless() -> None:
    """Nothing to heed: all questions are asked."""


def ask_all(
    model: LanguageModel, questions: Iterable[Question[R]], heed: Callable[[], None] = heedless
) -> list[R | NoAnswer]:
    """The outcomes of all questions, in their order; what comes after a spent cap is not asked, and has its outcome.

    `heed` is called before each few requests, and ends it all by raising: what was answered is on disk.
    """
    outcomes: list[R | NoAnswer] = []
    left = iter(questions)
    spent: BudgetSpent | None = None
    while some := list(islice(left, SIDE_BY_SIDE)):
        heed()
        outcomes += [spent] * len(some) if spent else ask_some(model, some)
        spent = spent or next((each for each in outcomes[-len(some) :] if isinstance(each, BudgetSpent)), None)
    return outcomes
