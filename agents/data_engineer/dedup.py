"""Near-duplicates: MinHash finds the candidates, the exact Jaccard similarity decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from rensa import RMinHash, RMinHashLSH

from agents.data_engineer.filters import Filtered, normalised
from agents.data_engineer.formats import Row
from agents.data_engineer.proposal import EXACT_ONLY, NEAR_DUPLICATES
from agents.data_engineer.words import grams, numbers, words
from shared_memory.records import Step

SHINGLE = 5
"""Words in a shingle."""
PERMUTATIONS = 128
BANDS = 32
"""32 bands of 4 permutations meet a pair of similarity s with probability 1 - (1 - s⁴)³²: 99.98 % at 0.7."""
MANY = 100
"""Rows from which what more than half of them share counts as boilerplate: a fixed instruction, a form to fill in."""
MARGIN = 0.16
"""Four standard errors of a similarity of 0.7 estimated from 128 permutations: sqrt(0.7 · 0.3 / 128) = 0.04."""
SEED = 42


def drop_near_duplicates(rows: Sequence[Row], threshold: float) -> Filtered:
    """The first of the rows whose word 5-grams have a Jaccard similarity of `threshold` or more.

    Rows whose questions hold other numbers are never duplicates: a template filled twice asks two things.
    A threshold of 1 switches the step off.
    """
    name = "drop_near_duplicates"
    if threshold >= EXACT_ONLY:
        note = "off: rows of one template share most of their words; only exact duplicates are removed"
        return list(rows), Step(name=name, rows_in=len(rows), rows_out=len(rows), note=note)
    index = _Index(rows, threshold)
    kept: list[Row] = []
    for position, row in enumerate(rows):
        if any(index.alike(position, other) for other in index.candidates(position)):
            continue
        index.insert(position)
        kept.append(row)
    note = f"Jaccard ≥ {threshold:g} on {SHINGLE}-word shingles, {PERMUTATIONS} permutations, same numbers"
    return kept, Step(name=name, rows_in=len(rows), rows_out=len(kept), note=note)


def near_duplicate_clusters(rows: Sequence[Row], threshold: float = NEAR_DUPLICATES) -> list[int]:
    """For each row the number of its cluster: rows that must not be parted between training and measuring.

    Rows with the same question are together whatever their answers, because one would give the other's away; so are
    rows with the same text, near-duplicates, and whatever is joined by a chain of these. Clusters count from 0, in the
    order of their first rows.
    """
    index = _Index(rows, threshold)
    label = np.arange(len(rows))
    first: dict[Hashable, int] = {}

    def join(position: int, other: int) -> None:
        if label[position] != label[other]:
            label[label == label[other]] = label[position]

    for position, row in enumerate(rows):
        for key in (("asks", _question(row)), ("says", normalised(row.text))):
            if key[1]:
                join(position, first.setdefault(key, position))
        others = np.array(index.candidates(position), dtype=int)
        for other in others[label[others] != label[position]].tolist():
            # Again, because a row that was joined may have brought this one along.
            if label[other] != label[position] and index.alike(position, other):
                join(position, other)
        index.insert(position)
    number: dict[int, int] = {}
    return [number.setdefault(entry, len(number)) for entry in label.tolist()]


def _question(row: Row) -> Hashable:
    """What a row asks, without the choices it offers or the role it gives the model; empty where it asks nothing."""
    said = [(message.role, normalised(message.content)) for message in row.prompt if message.role != "system"]
    if row.choices is not None:
        said = [("user", normalised(row.question))]
    return tuple(said) if any(content for _, content in said) else ()


class _Index:
    """Which rows are near-duplicates of rows inserted before."""

    def __init__(self, rows: Sequence[Row], threshold: float) -> None:
        self._threshold = threshold
        self._shingled = [shingles(row) for row in rows]
        if len(rows) >= MANY:
            spread = Counter(chain.from_iterable(self._shingled))
            boilerplate = {shingle for shingle, count in spread.items() if count > len(rows) / 2}
            self._shingled = [entry - boilerplate for entry in self._shingled]
        self._signatures = RMinHash.from_token_sets([list(entry) for entry in self._shingled], PERMUTATIONS, SEED)
        self._bands = RMinHashLSH(threshold, PERMUTATIONS, BANDS)

    def insert(self, position: int) -> None:
        self._bands.insert(position, self._signatures[position])

    def candidates(self, position: int) -> list[int]:
        found: list[int] = self._bands.query(self._signatures[position])
        return found

    def alike(self, first: int, second: int) -> bool:
        """The exact similarity decides, unless the signatures' is so low that it cannot come out (100 times faster)."""
        estimate = self._signatures[first].jaccard(self._signatures[second])
        if estimate < self._threshold - MARGIN:
            return False
        return jaccard(self._shingled[first], self._shingled[second]) >= self._threshold


def shingles(row: Row) -> set[str]:
    """The row's word 5-grams, each tagged with the numbers of the question, so that other numbers share no shingle.

    The system message is left out: rows that differ in it only are the same, and many rows have one in common.
    """
    tag = " ".join(numbers(row.question))
    if row.prompt and row.prompt[0].role == "system":
        row = replace(row, prompt=row.prompt[1:])
    return {f"{tag}|{gram}" for gram in grams(words(row.text), SHINGLE)}


def jaccard(first: set[str], second: set[str]) -> float:
    """Shared share of two sets; 0 for two empty ones."""
    union = len(first | second)
    return len(first & second) / union if union else 0.0
