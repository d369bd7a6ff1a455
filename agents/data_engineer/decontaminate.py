"""Takes out the rows that contain items of a benchmark.

Three rules, on words without case and punctuation: the same question; any shared 13-gram [GPT-3, arXiv 2005.14165]; or
an IDF-weighted overlap of the question's 5-grams of 0.8 or more [the rule of PostTrainBench's judge]. A row that fills
the item's template with other numbers is another question and stays: see `has_other_numbers`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from agents.data_engineer.formats import Row
from agents.data_engineer.words import grams, is_number, words
from shared_memory.records import Step

LONG = 13
SHORT = 5
OVERLAP = 0.8
CONTEXT = 2
"""Words on either side by which a number's place in a question is recognised."""
NUMBER = "#"
"""Stands for any number."""

Place = tuple[tuple[str, ...], tuple[str, ...]]
"""Where a number stands: the words before it and after it, with numbers masked."""


@dataclass(frozen=True, slots=True)
class BenchmarkText:
    """What a benchmark item says."""

    benchmark: str
    id: str
    question: str
    choices: tuple[str, ...] = ()


@dataclass(slots=True)
class _Item:
    """An item made ready for comparison."""

    source: BenchmarkText
    tokens: list[str]
    short: set[str]
    numbers: list[tuple[Place, str]]
    choices: list[list[str]]
    weight: float = 0.0
    """IDF of all its 5-grams together."""

    @property
    def vague(self) -> bool:
        """A question so short that it is met by chance (`Which is right?`)."""
        return len(self.tokens) < (3 if any(map(is_number, self.tokens)) else SHORT)


class Detector:
    """Answers which items of the benchmarks a row contains."""

    def __init__(self, benchmarks: Sequence[BenchmarkText]) -> None:
        self._items: list[_Item] = []
        self._by_question: dict[str, list[int]] = defaultdict(list)
        self._by_long: dict[str, list[int]] = defaultdict(list)
        self._by_short: dict[str, list[int]] = defaultdict(list)
        for source in benchmarks:
            tokens = words(source.question)
            if tokens:
                choices = [words(choice) for choice in source.choices]
                self._add(_Item(source, tokens, set(grams(tokens, SHORT)), number_places(tokens), choices))
        total = len(self._items)
        self._idf = {gram: math.log(1 + total / len(items)) for gram, items in self._by_short.items()}
        self._lengths = {len(gram.split()) for gram in self._by_short}
        for item in self._items:
            item.weight = sum(self._idf[gram] for gram in item.short)

    def _add(self, item: _Item) -> None:
        number = len(self._items)
        self._items.append(item)
        self._by_question[" ".join(item.tokens)].append(number)
        for gram in item.short:
            self._by_short[gram].append(number)
        if len(item.tokens) >= LONG:
            for gram in set(grams(item.tokens, LONG)):
                self._by_long[gram].append(number)

    def hits(self, row: Row) -> list[BenchmarkText]:
        """The items that `row` contains."""
        tokens = words(row.text)
        found = set(self._by_question.get(" ".join(words(row.question)), ()))
        suspects = {number for gram in set(grams(tokens, LONG)) for number in self._by_long.get(gram, ())}
        suspects |= self._overlapping(tokens)
        if suspects - found:
            places = numbers_by_place(tokens)
            found |= {number for number in suspects if not has_other_numbers(self._items[number].numbers, places)}
        return [self._items[number].source for number in sorted(found)]

    def _overlapping(self, tokens: list[str]) -> set[int]:
        """Items with enough of their 5-grams in the row; a vague question also needs one of its choices there."""
        weights: defaultdict[int, float] = defaultdict(float)
        for length in self._lengths:
            for gram in set(grams(tokens, length)):
                for number in self._by_short.get(gram, ()):
                    weights[number] += self._idf[gram]
        # The tolerance is for sums of the same weights in another order.
        near = {number for number, weight in weights.items() if weight >= OVERLAP * self._items[number].weight - 1e-9}
        return {number for number in near if not self._items[number].vague or self._has_a_choice(number, tokens)}

    def _has_a_choice(self, number: int, tokens: list[str]) -> bool:
        text = f" {' '.join(tokens)} "
        return any(choice and f" {' '.join(choice)} " in text for choice in self._items[number].choices)


def number_places(tokens: list[str]) -> list[tuple[Place, str]]:
    """Every number with its place: up to CONTEXT words before and after it, fewer only at the ends of the text."""
    masked = _masked(tokens)
    return [
        ((masked[max(0, at - CONTEXT) : at], masked[at + 1 : at + 1 + CONTEXT]), token)
        for at, token in enumerate(tokens)
        if is_number(token)
    ]


def numbers_by_place(tokens: list[str]) -> dict[Place, set[str]]:
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


def _masked(tokens: list[str]) -> tuple[str, ...]:
    return tuple(NUMBER if is_number(token) else token for token in tokens)


def decontaminate(rows: Sequence[Row], benchmarks: Sequence[BenchmarkText]) -> tuple[list[Row], Step, dict[str, float]]:
    """Rows without benchmark items, the step, and benchmark → share of its items that were found in `rows`."""
    detector = Detector(benchmarks)
    kept: list[Row] = []
    hit: dict[str, set[str]] = {item.benchmark: set() for item in benchmarks}
    for row in rows:
        found = detector.hits(row)
        if not found:
            kept.append(row)
        for item in found:
            hit[item.benchmark].add(item.id)
    sizes = Counter(name for name, _ in {(item.benchmark, item.id) for item in benchmarks})
    contamination = {name: len(ids) / sizes[name] for name, ids in hit.items()}
    note = "; ".join(f"{name}: {len(ids)} of {sizes[name]} items found" for name, ids in hit.items())
    step = Step(
        name="decontaminate", rows_in=len(rows), rows_out=len(kept), note=note or "no benchmark to check against"
    )
    return kept, step, contamination
