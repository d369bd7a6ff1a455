"""Near-duplicates: MinHash finds the candidates, the exact Jaccard similarity decides."""

from __future__ import annotations

from collections.abc import Sequence

from rensa import RMinHash, RMinHashLSH

from agents.data_engineer.filters import Filtered
from agents.data_engineer.formats import Row
from agents.data_engineer.proposal import EXACT_ONLY
from agents.data_engineer.words import grams, numbers, words
from shared_memory.records import Step

SHINGLE = 5
"""Words in a shingle."""
PERMUTATIONS = 128
BANDS = 32
"""32 bands of 4 permutations meet a pair of similarity s with probability 1 - (1 - s⁴)³²: 99.98 % at 0.7."""
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
    shingled = [shingles(row) for row in rows]
    index = RMinHashLSH(threshold, PERMUTATIONS, BANDS)
    kept: list[Row] = []
    signatures = RMinHash.from_token_sets([list(entry) for entry in shingled], PERMUTATIONS, SEED)
    for position, (row, signature) in enumerate(zip(rows, signatures, strict=True)):
        if any(jaccard(shingled[position], shingled[other]) >= threshold for other in index.query(signature)):
            continue
        index.insert(position, signature)
        kept.append(row)
    note = f"Jaccard ≥ {threshold:g} on {SHINGLE}-word shingles, {PERMUTATIONS} permutations, same numbers"
    return kept, Step(name=name, rows_in=len(rows), rows_out=len(kept), note=note)


def shingles(row: Row) -> set[str]:
    """The row's word 5-grams, each tagged with the numbers of the question, so that other numbers share no shingle."""
    tag = " ".join(numbers(row.question))
    return {f"{tag}|{gram}" for gram in grams(words(row.text), SHINGLE)}


def jaccard(first: set[str], second: set[str]) -> float:
    """Shared share of two sets; 0 for two empty ones."""
    union = len(first | second)
    return len(first & second) / union if union else 0.0
