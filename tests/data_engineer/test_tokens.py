from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.data_engineer.tokens import gram_hashes, hashed_numbers, hashed_operators, hashed_words, split_words
from agents.data_engineer.words import NEGATIVE, grams, numbers, signs, words

TEXTS = [
    "A force of 1,000.5 N acts, on 5kg.",
    "",
    "one",
    "ＦＵＬＬ width ﬁ and É",
    "力 は 何",
    "snake_case and camelCase; don't",
    "١,٢٣٤ m²",
]
ALPHABET = st.text(alphabet="aB 1,.", max_size=30) | st.text(alphabet="ab 12,.é力²١，_-", max_size=30)


def test_the_words_of_many_texts_are_those_of_each() -> None:
    assert [list(found) for found in split_words(TEXTS)] == [words(text) for text in TEXTS]


@given(st.lists(ALPHABET, max_size=8))
def test_any_texts_have_the_same_words_one_by_one_and_together(texts: list[str]) -> None:
    assert [list(found) for found in split_words(texts)] == [words(text) for text in texts]


@given(st.lists(ALPHABET, max_size=8))
def test_texts_share_a_hash_of_numbers_exactly_where_their_numbers_are_the_same(texts: list[str]) -> None:
    pairs = set(zip((tuple(numbers(text)) for text in texts), hashed_numbers(texts).tolist(), strict=True))
    assert len({found for found, _ in pairs}) == len({value for _, value in pairs}) == len(pairs)


@given(st.lists(ALPHABET, max_size=8))
def test_grams_have_equal_hashes_exactly_where_their_words_are_equal(texts: list[str]) -> None:
    for n in (1, 3, 5):
        hashed = gram_hashes(hashed_words(texts), n)
        expected = [grams(words(text), n) for text in texts]
        assert hashed.lengths.tolist() == [len(entry) for entry in expected]
        pairs = set(zip((gram for entry in expected for gram in entry), hashed.hashes.tolist(), strict=True))
        assert len({gram for gram, _ in pairs}) == len({value for _, value in pairs}) == len(pairs)


def test_a_gram_is_not_another_in_another_order() -> None:
    first, second = gram_hashes(hashed_words(["a b c d e", "e d c b a"]), 5).hashes.tolist()
    assert first != second


def test_a_text_knows_its_tokens() -> None:
    hashed = hashed_words(["one two", "", "two"])
    assert hashed.of(2).tolist() == hashed.of(0).tolist()[1:]
    assert hashed.owners.tolist() == [0, 0, 2]
    assert hashed.of(1).dtype == np.uint64


def test_operators_and_signs_are_told_apart_and_hyphens_are_none() -> None:
    sums = ["12 * 7", "12 + 7", "12 * -7", "-40", "9 < 4", "9 > 4", "a + b", "a - b", "x**2", "x*2"]
    assert len(set(hashed_operators(sums).tolist())) == len(sums)
    assert hashed_operators(["12 × 7", "a–b", "a−b"]).tolist() == hashed_operators(["12*7", "a-b", "a - b"]).tolist()
    assert not hashed_operators(["a well-known x-ray of 40 cows", "covid-19", "and/or – 3 or so", ""]).any()
    assert signs("-40 + (a × -3), x-ray - 5") == [NEGATIVE, "+", "*-", "", "", ""]
    assert len(signs("Vitamin-C: 3,000 mg — 2×daily")) == len(words("Vitamin-C: 3,000 mg — 2×daily"))
