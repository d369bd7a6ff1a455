"""Vectors of single words: the direction says what a word means, the length how much it tells.

Two kinds, behind one protocol. WordLlama's are trained [github.com/dleemiller/WordLlama] and ship inside its package:
nothing is fetched. Where it is not installed, TF-IDF over the characters of a word stands in: it knows inflections and
spellings, and no synonyms.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared_memory.errors import Unavailable

Vectors = NDArray[np.float32]

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
CHARACTERS = "TF-IDF on characters"
DIMENSIONS = 512
"""Of the character vectors; their n-grams are hashed into it."""
_ORDERS = (3, 4, 5)
_TYPICAL_LENGTH = 12.0
"""Length of the vector of an ordinary content word in WordLlama (`force` 12, `the` 1.6, `acceleration` 19)."""


class WordVectors(Protocol):
    """What the paraphrase stage knows about words."""

    @property
    def name(self) -> str:
        """What made the vectors, with its version: part of the evidence."""

    def __call__(self, words: Sequence[str]) -> Vectors:
        """One vector a word, shape (words, dimensions)."""


def word_vectors(corpus: Iterable[Sequence[str]]) -> WordVectors:
    """The best that is installed; the characters' weights come from `corpus`, the words of each benchmark question."""
    folder = _wordllama()
    return CharacterVectors(corpus) if folder is None else WordLlamaVectors(folder)


def _wordllama() -> Path | None:
    """Where the package WordLlama is; found, not imported: importing it sets up logging and a downloader."""
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


class WordLlamaVectors:
    """The sum of the vectors of a word's tokens, read from the files in the package `wordllama`.

    They were trained to be averaged over a text, so the length of each is the weight that training gave it.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        try:
            (weights,) = load_file(folder / WEIGHTS).values()
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # tokenizers raises nothing narrower
            raise Unavailable(
                f"the files of wordllama in {folder} cannot be read ({error}); install it again"
            ) from error
        self._weights: Vectors = weights.astype(np.float32)

    @property
    def name(self) -> str:
        try:
            return f"wordllama {version('wordllama')}, l2_supercat_256"
        except PackageNotFoundError:
            return "wordllama, l2_supercat_256"

    def __call__(self, words: Sequence[str]) -> Vectors:
        found = np.zeros((len(words), self._weights.shape[1]), np.float32)
        encoded = [entry.ids for entry in self._tokenizer.encode_batch_fast(list(words), add_special_tokens=False)]
        owners = np.repeat(np.arange(len(words)), [len(ids) for ids in encoded])
        np.add.at(found, owners, self._weights[np.array([token for ids in encoded for token in ids], np.int64)])
        return found


class CharacterVectors:
    """TF-IDF over the runs of 3 to 5 characters of a word, hashed; rare words of the corpus are longer vectors."""

    name = CHARACTERS

    def __init__(self, corpus: Iterable[Sequence[str]]) -> None:
        texts = [set(words) for words in corpus]
        self._texts = len(texts)
        self._spread = Counter(word for text in texts for word in text)
        self._grams: Counter[int] = Counter()
        for word in self._spread:
            self._grams.update(set(_character_grams(word)))

    def __call__(self, words: Sequence[str]) -> Vectors:
        found = np.zeros((len(words), DIMENSIONS), np.float32)
        for vector, word in zip(found, words, strict=True):
            for gram in _character_grams(word):
                vector[gram] += math.log(1 + (1 + len(self._spread)) / (1 + self._grams[gram]))
            rarity = math.log(1 + self._texts / (1 + self._spread[word])) / math.log(2 + self._texts)
            vector *= _TYPICAL_LENGTH * min(1.0, len(word) / 5) * rarity / (np.linalg.norm(vector) or 1)
        return found


def _character_grams(word: str) -> list[int]:
    """The places of a word's n-grams among DIMENSIONS; its ends count as characters."""
    framed = f"<{word}>"
    grams = (framed[start : start + n] for n in _ORDERS for start in range(max(1, len(framed) - n + 1)))
    return [zlib.crc32(gram.encode()) % DIMENSIONS for gram in grams]
