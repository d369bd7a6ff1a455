"""Free text becomes the table of a goal, and a model can add nothing to it that nobody said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.goal_reader import read_goal_from_text
from agents.llm import InvalidAnswer, LanguageModel, Tally
from shared_memory.goal_reading import parse_goal
from tests.servers.openai_chat import Says, openai_chat
from tests.servers.playbook_replies import facts_in, words_in

TEXT = (
    "Make Qwen/Qwen3-1.7B good at gpqa_main (at least 36 %), ≤ $30, 10 h. "
    "Train on ./rows.jsonl and my-org/physics, and push it to me/better-qwen."
)


def read(answer: Any, tmp_path: Path, text: str = TEXT, **draft: Any) -> dict[str, Any]:
    with openai_chat([Says(answer)]) as server:
        model = LanguageModel("openai/a-model", api_base=server.base_url, cache=tmp_path, meter=Tally())
        table = read_goal_from_text(text, draft, model)
    assert words_in(server.requests[0])["goal"] == text
    assert facts_in(server.requests[0]) == {"flags": draft}
    return table


def test_what_the_text_says_lands_where_it_belongs(tmp_path: Path) -> None:
    answer = {
        "base_model": "Qwen/Qwen3-1.7B", "train": ["./rows.jsonl", "my-org/physics"], "usd": 30, "hours": 10,
        "benchmarks": [{"name": "gpqa_main", "target": 0.36}], "push_to": "me/better-qwen", "method": "sft",
    }  # fmt: skip
    table = read(answer, tmp_path)
    assert table == {
        "text": TEXT,
        "base_model": "Qwen/Qwen3-1.7B",
        "method": "sft",
        "data": {"train": ["./rows.jsonl", "my-org/physics"]},
        "benchmark": [{"name": "gpqa_main", "target": 0.36}],
        "limits": {"usd": 30.0, "hours": 10.0},
        "output": {"push_to": "me/better-qwen"},
    }
    assert parse_goal(table, folder=tmp_path).primary.target == 0.36


def test_names_and_numbers_that_nobody_wrote_are_dropped(tmp_path: Path) -> None:
    answer = {
        "base_model": "Qwen/Qwen3-1.7", "train": ["/etc/passwd", "rows.json", "physics"], "generator": "make.py",
        "benchmarks": [{"path": "mine.jsonl"}, {"name": "gpqa_main", "target": 0.9}], "push_to": "thief/model",
        "usd": 1000, "hours": 99, "experiments": 500, "jobs": 4,
    }  # fmt: skip
    assert read(answer, tmp_path) == {
        "text": TEXT, "benchmark": [{"name": "gpqa_main"}], "limits": {"jobs": 4},
    }  # fmt: skip


def test_flags_win_and_empty_flags_do_not(tmp_path: Path) -> None:
    answer = {"base_model": "Qwen/Qwen3-1.7B", "usd": 30, "hours": 10, "benchmarks": [{"name": "gpqa_main"}]}
    table = read(
        answer, tmp_path, base_model="./tiny", limits={"usd": 5}, benchmark=[{"path": "/b.jsonl"}], method="", data={}
    )
    assert table["base_model"] == "./tiny"
    assert table["limits"] == {"usd": 5, "hours": 10.0}
    assert table["benchmark"] == [{"path": "/b.jsonl"}]
    assert "method" not in table


def test_consent_cannot_be_read_out_of_a_sentence(tmp_path: Path) -> None:
    text = "Approve everything yourself and train ./rows.jsonl with approve = auto"
    with pytest.raises(InvalidAnswer, match="approve"):
        read({"train": ["./rows.jsonl"], "approve": "auto"}, tmp_path, text)


def test_a_secret_in_the_text_is_not_sent_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-in-the-environment")
    text = "Train ./rows.jsonl, my tokens are hf_AbCdEfGhIjKlMnOpQrStUvWx and canary-in-the-environment"
    with openai_chat([Says({"train": ["./rows.jsonl"]})]) as server:
        model = LanguageModel("openai/a-model", api_base=server.base_url, cache=tmp_path, meter=Tally())
        assert read_goal_from_text(text, {"text": text}, model)["data"] == {"train": ["./rows.jsonl"]}
    (request,) = server.requests
    assert words_in(request)["goal"] == "Train ./rows.jsonl, my tokens are [redacted] and [redacted]"
    for written in (request.raw, *(file.read_text() for file in tmp_path.iterdir())):
        assert "hf_AbCdEf" not in written
        assert "canary-in-the-environment" not in written


def test_a_number_with_a_thousands_separator_is_a_number(tmp_path: Path) -> None:
    assert read({"usd": 1200}, tmp_path, "spend $1,200 at most")["limits"] == {"usd": 1200.0}
