"""Clusters of rows that must not be parted between training and measuring."""

from __future__ import annotations

import random
from pathlib import Path

from agents.data_engineer.duplicates.dedup import near_duplicate_clusters
from agents.data_engineer.formats.tables import Row, read_sources
from tests.data_engineer.rows import force_row, force_rows, write_jsonl

WORDS = [f"{first}{second}" for first in "bcdfghjklm" for second in ("ane", "ell", "ing", "oss", "ult", "ird", "arm")]


def asked(tmp_path: Path, *pairs: tuple[str, str], system: str = "") -> list[Row]:
    rows = [{"question": question, "answer": answer, "system": system} for question, answer in pairs]
    return read_sources([write_jsonl(tmp_path / "rows.jsonl", rows)])


def story(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def test_a_chain_of_near_duplicates_is_one_cluster_though_its_ends_differ(tmp_path: Path) -> None:
    texts = [story(1, 80).split() for _ in range(4)]
    for step, text in enumerate(texts):
        text[: 6 * step] = story(2).split()[: 6 * step]
    rows = asked(tmp_path, *((" ".join(text), "Yes.") for text in texts), (story(3), "Yes."))
    assert near_duplicate_clusters(rows) == [0, 0, 0, 0, 1]
    assert near_duplicate_clusters([rows[0], rows[3]]) == [0, 1]
    assert near_duplicate_clusters([rows[4], *rows[:4]]) == [0, 1, 1, 1, 1]


def test_rows_with_the_same_question_are_together_whatever_is_answered(tmp_path: Path) -> None:
    rows = asked(
        tmp_path, ("Is it so?", "Yes."), ("Why?", "Because."), ("is  it SO?", story(4)), ("", "Yes."), ("", "No.")
    )
    assert near_duplicate_clusters(rows) == [0, 1, 0, 2, 3]
    other_choices = force_row(2, 3) | {"Correct Answer": "six newtons"}
    (tmp_path / "choices").mkdir()
    source = write_jsonl(tmp_path / "choices" / "rows.jsonl", [force_row(2, 3), force_row(2, 4), other_choices])
    assert near_duplicate_clusters(read_sources([source])) == [0, 1, 0]


def test_a_template_with_other_numbers_and_a_long_instruction_in_every_row_join_nothing(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "force.jsonl", force_rows(300))
    assert near_duplicate_clusters(read_sources([source])) == list(range(300))
    pairs = [(f"{story(5, 200)} {story(seed, 12)}?", story(-seed, 6)) for seed in range(10, 160)]
    assert near_duplicate_clusters(asked(tmp_path, *pairs)) == list(range(150))
    briefed = asked(tmp_path, ("What is a cow?", "A cow."), ("Name a river.", "The Nile."), system=story(6, 300))
    assert near_duplicate_clusters(briefed) == [0, 1]
    assert near_duplicate_clusters([]) == []
