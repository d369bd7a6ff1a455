"""Rows that a language model writes: for each cell of a taxonomy one, in batches, a few requests at a time.

Every answer is kept on disk by the digest of its request and every request is booked before it is sent (see
`agents.llm`), so a teaching that is begun again after a crash goes through what it had without asking twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import Field

from agents.asking import SIDE_BY_SIDE, NoAnswer, Question, ask_some
from agents.data_engineer.formats.rows import Message, Row
from agents.data_engineer.proposal import Verification
from agents.data_engineer.synthesis.taxonomy import Cell, Taxonomy, Topic, built_in, cells, completed, coverage
from agents.data_engineer.synthesis.verify import SAMPLE, Candidate, sampled, stop_reason, verifier_of
from agents.llm import InvalidAnswer, LanguageModel
from agents.prompting import conversation, fill
from shared_memory.errors import BudgetSpent
from shared_memory.records import Record

PROMPTS = Path(__file__).parents[1] / "prompts"
ROWS_A_REQUEST = 8
"""Rows that one request asks for: more would crowd a long answer, fewer would send the examples more often."""
FIRST_REQUESTS = math.ceil(SAMPLE / ROWS_A_REQUEST)
"""Requests that are sent before the first rows have been checked."""
MOST_TOPICS = 12
"""Topics that a model is asked for; a person may name more."""
MOST_EXAMPLES = 4
"""Rows of the goal's data that a teacher is shown."""
LONGEST_EXAMPLE = 1500
"""Characters of an example's text."""
MOST_LOST = 3
"""Requests in a row without a usable answer, after which the teacher is not asked any more."""


class Order(Record):
    """What a teacher is to write; config.json of its job."""

    teacher: str
    """LiteLLM name of the model."""
    rows: int = Field(ge=1)
    seed: int = Field(ge=0)
    verify: Verification
    kind: Literal["text", "choice"]
    """Questions with replies, or with four choices."""
    goal: str
    """What the model is to become good at, in the person's words."""
    topics: tuple[str, ...] = ()
    """The person's own; empty leaves them to the teacher."""
    have: dict[str, int] = Field(default_factory=dict)
    """Topic of the person's → rows that the goal's data have about it."""


class Draft(Record):
    """A row as a teacher writes it."""

    cell: int
    question: str = Field(min_length=1)
    reply: str = Field(min_length=1)
    computation: str = ""


class ChoiceDraft(Record):
    """A multiple-choice row as a teacher writes it."""

    cell: int
    question: str = Field(min_length=1)
    right: str = Field(min_length=1)
    wrong: tuple[str, ...] = Field(min_length=3, max_length=3)
    explanation: str
    computation: str = ""


class Drafts(Record):
    rows: tuple[Draft, ...]


class ChoiceDrafts(Record):
    rows: tuple[ChoiceDraft, ...]


class Teaching:
    """One order being carried out: `go_on` sends the next requests; `done` rows of `total` tell how far it is."""

    def __init__(self, order: Order, model: LanguageModel, system: str, examples: Sequence[dict[str, str]]) -> None:
        """`system` is the system prompt, as it was approved; `examples` are rows of the goal's data."""
        self.order = order
        self.rows: list[dict[str, str]] = []
        """As they are written to a file: a question with its reply, or GPQA's columns, and the cell."""
        self.lost = 0
        """Requests without a usable answer."""
        self.spent: BudgetSpent | None = None
        """Why it ended before its time: a cap left no room for a request."""
        self.stopped = ""
        """Why what it wrote is not worth going on with."""
        self._model = model
        self._system = system
        self._examples = list(examples)
        self._lost_in_a_row = 0
        self._sampled = False
        self._requests = self._all_requests()

    @property
    def done(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> int:
        return self.order.rows

    def go_on(self) -> bool:
        """Send a few requests and take their rows in; False where nothing is left to ask.

        Raises Unavailable or ContextExhausted where the model cannot be used.
        """
        some = list(islice(self._requests, SIDE_BY_SIDE if self._sampled else FIRST_REQUESTS))
        if not some or self.spent or self.stopped:
            return False
        planned = [batch for batch, _ in some]
        for batch, outcome in zip(planned, ask_some(self._model, [question for _, question in some]), strict=True):
            self._take(batch, outcome)
        if not self._sampled and len(self.rows) >= SAMPLE and not self.stopped:
            self._sampled = True
            self.stopped = self._fault_of_sample()
        return not (self.spent or self.stopped)

    def _fault_of_sample(self) -> str:
        """Why the first rows are no reason to ask for more; empty where they are."""
        candidates = [candidate_of(row) for row in self.rows]
        sample = [candidates[place] for place in sampled(candidates, self.order.seed)]
        verifier = verifier_of(self.order.verify, self._model)
        return stop_reason(sample, verifier.check(sample), verifier.name)

    def topics(self) -> dict[str, int]:
        """Topic → rows written."""
        return dict(Counter(row["topic"] for row in self.rows))

    def _take(self, batch: Sequence[Cell], outcome: Drafts | ChoiceDrafts | NoAnswer) -> None:
        if isinstance(outcome, BudgetSpent):
            self.spent = self.spent or outcome
        elif isinstance(outcome, InvalidAnswer):
            self.lost += 1
            self._lost_in_a_row += 1
            if self._lost_in_a_row >= MOST_LOST:
                self.stopped = f"{MOST_LOST} requests in a row brought no rows: {outcome}"
        else:
            self._lost_in_a_row = 0
            self.rows += [_written(draft, batch[draft.cell - 1]) for draft in outcome.rows]

    def _all_requests(self) -> Iterator[tuple[Sequence[Cell], Question[Any]]]:
        """The batches, each with its request; the taxonomy is asked for when the first one is wanted."""
        order = self.order
        planned = cells(self._taxonomy(), order.rows, order.have, order.seed)
        for start in range(0, order.rows, ROWS_A_REQUEST):
            batch = planned[start : start + ROWS_A_REQUEST]
            yield batch, self._request(batch, number=start // ROWS_A_REQUEST + 1)

    def _taxonomy(self) -> Taxonomy:
        """The model's, completed by the rules'; the rules' alone where it has none that can be used."""
        order = self.order
        task = fill(PROMPTS / "taxonomy.md", topics=MOST_TOPICS, named=bool(order.topics))
        words = {"goal": order.goal, "topics": order.topics, "examples": self._examples}
        messages = conversation(self._system, task, {"topics": MOST_TOPICS}, words, Taxonomy)
        try:
            return completed(self._model.ask(Taxonomy, messages), order.goal, order.topics)
        except InvalidAnswer:
            return built_in(order.goal, order.topics)
        except BudgetSpent as spent:
            self.spent = spent
            return built_in(order.goal, order.topics)

    def _request(self, batch: Sequence[Cell], number: int) -> Question[Any]:
        kind: type[Drafts] | type[ChoiceDrafts] = ChoiceDrafts if self.order.kind == "choice" else Drafts
        task = fill(PROMPTS / "write.md", rows=len(batch), choices=self.order.kind == "choice")
        # Where rows are about comes from a model and from the goal: words from outside, like the examples.
        about = [{"cell": place, **cell.plain()} for place, cell in enumerate(batch, 1)]
        words = {"goal": self.order.goal, "cells": about, "examples": self._examples}
        messages = conversation(self._system, task, {"rows": len(batch), "request": number}, words, kind)
        return Question(kind, messages, lambda answer: _fault(answer, len(batch)))


def _fault(answer: Drafts | ChoiceDrafts, cells: int) -> str:
    """What is wrong with a batch: nothing in it, or a row for no cell. A row that is missing is no fault."""
    if not answer.rows:
        return f"`rows` is empty; write {cells} rows"
    numbers = [draft.cell for draft in answer.rows]
    foreign = next((number for number in numbers if not 1 <= number <= cells), None)
    if foreign is not None:
        return f"there is no cell {foreign}; they are 1 to {cells}"
    return "" if len(set(numbers)) == len(numbers) else "write one row for each cell"


def _written(draft: Draft | ChoiceDraft, cell: Cell) -> dict[str, str]:
    """A row as it stands in the file, in columns that `columns.layout_of` knows."""
    if isinstance(draft, ChoiceDraft):
        wrong = {f"Incorrect Answer {number}": choice for number, choice in enumerate(draft.wrong, 1)}
        said = {"Question": draft.question, "Correct Answer": draft.right, **wrong, "Explanation": draft.explanation}
    else:
        said = {"prompt": draft.question, "completion": draft.reply}
    return {**said, "computation": draft.computation, **cell.plain()}


def candidate_of(row: dict[str, str]) -> Candidate:
    """A row of a teaching, ready to be checked."""
    if "Question" in row:
        choices = (row["Correct Answer"], *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3)))
        made = Row(id="", question=row["Question"], choices=choices, answer="A", explanation=row["Explanation"])
        return Candidate(made, row["computation"])
    prompt, completion = (Message("user", row["prompt"]),), (Message("assistant", row["completion"]),)
    return Candidate(Row(id="", question=row["prompt"], prompt=prompt, completion=completion), row["computation"])


def examples_of(rows: Sequence[Row], seed: int) -> list[dict[str, str]]:
    """A few rows for a teacher to see, cut where they are long; the same seed chooses the same ones."""
    chosen = Random(seed).sample(list(rows), min(MOST_EXAMPLES, len(rows)))
    return [
        {"question": row.question[:LONGEST_EXAMPLE], "reply": Candidate(row).reply[:LONGEST_EXAMPLE]} for row in chosen
    ]


def topics_of(rows: Iterable[Row], topics: Sequence[str]) -> dict[str, int]:
    """Topic of the person's → rows about it."""
    return coverage(rows, [Topic(name=name) for name in topics])
