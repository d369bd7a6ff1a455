"""Every word that the paraphrase stage has met, by number, so that the words of a batch are looked up as one array."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.contamination.quantities import IN_WORDS, quantities
from agents.data_engineer.contamination.word_vectors import Vectors, WordVectors
from agents.data_engineer.tokens import Tokens, hashed_words, split_words
from agents.data_engineer.words import is_number

LIGHT = 3.0
"""Vectors shorter than this are of words that tell nothing (`the` 1.6, `of` 1.7)."""
CACHED = 100_000
"""Words that are kept: 100 MiB of vectors."""
NO_NUMBER, OTHER_NUMBER = -2, -1
_SLOTS = 1 << 20
"""Of the table that finds most words at the cost of one look."""

Ints = NDArray[np.int64]


class Lexicon:
    """Words by their hashes. `quantities` numbers the significant digits that are looked for."""

    def __init__(
        self, vectors: WordVectors, quantities: Mapping[str, int], idf: Callable[[str], float], dimensions: int
    ) -> None:
        self._vectors = vectors
        self._quantities = quantities
        self._idf = idf
        self._dimensions = dimensions
        self._forget()

    def _forget(self) -> None:
        self._number: dict[int, int] = {}
        self._table = np.zeros(_SLOTS, np.int32)
        self._hashes = np.zeros(1, np.uint64)
        self.vectors: Vectors = np.zeros((1, self._dimensions), np.float32)
        """Of each word by its number; zero for light words and for numbers in figures."""
        self.idf = np.zeros(1, np.float32)
        self.heavy = np.zeros(1, bool)
        """Whether a word's vector is more than zero."""
        self.quantity = np.full(1, NO_NUMBER)
        """Which of the quantities it is, OTHER_NUMBER or NO_NUMBER."""
        self.in_words = np.zeros(1, bool)
        """Whether it is a number in words, which may be part of a longer one."""

    def numbers(self, texts: Sequence[str], tokens: Tokens) -> Ints:
        """The number of each word of `texts`, learning those that are new."""
        if len(self._number) > CACHED:
            self._forget()
        found = self._found(tokens.hashes)
        missing = self._hashes[found] != tokens.hashes
        if missing.any():
            known = self._number
            new = [entry for entry in np.unique(tokens.hashes[missing]).tolist() if entry not in known]
            if new:
                self._learn(texts, tokens, new)
            found = self._found(tokens.hashes)
            missing = self._hashes[found] != tokens.hashes
            found[missing] = [self._number[entry] for entry in tokens.hashes[missing].tolist()]
        return found

    def _found(self, hashes: NDArray[np.uint64]) -> Ints:
        return self._table[(hashes & np.uint64(_SLOTS - 1)).astype(np.int64)].astype(np.int64)

    def _learn(self, texts: Sequence[str], tokens: Tokens, new: list[int]) -> None:
        """Take in the words with the hashes `new`, whose letters are read off the texts that have them."""
        hashes = np.array(new, np.uint64)
        holders = np.unique(tokens.owners[np.isin(tokens.hashes, hashes)])
        split = split_words([texts[holder] for holder in holders.tolist()])
        found = split.explode(empty_as_null=False).unique(maintain_order=True).to_list()
        letters = dict(zip(hashed_words(found).hashes.tolist(), found, strict=True))
        names = [letters[entry] for entry in new]
        vectors = self._vectors(names)
        heavy = (np.linalg.norm(vectors, axis=1) >= LIGHT) & ~np.array([is_number(name) for name in names])
        vectors[~heavy] = 0
        start = len(self._hashes)
        self._number.update(zip(new, range(start, start + len(new)), strict=True))
        self._table[(hashes & np.uint64(_SLOTS - 1)).astype(np.int64)] = np.arange(start, start + len(new))
        self._hashes = np.concatenate([self._hashes, hashes])
        self.vectors = np.concatenate([self.vectors, vectors])
        self.idf = np.concatenate([self.idf, np.array([self._idf(name) for name in names], np.float32)])
        self.heavy = np.concatenate([self.heavy, heavy])
        self.quantity = np.concatenate([self.quantity, [self._quantity(name) for name in names]])
        self.in_words = np.concatenate([self.in_words, [name in IN_WORDS for name in names]])

    def _quantity(self, name: str) -> int:
        if not is_number(name) and name not in IN_WORDS:
            return NO_NUMBER
        return self._quantities.get(next(iter(quantities([name])), ""), OTHER_NUMBER)


def unit(vectors: Vectors) -> Vectors:
    """The vectors with a length of 1; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Vectors = vectors / np.maximum(lengths, 1e-6)
    return units
