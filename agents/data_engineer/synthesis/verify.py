"""Whether rows that were written for this run are right: by calculation, by majority, or by a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

from pydantic import Field

from agents.asking import Question, ask_all, heedless
from agents.data_engineer.filters import letter_index, normalised
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.proposal import Verification
from agents.data_engineer.synthesis.calculations import calculations, is_among, numbers_in, value_of
from agents.llm import LanguageModel
from agents.multiple_choice import LETTERS
from agents.prompting import conversation, fill
from shared_memory.records import Record

PROMPTS = Path(__file__).parents[1] / "prompts"
ROWS_AT_ONCE = 10
"""Rows that one request is about."""
ATTEMPTS = 3
"""Answers among which the majority decides."""
FEW_WORDS = 20
"""Words up to which a reply is compared as it stands; a longer one by its last number, if it has one."""
SAMPLE = 10
"""Rows that are looked at before all others."""
MOST_WRONG = 0.2
"""Share of the sample that may be wrong: with more, the rest is not worth looking at [field notes of 166 runs]."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that was written, with the arithmetic that its writer says gives the answer."""

    row: Row
    computation: str = ""

    @property
    def reply(self) -> str:
        """The right choice, or what the model is to say."""
        if self.row.choices is not None:
            return self.row.choices[letter_index(self.row.answer or "A")]
        return "\n".join(message.content for message in self.row.completion)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has come to."""

    right: bool | None
    """None where the row shows nothing that could be checked, or nobody was left to check it."""
    why: str = ""


class Verifier(Protocol):
    """Checks rows; the outcomes come in their order."""

    name: Verification

    def check(self, candidates: Sequence[Candidate]) -> list[Checked]: ...


class Computed:
    """Does again what a row calculates."""

    name: Verification = "computed"

    def check(self, candidates: Sequence[Candidate]) -> list[Checked]:
        return [_computed(candidate) for candidate in candidates]


def _computed(candidate: Candidate) -> Checked:
    row = candidate.row
    found = calculations("\n".join([row.explanation, candidate.reply]))
    wrong = next((each for each in found if not each.holds), None)
    if wrong is not None:
        return Checked(False, f"{wrong.said} is wrong: the left side is {wrong.left:g}")
    result = value_of(candidate.computation) if candidate.computation.strip() else None
    if result is not None and not is_among(result, candidate.reply):
        return Checked(False, f"{candidate.computation} is {result:g}, which the answer does not say")
    if result is None and found and row.choices is not None:
        # Choices may be rounded, or in other units; the value of a wrong one is a wrong letter all the same.
        value, marked = found[-1].right, letter_index(row.answer or "A")
        others = [choice for at, choice in enumerate(row.choices) if at != marked]
        if not is_among(value, row.choices[marked]) and any(is_among(value, choice) for choice in others):
            return Checked(False, f"it works out {value:g} and marks “{candidate.reply}” as right")
    return Checked(True) if found or result is not None else Checked(None, "it shows no calculation")


class Solution(Record):
    number: int
    answer: str


class Solutions(Record):
    """Answers to the questions that a request asks."""

    answers: tuple[Solution, ...]


class Majority:
    """Asks a model each question several times, without the answer; most of what it says has to be the row's."""

    name: Verification = "majority"

    def __init__(self, model: LanguageModel, heed: Callable[[], None] = heedless) -> None:
        self._model, self._heed = model, heed

    def check(self, candidates: Sequence[Candidate]) -> list[Checked]:
        batches = list(_batches(candidates))
        attempts = range(1, ATTEMPTS + 1)
        questions = (self._question(batch, attempt) for batch in batches for attempt in attempts)
        outcomes = ask_all(self._model, questions, self._heed)
        checked = []
        for at, batch in enumerate(batches):
            tries = outcomes[at * ATTEMPTS : (at + 1) * ATTEMPTS]
            said = [
                {each.number: each.answer for each in outcome.answers} if isinstance(outcome, Solutions) else {}
                for outcome in tries
            ]
            checked += [
                _voted(candidate, [answers[number] for answers in said if number in answers])
                for number, candidate in enumerate(batch, 1)
            ]
        return checked

    def _question(self, batch: Sequence[Candidate], attempt: int) -> Question[Solutions]:
        choices = any(candidate.row.choices for candidate in batch)
        shown = [
            {"number": number, "question": candidate.row.question, **_lettered(candidate)}
            for number, candidate in enumerate(batch, 1)
        ]
        return _examined(Solutions, "solve", shown, choices=choices, attempt=attempt)


def _voted(candidate: Candidate, answers: Sequence[str]) -> Checked:
    if candidate.row.choices is None and not numbers_in(candidate.reply) and len(candidate.reply.split()) > FEW_WORDS:
        return Checked(None, "its reply is too long to be compared with another")
    if len(answers) <= ATTEMPTS // 2:
        return Checked(None, "it was not answered often enough")
    agree = sum(_agrees(answer, candidate) for answer in answers)
    if 2 * agree > len(answers):
        return Checked(True)
    return Checked(False, f"{len(answers) - agree} of {len(answers)} attempts answer otherwise")


def _agrees(answer: str, candidate: Candidate) -> bool:
    if candidate.row.choices is not None:
        choices: dict[str, str] = _lettered(candidate)["choices"]
        return choices.get(answer.strip().strip("().:").upper()[:1]) == candidate.reply
    numbers, own = numbers_in(answer), numbers_in(candidate.reply)
    if numbers and own:
        value, off = numbers[-1]
        return abs(value - own[-1][0]) <= max(off, own[-1][1]) + 1e-9 * abs(value)
    said = normalised(answer).strip(" .")
    return bool(said) and f" {said} " in f" {normalised(candidate.reply).replace('.', ' ')} "


def _lettered(candidate: Candidate) -> dict[str, Any]:
    """The choices under letters, in an order that the question alone decides: rows come with the right one first."""
    if candidate.row.choices is None:
        return {}
    choices = list(candidate.row.choices)
    Random(candidate.row.question).shuffle(choices)
    return {"choices": dict(zip(LETTERS, choices, strict=False))}


class Judgement(Record):
    number: int
    right: bool
    why: str = Field(default="", max_length=400)


class Judgements(Record):
    """What a judge says of the rows that a request shows."""

    rows: tuple[Judgement, ...]


class Judge:
    """A model reads question and reply, and says whether they are right."""

    name: Verification = "judge"

    def __init__(self, model: LanguageModel, heed: Callable[[], None] = heedless) -> None:
        self._model, self._heed = model, heed

    def check(self, candidates: Sequence[Candidate]) -> list[Checked]:
        batches = list(_batches(candidates))
        checked = []
        outcomes = ask_all(self._model, map(self._question, batches), self._heed)
        for batch, outcome in zip(batches, outcomes, strict=True):
            said = {each.number: each for each in outcome.rows} if isinstance(outcome, Judgements) else {}
            checked += [
                Checked(said[number].right, said[number].why) if number in said else Checked(None, "nobody judged it")
                for number in range(1, len(batch) + 1)
            ]
        return checked

    def _question(self, batch: Sequence[Candidate]) -> Question[Judgements]:
        shown = [
            {"number": number, "question": candidate.row.question, "reply": candidate.reply, **_beside(candidate)}
            for number, candidate in enumerate(batch, 1)
        ]
        return _examined(Judgements, "judge", shown)


def _beside(candidate: Candidate) -> dict[str, Any]:
    """The other choices and the working of a multiple-choice row."""
    row = candidate.row
    if row.choices is None:
        return {}
    return {
        "wrong choices": [choice for choice in row.choices if choice != candidate.reply],
        "explanation": row.explanation,
    }


K = TypeVar("K", Solutions, Judgements)


def _examined(
    kind: type[K], prompt: str, shown: Sequence[dict[str, Any]], choices: bool = False, **facts: Any
) -> Question[K]:
    """A request about some rows, which stand in the fence: whoever wrote them wrote no instruction."""
    task = fill(PROMPTS / f"{prompt}.md", rows=len(shown), choices=choices)
    system = fill(PROMPTS / "examiner.md")
    numbers = set(range(1, len(shown) + 1))

    def fault(answer: K) -> str:
        entries = answer.answers if isinstance(answer, Solutions) else answer.rows
        missing = numbers - {entry.number for entry in entries}
        return f"number {min(missing)} is missing; there are {len(numbers)} rows" if missing else ""

    messages = conversation(system, task, {"rows": len(shown), **facts}, {"rows": list(shown)}, kind)
    return Question(kind, messages, fault)


def _batches(candidates: Sequence[Candidate]) -> Iterator[Sequence[Candidate]]:
    return (candidates[start : start + ROWS_AT_ONCE] for start in range(0, len(candidates), ROWS_AT_ONCE))


def verifier_of(name: Verification, model: LanguageModel | None, heed: Callable[[], None] = heedless) -> Verifier:
    """The verifier of that name; `heed` is called between its requests and may raise, which ends the check.

    Raises ValueError where it needs a model and there is none.
    """
    if name == "computed":
        return Computed()
    if model is None:
        raise ValueError(f"`{name}` needs a language model")
    return Majority(model, heed) if name == "majority" else Judge(model, heed)


def sampled(candidates: Sequence[Candidate], seed: int) -> list[int]:
    """Places of the rows that are looked at first, in order; the same seed chooses the same."""
    return sorted(Random(seed).sample(range(len(candidates)), min(SAMPLE, len(candidates))))


def stop_reason(sample: Sequence[Candidate], outcomes: Sequence[Checked], how: Verification) -> str:
    """Why the rows that this is a sample of are not worth going on with; empty where they are."""
    wrong = [each for each in zip(sample, outcomes, strict=True) if each[1].right is False]
    if len(wrong) <= MOST_WRONG * len(sample):
        return ""
    candidate, checked = wrong[0]
    shown = " ".join(candidate.row.question.split())[:80]
    return (
        f"{len(wrong)} of {len(sample)} sampled rows are wrong ({how}; at most {MOST_WRONG:.0%} may be), "
        f"the first “{shown}”: {checked.why}"
    )
