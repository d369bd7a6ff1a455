"""Endless English-looking prose, seeded: a chain of words over the texts of Python's own language reference."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SUCCESSORS = 64
"""Places in the table of what may follow a word."""


class Prose:
    """A chain of words in which each is drawn from those that follow it in the reference."""

    def __init__(self) -> None:
        from pydoc_data.topics import topics

        text = re.findall(r"[a-z]{1,14}", " ".join(topics.values()).lower())
        self.words = np.array(sorted(set(text)), dtype=object)
        number = {word: index for index, word in enumerate(self.words)}
        following: dict[int, list[int]] = defaultdict(list)
        for word, after in pairwise(text):
            following[number[word]].append(number[after])
        rng = np.random.default_rng(0)
        # One draw in four leaves the chain, so that no run of words comes back too often.
        self._next = rng.integers(0, len(self.words), (len(self.words), SUCCESSORS))
        for word, after in following.items():
            filled = SUCCESSORS * 3 // 4
            self._next[word, :filled] = rng.choice(after, filled)

    def texts(self, rng: np.random.Generator, count: int, shortest: int, longest: int) -> list[str]:
        """`count` texts of `shortest` to `longest` words in sentences, ended by full stops."""
        lengths = rng.integers(shortest, longest + 1, count)
        chain = self._chain(rng, count, int(lengths.max()))
        return [sentences(self.words[row[:length]]) for row, length in zip(chain, lengths, strict=True)]

    def _chain(self, rng: np.random.Generator, count: int, length: int) -> NDArray[np.int64]:
        chain = np.empty((count, length), dtype=np.int64)
        chain[:, 0] = rng.integers(0, len(self.words), count)
        places = rng.integers(0, SUCCESSORS, (count, length))
        for at in range(1, length):
            chain[:, at] = self._next[chain[:, at - 1], places[:, at]]
        return chain


def sentences(words: NDArray[np.object_]) -> str:
    """Twelve words a sentence."""
    pieces = (" ".join(words[start : start + 12]) for start in range(0, len(words), 12))
    return " ".join(f"{piece[:1].upper()}{piece[1:]}." for piece in pieces)
