"""Finds benchmark questions that a row asks in other words.

Every exchange of a row (what is asked, what is replied) is compared with every item by two things. *Topic*: how far the
similarity to this item stands out among the similarities to all items, in standard deviations, on vectors of words
weighted by IDF. *Answer*: how far the reply says what the item's answer says, in numbers and in words. A topic alone is
no evidence, because neighbours of a question share its words: what tells a paraphrase from them is the same answer. An
exchange without a reply is therefore never one, and an item whose answer is not known is judged by all its choices.

The weights come from a logistic regression on the development half of the committed paraphrases and their neighbours,
rounded; all thresholds were chosen there too, so that at most 0.1 % of other rows pass (benchmarks/decontamination.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.contamination.benchmark_texts import Item, asks_otherwise, operands_by_place
from agents.data_engineer.contamination.exchanges import Batch, Exchange, Range
from agents.data_engineer.contamination.lexicon import NO_NUMBER, Ints, Lexicon, unit
from agents.data_engineer.contamination.overlap import contains, sparse
from agents.data_engineer.contamination.quantities import quantities
from agents.data_engineer.contamination.word_vectors import Vectors, WordVectors, word_vectors
from agents.data_engineer.words import grams, is_number, signs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TOPIC, ANSWER = 0.5, 0.5
"""Weights of the two, each of them between 0 and 1."""
THRESHOLD = 0.57
STANDS_OUT = 7.0
"""Standard deviations that make a topic of 1: beyond them neighbours come as close as copies."""
LEAST_TOPIC = 0.28
"""Two standard deviations; below them the question is about something else, however well the reply fits."""
NEAREST = 0.7
"""Share of the topic of the item that comes nearest: a row that is closer to one item is no paraphrase of another."""
WITHOUT_NUMBERS = 0.7
"""What an agreement of numbers is worth where the question has none of the item's numbers in it."""
WORDED = 30.0
"""Weight of an answer's words (the length of their vectors) from which it is more than a number with a unit."""
UNIT = 0.1
"""What the words beside a number add to its agreement."""
WORDS_A_NUMBER = 8
"""In so many words a number may turn up by chance."""
TEMPLATE = 0.25
"""Share of the item's runs of three words from which a question is no rewording but the item's template: the same item
with a few words changed if the reply has the answer word for word, else another question."""
BACKGROUND, BACKGROUND_MEAN, BACKGROUND_DEVIATION = 50, 0.1, 0.1
"""Imagined items with the similarities of unrelated questions (measured on the development half): they keep the
standard deviation meaningful in a small benchmark."""
_TOGETHER = 512
"""Exchanges that are compared at once: 2 MB of similarities to 1,000 items."""

Floats = NDArray[np.float32]


class Paraphrases:
    """The items of some benchmarks, to be looked for in the exchanges of rows."""

    def __init__(self, items: Sequence[Item], vectors: WordVectors | None = None) -> None:
        self._items = items
        self.vectors = vectors or word_vectors([item.tokens for item in items])
        self._spread = Counter(word for item in items for word in set(item.tokens))
        self._quantities = [quantities(item.tokens) for item in items]
        asked = self._sums([item.tokens for item in items], weighted=True)
        replied = self._sums([item.answers[0] if item.answers else () for item in items], weighted=True)
        self._asked, self._together = unit(asked), unit(asked + replied)
        self._index([(number, answer) for number, item in enumerate(items) for answer in item.answers])
        self._lexicon = Lexicon(self.vectors, self._number, self._idf, asked.shape[1])

    def _index(self, answers: Sequence[tuple[int, list[str]]]) -> None:
        """Item, words and numbers of each answer."""
        said = [quantities(answer) for _, answer in answers]
        self._number = {digits: at for at, digits in enumerate(sorted(set().union(*said)))}
        self._rarity = np.array([9.0 * 10 ** (len(digits) - 1) for digits in self._number])
        cells = [(self._number[digits], at, 1 / len(held)) for at, held in enumerate(said) for digits in held]
        places = np.array([cell[:2] for cell in cells], np.int64).reshape(-1, 2).T
        shares = np.array([cell[2] for cell in cells], np.float32)
        self._counted = sparse(shares, places[0], places[1], (len(self._number), len(answers)))
        words = [[word for word in dict.fromkeys(answer) if not is_number(word)] for _, answer in answers]
        weights = np.array([np.linalg.norm(self.vectors(named), axis=1).sum() for named in words])
        self._answer_items = np.array([item for item, _ in answers], np.int64)
        self._answers = unit(self._sums(words, weighted=False))
        by_words = np.array([0.0 if held else 1.0 for held in said])
        self._by_words = np.where((by_words == 0) & (weights >= WORDED), 0.5, by_words).astype(np.float32)
        """Share of each answer's agreement that its words decide; its numbers decide the rest."""

    def _idf(self, word: str) -> float:
        """The square root of the inverse document frequency: the whole of it lets one rare word outweigh a question."""
        return math.sqrt(math.log(1 + len(self._items) / (1 + self._spread[word])))

    def _sums(self, texts: Sequence[Sequence[str]], *, weighted: bool) -> Vectors:
        """The sum of the vectors of each text's distinct words, by IDF if `weighted`."""
        named = [[word for word in dict.fromkeys(text) if not is_number(word)] for text in texts]
        flat = [word for text in named for word in text]
        vectors = self.vectors(flat)
        if weighted:
            vectors *= np.array([self._idf(word) for word in flat], np.float32)[:, None]
        sums = np.zeros((len(texts), vectors.shape[1]), np.float32)
        np.add.at(sums, np.repeat(np.arange(len(texts)), [len(text) for text in named]), vectors)
        return sums

    def hits(self, batch: Batch, skip: set[tuple[int, int]]) -> list[tuple[int, int, float]]:
        """Row, item and score of every paraphrase, the best of each pair; pairs in `skip` are known already."""
        exchanges = [exchange for exchange in batch.exchanges if exchange.replied]
        if not exchanges or not len(self._answer_items):
            return []
        words = self._lexicon.numbers(batch.parts, batch.tokens)
        best: dict[tuple[int, int], float] = {}
        for start in range(0, len(exchanges), _TOGETHER):
            for exchange, answer, topic, agreement in self._candidates(
                batch, words, exchanges[start : start + _TOGETHER]
            ):
                pair = exchange.row, int(self._answer_items[answer])
                if pair not in skip:
                    score = self._score(batch, exchange, answer, topic, agreement)
                    if score >= best.get(pair, THRESHOLD):
                        best[pair] = score
        return [(row, item, score) for (row, item), score in sorted(best.items())]

    def _score(self, batch: Batch, exchange: Exchange, answer: int, topic: float, agreement: float) -> float:
        """The whole score; 0 where the question is another one, in spite of it."""
        number = int(self._answer_items[answer])
        item, own = self._items[number], self._quantities[number]
        asked = batch.words_at([exchange.asked])
        if own:
            missing = 1 - len(own & quantities(asked)) / len(own)
            agreement *= 1 - (1 - float(self._by_words[answer])) * (1 - WITHOUT_NUMBERS) * missing
        if item.vague and contains(asked, item.tokens):  # Word for word: the other rules have looked at it.
            return 0.0
        if asks_otherwise(item, operands_by_place(asked, batch.words_at([exchange.asked], signs))):
            return 0.0
        if kept(item.tokens, asked) >= TEMPLATE:
            replied = batch.words_at(exchange.replied)
            if not any(contains(replied, said) for said in item.answers):
                return 0.0
        return TOPIC * topic + ANSWER * agreement

    def _candidates(
        self, batch: Batch, words: Ints, exchanges: Sequence[Exchange]
    ) -> list[tuple[Exchange, int, float, float]]:
        """Exchange, answer, topic and agreement of the pairs over the threshold."""
        asked = _Places([[exchange.asked] for exchange in exchanges], words, self._lexicon)
        replied = _Places([exchange.replied for exchange in exchanges], words, self._lexicon)
        question = asked.sums(weighted=True)
        topic = _standing_out(question, self._asked)
        topic += _standing_out(question + replied.sums(weighted=True), self._together)
        np.minimum(topic, 2, out=topic)
        topic *= 0.5
        if not np.array_equal(self._answer_items, np.arange(len(self._items))):
            topic = topic[:, self._answer_items]
        agreement: Floats = unit(replied.sums(weighted=False)) @ self._answers.T
        np.maximum(agreement, 0, out=agreement)
        counted = (self._numbers_said(batch, exchanges, replied) @ self._counted).tocoo()
        beside = agreement[counted.row, counted.col]
        agreement *= self._by_words
        by_numbers = 1 - self._by_words[counted.col]
        agreement[counted.row, counted.col] += by_numbers * counted.data * (1 - UNIT + UNIT * beside)
        worth = TOPIC * topic + ANSWER * agreement >= THRESHOLD
        nearest = NEAREST * topic.max(axis=1, keepdims=True)
        of, answer = np.nonzero(worth & (topic >= np.maximum(nearest, LEAST_TOPIC)))
        found = zip(
            of.tolist(), answer.tolist(), topic[of, answer].tolist(), agreement[of, answer].tolist(), strict=True
        )
        return [(exchanges[number], *rest) for number, *rest in found]

    def _numbers_said(self, batch: Batch, exchanges: Sequence[Exchange], replied: _Places) -> csr_matrix:
        """Exchange → quantities of the answers in its reply, each by how unlikely it is to be there by chance."""
        pairs = set(replied.quantities())
        among = replied.distinct_numbers()
        for number in replied.with_numbers_in_words():
            inside = quantities(batch.words_at(exchanges[number].replied))
            among[number] = len(inside)
            pairs.update((number, self._number[digits]) for digits in inside if digits in self._number)
        rows, columns = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        among = np.maximum(among, replied.lengths // WORDS_A_NUMBER)
        unlikely = 1 - np.minimum(1, among[rows] / self._rarity[columns])
        return sparse(unlikely.astype(np.float32), rows, columns, (len(exchanges), len(self._number)))


class _Places:
    """The words at some places of a batch, by the exchange that they belong to."""

    def __init__(self, ranges: Sequence[Sequence[Range]], words: Ints, lexicon: Lexicon) -> None:
        flat = np.array([piece for pieces in ranges for piece in pieces], np.int64).reshape(-1, 2)
        lengths = flat[:, 1] - flat[:, 0]
        ends = np.cumsum(lengths)
        owners = np.repeat(np.arange(len(ranges)), [len(pieces) for pieces in ranges])
        at = np.repeat(flat[:, 0] - (ends - lengths), lengths) + np.arange(int(lengths.sum()))
        self._lexicon = lexicon
        self._size = len(ranges)
        self._owners = np.repeat(owners, lengths)
        self._words = words[at]
        self.lengths = np.bincount(self._owners, minlength=self._size)
        """Words of each exchange."""

    def sums(self, *, weighted: bool) -> Vectors:
        """The sum of the vectors of each exchange's distinct words, by IDF if `weighted`."""
        owners, words = self._distinct(self._lexicon.heavy)
        weights = self._lexicon.idf[words] if weighted else np.ones(len(words), np.float32)
        used, columns = np.unique(words, return_inverse=True)
        sums: Vectors = sparse(weights, owners, columns, (self._size, len(used))) @ self._lexicon.vectors[used]
        return sums

    def quantities(self) -> list[tuple[int, int]]:
        """Exchange and quantity of an answer that it has, in figures or in one word."""
        owners, words = self._distinct(self._lexicon.quantity >= 0)
        return list(zip(owners.tolist(), self._lexicon.quantity[words].tolist(), strict=True))

    def distinct_numbers(self) -> Ints:
        """How many numbers each exchange has."""
        return np.bincount(self._distinct(self._lexicon.quantity != NO_NUMBER)[0], minlength=self._size)

    def with_numbers_in_words(self) -> list[int]:
        """Exchanges with two number words or more side by side, which may be one number."""
        spelled = self._lexicon.in_words[self._words]
        beside = spelled[1:] & spelled[:-1] & (self._owners[1:] == self._owners[:-1])
        found: list[int] = np.unique(self._owners[1:][beside]).tolist()
        return found

    def _distinct(self, kind: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Exchange and word of the words of one kind, each once an exchange."""
        kept = kind[self._words]
        pairs = (self._owners[kept] << 32) | self._words[kept]
        pairs.sort()
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs
        return pairs >> 32, pairs & 0xFFFFFFFF


def kept(item: Sequence[str], row: Sequence[str]) -> float:
    """Share of the item's runs of three words that a question has too."""
    own = set(grams(list(item), 3))
    return len(own & set(grams(list(row), 3))) / len(own)


def _standing_out(sums: Vectors, items: Vectors) -> Floats:
    """By how many of STANDS_OUT deviations each similarity is above the mean of all."""
    similar: Floats = unit(sums) @ items.T
    size = similar.shape[1] + BACKGROUND
    mean = (similar.sum(axis=1) + BACKGROUND * BACKGROUND_MEAN) / size
    squares = np.einsum("ij,ij->i", similar, similar)
    squares += BACKGROUND * (BACKGROUND_MEAN**2 + BACKGROUND_DEVIATION**2)
    scale = 1 / (np.sqrt(np.maximum(squares / size - mean**2, 1e-6)) * STANDS_OUT)
    similar -= mean[:, None].astype(np.float32)
    similar *= scale[:, None].astype(np.float32)
    return similar
