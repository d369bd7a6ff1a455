"""The audit of data files as scripts read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.data_engineer.audit import audit_sources
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_rows, write_jsonl


def test_an_audit_has_the_keys_that_scripts_rely_on_and_is_plain_json(tmp_path: Path) -> None:
    pairs = [{"query": f"{n} plus {n}?", "reply": 2 * n} for n in range(20)]
    report = audit_sources([write_jsonl(tmp_path / "pairs.jsonl", pairs)])
    assert json.loads(json.dumps(report)) == report
    assert report.pop("seconds") >= 0
    assert report == {
        "rows": 20, "columns": ["query", "reply"], "format": "question_answer", "methods": ["sft"],
        "tokens": {"tokenizer": "words", "p50": 4, "p95": 4, "max": 4, "total": 80},
        "duplicates": {"exact": 0, "near": 0}, "contamination": [], "findings": [], "verdict": "fit",
    }  # fmt: skip


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
    sources = [write_jsonl(tmp_path / "good.jsonl", rows), write_jsonl(tmp_path / "bad.jsonl", faults)]
    report = audit_sources(sources)
    assert (report["rows"], report["methods"], report["format"]) == (27, ["sft", "dpo"], "preference")
    assert report["duplicates"] == {"exact": 1, "near": 1}
    assert report["verdict"] == "fixable"
    assert {finding["kind"]: (finding["count"], finding["examples"]) for finding in report["findings"]} == {
        "empty": (3, ["bad.jsonl, row 1: What? No.", "bad.jsonl, row 2: ", "bad.jsonl, row 3: "]),
        "identical_pairs": (1, ["bad.jsonl, row 4: Which? This. This."]),
        "exact_duplicates": (1, ["bad.jsonl, row 5: What is thing 3? It is 3. No idea."]),
    }
    assert all(finding["severity"] == "warning" and finding["advice"] for finding in report["findings"])


def test_files_of_several_formats_are_told_and_too_few_rows_are_unfit(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    sources = [write_jsonl(tmp_path / "chat.jsonl", [chat]), write_jsonl(tmp_path / "force.jsonl", force_rows(2))]
    report = audit_sources(sources)
    assert report["format"] == "messages, gpqa"
    assert report["columns"][:2] == ["messages", "Question"]
    assert report["verdict"] == "unfit"
    assert [(finding["kind"], finding["severity"]) for finding in report["findings"]] == [("too_few", "error")]


def test_what_cannot_be_audited_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to audit; name a data file"):
        audit_sources([])
    with pytest.raises(BadInput, match=r"gone\.jsonl does not exist; check the path"):
        audit_sources([str(tmp_path / "gone.jsonl")])
