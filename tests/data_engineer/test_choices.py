"""Multiple choice in the shapes that data sets have it in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agents.data_engineer.formats.tables import Row, read_sources
from shared_memory.errors import BadInput
from tests.data_engineer.rows import write_jsonl

ASKED = "What is the net force?"
CHOICES = ("5 N", "6 N", "60 N", "1 N")


def read(tmp_path: Path, *rows: dict[str, Any]) -> list[Row]:
    return read_sources([write_jsonl(tmp_path / "rows.jsonl", rows)])


@pytest.mark.parametrize(
    "row",
    [
        {"question": ASKED, "choices": CHOICES, "answer": 1, "subject": "physics"},  # MMLU
        {"question": ASKED, "choices": CHOICES, "answer": "B"},
        {"question": ASKED, "choices": CHOICES, "answer": "6 N"},
        {"question": ASKED, "choices": CHOICES, "answer": "(b)."},
        {"question": ASKED, "options": CHOICES, "answer": "B", "answer_index": 1, "cot_content": ""},  # MMLU-Pro
        {"question": ASKED, "choices": {"text": CHOICES, "label": ["A", "B", "C", "D"]}, "answerKey": "B"},  # ARC
        {"question": ASKED, "choices": {"text": CHOICES, "label": ["1", "2", "3", "4"]}, "answerKey": "2"},
        {"question": ASKED, "opa": "5 N", "opb": "6 N", "opc": "60 N", "opd": "1 N", "cop": 1, "exp": None},  # MedMCQA
        {"question": ASKED, "options": dict(zip("ABCD", CHOICES, strict=True)), "answer_idx": "B", "answer": "6 N"},
        {"question": ASKED, "A": "5 N", "B": "6 N", "C": "60 N", "D": "1 N", "Answer": "B"},
        {"question": ASKED, "option_1": "5 N", "option_2": "6 N", "option_3": "60 N", "option_4": "1 N", "label": 2},
        {"question": ASKED, "options": [f"{x}) {c}" for x, c in zip("ABCD", CHOICES, strict=True)], "answer": "B"},
        {"question": ASKED, "choices": [{"label": x, "text": c} for x, c in zip("WXYZ", CHOICES, strict=True)],
         "answer": "X"},
        {"question": ASKED, "choices": json.dumps(CHOICES), "answer": "1"},
        {"query": ASKED, "choices": CHOICES, "gold": [1]},  # LightEval
    ],
)  # fmt: skip
def test_every_usual_shape_gives_the_same_choices_and_the_same_letter(tmp_path: Path, row: dict[str, Any]) -> None:
    (found,) = read(tmp_path, row)
    assert (found.question, found.choices, found.answer) == (ASKED, CHOICES, "B")
    assert not found.prompt


def test_wrong_answers_beside_a_right_one_stand_behind_it_and_an_explanation_is_kept(tmp_path: Path) -> None:
    sciq = {
        "question": ASKED,
        "distractor1": "5 N",
        "distractor2": "60 N",
        "correct_answer": "6 N",
        "support": "F = ma.",
    }
    listed = {
        "question": ASKED,
        "correct_answer": "6 N",
        "incorrect_answers": ["5 N", "60 N"],
        "explanation": "F = ma.",
    }
    for row in (sciq, listed):
        (found,) = read(tmp_path, row)
        assert (found.choices, found.answer, found.explanation) == (("6 N", "5 N", "60 N"), "A", "F = ma.")


def test_a_passage_stands_with_the_question_and_questions_may_have_fewer_choices_than_columns(tmp_path: Path) -> None:
    row = {"question": "Who?", "context": "It rained.", "A": "Ann", "B": "Bob", "C": "", "D": None, "answer": "Bob"}
    (found,) = read(tmp_path, row)
    assert (found.question, found.choices, found.answer) == ("Who?\n\nIt rained.", ("Ann", "Bob"), "B")


def test_a_number_that_is_a_choice_is_that_choice_in_text_and_a_position_as_a_number(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        {"question": "1 + 2?", "choices": ["1", "2", "3", "0"], "answer": "3"},
        {"question": "1 + 2?", "choices": ["1", "2", "0", "3"], "answer": 3},
    )
    assert (first.answer, second.answer) == ("C", "D")


def test_parquet_with_labels_in_a_struct_and_csv_with_letters_are_read(tmp_path: Path) -> None:
    arc = {"question": [ASKED], "choices": [{"text": list(CHOICES), "label": list("ABCD")}], "answerKey": ["B"]}
    pl.DataFrame(arc).write_parquet(tmp_path / "arc.parquet")
    (tmp_path / "rows.csv").write_text("question,A,B,C,D,answer\nWhat?,5 N,6 N,60 N,1 N,B\n")
    for name in ("arc.parquet", "rows.csv"):
        (found,) = read_sources([str(tmp_path / name)])
        assert (found.choices, found.answer) == (CHOICES, "B")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"choices": CHOICES, "answer": 4}, "`answer` is `4`, not one of the choices"),
        ({"choices": CHOICES, "answer": -1}, "`answer` is `-1`, not one of the choices"),
        ({"choices": CHOICES, "answer": "7 N"}, "`answer` is `7 N`, not one of the choices"),
        ({"choices": CHOICES, "answer": None}, "`answer` is ``, not one of the choices"),
        ({"choices": CHOICES[:1], "answer": 0}, "the row has 1 choices; 2 to 10 are read"),
        ({"choices": [str(n) for n in range(11)], "answer": 0}, "the row has 11 choices"),
        ({"choices": "5 N or 6 N", "answer": 0}, "`choices` holds no list of choices"),
    ],
)
def test_a_row_without_a_right_choice_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=rf"row 1: {message}"):
        read(tmp_path, {"question": ASKED, **row})


def test_a_blank_row_is_a_row_that_is_dropped_later(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"question": None, "choices": None, "answer": None})
    assert (row.question, row.choices) == ("", ("", ""))
