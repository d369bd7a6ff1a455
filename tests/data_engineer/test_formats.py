"""Files as people bring them, the broken ones included."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from agents.data_engineer.formats import tables
from agents.data_engineer.formats.columns import Layout, layout_of
from agents.data_engineer.formats.tables import TOLERATED, Message, read_rows, read_sources, read_tables
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_rows, write_jsonl


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_the_five_file_types_give_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    frame = pl.DataFrame(force_rows(5))
    {
        ".jsonl": lambda: frame.write_ndjson(path),
        ".json": lambda: frame.write_json(path),
        ".csv": lambda: frame.write_csv(path),
        ".tsv": lambda: frame.write_csv(path, separator="\t"),
        ".parquet": lambda: frame.write_parquet(path),
    }[ending]()
    rows = read_rows(path)
    assert [row.question for row in rows] == [row["Question"] for row in force_rows(5)]
    assert rows[0].choices == ("4 N", "4 kN", "2/2 N", "40 N")
    assert [(row.id, row.answer) for row in rows] == [(f"1:{n}", "A") for n in range(1, 6)]


def test_messages_in_parquet_are_read_as_chat(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pl.DataFrame({"messages": [chat]}).write_parquet(tmp_path / "chat.parquet")
    (row,) = read_rows(tmp_path / "chat.parquet")
    assert (row.prompt, row.completion) == ((Message("user", "Hi"),), (Message("assistant", "Hello"),))
    assert row.question == "Hi"


def test_numbers_absent_values_and_lone_surrogates_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": 7, "completion": "a\\ud800b"}\n\n{"prompt": null, "completion": 1.5}\n')
    first, second = read_rows(path)
    assert (first.prompt, first.completion) == ((Message("user", "7"),), (Message("assistant", "a\ufffdb"),))
    assert (second.prompt, second.completion) == ((), (Message("assistant", "1.5"),))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"prompt": "x"}\nnope\n', r"a\.jsonl, line 2 is not JSON .*; mend or remove that line"),
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt": "\xff"}\n', r"line 2 is not UTF-8 .*; save the file as UTF-8"),
        ("a.jsonl", b"[" * 100_000, r"line 1 is not JSON"),
        ("a.jsonl", b"3\n", r"line 1 is not a JSON object"),
        ("a.jsonl", b"", r"has no rows; give a file with data"),
        ("a.jsonl", b"PAR1\x00\x01PAR1\n", r"line 1 is not JSON"),
        ("a.json", b"{", r"a\.json is not JSON"),
        ("a.csv", b"prompt,completion\n1,2,3\n", r"row 1 has 3 cells under 2 columns; mend that row"),
        ("a.csv", b"prompt,completion\n1,\xff\n", r"row 1 is not UTF-8 text"),
        ("a.parquet", b"hello, I am no Parquet", r"a\.parquet is not valid Parquet"),
        ("a.jsonl", b'{"text": "x", "label": 1}\n', r"columns text, label: no two .* rename the one that asks to"),
        ("a.jsonl", b'{"prompt": "x", "n": 1}\n', r"columns prompt, n: no two .* rename the one that asks to `prompt`"),
        ("a.jsonl", b'{"prompt": {"a": 1}, "completion": "y"}\n', r"a\.jsonl, row 1: `prompt` holds a dict, not text"),
        ("a.jsonl", b'{"messages": [{"from": "human"}]}\n', r"a\.jsonl, row 1: `messages` has an entry that is not"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}\n', r"not the assistant's; mend that row"),
    ],
)
def test_a_bad_file_is_one_line_with_the_next_move(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        read_rows(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_cut_or_scrambled_anywhere_is_bad_input_or_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame(force_rows(5)).write_parquet(path)
    whole = path.read_bytes()
    for at in range(4, len(whole) - 1, 23):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(content)
            with suppress(BadInput):
                read_rows(path)


def test_a_file_is_taken_by_its_name_even_where_it_looks_like_a_pattern(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "r1.jsonl", force_rows(1))
    for ending in ("csv", "parquet"):
        frame = pl.DataFrame(force_rows(2))
        frame.write_csv(tmp_path / "[ab]*.csv") if ending == "csv" else frame.write_parquet(tmp_path / "[ab]*.parquet")
        assert len(read_rows(tmp_path / f"[ab]*.{ending}")) == 2


def test_rows_are_known_by_their_lines_and_some_may_be_left_out(tmp_path: Path) -> None:
    path = Path(write_jsonl(tmp_path / "rows.jsonl", force_rows(300)))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "", "nope", *lines[1:], '{"messages": []}', '{"Question": ["x"]}']))
    with pytest.raises(BadInput, match="line 3 is not JSON"):
        read_rows(path)
    (table,) = read_tables([str(path)], tolerated=0.01)
    assert table.left_out == {"not_json": 1, "other_columns": 1, "not_text": 1}
    assert [row.id for row in table.rows][:3] == ["1:1", "1:4", "1:5"]
    with pytest.raises(BadInput, match=r"^3 of 303 rows cannot be used, the first: .*line 3 is not JSON"):
        read_tables([str(path)], tolerated=0.005)


def test_a_column_that_turns_up_late_is_taken_in_and_another_format_is_not(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "Yes."} for n in range(5000)]
    late = {"question": "Late?", "answer": "Yes.", "system": "Be brief."}
    *_, last = read_rows(Path(write_jsonl(tmp_path / "late.jsonl", [*rows, late])))
    assert last.prompt == (Message("system", "Be brief."), Message("user", "Late?"))
    chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    with pytest.raises(BadInput, match=r"row 5001: it has the columns messages.* another format"):
        read_rows(Path(write_jsonl(tmp_path / "mixed.jsonl", [*rows, chat])))
    with pytest.raises(BadInput, match=r"row 1: it has the columns messages.* another format"):
        read_rows(Path(write_jsonl(tmp_path / "first.jsonl", [chat, *rows[:5]])))
    one = Path(write_jsonl(tmp_path / "one.jsonl", [*rows[:300], {"question": "?", "answer": "a", "response": "b"}]))
    (table,) = read_tables([str(one)], tolerated=0.01)
    assert (len(table.rows), table.left_out) == (300, {"other_columns": 1}), "one row makes no file unclear"


def test_rows_that_all_bring_a_column_of_their_own_cost_no_more_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(path: Path, columns: Sequence[str]) -> Layout:
        asked.append(len(columns))
        return layout_of(path, columns)

    monkeypatch.setattr(tables, "layout_of", counted)
    rows = [{"question": f"{n}?", "answer": "Yes.", f"seen_{n}": 1} for n in range(200)]
    assert len(read_rows(Path(write_jsonl(tmp_path / "own.jsonl", rows)))) == 200
    assert max(asked) == 3


def test_a_file_that_cannot_be_read_to_its_end_is_never_taken_for_a_few_lost_rows(tmp_path: Path) -> None:
    text = Path(write_jsonl(tmp_path / "rows.jsonl", force_rows(300))).read_bytes()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(text[:-20])
    with pytest.raises(BadInput, match=r"line 300 is not JSON .*; get the file anew, for what follows is missing$"):
        read_tables([str(cut)], tolerated=0.01)
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(text)[:-200])
    with pytest.raises(BadInput, match=r"cut or scrambled .*; get the file anew"):
        read_tables([str(packed)], tolerated=0.01)
    ragged = tmp_path / "rows.csv"
    ragged.write_text("prompt,completion\n" + "a,b\n" * 300 + "a,b,c\n")
    (table,) = read_tables([str(ragged)], tolerated=0.01)
    assert (len(table.rows), table.left_out) == (300, {"malformed": 1})


def test_the_goals_rows_are_read_with_the_tolerance_that_they_are_prepared_with(tmp_path: Path) -> None:
    path = Path(write_jsonl(tmp_path / "rows.jsonl", force_rows(300)))
    path.write_text("nope\n" + path.read_text())
    (table,) = read_tables([str(path)], tolerated=TOLERATED)
    assert [row.id for row in read_sources([str(path)])] == [row.id for row in table.rows]
    path.write_text("nope\n" * 3 + path.read_text())
    with pytest.raises(BadInput, match=r"^4 of 304 rows cannot be used, .*, or take the copy without them"):
        read_sources([str(path)])
