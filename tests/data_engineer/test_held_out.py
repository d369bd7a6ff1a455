"""Rows that a run is measured on are not trained on: not under their ids, and not under any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.data_engineer.duplicates.dedup import near_duplicate_clusters
from agents.data_engineer.formats.tables import read_sources
from agents.data_engineer.held_out import HeldOut, digests
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import EXACT_ONLY, DataProposal
from shared_memory.errors import BadInput
from shared_memory.records import DatasetRecord
from tests.data_engineer.rows import force_row, force_rows, read_jsonl, write_jsonl

INSTRUCTION = "Read what is asked below with care, think of the units that it is given in, and then reply in one line. "


def made(folder: Path, sources: tuple[str, ...], held_out: HeldOut, threshold: float = EXACT_ONLY) -> DatasetRecord:
    proposal = DataProposal(sources=sources, near_duplicate_threshold=threshold)
    return prepare(proposal, benchmarks=[], folder=folder / "data", seed=0, held_out=held_out)


def first_five_of(source: str) -> HeldOut:
    return HeldOut(benchmark="holdout", rows=[row.id for row in read_sources([source])[:5]], files=digests([source]))


def test_rows_held_out_are_gone_before_anything_else_and_must_be_in_the_data(tmp_path: Path) -> None:
    sources = (write_jsonl(tmp_path / "a.jsonl", force_rows(20)), write_jsonl(tmp_path / "b.jsonl", force_rows(20, 9)))
    held_out = first_five_of(sources[0])
    record = made(tmp_path, sources, held_out)
    assert [(step.name, step.rows_in, step.rows_out) for step in record.steps if step.name != "repair_text"][:4] == [
        ("convert", 40, 40), ("hold_out", 40, 35), ("drop_copies_of_held_out", 35, 35), ("drop_empty", 35, 35),
    ]  # fmt: skip
    assert record.contamination == {"holdout": 0.0}
    text = Path(record.path).read_text(encoding="utf-8")
    assert [row["Question"] in text for row in force_rows(20)] == [False] * 5 + [True] * 15
    few = write_jsonl(tmp_path / "few.jsonl", force_rows(3))
    with pytest.raises(BadInput, match=r"^2 of the 5 held-out rows are not in the data any more: .*; start a new run$"):
        made(tmp_path, (few, sources[1]), held_out)


def test_copies_of_held_out_rows_under_other_ids_are_dropped_and_counted(tmp_path: Path) -> None:
    a = write_jsonl(tmp_path / "a.jsonl", force_rows(20))
    rows = force_rows(5)
    reworded = rows[1]["Question"].replace("the net force", "the total force")
    copies = [
        rows[0],
        rows[1] | {"Question": reworded},
        rows[2] | {"Correct Answer": "another answer", "Explanation": "", "Incorrect Answer 1": "another choice"},
    ]
    b = write_jsonl(tmp_path / "b.jsonl", [*copies, *force_rows(20, 9)])
    chat = [{"prompt": rows[3]["Question"].upper(), "completion": "It is so and so many newtons."}]
    record = made(tmp_path, (a, b, write_jsonl(tmp_path / "c.jsonl", chat)), first_five_of(a))
    step = next(step for step in record.steps if step.name == "drop_copies_of_held_out")
    assert (step.rows_in, step.rows_out) == (39, 35)
    assert step.note.startswith("holdout: 4 of 5 rows found again")
    assert record.contamination == {"holdout": 0.8}
    text = Path(record.path).read_text(encoding="utf-8").casefold()
    assert not [copy for copy in (*rows, {"Question": reworded}) if copy["Question"].casefold() in text]
    assert all(row["Question"].casefold() in text for row in [*force_rows(20)[5:], *force_rows(20, 9)])


def test_a_file_that_is_there_twice_by_another_name_gives_no_held_out_row_away(tmp_path: Path) -> None:
    a = write_jsonl(tmp_path / "a.jsonl", force_rows(20))
    (tmp_path / "again.jsonl").symlink_to(a)
    record = made(tmp_path, (a, str(tmp_path / "again.jsonl")), first_five_of(a))
    assert (record.rows, record.contamination) == (15, {"holdout": 1.0})


def test_many_other_rows_do_not_make_the_goals_own_rows_look_alike(tmp_path: Path) -> None:
    words = [f"{first}{last}" for first in "bcdfghklmn" for last in ("an", "el", "in", "os", "ul", "ir")]
    own = [{"question": f"{INSTRUCTION}What is {word}?", "answer": f"That is {word}."} for word in words]
    own += [{"question": f"{INSTRUCTION}Who is {word}?", "answer": f"He is {word}."} for word in words]
    a = write_jsonl(tmp_path / "a.jsonl", own)
    assert near_duplicate_clusters(read_sources([a])) == list(range(120))
    b = write_jsonl(tmp_path / "b.jsonl", [{"question": f"{n} + {n}?", "answer": f"{2 * n}"} for n in range(400)])
    assert len(set(near_duplicate_clusters(read_sources([a, b])))) < 500
    assert made(tmp_path, (a, b), first_five_of(a)).rows == 120 - 5 + 400


def test_a_file_that_changed_or_went_since_is_named_with_the_way_out(tmp_path: Path) -> None:
    rows = force_rows(20)
    a = write_jsonl(tmp_path / "a.jsonl", rows)
    held_out = first_five_of(a)
    write_jsonl(tmp_path / "a.jsonl", [force_row(30, 3), *rows])
    with pytest.raises(BadInput, match=r"a\.jsonl has changed since .*; restore it, or start a new run$"):
        made(tmp_path, (a,), held_out)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(BadInput, match=r"a\.jsonl is gone since .*; restore it, or start a new run$"):
        made(tmp_path, (a,), held_out)
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert len(read_jsonl(made(tmp_path, (a,), held_out).path)) == 15


def test_a_file_that_joins_a_folder_before_the_held_out_ones_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_jsonl(folder / "b.jsonl", force_rows(20))
    ids = [row.id for row in read_sources([str(folder)])[:5]]
    held_out = HeldOut(benchmark="holdout", rows=ids, files=digests([str(folder)]))
    assert held_out.files.keys() == {str(folder / "b.jsonl")}
    assert made(tmp_path, (str(folder),), held_out).rows == 15
    write_jsonl(folder / "a.jsonl", force_rows(20, 9))
    with pytest.raises(BadInput, match="other files stand before those that rows were held out of"):
        made(tmp_path, (str(folder),), held_out)


def test_the_same_files_in_another_order_are_told_since_ids_begin_with_the_place_of_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    a, b = (write_jsonl(folder / f"{name}.jsonl", force_rows(20, start)) for name, start in (("a", 2), ("b", 9)))
    held_out = HeldOut(benchmark="holdout", rows={"1:1", "1:2"}, files=digests([a, b]))
    assert made(tmp_path, (a, b), held_out).rows == 38
    with pytest.raises(BadInput, match=r"or these in another order; restore them, or start a new run$"):
        made(tmp_path, (b, a), held_out)
    once_more = HeldOut(benchmark="holdout", rows={"1:1", "2:1"}, files=digests([a, str(folder)]))
    assert made(tmp_path, (a, str(folder)), once_more).rows == 39, "a file and then its folder are in that order"
