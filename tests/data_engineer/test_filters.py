"""Filters, letters, near-duplicates and the audit, on rows."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.data_engineer.audit import audit, audit_letters
from agents.data_engineer.duplicates.dedup import drop_near_duplicates, identity_digests
from agents.data_engineer.filters import (
    balance_letters,
    drop_exact_duplicates,
    drop_identical_pairs,
    keep_at_most,
    names_letters,
)
from agents.data_engineer.formats.tables import Message, Row
from agents.data_engineer.words import words
from tests.data_engineer.rows import force_rows


def choice_row(n: int, explanation: str = "") -> Row:
    return Row(
        id=str(n), question=f"Question {n}?", choices=("right", "wrong", "false", "off"), answer="A",
        explanation=explanation,
    )  # fmt: skip


def chat_row(prompt: str, completion: str) -> Row:
    return Row(id=prompt[:9], question=prompt, prompt=(Message("user", prompt),),
               completion=(Message("assistant", completion),))  # fmt: skip


def right_choice(row: Row) -> str:
    assert row.choices
    assert row.answer
    return row.choices["ABCD".index(row.answer)]


@pytest.mark.parametrize("count", [8, 41, 102, 203])
def test_letters_are_balanced_within_one_and_the_right_choice_stays_right(count: int) -> None:
    kept, step = balance_letters([choice_row(n) for n in range(count)], seed=3)
    letters = Counter(row.answer for row in kept)
    assert len(kept) == count
    assert max(letters.values()) - min(letters.values()) <= 1
    assert [row.id for row in kept] == [str(n) for n in range(count)]
    assert all(right_choice(row) == "right" and sorted(row.choices or ()) == sorted(choice_row(0).choices or ())
               for row in kept)  # fmt: skip
    assert len({row.choices for row in kept}) > 10 or count < 40, "the wrong choices are shuffled too"
    assert step.note.startswith("A ")


def test_a_row_whose_explanation_names_letters_is_left_out_rather_than_shuffled() -> None:
    fixed = [choice_row(n, explanation="Option B forgets the half.") for n in range(30)]
    free = [choice_row(n) for n in range(30, 60)]
    kept, step = balance_letters([*fixed, *free], seed=0)
    letters = Counter(row.answer for row in kept)
    named = [row for row in kept if row.explanation]
    assert max(letters.values()) - min(letters.values()) <= 1
    assert all(row in fixed for row in named)
    assert len(named) == 11
    assert len(kept) == 41
    assert "11 rows kept their order" in step.note


@pytest.mark.parametrize(
    ("explanation", "named"),
    [
        ("Option B forgets the half.", True),
        ("so the answer is C.", True),
        ("ANSWER: D", True),
        ("(A) is out, for it has the wrong unit.", True),
        ("A) too small\nB) right", True),
        ("C is wrong because it adds.", True),
        ("The current is 3 A.", False),
        ("The answer: A force of 5 N moves the block.", False),
        ("The answer is F = m a = 6 N.", False),
        ("A block at point B moves to C.", False),
        ("The mass is 5 kg.", False),
    ],
)
def test_letters_of_choices_are_told_from_other_capitals(explanation: str, named: bool) -> None:
    assert names_letters(explanation) is named


def test_rows_that_differ_in_an_operator_or_a_reply_are_no_exact_duplicates() -> None:
    rows = [
        chat_row("What is 7 - 5?", "2"),
        chat_row("What is 7 + 5?", "12"),
        chat_row("What is  7 + 5?", "12"),
        chat_row("What is 7 + 5?", "It is 12."),
    ]
    kept, step = drop_exact_duplicates(rows)
    assert kept == [rows[0], rows[1], rows[3]]
    assert (step.rows_in, step.rows_out) == (4, 3)


def test_code_that_differs_in_its_indentation_is_no_exact_duplicate_and_other_blanks_do_not_count() -> None:
    code = "for n in rows:\n    total += n\n    print(total)"
    rows = [chat_row("Add up.", text) for text in (code, code.replace("    print", "print"), code.replace("\n", " "))]
    spaced = [chat_row("Add  up. ", f"{code.replace(' += ', '  += ')}  \n"), chat_row("Add up.", code + "\t")]
    windows = chat_row("Add up.", code.replace("\n", " \r\n"))
    assert drop_exact_duplicates([*rows, *spaced, windows])[0] == rows
    assert len(set(identity_digests([*rows, *spaced, windows]).tolist())) == 3


def test_near_duplicates_go_and_the_same_words_with_other_numbers_stay() -> None:
    story = "The quick brown fox jumps over the lazy dog while {n} grey geese cross the old stone bridge at dawn " * 3
    original = chat_row(story.format(n=4), "They do.")
    retouched = chat_row(story.format(n=4).replace("lazy", "sleepy", 1), "They do.")
    renumbered = chat_row(story.format(n=5), "They do.")
    kept, step = drop_near_duplicates([original, retouched, renumbered], threshold=0.7)
    assert kept == [original, renumbered]
    assert "0.7" in step.note


def test_short_and_wordless_rows_are_not_near_duplicates_of_one_another() -> None:
    rows = [chat_row("?", "!"), chat_row("…", "."), chat_row("Hi", "Hello"), chat_row("Bye", "Hello")]
    assert drop_near_duplicates(rows, threshold=0.7)[0] == rows


def test_a_limit_keeps_a_seeded_sample_in_order() -> None:
    rows = [choice_row(n) for n in range(50)]
    kept, _ = keep_at_most(rows, 20, seed=1)
    assert len(kept) == 20
    assert kept == sorted(kept, key=lambda row: int(row.id))
    assert kept == keep_at_most(rows, 20, seed=1)[0] != keep_at_most(rows, 20, seed=2)[0]
    assert keep_at_most(rows, 60, seed=1)[0] == rows


def test_the_audit_counts_each_fault_and_says_whether_the_steps_mend_it() -> None:
    clean = [choice_row(n, explanation=f"Because {n}.") for n in range(10)]
    assert (audit(clean).verdict, audit(clean).findings) == ("fit", ())
    contradiction = Row(id="c", question="Question 1?", choices=("wrong", "right", "false", "off"), answer="A")
    report = audit([*clean, clean[0], Row(id="e", question="", choices=("a", "b"), answer="A"), contradiction])
    assert {finding.kind: finding.count for finding in report.findings} == {
        "empty": 1, "exact_duplicates": 1, "contradictions": 2,
    }  # fmt: skip
    assert report.verdict == "fixable"
    assert audit(clean[:3]).verdict == "unfit"
    assert audit([]).verdict == "unfit"


def test_the_audit_warns_of_a_crowded_letter() -> None:
    rows = [choice_row(n) for n in range(20)]
    (finding,) = audit_letters(rows)
    assert (finding.kind, finding.count) == ("letters", 20)
    assert audit_letters(balance_letters(rows, seed=0)[0]) == []


def test_numbers_keep_their_value_through_punctuation_units_and_unicode() -> None:
    assert words("1,000 kg; 2.50 m/s² (5km)") == ["1000", "kg", "2.50", "m", "s", "2", "5", "km"]
    assert words("“Weiß”—CO₂") == ["weiß", "co", "2"]
    assert len(force_rows(400)) == len({row["Question"] for row in force_rows(400)})


def test_replies_that_differ_in_their_reasoning_or_calls_alone_are_different_replies() -> None:
    thoughts = [Message("assistant", "42", reasoning=f"First {n}, then the rest.") for n in range(16)]
    asked = (Message("user", "What is 6 × 7?"),)
    rows = [Row(id=str(n), question="?", prompt=asked, completion=(said,)) for n, said in enumerate(thoughts)]
    assert drop_exact_duplicates([*rows, rows[3]])[0] == rows
    calls = [Message("assistant", "", tool_calls=f'[{{"function": {{"name": "f{n}"}}}}]') for n in range(2)]
    pair = Row(id="1", question="?", prompt=asked, completion=(calls[0],), rejected=(calls[1],))
    same = Row(id="2", question="?", prompt=asked, completion=(calls[0],), rejected=(calls[0],))
    assert drop_identical_pairs([pair, same])[0] == [pair]


def test_many_rows_in_memory_are_audited_as_one_batch_would_be() -> None:
    rows = [chat_row(f"What is {n}?", f"It is {n}.") for n in range(5000)]
    report = audit([*rows, rows[4500], rows[7]])
    assert (report.rows, report.tokens.max, report.tokens.total) == (5002, 6, 5002 * 6)
    (found,) = report.findings
    assert (found.kind, found.count, [example.row for example in found.examples]) == (
        "exact_duplicates",
        2,
        [5001, 5002],
    )
    assert found.examples[0].text == "like rows:4501: What is 4500? It is 4500."
