"""Benchmarks of one's own: what a row holds, and which replies are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from agents.evaluator.benchmarks.items import Message, TaskItem
from agents.evaluator.scoring.calls import Call, calls_in
from agents.evaluator.scoring.marking import Answer, mark, prompts_of
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Part

WEATHER = {"name": "weather", "arguments": {"city": "Oslo", "days": 3}}


def benchmark(folder: Path, rows: list[dict[str, Any]], metric: str = "auto", **settings: Any) -> Benchmark:
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return load_benchmark(BenchmarkGoal.model_validate({"path": str(file), "metric": metric, **settings}))


def scores(asked: Benchmark, *replies: str) -> list[float]:
    """Of replies to the first item."""
    item = asked.items[0]
    return [
        mark(asked, [Answer(id=item.id, epoch=1, output=reply, output_tokens=1, truncated=False)])[0]["score"]
        for reply in replies
    ]


def test_numbers_are_compared_by_value_where_the_reply_marks_them_or_at_its_end(tmp_path: Path) -> None:
    asked = benchmark(tmp_path, [{"question": "7 × 6?", "answer": "6 × 7 = 42\n#### 42"}], "numeric")
    assert scores(asked, "42", "It is 42.0", "ANSWER: 42\nI am sure of 7", r"\boxed{42}") == [1, 1, 1, 1]
    assert scores(asked, "41", "42 or 43", "none", "") == [0, 0, 0, 0]
    with pytest.raises(BadInput, match="row 1: `answer` holds no number"):
        benchmark(tmp_path, [{"question": "7 × 6?", "answer": "many"}], "numeric")


def test_a_pattern_has_to_match_all_of_the_marked_answer(tmp_path: Path) -> None:
    asked = benchmark(tmp_path, [{"question": "A leap year?", "answer": r"(?i)20(20|24)( AD)?"}], "regex")
    assert scores(asked, "2024", "2020 ad", "I think so.\nANSWER: 2024") == [1, 1, 1]
    assert scores(asked, "in 2024", "2023", "") == [0, 0, 0]
    with pytest.raises(BadInput, match="row 1: `answer` is no regular expression"):
        benchmark(tmp_path, [{"question": "?", "answer": "20(20"}], "regex")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ('<tool_call>\n{"name": "weather", "arguments": {"days": 3, "city": "Oslo"}}\n</tool_call>', 1),
        ('I look it up.\n```json\n{"name": "weather", "parameters": {"city": "Oslo", "days": 3.0}}\n```', 1),
        ("[weather(city='Oslo', days=3)]", 1),
        ("weather(city='Oslo', days=3)", 1),
        ('<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "days": true}}</tool_call>', 0),
        ('<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>', 0),
        ("[weather(city='Oslo', days=3), weather(city='Bergen', days=3)]", 0),
        ("It will rain in Oslo for 3 days.", 0),
        ("", 0),
    ],
)
def test_calls_are_compared_by_structure(tmp_path: Path, reply: str, right: int) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    asked = benchmark(tmp_path, [{"question": "Will it rain in Oslo?", "calls": [WEATHER], "tools": tools}])
    assert asked.metric == "calls"
    assert scores(asked, reply) == [right]
    assert prompts_of(asked, tuple(Part))[0]["tools"] == tools


def test_calls_of_a_chat_are_a_reference_too_and_earlier_turns_keep_theirs(tmp_path: Path) -> None:
    calling = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": WEATHER}]}
    heard = {"role": "tool", "content": "rain", "name": "weather"}
    prompt = [{"role": "user", "content": "Oslo?"}, calling, heard, {"role": "user", "content": "And again?"}]
    asked = benchmark(tmp_path, [{"prompt": prompt, "completion": [calling]}], "calls")
    assert scores(asked, "weather(city='Oslo', days=3)", "no") == [1, 0]
    assert prompts_of(asked, tuple(Part))[0]["messages"] == prompt


def test_two_calls_of_one_reply_may_come_in_any_order() -> None:
    reply = '<tool_call>{"name": "a"}</tool_call><tool_call>{"name": "b", "arguments": "{\\"x\\": 1}"}</tool_call>'
    assert calls_in(reply) == [Call("a", {}), Call("b", {"x": 1})]
    assert calls_in('<tool_call>{"name": "a"}</tool_call><tool_call>{"name": </tool_call>') is None
    for unreadable in ("f(" * 5000, "[" * 100_000, "f(x={1, 2})", "f(x=b'1')", "f(x={[1]: 2})"):
        assert calls_in(unreadable) is None


def test_questions_about_one_passage_are_shown_with_it_and_belong_together(tmp_path: Path) -> None:
    rows = [{"passage": "The cat sat.", "question": f"Who {n}?", "answer": "cat"} for n in ("sat", "rose")]
    asked = benchmark(tmp_path, [*rows, {"question": "Where?", "answer": "here"}])
    together = {item.cluster for item in asked.items if item.question != "Where?"}
    assert len(together) == 1
    assert "" not in together
    assert prompts_of(asked, tuple(Part))[0]["messages"][0]["content"] == "The cat sat.\n\nWho sat?"
    assert asked.items[0].question == "Who sat?"


def test_from_the_second_resample_on_the_choices_stand_in_another_order(tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": ["red", "green", "blue", "grey"], "answer": "blue", "id": "q1"}
    asked = benchmark(tmp_path, [row], epochs=8)
    prompts = prompts_of(asked, tuple(Part))
    assert [prompt["epoch"] for prompt in prompts] == [*range(1, 9)]
    shown = [prompt["messages"][0]["content"].partition("Which?")[2] for prompt in prompts]
    assert len(set(shown)) > 4
    for prompt, choices in zip(prompts, shown, strict=True):
        letter = choices[choices.index(") blue") - 1]
        said = Answer(id="q1", epoch=prompt["epoch"], output=f"ANSWER: {letter}", output_tokens=1, truncated=False)
        assert mark(asked, [said])[0]["score"] == 1


def test_no_prompt_tells_which_answer_is_right(tmp_path: Path) -> None:
    rows = [{"question": f"Say number {n}.", "answer": f"secret-{n}"} for n in range(30)]
    told = json.dumps(prompts_of(benchmark(tmp_path, rows), tuple(Part)))
    assert "secret" not in told


def test_a_program_has_to_reach_the_end_of_its_tests_in_the_sandbox() -> None:
    pytest.importorskip("inspect_evals")
    item = TaskItem(
        id="add",
        prompt=(Message(role="user", content="Add."),),
        target=("    return a + b",),
        metadata={
            "prompt": "def add(a, b):\n",
            "test": "def check(candidate):\n    assert candidate(1, 2) == 3",
            "entry_point": "add",
        },
        part=Part.REPORT,
    )
    asked = Benchmark(name="toy", source="toy", metric="code", items=(item,), max_tokens=64, digest="0" * 64)
    assert scores(asked, "    return a + b", "```python\ndef add(a, b):\n    return b + a\n```") == [1, 1]
    leaves = "    import os\n    os._exit(0)"
    assert scores(asked, "    return a - b", leaves, "    open('/etc/passwd').read()\n    return a + b") == [0, 0, 0]
