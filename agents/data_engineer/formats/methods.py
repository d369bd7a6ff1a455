"""Which training methods rows are good for, and why the others are out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

from agents.data_engineer.formats.rows import Row

Method = Literal["sft", "dpo", "grpo", "kto", "reward"]
METHODS: tuple[Method, ...] = get_args(Method)
Answers = Literal["letter", "mathematics", "text"]
"""How two answers are compared: as letters of choices, by value as mathematics, or word for word."""
CHECKABLE_WORDS = 20
"""Words up to which a whole reply can be compared with another; longer ones need a marked last answer."""
_MARKED = re.compile(
    r"\\boxed\{(?P<boxed>(?:[^{}]|\{[^{}]*\})*)\}|####\s*(?P<hash>[^\n]+)|ANSWER:\s*(?P<letter>[A-J])\b"
)
"""Last answers as MATH, GSM8K and the evaluator's multiple choice mark them."""
_WORDS = re.compile(r"\W*[^\W\d_]{2,}(?:\W+[^\W\d_]+)*\W*")
_LACKS: dict[Method, str] = {
    "sft": "have no reply that is wanted",
    "dpo": "have no rejected reply, and dpo needs `prompt`, `chosen` and `rejected`",
    "grpo": f"have no answer that can be checked: a letter, a marked last answer, or {CHECKABLE_WORDS} words at most",
    "kto": "are neither labelled replies nor pairs, and kto needs `prompt`, `completion` and `label`",
    "reward": "have no rejected reply, and a reward model needs `prompt`, `chosen` and `rejected`",
}


class Trainable:
    """Watches rows go by, and knows at the end which methods all of them serve."""

    def __init__(self) -> None:
        self.rows = 0
        self._lacking: Counter[Method] = Counter()
        self._wanted = self._unwanted = 0

    def see(self, rows: Iterable[Row]) -> Trainable:
        """Take note of some more rows."""
        lacking = self._lacking
        for row in rows:
            self.rows += 1
            if not row.rejected:
                lacking["dpo"] += 1
                lacking["reward"] += 1
                if row.label is None:
                    lacking["kto"] += 1
            if row.label is not None:
                self._wanted += row.label
                self._unwanted += not row.label
            if not reference_of(row):
                lacking["grpo"] += 1
        return self

    @property
    def methods(self) -> tuple[Method, ...]:
        """In the order of METHODS; none where there are no rows."""
        return tuple(method for method in METHODS if not self.why_not(method))

    def why_not(self, method: Method) -> str:
        """Why the rows cannot train the method; empty where they can."""
        if not self.rows:
            return "there are no rows"
        if method == "sft" and self._unwanted == self.rows:
            return f"all {self.rows} rows are labelled as unwanted"
        if method == "kto" and not self._lacking["kto"] and self._wanted + self._unwanted == self.rows:
            missing = "wanted" if not self._wanted else "unwanted" if not self._unwanted else ""
            return f"no row is labelled as {missing}; kto needs both" if missing else ""
        lacking = self._lacking[method]
        return f"{lacking} of {self.rows} rows {_LACKS[method]}" if lacking else ""


def answers_of(rows: Iterable[Row]) -> Answers:
    """How the answers to these rows are to be compared: letter by letter unless all of them are letters or formulas."""
    kinds = {_kind_of(row) for row in rows}
    return kinds.pop() if len(kinds) == 1 else "text"


def _kind_of(row: Row) -> Answers:
    """Marked as MATH and GSM8K mark them, and not in words alone: `\\boxed{yes}` is no formula."""
    if row.choices is not None:
        return "letter"
    said, answer = row.completion[0].content if row.completion else "", reference_of(row)
    if "ANSWER:" in said and len(answer) == 1:
        return "letter"
    marked = "\\boxed{" in said or "####" in said
    return "mathematics" if marked and answer and not _WORDS.fullmatch(answer) else "text"


def trains(rows: Iterable[Row]) -> tuple[Method, ...]:
    """The methods that the rows can train: pairs also what imitates the chosen reply or labels both."""
    return Trainable().see(rows).methods


def why_not(rows: Iterable[Row], method: Method) -> str:
    """Why the rows cannot train the method; empty where they can."""
    return Trainable().see(rows).why_not(method)


def reference_of(row: Row) -> str:
    """The answer that a reply to the row can be checked against; empty where there is none.

    The letter of a multiple-choice row, the last marked answer of a reply, or all of a short one. Nothing where tools
    may be called: nobody answers the calls of a model that is only sampled.
    """
    if row.choices is not None:
        return row.answer or ""
    if row.rejected or row.label is not None or row.tools or len(row.completion) != 1:
        return ""
    message = row.completion[0]
    said = message.content.strip()
    if not said or message.tool_calls:
        return ""
    if "\\boxed{" in said or "####" in said or "ANSWER:" in said:
        *_, last = [None, *_MARKED.finditer(said)]
        if last is not None:
            return next(filter(None, last.groups()), "").strip()
    return said if len(said.split(None, CHECKABLE_WORDS)) <= CHECKABLE_WORDS else ""
