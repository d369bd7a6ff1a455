"""What the items of a benchmark say, made ready to be looked for in training rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from agents.data_engineer.words import is_number, words

CONTEXT = 2
"""Words on either side by which a number's place in a question is recognised."""
NUMBER = "#"
"""Stands for any number."""
FEW_WORDS = 5
FEW_WORDS_WITH_A_NUMBER = 3

Place = tuple[tuple[str, ...], tuple[str, ...]]
"""Where a number stands: the words before it and after it, with numbers masked."""


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
    def numbers(self) -> list[tuple[Place, str]]:
        return number_places(self.tokens)

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


def number_places(tokens: Sequence[str]) -> list[tuple[Place, str]]:
    """Every number with its place: up to CONTEXT words before and after it, fewer only at the ends of the text."""
    masked = _masked(tokens)
    return [
        ((masked[max(0, at - CONTEXT) : at], masked[at + 1 : at + 1 + CONTEXT]), token)
        for at, token in enumerate(tokens)
        if is_number(token)
    ]


def numbers_by_place(tokens: Sequence[str]) -> dict[Place, set[str]]:
    """Place → the numbers there, for all contexts up to CONTEXT words: a question has fewer at its ends."""
    masked = _masked(tokens)
    found: dict[Place, set[str]] = defaultdict(set)
    for at, token in enumerate(tokens):
        if is_number(token):
            for before, after in product(range(min(CONTEXT, at) + 1), range(CONTEXT + 1)):
                found[masked[at - before : at], masked[at + 1 : at + 1 + after]].add(token)
    return found


def has_other_numbers(item: Sequence[tuple[Place, str]], row: Mapping[Place, set[str]]) -> bool:
    """Whether the row has another number where the item has one.

    A row that quotes only a part of the item lacks the place, and a verbatim copy has the item's number in it.
    """
    return any(place in row and number not in row[place] for place, number in item)


def _masked(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(NUMBER if is_number(token) else token for token in tokens)
