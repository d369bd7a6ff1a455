"""Rows that say the same: exact duplicates by a digest, near-duplicates by their shingles, clusters of both.

What two rows have in common is found by `NearDuplicates`; here is what of a row is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agents.data_engineer.duplicates.near_duplicates import PERMUTATIONS, NearDuplicates, Shingles
from agents.data_engineer.filters import Filtered, identity, letter_index, normalised
from agents.data_engineer.formats.tables import Row
from agents.data_engineer.proposal import EXACT_ONLY, NEAR_DUPLICATES
from agents.data_engineer.tokens import (
    Tokens,
    gram_hashes,
    hashed_numbers,
    hashed_operators,
    hashed_texts,
    hashed_words,
)
from shared_memory.records import Step

SHINGLE = 5
"""Words in a shingle."""
SHORT_REPLY = 8
"""Words up to which another reply is another answer: `positive` and `negative` are one word among many, and as far
apart as two rows can be."""
_SHORT = 100
"""Characters that so many words seldom have."""
_BATCH = 4096
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def drop_near_duplicates(rows: Sequence[Row], threshold: float) -> Filtered:
    """The first of the rows whose word 5-grams have a Jaccard similarity of `threshold` or more.

    Rows whose questions hold other numbers or operators are never duplicates: a template filled twice asks two things.
    Nor are rows with different short replies: one question with two answers is a contradiction, not a repetition.
    A threshold of 1 switches the step off.
    """
    name = "drop_near_duplicates"
    if threshold >= EXACT_ONLY:
        note = "off: rows of one template share most of their words; only exact duplicates are removed"
        return list(rows), Step(name=name, rows_in=len(rows), rows_out=len(rows), note=note)
    goes = set(_added(rows, threshold).duplicates().rows.tolist())
    kept = [row for position, row in enumerate(rows) if position not in goes]
    note = f"Jaccard ≥ {threshold:g} on {SHINGLE}-word shingles, {PERMUTATIONS} permutations"
    note += ", same numbers, operators and short replies"
    return kept, Step(name=name, rows_in=len(rows), rows_out=len(kept), note=note)


def near_duplicate_clusters(rows: Sequence[Row], threshold: float = NEAR_DUPLICATES) -> list[int]:
    """For each row the number of its cluster: rows that must not be parted between training and measuring.

    Rows with the same question are together whatever their answers, because one would give the other's away; so are
    rows with the same text, near-duplicates, and whatever is joined by a chain of these. Clusters count from 0, in the
    order of their first rows.
    """
    alike = _added(rows, threshold, replies=False).pairs()
    head = list(range(len(rows)))

    def head_of(position: int) -> int:
        while head[position] != position:
            head[position] = position = head[head[position]]
        return position

    for first, second in chain(_same(rows), alike):
        one, other = head_of(first), head_of(second)
        head[max(one, other)] = min(one, other)
    number: dict[int, int] = {}
    return [number.setdefault(head_of(position), len(number)) for position in range(len(rows))]


def _same(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Each row with the first that asks the same, and with the first that says the same."""
    first: dict[tuple[str, bytes], int] = {}
    for position, row in enumerate(rows):
        for key in (("asks", _question(row)), ("says", normalised(row.text))):
            if key[1]:
                yield first.setdefault((key[0], _digest(key[1])), position), position


def _question(row: Row) -> Hashable:
    """What a row asks, without the choices it offers or the role it gives the model; empty where it asks nothing."""
    said = [(message.role, normalised(message.content)) for message in row.prompt if message.role != "system"]
    if row.choices is not None:
        said = [("user", normalised(row.question))]
    return tuple(said) if any(content for _, content in said) else ()


def identity_digests(rows: Iterable[Row]) -> NDArray[np.uint64]:
    """For each row 64 bits that are equal where `filters.identity` is.

    Among five million rows two different ones have the same digest once in a million times.
    """
    return np.frombuffer(b"".join(_digest(identity(row)) for row in rows), dtype=np.uint64)


def _digest(value: Hashable) -> bytes:
    return hashlib.blake2b(repr(value).encode(), digest_size=8).digest()


def shingles(rows: Sequence[Row], tokens: Tokens | None = None, *, replies: bool = True) -> Shingles:
    """The rows' word 5-grams, tagged by the numbers and operators of the question and, if `replies`, by a short reply.

    `tokens` are the words of `told(row)` for each row, where they are at hand already.
    """
    if tokens is None:
        tokens = hashed_words([told(row) for row in rows])
    found = gram_hashes(tokens, SHINGLE)
    questions = pl.Series([row.question for row in rows], dtype=pl.String)
    tags = hashed_numbers(questions) + hashed_operators(questions) * _SPREAD
    if replies:
        tags ^= hashed_texts([_short_reply(row) for row in rows])
    return Shingles(found.hashes * _SPREAD, found.offsets, tags * _SPREAD)


def _short_reply(row: Row) -> str:
    """What a row replies, where that is so short that every sign of it counts; empty where it is longer."""
    if row.choices is not None:
        replies = [row.choices[letter_index(row.answer)]] if row.answer else []
    else:
        replies = [message.content for message in row.completion[-1:] + row.rejected[-1:]]
    short = [reply for reply in replies if len(reply) <= _SHORT and len(reply.split()) <= SHORT_REPLY]
    return "\n".join([*map(normalised, short), *([] if row.label is None else [str(row.label)])])


def told(row: Row) -> str:
    """The text of a row that is compared: rows that differ in the system message only are the same.

    Many rows have one in common, and it would make them look alike.
    """
    if row.prompt and row.prompt[0].role == "system":
        row = replace(row, prompt=row.prompt[1:])
    return row.text


def _added(rows: Sequence[Row], threshold: float, *, replies: bool = True) -> NearDuplicates:
    near = NearDuplicates(threshold)
    for start in range(0, len(rows), _BATCH):
        near.add(shingles(rows[start : start + _BATCH], replies=replies))
    return near
