"""Rows that say the same, among few and among many; the reference compares sets of strings pair by pair."""

from __future__ import annotations

import random
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from agents.data_engineer.duplicates.dedup import (
    SHINGLE,
    drop_near_duplicates,
    identity_digests,
    near_duplicate_clusters,
    shingles,
    told,
)
from agents.data_engineer.duplicates.near_duplicates import CROWD, NearDuplicates, firsts
from agents.data_engineer.filters import identity
from agents.data_engineer.formats.tables import Message, Row
from agents.data_engineer.tokens import Tokens, hashed_words
from agents.data_engineer.words import grams, words
from shared_memory.errors import Unavailable

VOCABULARY = [f"{first}{second}" for first in "bcdfghjklmnprstvw" for second in ("ane", "ell", "ingo", "oss", "ult")]


def story(rng: random.Random, length: int = 60) -> list[str]:
    return rng.choices(VOCABULARY, k=length)


def edited(text: list[str], rng: random.Random, words: int) -> list[str]:
    copy = list(text)
    for place in rng.sample(range(len(copy)), words):
        copy[place] = rng.choice(VOCABULARY)
    return copy


def row(text: list[str] | str, question: str = "Tell me a story.", system: str = "") -> Row:
    answer = text if isinstance(text, str) else " ".join(text)
    prompt = (*([Message("system", system)] if system else ()), Message("user", question))
    return Row("1:1", question, prompt, (Message("assistant", answer),))


def searched(rows: list[Row], threshold: float = 0.7, batch: int = 100, *, exact: bool = False) -> NearDuplicates:
    near = NearDuplicates(threshold)
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        near.add(shingles(part), identity_digests(part) if exact else None)
    return near


def similarity(first: Row, second: Row) -> float:
    one, other = (set(grams(words(told(row)), SHINGLE)) for row in (first, second))
    return len(one & other) / len(one | other)


def test_the_pairs_are_those_of_the_exact_similarity() -> None:
    rng = random.Random(1)
    originals = [story(rng) for _ in range(15)]
    rows = [row(edited(text, rng, count)) for text in originals for count in (0, 1, 1, 2, 3, 6)]
    rng.shuffle(rows)
    found = searched(rows).pairs()
    expected = {
        (first, second): value
        for first, second in combinations(range(len(rows)), 2)
        if (value := similarity(rows[first], rows[second])) >= 0.7
    }
    assert len(expected) > 50
    assert dict(zip(found, found.similarity.tolist(), strict=True)) == pytest.approx(expected)
    assert list(found) == sorted(found, key=lambda pair: pair[::-1])


def test_of_each_group_the_first_stays_and_each_other_names_the_kept_row_that_it_repeats() -> None:
    rng = random.Random(2)
    chain = [story(rng, 80)]
    for step in range(3):
        chain.append([*chain[-1][: 6 * step], *story(rng, 6), *chain[-1][6 * step + 6 :]])
    rows = [row(chain[0]), row(story(rng)), row(chain[1]), row(chain[2]), row(chain[3])]
    found = searched(rows).duplicates()
    # The third link is unlike the first, and the second, which it is like, has gone.
    assert found.rows.tolist() == [2, 4]
    assert found.originals.tolist() == [0, 3]
    assert found.similarity.tolist() == pytest.approx([similarity(rows[0], rows[2]), similarity(rows[3], rows[4])])
    assert drop_near_duplicates(rows, 0.7)[0] == [rows[0], rows[1], rows[3]]


def test_batches_do_not_change_what_is_found() -> None:
    rng = random.Random(3)
    texts = [story(rng) for _ in range(20)]
    rows = [row(edited(rng.choice(texts), rng, 1)) for _ in range(60)]
    all_at_once, one_by_one = searched(rows).duplicates(), searched(rows, batch=1).duplicates()
    assert len(all_at_once) > 30
    assert all_at_once.rows.tolist() == one_by_one.rows.tolist()
    assert all_at_once.originals.tolist() == one_by_one.originals.tolist()


def test_words_at_hand_are_not_split_again() -> None:
    rows = [row(story(random.Random(4))), row("")]
    given = shingles(rows, hashed_words([told(entry) for entry in rows]))
    assert given.hashes.tolist() == shingles(rows).hashes.tolist()


def test_exact_duplicates_are_passed_over_where_they_are_known() -> None:
    rng = random.Random(5)
    text, other = story(rng), story(rng)
    rows = [row(text), row(" ".join(text).upper()), row(other), row(edited(text, rng, 1)), row(other)]
    assert searched(rows).duplicates().rows.tolist() == [1, 3, 4]
    assert searched(rows, exact=True).duplicates().rows.tolist() == [3]
    assert searched(rows, batch=1, exact=True).duplicates().rows.tolist() == [3]
    assert firsts(identity_digests(rows)).tolist() == [0, 0, 2, 3, 2]


def test_digests_are_equal_exactly_where_identities_are() -> None:
    choices = Row("1:1", "Which is a mammal?", choices=("cat", "trout", "moss"), answer="A", explanation="It has fur.")
    shuffled = Row(
        "1:2", "which is  a mammal?", choices=("moss", "Cat", "trout"), answer="B", explanation="It has fur."
    )
    wrong = Row("1:3", "Which is a mammal?", choices=("cat", "trout", "moss"), answer="B", explanation="It has fur.")
    pair = Row(
        "1:4", "Hi", (Message("user", "Hi"),), (Message("assistant", "Yes"),), rejected=(Message("assistant", "No"),)
    )
    rows = [
        choices,
        shuffled,
        wrong,
        pair,
        row("Ｎo"),
        row("no"),
        row("n o"),
        row("no", system="Be brief."),
        row("\ud800"),
    ]
    identities, digests = [identity(entry) for entry in rows], identity_digests(rows).tolist()
    for first, second in combinations(range(len(rows)), 2):
        assert (identities[first] == identities[second]) == (digests[first] == digests[second])
    assert digests[0] == digests[1]
    assert digests[4] == digests[5]


def test_rows_with_other_numbers_are_no_duplicates_and_the_system_message_is_no_difference() -> None:
    text = story(random.Random(6))
    asked = "What do 3 cows and 1,000 hens say?"
    rows = [row(text, asked), row(text, asked.replace("3", "4")), row(text, asked.replace(",", ""), system="Be brief.")]
    assert list(searched(rows).pairs()) == [(0, 2)]


def test_a_row_filled_into_one_template_with_a_thousand_others_is_found_and_the_others_stay() -> None:
    rng = random.Random(7)
    template = story(rng, 60)
    crowd = [[*template, *story(rng, 30)] for _ in range(1000)]
    copies = [[*text[:62], *story(rng, 3), *text[65:]] for text in crowd[100:150]]
    rows = [row(text) for text in (*crowd, *(story(rng) for _ in range(1100)), *copies)]
    assert similarity(rows[0], rows[1]) > 0.4
    found = searched(rows, batch=500).duplicates()
    assert found.rows.tolist() == list(range(2100, 2150))
    assert found.originals.tolist() == list(range(100, 150))


def test_of_a_crowd_of_near_copies_one_stays() -> None:
    rng = random.Random(8)
    text = story(rng, 120)
    copies = [row(edited(text, rng, 1)) for _ in range(20 * CROWD)]
    others = [row(story(rng)) for _ in range(25 * CROWD)]
    assert drop_near_duplicates([row(text), *copies, *others], 0.7)[0] == [row(text), *others]


def test_what_most_rows_share_is_not_compared() -> None:
    rng = random.Random(9)
    form = story(rng, 200)
    rows = [row([*form, *story(rng, 20)]) for _ in range(150)]
    rows.append(row([*rows[0].completion[0].content.split(), "besides"]))
    assert list(searched(rows).pairs()) == [(0, 150)]


@pytest.mark.parametrize("count", [16, 60])
@pytest.mark.parametrize("replies", [("It is as it was told.",), ("positive", "negative")])
def test_a_long_instruction_in_a_few_rows_makes_no_duplicates(count: int, replies: tuple[str, ...]) -> None:
    rng = random.Random(12)
    instruction = " ".join(story(rng, 40))
    rows = [
        row(replies[n % len(replies)], f"{instruction} {' '.join(rng.sample(VOCABULARY, 7))}") for n in range(count)
    ]
    assert len(searched(rows, 0.7).pairs()) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("positive", "negative"), ("C++", "C#"), ("a + b", "a - b"), ("x**2", "x*2"), ("😀", "😡"), ("Yes", "No")],
)
def test_short_replies_that_differ_make_other_rows_of_one_question(one: str, other: str) -> None:
    question = " ".join(story(random.Random(13)))
    rows = [row(one, question), row(other, question), row(f" {one.upper()}", f"{question} besides")]
    assert list(searched(rows).pairs()) == [(0, 2)]
    assert near_duplicate_clusters(rows) == [0, 0, 0]
    choices = [Row("1:1", question, choices=(one, other), answer=letter, explanation="So it is.") for letter in "ABA"]
    assert list(searched(choices).pairs()) == [(0, 2)]


@pytest.mark.parametrize(
    ("one", "other"), [("12 * 7", "12 + 7"), ("-40", "40"), ("9 < 4", "9 > 4"), ("a*b", "a/b"), ("12 * 7", "12 * -7")]
)
def test_other_operators_in_the_question_make_other_rows(one: str, other: str) -> None:
    text = " ".join(story(random.Random(14)))
    rows = [row(text, f"How much is {sum_} here?") for sum_ in (one, other, one.replace("*", " × ").replace("-", "−"))]
    assert list(searched(rows).pairs()) == [(0, 2)]


def test_a_row_that_repeats_one_phrase_counts_it_once() -> None:
    phrase, other = story(random.Random(10), 40), story(random.Random(11), 40)
    rows = [row([*phrase, *other]), row([*phrase * 9, *other])]
    assert list(searched(rows).pairs()) == [(0, 1)]


def test_empty_rows_are_like_nothing_and_nothing_is_found_among_no_rows() -> None:
    empty = Row("1:1", "", (), ())
    assert len(searched([empty] * 200).pairs()) == len(searched([]).duplicates()) == 0
    assert drop_near_duplicates([empty, empty], 0.7)[0] == [empty, empty]


def test_a_threshold_of_one_switches_the_step_off() -> None:
    rows = [row("the same words in both")] * 2
    kept, step = drop_near_duplicates(rows, 1)
    assert kept == rows
    assert step.note.startswith("off")


@pytest.mark.parametrize("device", ["/dev/full", "/nowhere/at/all"])
def test_a_temporary_folder_that_cannot_be_written_is_named(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "/dev/full" and not Path(device).exists():
        pytest.skip("this system has no device that is always full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: open(device, "w+b", **options))  # noqa: SIM115, PTH123
    with pytest.raises(Unavailable, match="set TMPDIR"):
        NearDuplicates().add(Tokens(np.arange(9, dtype=np.uint64), np.array([0, 4, 9])))
