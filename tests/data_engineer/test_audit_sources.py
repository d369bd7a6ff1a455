"""The audit of data files as scripts read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.data_engineer.audit import Progress, audit_sources
from agents.data_engineer.checks.lengths import ALL, TokenLengths
from agents.data_engineer.checks.model_text import ModelText
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import DataProposal
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_rows, read_jsonl, write_jsonl
from tests.data_engineer.sound_rows import chat, sound_rows

KEYS = {
    "rows", "columns", "format", "methods", "not_trainable", "splits", "schema", "licence", "tokens", "duplicates",
    "contamination", "histograms", "sampled", "findings", "fixes", "left", "not_cleanable", "verdict",
    "reason", "seconds",
}  # fmt: skip


def test_an_audit_has_the_keys_that_scripts_rely_on_and_is_plain_json(tmp_path: Path) -> None:
    pairs = [{"query": f"{n} plus {n}?", "reply": 2 * n} for n in range(20)]
    report = audit_sources([write_jsonl(tmp_path / "pairs.jsonl", pairs)])
    assert json.loads(json.dumps(report)) == report
    assert set(report) == KEYS
    assert report["seconds"] >= 0
    told = {key: report[key] for key in ("rows", "columns", "format", "methods", "tokens", "duplicates", "verdict")}
    assert told == {
        "rows": 20, "columns": ["query", "reply"], "format": "question_answer", "methods": ["sft", "grpo"],
        "tokens": {"tokenizer": "words", "p50": 4, "p95": 4, "max": 4, "total": 80},
        "duplicates": {"exact": 0, "near": 0}, "verdict": "fit",
    }  # fmt: skip
    assert report["findings"] == report["fixes"] == report["contamination"] == []
    assert report["schema"]["reply"] == {"types": {"number": 20}, "nulls": 0}
    assert set(report["not_trainable"]) == {"dpo", "kto", "reward"}


def test_every_fault_is_counted_and_shown_by_file_and_row(tmp_path: Path) -> None:
    fox = "The quick brown fox jumps over the lazy dog while grey geese cross the old stone bridge at dawn " * 3
    rows = [{"prompt": f"What is thing {n}?", "chosen": f"It is {n}.", "rejected": "No idea."} for n in range(20)]
    faults = [
        {"prompt": "What?", "chosen": "", "rejected": "No."},
        {},
        {},
        {"prompt": "Which?", "chosen": "This.", "rejected": "This."},
        rows[3],
        {"prompt": fox, "chosen": "Yes.", "rejected": "No."},
        {"prompt": fox.replace("lazy", "sleepy", 1), "chosen": "Yes.", "rejected": "No."},
    ]
    good, bad = write_jsonl(tmp_path / "good.jsonl", rows), write_jsonl(tmp_path / "bad.jsonl", faults)
    report = audit_sources([good, bad])
    assert (report["rows"], report["methods"], report["format"]) == (27, ["sft", "dpo", "kto", "reward"], "preference")
    assert report["duplicates"] == {"exact": 1, "near": 1}
    assert (report["verdict"], report["left"]["rows"]) == ("fixable", 21)
    found = {
        finding["kind"]: (finding["count"], [(e["source"], e["row"]) for e in finding["examples"]])
        for finding in report["findings"]
    }
    assert found == {
        "nulls": (2, [(bad, 2), (bad, 3)]), "empty": (1, [(bad, 1)]), "identical_pairs": (1, [(bad, 4)]),
        "exact_duplicates": (1, [(bad, 5)]), "near_duplicates": (1, [(bad, 7)]),
    }  # fmt: skip


def test_files_of_several_formats_are_told_and_too_few_rows_are_unfit(tmp_path: Path) -> None:
    greeting = write_jsonl(tmp_path / "chat.jsonl", [chat("Hi", "Hello")])
    report = audit_sources([greeting, write_jsonl(tmp_path / "force.jsonl", force_rows(2))])
    assert report["format"] == "messages, gpqa"
    assert report["columns"][:2] == ["messages", "Question"]
    assert report["verdict"] == "unfit"
    assert [(finding["kind"], finding["severity"]) for finding in report["findings"]] == [("too_few", "error")]


def test_the_same_files_give_the_same_audit(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [*sound_rows(300), *sound_rows(40)])
    first, second = (audit_sources([source]) | {"seconds": 0} for _ in range(2))
    assert first == second


def test_an_audit_says_how_far_it_is(tmp_path: Path) -> None:
    sources = [write_jsonl(tmp_path / f"{name}.jsonl", sound_rows(50, seed)) for seed, name in enumerate("ab")]
    seen: list[Progress] = []
    audit_sources(sources, on_progress=seen.append)
    assert [(progress.stage, progress.rows) for progress in seen] == [
        ("reading", 50), ("reading", 100), ("comparing rows", 100),
    ]  # fmt: skip
    assert seen[0].bytes < seen[1].bytes <= seen[2].bytes == seen[2].total_bytes


def test_what_cannot_be_audited_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to audit; name a data file"):
        audit_sources([])
    with pytest.raises(BadInput, match=r"gone\.jsonl does not exist; check the path"):
        audit_sources([str(tmp_path / "gone.jsonl")])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(BadInput, match=r"empty\.jsonl has no rows"):
        audit_sources([str(tmp_path / "empty.jsonl")])
    unclear = write_jsonl(tmp_path / "unclear.jsonl", [{"one": 1, "two": 2}])
    with pytest.raises(BadInput, match=r"unclear\.jsonl has the columns one, two"):
        audit_sources([unclear])


def test_a_sentence_that_begins_the_rows_of_many_small_files_is_boilerplate(tmp_path: Path) -> None:
    for at, row in enumerate(sound_rows(30)):
        said = f"Thank you for asking me this. {row['messages'][1]['content']}"
        write_jsonl(tmp_path / f"{at}.jsonl", [chat(row["messages"][0]["content"], said)])
    (found,) = audit_sources([str(tmp_path)])["findings"]
    assert (found["kind"], found["count"]) == ("boilerplate", 30)
    assert "Thank you for asking me this." in found["advice"]


def test_the_cleaned_copy_leaves_the_right_rows_out_behind_a_file_that_is_not_understood(tmp_path: Path) -> None:
    odd = write_jsonl(tmp_path / "a.jsonl", [{"left": "x", "right": "y"}] * 3)
    pairs = [{"prompt": f"What is {n}?", "completion": "" if n == 5 else f"{n} it is."} for n in range(20)]
    report = audit_sources([odd, write_jsonl(tmp_path / "b.jsonl", pairs)], clean=tmp_path / "clean.jsonl")
    assert report["verdict"] == "unfit"
    assert read_jsonl(tmp_path / "clean.jsonl") == pairs[:5] + pairs[6:]
    assert (report["left"]["rows"], report["cleaned"]["rows"], report["cleaned"]["left_out"]) == (19, 19, 1)


def test_rows_to_measure_on_do_not_count_as_rows_to_train_on(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [*sound_rows(12, seed=1), chat("", "")])
    write_jsonl(folder / "test.jsonl", [*sound_rows(90), *sound_rows(10)])
    report = audit_sources([str(folder)], clean=tmp_path / "clean.jsonl")
    assert (report["rows"], report["left"]) == (113, {"rows": 12, "unreadable": 0, "left_out": 1})
    assert report["cleaned"]["rows"] == 12
    assert report["reason"].endswith("and 12 of 13 rows stay")
    write_jsonl(folder / "train.jsonl", sound_rows(3, seed=1))
    assert audit_sources([str(folder)])["verdict"] == "unfit", "three rows are too few, whatever is measured"


def test_what_an_audit_calls_fixable_for_one_bad_row_can_be_prepared_as_it_is(tmp_path: Path) -> None:
    pairs = [{"question": f"What is {n} and {n * n}?", "answer": f"It is {n}."} for n in range(300)]
    odd = [{"question": "?", "answer": "a", "response": "b"}, {"prompt": "?", "chosen": "a", "rejected": "b"}]
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("question,answer\n" + "".join(f"What is {n}?,{n}\n" for n in range(300)) + "a,b,c\n")
    for source in (*(write_jsonl(tmp_path / f"{at}.jsonl", [*pairs, row]) for at, row in enumerate(odd)), str(ragged)):
        report = audit_sources([source])
        proposal = DataProposal(sources=(source,), near_duplicate_threshold=1.0)
        record = prepare(proposal, benchmarks=[], folder=tmp_path / "data", seed=0)
        assert (report["verdict"], report["left"]["rows"], record.rows) == ("fixable", 300, 300)


def test_labels_that_are_all_alike_keep_nobody_from_imitating_the_replies(tmp_path: Path) -> None:
    source = write_jsonl(
        tmp_path / "r.jsonl", [{"prompt": f"{n}?", "completion": f"{n}", "label": 1} for n in range(30)]
    )
    report = audit_sources([source])
    assert (report["verdict"], report["methods"]) == ("fit", ["sft"])
    assert audit_sources([source], method="kto")["verdict"] == "unfit"


def test_a_sample_of_rows_that_the_template_all_refuses_has_no_length(tiny_model: Path) -> None:
    lengths = TokenLengths(ModelText(str(tiny_model)), None, exact=False, seed=0)
    lengths._seen, lengths._reservoir = 2 * ALL, np.zeros(10, np.int64)
    assert lengths.sampled
    assert lengths.summary()["max"] == 0


def test_files_of_two_formats_are_not_mixed_into_one_cleaned_copy(tmp_path: Path) -> None:
    chats = write_jsonl(tmp_path / "a.jsonl", [*sound_rows(20), chat("Why?", "")])
    pairs = write_jsonl(tmp_path / "b.jsonl", [{"prompt": f"What is {n}?", "completion": f"{n}."} for n in range(20)])
    with pytest.raises(BadInput, match=r"a\.jsonl and .*b\.jsonl have rows of .*; clean each by itself"):
        audit_sources([chats, pairs], clean=tmp_path / "clean.jsonl")
    assert not (tmp_path / "clean.jsonl").exists()
    assert "clean each by itself" in audit_sources([chats, pairs])["not_cleanable"]
    assert audit_sources([chats])["not_cleanable"] == ""


def test_the_cleaned_copy_counts_what_it_mends_leaves_out_and_does_not_copy(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [json.dumps(row) for row in sound_rows(40, seed=1)]
    rows += [json.dumps({**row, "score": float("nan")}) for row in sound_rows(5, seed=2)]
    (folder / "train.jsonl").write_text("\n".join([*rows, "no row", json.dumps(chat("Why?", ""))]) + "\n")
    write_jsonl(folder / "test.jsonl", sound_rows(30, seed=3))
    cleaned = audit_sources([str(folder)], clean=tmp_path / "clean.jsonl")["cleaned"]
    counts = {"rows": 45, "left_out": 1, "unreadable": 1, "mended": 5, "not_copied": 30}
    assert cleaned == {"path": str(tmp_path / "clean.jsonl"), **counts}


def test_lost_characters_are_a_warning_that_cleaning_does_not_promise_to_mend(tmp_path: Path) -> None:
    rows = [*sound_rows(40), chat("What is it?", "It is a caf\ufffd in the old town, near the mill.")]
    report = audit_sources([write_jsonl(tmp_path / "a.jsonl", rows)], clean=tmp_path / "b.jsonl")
    assert [(f["kind"], f["fix"]) for f in report["findings"]] == [("lost_characters", "")]
    assert (report["verdict"], report["cleaned"]["mended"]) == ("fit", 0)


def test_a_copy_that_broke_off_is_in_nobodys_way_and_the_first_of_two_copies_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_jsonl(tmp_path / "a.jsonl", [*sound_rows(20), chat("Why?", "")])
    copy = tmp_path / "b.jsonl"
    (tmp_path / ".b.jsonl.part").write_text("left over")
    audit_sources([rows], clean=copy)
    first = copy.read_bytes()
    monkeypatch.setattr("agents.data_engineer.audit.require_new", lambda path: None)
    with pytest.raises(BadInput, match="was made meanwhile"):
        audit_sources([rows], clean=copy)
    assert copy.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.jsonl.part", "a.jsonl", "b.jsonl"]


def test_too_few_rows_say_their_share_and_an_empty_name_is_refused(tmp_path: Path) -> None:
    (found,) = audit_sources([write_jsonl(tmp_path / "a.jsonl", [*sound_rows(2), chat("Why?", "")])])["findings"][:1]
    assert (found["kind"], found["count"], found["share"]) == ("too_few", 2, 0.666667)
    with pytest.raises(BadInput, match="an empty name names no data"):
        audit_sources([""])
    assert audit_sources([write_jsonl(tmp_path / "b.jsonl", sound_rows(20))], method="SFT")["verdict"] == "fit"
