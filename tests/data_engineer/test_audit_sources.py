"""The audit of data files as scripts read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.data_engineer.audit import Progress, audit_sources
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_rows, write_jsonl
from tests.data_engineer.sound_rows import chat, sound_rows

KEYS = {
    "rows", "columns", "format", "methods", "not_trainable", "splits", "schema", "licence", "tokens", "duplicates",
    "contamination", "histograms", "sampled", "findings", "fixes", "left", "verdict", "reason", "seconds",
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
