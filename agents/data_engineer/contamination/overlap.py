"""Finds, for many rows at once, the benchmark items with which they share runs of words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.contamination.benchmark_texts import Item
from agents.data_engineer.tokens import Tokens, gram_hashes, hashed_words
from agents.data_engineer.words import grams

QUESTION_GRAM = 5
ANSWER_GRAM = 3
PASSAGE_GRAM = 4
OVERLAP = 0.8
"""Combined score from which a row is contaminated; these four are the rule of PostTrainBench's judge and the defaults
of AI2's decon [github.com/allenai/decon, config/default.yaml]."""
LEAST_OF_THE_QUESTION = (OVERLAP - 0.3) / 0.7
"""Below it no answer and no passage lift the score to OVERLAP [decon, scoring.rs]."""
STRICT_TO = 20
LENIENT_FROM = 50
"""Words of an item up to which only the whole of it counts, and from which OVERLAP does; linear between [decon]."""
SHORT_ANSWER = 3
SHORT_WINDOW = 50
LONG_WINDOW = 100
"""Words after the question in which a short answer, and a longer one, is looked for [decon]."""

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_SLOTS = 1 << 20
"""Of the table that turns most grams of a row away at the cost of one look."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of a row and an item that share grams."""

    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    scores: NDArray[np.float64]
    """Share of the item's grams that the row has, weighted by IDF."""


class GramIndex:
    """Which items hold a gram of `n` words; an item that is shorter is one gram."""

    def __init__(self, items: Sequence[Item], n: int) -> None:
        found = hashed_words([" ".join(item.tokens) for item in items])
        self._n = n
        self._lengths = sorted({min(int(length), n) for length in found.lengths})
        made = gram_hashes(found, n)
        self._grams, numbers = np.unique(made.hashes, return_inverse=True)
        self._table = np.zeros(_SLOTS, dtype=bool)
        self._table[_slots(self._grams)] = True
        pairs = np.unique(np.stack([numbers, made.owners]), axis=1)
        spread = np.bincount(pairs[0], minlength=len(self._grams))
        idf = np.log(1 + len(items) / np.maximum(spread, 1))
        self._weights = np.bincount(pairs[1], weights=idf[pairs[0]], minlength=len(items))
        self._items = sparse(idf[pairs[0]], pairs[0], pairs[1], (len(self._grams), len(items)))

    def overlaps(self, rows: Tokens, least: float) -> Overlaps:
        """The pairs whose score is `least` or more, ordered by row and item."""
        found = [self._known(gram_hashes(rows, length)) for length in self._lengths]
        owners = np.concatenate([row for row, _ in found]) if found else np.zeros(0, np.int64)
        numbers = np.concatenate([gram for _, gram in found]) if found else np.zeros(0, np.int64)
        held = np.unique(owners * len(self._grams) + numbers)
        held_by, held_grams = np.divmod(held, max(1, len(self._grams)))
        present, position = np.unique(held_by, return_inverse=True)
        matrix = sparse(np.ones(len(held)), position, held_grams, (len(present), len(self._grams)))
        shared = (matrix @ self._items).tocoo()
        scores = shared.data / self._weights[shared.col]
        # The tolerance is for sums of the same weights in another order.
        kept = scores >= least - 1e-9
        rows_of, items_of = present[shared.row[kept]], shared.col[kept].astype(np.int64)
        order = np.lexsort((items_of, rows_of))
        return Overlaps(rows_of[order], items_of[order], np.minimum(scores[kept][order], 1.0))

    def _known(self, grams_of_rows: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row and the number of each gram that some item has."""
        at = np.flatnonzero(self._table[_slots(grams_of_rows.hashes)])
        hashes = grams_of_rows.hashes[at]
        numbers = np.minimum(np.searchsorted(self._grams, hashes), len(self._grams) - 1)
        same = self._grams[numbers] == hashes
        owners = np.searchsorted(grams_of_rows.offsets, at[same], side="right") - 1
        return owners.astype(np.int64), numbers[same].astype(np.int64)


def sparse(
    values: NDArray[np.floating], rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]
) -> csr_matrix:
    """A sparse matrix of `values` at the places `rows`, `columns`."""
    from scipy.sparse import csr_matrix  # Only where rows are compared: it takes a while to import.

    return csr_matrix((values, (rows, columns)), shape=shape)


def _slots(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (hashes & np.uint64(_SLOTS - 1)).astype(np.int64)


class Support:
    """How much of an item's answer and passage stands in a row beside its question."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._total = len(items)
        self._answers = Counter(
            gram for item in items for gram in {g for answer in item.answers for g in grams(answer, ANSWER_GRAM)}
        )
        self._passages = Counter(gram for item in items for gram in set(grams(item.passage, PASSAGE_GRAM)))

    def score(self, item: Item, question: float, row: Sequence[str]) -> float:
        """The combined score of a row with the words `row` that holds the share `question` of the question.

        The question counts alone, and together with each part that supports it: a row that asks the item is
        contaminated whether it answers it or not. (decon asks for the answer and the passage of an item that has them.)
        """
        answer = self._answer(item, row) if item.answers else None
        passage = _weighted(item.passage, PASSAGE_GRAM, row, self._passages, self._total) if item.passage else None
        if item.vague:
            return question if answer is not None and answer >= OVERLAP else 0.0
        words = len(item.tokens)
        said = max(map(len, item.answers), default=0)
        return max(
            strict(question, words),
            strict(combined(item, question, answer, None), words + said),
            strict(combined(item, question, None, passage), words + len(item.passage)),
            strict(combined(item, question, answer, passage), words + said + len(item.passage)),
        )

    def _answer(self, item: Item, row: Sequence[str]) -> float:
        """The best of the item's answers in the words after its question."""
        after = _from_first_gram(item.tokens, row)
        return max(
            float(contains(after[: len(item.tokens) + SHORT_WINDOW], answer))
            if len(answer) <= SHORT_ANSWER
            else _weighted(
                answer,
                ANSWER_GRAM,
                after[: len(item.tokens) + max(LONG_WINDOW, 2 * len(answer))],
                self._answers,
                self._total,
            )
            for answer in item.answers
        )


def combined(item: Item, question: float, answer: float | None, passage: float | None) -> float:
    """The weighted mean of the overlaps that there are; the less a part can tell, the more the others count [decon]."""
    sure = min(1.0, 0.5 + 0.5 * max(1, len(item.tokens) - QUESTION_GRAM + 1) / 20)
    if answer is not None and passage is not None:
        moved = 0.7 * (1 - sure) / 2
        told = min(1.0, 0.5 + 0.5 * min(map(len, item.answers)) / 4)
        answer_weight = (0.2 + moved) * told
        passage_weight = 0.1 + moved + (0.2 + moved) * (1 - told)
        return question * 0.7 * sure + answer * answer_weight + passage * passage_weight
    if answer is not None:
        return question * 0.75 * sure + answer * (1 - 0.75 * sure)
    if passage is not None:
        return question * 0.85 * sure + passage * (1 - 0.85 * sure)
    return question


def strict(score: float, length: int) -> float:
    """`score`, lowered for an item of so few words that a part of it is met by chance; a whole one stays whole."""
    if score >= 1 - 1e-9:
        return 1.0
    share = min(1.0, max(0.0, (length - STRICT_TO) / (LENIENT_FROM - STRICT_TO)))
    return score * OVERLAP / (1 - (1 - OVERLAP) * share)


def contains(text: Sequence[str], part: Sequence[str]) -> bool:
    """Whether the words `part` stand in `text` one after another."""
    return f" {' '.join(part)} " in f" {' '.join(text)} "


def coverage(item: Sequence[str], row: Sequence[str], n: int) -> float:
    """Share of the item's words that are part of an n-gram which the row has too [Tülu 3, arXiv 2411.15124]."""
    held = set(grams(list(row), n))
    covered: set[int] = set()
    for start, gram in enumerate(grams(list(item), n)):
        if gram in held:
            covered.update(range(start, min(start + n, len(item))))
    return len(covered) / len(item)


def _from_first_gram(question: Sequence[str], row: Sequence[str]) -> Sequence[str]:
    """The row from where the first gram of the question stands in it."""
    held = set(grams(list(question), QUESTION_GRAM))
    n = min(QUESTION_GRAM, len(question))
    return row[next((at for at, gram in enumerate(grams(list(row), n)) if gram in held), 0) :]


def _weighted(part: Sequence[str], n: int, row: Sequence[str], spread: Counter[str], total: int) -> float:
    """Share of the n-grams of `part` that the row has, weighted by IDF."""
    own = dict.fromkeys(grams(list(part), n))
    held = set(grams(list(row), min(n, len(part))))
    weight = {gram: math.log(1 + total / max(1, spread[gram])) for gram in own}
    return sum(weight[gram] for gram in own if gram in held) / sum(weight.values())
