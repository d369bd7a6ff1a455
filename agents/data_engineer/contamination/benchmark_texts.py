"""What the items of a benchmark say, made ready to be looked for in training rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from agents.data_engineer.words import NEGATIVE, is_number, is_operand, normal, signs, words

CONTEXT = 2
"""Words on either side by which a number's place in a question is recognised."""
NUMBER = "#"
"""Stands for any number."""
BRIEF = 6
"""Words of a question below which a longer text that begins with it asks something else as a rule."""
FEW_WORDS = 5
FEW_WORDS_WITH_A_NUMBER = 3
GOES_ON = "+-*/^%"
"""Operators with which a sum goes on; what comes after `=` is its result."""

Place = tuple[tuple[str, ...], tuple[str, ...]]
"""Where a number, or a letter with an operator, stands: the words before and after, with numbers masked. A letter is
among those after."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A number, or a single letter, as a part of what is to be worked out."""

    value: str
    sign: str
    """The operator before it, as `words.signs` gives it."""
    ends: bool
    """Whether no sum goes on behind it."""

    def is_like(self, other: Operand) -> bool:
        """Whether both may be the same; an operator that is missing in one was lost as punctuation."""
        if self.value != other.value or (self.sign == NEGATIVE) != (other.sign == NEGATIVE):
            return False
        return self.sign == other.sign or not (self.sign and other.sign)


@dataclass(frozen=True, slots=True)
class BenchmarkText:
    """What a benchmark item says."""

    benchmark: str
    id: str
    question: str
    choices: tuple[str, ...] = ()
    answer: str = ""
    """The right answer in words, where it is known: supports a match of the question, and is none by itself."""
    passage: str = ""
    """The text that the question is about. It is often published, so it supports a match and is none by itself."""


@dataclass(frozen=True)
class Item:
    """An item made ready for comparison."""

    source: BenchmarkText
    tokens: tuple[str, ...]
    """The words of its question, at least one."""

    @cached_property
    def operands(self) -> list[tuple[Place, Operand]]:
        return operand_places(self.tokens, signs(self.source.question))

    @cached_property
    def alone(self) -> re.Pattern[str] | None:
        """What finds a brief question where it is a sentence or a line by itself; None for a longer one.

        `苹果` is not asked by `苹果树`, nor `Why is it so?` by `Why is it so cold?`.
        """
        if len(self.tokens) >= BRIEF:
            return None
        spelled = (",?".join(token) if is_number(token) else re.escape(token) for token in self.tokens)
        question = r"[\W_]*".join(spelled)
        return re.compile(rf"(?:\A|[^\w \t]|_)\s*{question}\s*(?:\Z|[^\w \t]|_)")

    @cached_property
    def answers(self) -> list[list[str]]:
        """The words of the right answer, or of every choice where the right one is not known; none is empty."""
        texts = (self.source.answer,) if self.source.answer.strip() else self.source.choices
        return [found for found in map(words, texts) if found]

    @cached_property
    def passage(self) -> list[str]:
        return words(self.source.passage)

    @property
    def vague(self) -> bool:
        """A question so short that it is met by chance (`Which is right?`)."""
        least = FEW_WORDS_WITH_A_NUMBER if any(map(is_number, self.tokens)) else FEW_WORDS
        return len(self.tokens) < least


def items_of(benchmarks: Sequence[BenchmarkText]) -> list[Item]:
    """The items that have a question in words, in order."""
    made = (Item(source, tuple(words(source.question))) for source in benchmarks)
    return [item for item in made if item.tokens]


def stands_alone(item: Item, text: str) -> bool:
    """Whether a text that has the item's words asks them as a whole; longer items always are."""
    return item.alone is None or bool(item.alone.search(normal(text)))


def operand_places(tokens: Sequence[str], signs: Sequence[str]) -> list[tuple[Place, Operand]]:
    """Every operand with its place: up to CONTEXT words before and after it, fewer only at the ends of the text."""
    masked = _masked(tokens)
    return [
        ((masked[max(0, at - CONTEXT) : at], (*letter, *masked[at + 1 : at + 1 + CONTEXT])), operand)
        for at, letter, operand in _operands(tokens, signs)
    ]


def operands_by_place(tokens: Sequence[str], signs: Sequence[str]) -> dict[Place, set[Operand]]:
    """Place → the operands there, for all contexts up to CONTEXT words: a question has fewer at its ends."""
    masked = _masked(tokens)
    found: dict[Place, set[Operand]] = defaultdict(set)
    for at, letter, operand in _operands(tokens, signs):
        for before, after in product(range(min(CONTEXT, at) + 1), range(CONTEXT + 1)):
            found[masked[at - before : at], (*letter, *masked[at + 1 : at + 1 + after])].add(operand)
    return found


def asks_otherwise(item: Item, row: Mapping[Place, set[Operand]]) -> bool:
    """Whether the row has another number or operator where the item has one, or works on where the item ends.

    A row that quotes only a part of the item lacks the place, and a verbatim copy has the item's number in it.
    """
    last = len(item.operands) - 1 if is_operand(item.tokens[-1]) else -1
    return any(
        place in row and not any(operand.is_like(other) and (at != last or other.ends) for other in row[place])
        for at, (place, operand) in enumerate(item.operands)
    )


def _operands(tokens: Sequence[str], signs: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...], Operand]]:
    """Place, letter (none for a number) and operand: the numbers, and the letters with an operator before them."""
    for at, (token, sign) in enumerate(zip(tokens, signs, strict=True)):
        if is_number(token) or sign:
            behind = signs[at + 1] if at + 1 < len(tokens) else ""
            goes_on = behind[:1] in GOES_ON and is_number(tokens[at + 1]) if behind else False
            yield at, () if is_number(token) else (token,), Operand(token, sign, not goes_on)


def _masked(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(NUMBER if is_number(token) else token for token in tokens)
