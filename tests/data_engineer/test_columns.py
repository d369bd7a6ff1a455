"""Columns by any usual name, through `read_sources`, and the names that leave it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agents.data_engineer.audit import audit_sources
from agents.data_engineer.formats.tables import Message, read_sources
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_row, write_jsonl

SAY_MOO = ((Message("user", "What does a cow say?"),), (Message("assistant", "Moo."),))


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        ("question", "answer"),
        ("Question", "Answers"),
        ("query", "response"),
        ("instruction", "response"),
        ("input", "output"),
        ("inputs", "targets"),
        ("prompt", "response"),
        ("PROMPT", "Completion"),
        ("patient_query", "doctor_response"),
        ("Patient Queries", "Doctor-Responses"),
        ("userQuestion", "modelAnswer"),
        ("problem", "solution"),
        ("Context", "Response"),
        ("user", "assistant"),
        ("Patient", "Doctor"),
    ],
)
def test_one_column_that_asks_and_one_that_answers_are_found_among_others(
    tmp_path: Path, asks: str, answers: str
) -> None:
    beside = {"id": 7, "question_id": "q7", "answer_type": "short", "source": "farm", "system_prompt": " "}
    row = {**beside, asks: "What does a cow say?", answers: "Moo."}
    (found,) = read_sources([write_jsonl(tmp_path / "rows.jsonl", [row])])
    assert (found.prompt, found.completion) == SAY_MOO
    assert found.question == "What does a cow say?"


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}, "messages"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, "sharegpt"),
        ({"conversation": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, "sharegpt"),
        ({"instruction": "Hi", "input": "", "output": "Hello"}, "alpaca"),
        ({"prompt": [{"role": "user", "content": "Hi"}], "completion": "Hello"}, "prompt_completion"),
        ({"question": "Hi", "answer": [{"role": "Assistant", "content": "Hello"}]}, "question_answer"),
    ],
)
def test_every_format_gives_the_same_row_and_its_system_column_comes_first(
    tmp_path: Path, row: dict[str, Any], kind: str
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [row, {**row, "System Prompt": "Be brief."}])
    plain, briefed = read_sources([source])
    assert (plain.prompt, plain.completion) == ((Message("user", "Hi"),), (Message("assistant", "Hello"),))
    assert briefed.prompt == (Message("system", "Be brief."), *plain.prompt)
    assert briefed.completion == plain.completion
    assert audit_sources([source])["format"] == kind


@pytest.mark.parametrize(
    ("asks", "about"), [("instruction", "input"), ("Instruction", "context"), ("question", "context")]
)
def test_what_a_question_is_about_stands_behind_it(tmp_path: Path, asks: str, about: str) -> None:
    rows = [{asks: "Name the colour.", about: colour, "output": "It is."} for colour in ("Snow.", "", None)]
    first, *others = read_sources([write_jsonl(tmp_path / "rows.jsonl", rows)])
    assert first.prompt == (Message("user", "Name the colour.\n\nSnow."),)
    assert {row.prompt for row in others} == {(Message("user", "Name the colour."),)}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_cell_with_a_json_list_of_messages_is_messages_and_other_json_is_text(tmp_path: Path, kind: str) -> None:
    chat = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": 'Say "moo",\nplease'},
            {"from": "gpt", "value": "Moo"}]  # fmt: skip
    frame = pl.DataFrame({"conversations": [json.dumps(chat)]})
    pair = pl.DataFrame({"prompt": ['[{"a": 1}]', "[1, 2]"], "completion": ["[]", '[{"role": broken']})
    for name, table in (("chat", frame), ("pair", pair)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "parquet":
            table.write_parquet(path)
        else:
            table.write_csv(path, separator="\t" if kind == "tsv" else ",")
    (row,) = read_sources([str(tmp_path / f"chat.{kind}")])
    assert [message.role for message in row.prompt + row.completion] == ["system", "user", "assistant"]
    assert row.question == 'Say "moo",\nplease'
    texts = read_sources([str(tmp_path / f"pair.{kind}")])
    assert [(row.prompt[0].content, row.completion[0].content) for row in texts] == [
        ('[{"a": 1}]', "[]"), ("[1, 2]", '[{"role": broken'),
    ]  # fmt: skip


def test_gpqa_columns_are_known_in_any_spelling(tmp_path: Path) -> None:
    row = {key.lower().replace(" ", "_"): value for key, value in force_row(2, 3).items()}
    (found,) = read_sources([write_jsonl(tmp_path / "rows.jsonl", [row])])
    assert found.choices == ("6 N", "5 kN", "2/3 N", "60 N")
    assert found.explanation.endswith("6 N.")


def test_a_conversation_trains_its_last_reply_and_what_the_user_says_after_it_is_left_out(tmp_path: Path) -> None:
    turns = [("human", "Hi"), ("gpt", "Hello"), ("human", "Bye"), ("gpt", "Farewell"), ("human", "…")]
    chat = {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
    (row,) = read_sources([write_jsonl(tmp_path / "rows.jsonl", [chat])])
    assert [message.content for message in row.prompt] == ["Hi", "Hello", "Bye"]
    assert row.completion == (Message("assistant", "Farewell"),)


def test_a_csv_with_byte_order_mark_carriage_returns_quotes_and_blank_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfQuestion,Answer\r\n"a, ""b""\r\nc",007\r\n\r\n,\r\nNaN,null\r\n')
    rows = read_sources([str(path)])
    assert [(row.question, "".join(message.content for message in row.completion)) for row in rows] == [
        ('a, "b"\r\nc', "007"), ("", ""), ("", ""), ("NaN", "null"),
    ]  # fmt: skip


def test_an_index_column_without_a_name_is_nobodys_system_message(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(",question,answer\n0,What does a cow say?,Moo.\n")
    (row,) = read_sources([str(tmp_path / "rows.csv")])
    assert (row.prompt, row.completion) == SAY_MOO


def test_numbers_are_answers_and_nan_and_none_are_blank(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"question": ["2 + 2?", "0 / 0?", None], "answer": [4.5, float("nan"), None]}).write_parquet(path)
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"question": "2 + 2?", "answer": 4.5}\n{"question": "0 / 0?", "answer": NaN}\n{"answer": null}\n')
    for source in (path, lines):
        rows = read_sources([str(source)])
        assert [[message.content for message in row.completion] for row in rows] == [["4.5"], [], []]
        assert rows[2].prompt == ()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("Frage, Antwort", "no two of them are known to ask and to answer; rename the one that asks to `prompt` and"),
        ("question, notes", "no two of them are known"),
        ("text, label", "no two of them are known"),
        ("question_id, answer_type", "no two of them are known"),
        ("question, wrong_answer", "no two of them are known"),
        ("problem, solution, answer", "`solution` and `answer` could each be the answer; rename"),
        ("question, human_answers, chatgpt_answers", "`human_answers` and `chatgpt_answers` could each be the answer"),
        ("query, question, answer", "`query` and `question` could each be the question"),
        ("prompt, context, response", "`prompt` and `context` could each be the question or a part of it"),
        ("question, input, output", "`question` and `input` could each be the question or a part of it"),
        ("Question, question, answer", "`Question` and `question` are the same name; rename or drop one of them"),
        ("question, choices", "there are choices, but no column that asks or none that says which is right; name them"),
        ("A, B, C, D, answer", "there are choices, but no column that asks or none that says which is right"),
        ("question, my_choice, answer", "the choices of a question stand in columns that are not known; name them"),
        (
            "prompt, chosen_text, chosen_reply, rejected",
            "`chosen_text` and `chosen_reply` could each be `chosen`; rename",
        ),
        ("query, question, chosen, rejected", "`question` could each be the question; rename .* to `prompt`, `chosen`"),
    ],
)
def test_names_that_leave_it_open_are_refused_with_the_columns_and_what_to_call_them(
    tmp_path: Path, columns: str, why: str
) -> None:
    row = dict.fromkeys(columns.split(", "), "x")
    with pytest.raises(BadInput, match=rf"rows\.jsonl has the columns {columns}: .*{why}") as caught:
        read_sources([write_jsonl(tmp_path / "rows.jsonl", [row])])
    assert "\n" not in str(caught.value)


def test_the_names_that_the_refusal_gives_are_understood_whatever_stands_beside_them(tmp_path: Path) -> None:
    row = {"prompt": "What does a cow say?", "completion": "Moo.", "answer": "a", "solution": "b", "question": "c"}
    (found,) = read_sources([write_jsonl(tmp_path / "rows.jsonl", [row])])
    assert (found.prompt, found.completion) == SAY_MOO


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"messages": "User: Hi"}, "`messages` holds text, not a list of messages; mend that row"),
        (
            {"messages": [{"role": "narrator", "content": "x"}]},
            "`messages` has the role `narrator`; it is one of system",
        ),
        ({"messages": ["Hi"]}, "`messages` has an entry that is not"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}, "`messages` has no reply"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "`content` holds a list, not text"),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}]},
            "`messages` calls a tool without saying its name",
        ),
    ],
)
def test_a_bad_row_is_named_by_its_number(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    good = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    with pytest.raises(BadInput, match=rf"rows\.jsonl, row 3: {message}"):
        read_sources([write_jsonl(tmp_path / "rows.jsonl", [good, good, bad])])


def test_ids_are_unique_over_files_of_one_name_and_stay_as_other_files_follow(tmp_path: Path) -> None:
    sources = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        rows = [{**force_row(2, a), "Record ID": "same"} for a in range(2, 5)]
        sources.append(write_jsonl(tmp_path / folder / "rows.jsonl", rows))
    ids = [row.id for row in read_sources(sources)]
    assert len(set(ids)) == len(ids) == 6
    assert [row.id for row in read_sources(sources[:1])] == ids[:3]
