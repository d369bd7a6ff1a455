"""Benchmark files become items; what is no benchmark is refused with the next move."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from agents.evaluator.benchmarks.items import Item, TextItem
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Part

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart" / "physics.jsonl"


def row(number: int, **changes: Any) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {i}": f"{number + i} m" for i in (1, 2, 3)}
    question = f"How many metres are {number} m?"
    return {"Question": question, "Correct Answer": f"{number} m", **wrong, "Record ID": f"r{number}"} | changes


def load(path: Path) -> Benchmark:
    return load_benchmark(BenchmarkGoal(path=str(path)))


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_quickstarts_benchmark_has_both_parts_and_the_right_answer_behind_each_letter() -> None:
    items = load(QUICKSTART).items
    source = {row["Record ID"]: row for row in map(json.loads, QUICKSTART.read_text(encoding="utf-8").splitlines())}
    assert Counter(item.part for item in items) == {Part.SELECTION: 100, Part.REPORT: 150}
    assert all(isinstance(item, Item) for item in items)
    for item in items:
        assert item.choices["ABCD".index(item.answer)] == source[item.id]["Correct Answer"]
        assert item.category == source[item.id]["Subdomain"]
    assert min(Counter(item.answer for item in items).values()) > 40


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_jsonl_csv_and_parquet_give_the_same_items_and_digest(tmp_path: Path, suffix: str) -> None:
    rows = [row(number, Part="report") for number in range(10, 20)]
    path = tmp_path / f"mine.{suffix}"
    table = pl.DataFrame(rows)
    if suffix == "jsonl":
        table.write_ndjson(path)
    elif suffix == "csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    assert load(path).items == load(jsonl(tmp_path, rows)).items
    assert load(path).digest == load(jsonl(tmp_path, rows)).digest


def test_the_order_of_the_choices_hangs_on_the_record_id_and_not_on_the_place_in_the_file(tmp_path: Path) -> None:
    rows = [row(number) for number in range(10, 40)]
    forwards = {item.id: item for item in load(jsonl(tmp_path, rows)).items}
    (tmp_path / "other").mkdir()
    backwards = {item.id: item for item in load(jsonl(tmp_path / "other", rows[::-1])).items}
    assert forwards == backwards


def test_without_a_part_column_about_half_selects_and_half_reports(tmp_path: Path) -> None:
    parts = Counter(item.part for item in load(jsonl(tmp_path, [row(number) for number in range(400)])).items)
    assert 150 < parts[Part.SELECTION] < 250


def test_one_changed_word_changes_the_digest(tmp_path: Path) -> None:
    before = load(jsonl(tmp_path, [row(1), row(2)])).digest
    (tmp_path / "other").mkdir()
    assert load(jsonl(tmp_path / "other", [row(1), row(2, Question="What?")])).digest != before


def test_a_question_may_hold_any_sign_and_the_file_a_byte_order_mark(tmp_path: Path) -> None:
    question = "Braces {x}, a\u2028separator and\u0085next line?\n"
    path = tmp_path / "mine.jsonl"
    path.write_text("\ufeff" + json.dumps(row(1, Question=question), ensure_ascii=False) + "\n", encoding="utf-8")
    assert load(path).items[0].question == question
    halved = r'{"question": "x", "calls": [{"name": "look", "arguments": {"at": "\ud83d"}}]}'
    path.write_text(halved)
    assert load(path).items[0].model_dump_json().encode()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no questions"),
        ([{"question": "x", "Correct Answer": "y"}], "has the columns question, Correct Answer; rename them to: Quest"),
        ([row(1), row(2, **{"Record ID": "r1"})], "two rows with the Record ID `r1`"),
        ([row(1), row(2, **{"Incorrect Answer 1": "2 m"})], "row 2: two of the four choices are the same"),
        ([row(1, Part="train")], "row 1: Part is `train`"),
        ([row(1, Question=" ")], "row 1: `Question` is empty"),
        ([{"question": "x", "answer": None}], "row 1: `answer` is empty"),
        ([{"question": "x", "answer": "?!"}], "row 1: `answer` is no single text with a letter or digit in it"),
        ([{"question": {"a": 1}, "answer": "x"}], "row 1: `question` is neither a text nor a list of"),
        ([{"prompt": "x", "completion": [{"role": "assistant"}]}], "row 1: `completion` is neither a text nor a list"),
        ([{"prompt": [], "completion": "x"}], "row 1: `prompt` is empty"),
        ([{"prompt": "x", "chosen": "a", "rejected": "a"}], "row 1: `chosen` and `rejected` are the same"),
        ([{"prompt": "x", "completion": "y"}] * 2, "has two rows with the Record ID"),
        ([{"prompt": "x", "completion": "y", "tools": "look(place)"}], "row 1: `tools` is no list of JSON schemas"),
        ([{"prompt": "x", "completion": [{"role": "assistant", "content": "", "tool_calls": "look"}]}], "tool_calls: "),
        (
            [{"question": "x", "answer": "y", "tools": [{"name": "look"}]}],
            "or tools are called, so it cannot be matched",
        ),
        ([{"prompt": [{"role": "human", "content": "x"}], "rubric": ["y"]}], "row 1: a message has the role `human`"),
        ([{"text": "Seven km.", "label": 1}], "has the columns text, label; rename them to: Question"),
    ],
)
def test_rows_that_cannot_be_asked_are_refused(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(jsonl(tmp_path, rows))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


LISTED = {"question": "How far?", "choices": ["6 km", "7 km", "8 km"]}


@pytest.mark.parametrize(
    "row",
    [
        LISTED | {"answer": 1},
        LISTED | {"answer": "1"},
        LISTED | {"answer": "B"},
        LISTED | {"answer": "7 km"},
        LISTED | {"choices": json.dumps(LISTED["choices"]), "answer": "1"},
        LISTED | {"choices": {"text": LISTED["choices"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        {"question": "How far?", "options": LISTED["choices"], "answer": "B", "answer_index": 1},
    ],
)
def test_a_list_of_choices_is_asked_as_choices_however_the_right_one_is_told(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    benchmark = load(jsonl(tmp_path, [row]))
    [item] = benchmark.items
    assert benchmark.metric == "choice"
    assert sorted(item.choices) == LISTED["choices"]
    assert isinstance(item, Item)
    assert item.choices["ABC".index(item.answer)] == "7 km"


def test_listed_choices_are_shuffled_unless_one_speaks_of_the_others(tmp_path: Path) -> None:
    rows = [LISTED | {"question": f"How far is {number}?", "answer": 1} for number in range(60)]
    assert set(Counter(item.answer for item in load(jsonl(tmp_path, rows)).items if isinstance(item, Item))) == set(
        "ABC"
    )
    together = ["6 km", "7 km", "Both A and B", "None of the above"]
    (tmp_path / "other").mkdir()
    kept = load(jsonl(tmp_path / "other", [row | {"choices": together} for row in rows])).items
    assert {item.choices for item in kept} == {tuple(together)}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (LISTED | {"answer": 3}, "row 1: `answer` is `3`, which is not among the choices"),
        (LISTED | {"answer": "9 km"}, "row 1: `answer` is `9 km`, which is not among the choices"),
        (LISTED | {"answer": -1}, "row 1: `answer` is `-1`, which is not among the choices"),
        (LISTED | {"answer": None}, "row 1: `answer` is `None`, which is not among the choices"),
        (LISTED | {"answer": 0, "choices": "6 km or 7 km"}, "row 1: `choices` is no list of 2 to 10 choices"),
        (LISTED | {"answer": 0, "choices": ["6 km"]}, "row 1: `choices` is no list of 2 to 10 choices"),
        (LISTED | {"answer": 0, "choices": ["6 km", "6 km"]}, "row 1: two of the 2 choices are the same"),
    ],
)
def test_a_row_whose_right_choice_is_not_known_is_refused(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(jsonl(tmp_path, [row]))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def messages(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


TEXTS = {"question": "How far?", "answer": "7 km"}
STRINGS = {"prompt": "How far?", "completion": "7 km"}
CHAT = {"prompt": messages(("user", "How far?")), "completion": messages(("assistant", "7 km"))}
PAIR = {"prompt": "How far?", "chosen": "7 km", "rejected": messages(("assistant", "far"))}


@pytest.mark.parametrize(
    ("row", "metric", "scored"),
    [
        (row(1), "auto", "choice"),
        (row(1), "choice", "choice"),
        (TEXTS, "auto", "exact"),
        (TEXTS, "loss", "loss"),
        (STRINGS, "auto", "loss"),
        (CHAT, "auto", "loss"),
        (CHAT, "exact", "exact"),
        (PAIR, "auto", "preference"),
        (PAIR, "preference", "preference"),
    ],
)
def test_the_columns_say_how_a_file_is_scored_and_a_metric_overrides_them(
    tmp_path: Path, row: dict[str, Any], metric: Any, scored: str
) -> None:
    benchmark = load_benchmark(BenchmarkGoal(path=str(jsonl(tmp_path, [row])), metric=metric))
    assert benchmark.metric == scored
    [item] = benchmark.items
    if isinstance(item, TextItem):
        assert [message.plain() for message in item.prompt] == CHAT["prompt"]
        assert [message.plain() for message in item.completion] == CHAT["completion"]
        assert [message.content for message in item.rejected] == (["far"] if scored == "preference" else [])
        assert (item.question, item.choices) == ("How far?", ())


@pytest.mark.parametrize(
    ("row", "metric", "words"),
    [
        (row(1), "loss", "metric `loss` cannot score them; rename them to: prompt, completion | question, answer"),
        (PAIR, "exact", "metric `exact` cannot score them; rename them to: prompt, completion | question, answer"),
        (LISTED | {"answer": 1}, "exact", "has choices, which metric `exact` does not show"),
        (CHAT, "preference", "metric `preference` cannot score them; rename them to: prompt, chosen, rejected"),
    ],
)
def test_a_metric_that_the_columns_do_not_allow_is_refused(
    tmp_path: Path, row: dict[str, Any], metric: Any, words: str
) -> None:
    with pytest.raises(BadInput) as refused:
        load_benchmark(BenchmarkGoal(path=str(jsonl(tmp_path, [row])), metric=metric))
    assert words in str(refused.value)


def test_a_loss_has_no_target(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="`target` is a share of right answers; remove it"):
        load_benchmark(BenchmarkGoal(path=str(jsonl(tmp_path, [CHAT])), target=0.5))


def test_tools_and_calls_are_part_of_an_item_as_chat_templates_take_them(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"place": "dock"}}}
    tools = [{"type": "function", "function": {"name": "look"}}]
    answer = {"role": "assistant", "content": None, "tool_calls": [call], "weight": 1}
    rows = [
        {"prompt": "What is there?", "completion": [answer], "tools": given} for given in (tools, json.dumps(tools))
    ]
    first, second = load(jsonl(tmp_path, [row | {"id": n} for n, row in enumerate(rows)])).items
    plain = first.plain()
    assert plain["completion"] == [{"role": "assistant", "content": "", "tool_calls": [call]}]
    assert plain["tools"] == second.plain()["tools"] == tools
    assert set(plain) == {"id", "prompt", "completion", "rejected", "tools", "category", "cluster", "part"}


def test_a_text_without_a_question_is_scored_by_loss_where_that_is_asked_for(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"text": "Seven km."}, {"text": "Eight\u2028km."}])
    benchmark = load_benchmark(BenchmarkGoal(path=str(path), metric="loss"))
    assert [item.plain()["text"] for item in benchmark.items] == ["Seven km.", "Eight\u2028km."]
    assert [item.question for item in benchmark.items] == ["Seven km.", "Eight\u2028km."]
    with pytest.raises(BadInput, match="row 1: `text` is empty"):
        load_benchmark(BenchmarkGoal(path=str(jsonl(tmp_path, [{"text": "\n"}])), metric="loss"))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_messages_ids_and_parts_are_read_from_jsonl_and_parquet(tmp_path: Path, suffix: str) -> None:
    rows = [CHAT | {"id": f"t{n}", "part": "report", "category": "road"} for n in range(3)]
    path = tmp_path / f"mine.{suffix}"
    table = pl.DataFrame(rows)
    table.write_ndjson(path) if suffix == "jsonl" else table.write_parquet(path)
    items = load(path).items
    assert [(item.id, item.part, item.category) for item in items] == [(f"t{n}", Part.REPORT, "road") for n in range(3)]


def test_the_same_items_scored_in_another_way_are_another_benchmark(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path, [CHAT]))
    digests = {load_benchmark(BenchmarkGoal(path=path, metric=metric)).digest for metric in ("loss", "exact")}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"Question": 1}\nnot json\n', "line 2 is not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1 is not a JSON object"),
        ("a.jsonl", b"\xff\xfe\x00", "not a readable jsonl file"),
        ("a.parquet", b"Question,Answer\n1,2\n", "not a readable parquet file"),
        ("a.csv", b"", "not a readable csv file"),
        ("a.txt", b"hello", "is no benchmark file"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as refused:
        load(tmp_path / name)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_an_unknown_name_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist; check"):
        load(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="no benchmark `none`: `postgrad benchmarks` lists them; a file"):
        load_benchmark(BenchmarkGoal(name="none"))
