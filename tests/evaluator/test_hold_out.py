"""Rows that are held out: how many, which ones, and what benchmarks they make."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.brain import Brief, Move
from agents.evaluator import playbook
from agents.evaluator.benchmarks.benchmark import load_benchmark
from agents.evaluator.benchmarks.items import TextItem
from agents.evaluator.hold_out import choose, write
from agents.evaluator.proposal import HoldOutProposal
from shared_memory.errors import BadInput, Unavailable
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.records import Part

RULE = HoldOutProposal()


def sizes(rows: int) -> Counter[Part]:
    return Counter(choose(range(rows), RULE, seed=0).values())


@pytest.mark.parametrize(
    ("rows", "held_out"),
    [
        (80, 40),
        (200, 40),
        (250, 50),
        (500, 100),
        (2_000, 100),
        (3_000, 150),
        (20_000, 1_000),
        pytest.param(90_000, 1_000, marks=pytest.mark.slow),
    ],
)
def test_five_percent_are_held_out_within_bounds_and_never_a_small_set_whole(rows: int, held_out: int) -> None:
    assert sizes(rows) == {Part.SELECTION: held_out // 2, Part.REPORT: held_out // 2}


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=20, max_size=200), seed=st.integers(0, 2**32))
def test_clusters_are_never_split_and_parts_are_balanced(sizes: list[int], seed: int) -> None:
    clusters = [cluster for cluster, size in enumerate([*sizes, *[1] * 60]) for _ in range(size)]
    Random(seed).shuffle(clusters)
    chosen = choose(clusters, RULE, seed=seed)
    part_of = {}
    for position, part in chosen.items():
        assert part_of.setdefault(clusters[position], part) is part
    members = Counter(clusters)
    assert sum(members[cluster] for cluster in part_of) == len(chosen), "a cluster is held out whole"
    room = min(max(100, round(len(clusters) / 20)), max(40, len(clusters) // 5))
    assert all(members[cluster] <= room // 10 for cluster in part_of)
    parts = Counter(chosen.values())
    assert all(20 <= parts[part] <= max(room // 2, 19 + room // 10) for part in Part)
    assert abs(parts[Part.SELECTION] - parts[Part.REPORT]) <= room // 10
    assert choose(clusters, RULE, seed=seed) == chosen
    assert choose([9_000 - cluster for cluster in clusters], RULE, seed=seed) == chosen, "names do not matter"
    assert list(chosen) == sorted(chosen)


def test_another_seed_holds_out_other_rows() -> None:
    assert choose(range(400), RULE, seed=1) != choose(range(400), RULE, seed=2)


def test_a_cluster_that_would_decide_the_score_stays_for_training() -> None:
    clusters = [0] * 300 + list(range(1, 301))
    assert min(choose(clusters, RULE, seed=0)) >= 300


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        (range(79), "79 rows are too few to hold some out (80 are needed); give a [[benchmark]], or more rows"),
        ([0] * 500, "500 rows are so much alike that they make 0 selection items (20 are needed)"),
    ],
)
def test_too_few_rows_or_too_few_different_ones_are_refused(clusters: Any, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        choose(clusters, RULE, seed=0)
    assert words in str(refused.value)


def test_a_proposal_may_ask_for_more_within_bounds() -> None:
    assert len(choose(range(1_000), HoldOutProposal(share=0.2), seed=0)) == 200
    assert len(choose(range(1_000), HoldOutProposal(share=0.2, maximum=120), seed=0)) == 120
    with pytest.raises(ValueError, match="above the maximum"):
        HoldOutProposal(minimum=200, maximum=100)


def test_the_playbook_holds_rows_out_where_it_is_asked_to() -> None:
    proposal = playbook.propose(Brief(goal=Goal(text="fine-tune it on my data"), move=Move.HOLD_OUT))
    assert proposal == HoldOutProposal(why=proposal.why)
    assert proposal.summary().startswith("hold out 5% of the rows (100 to 1,000): ")


def say(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def text_row(number: int, answer: str = "", **changes: Any) -> dict[str, Any]:
    long = f"Answer {number}, in far more words than anybody would compare one by one, because it explains itself."
    row = {"id": f"data:{number}", "prompt": say("user", f"Question {number}?")}
    return row | {"completion": say("assistant", answer or long), "rejected": []} | changes


CHOSEN = {position: Part.SELECTION if position % 2 else Part.REPORT for position in range(10, 60)}


def test_long_answers_make_one_benchmark_that_is_scored_by_loss(tmp_path: Path) -> None:
    goals = write([text_row(n) for n in range(100)], CHOSEN, tmp_path)
    assert goals == (BenchmarkGoal(path=str(tmp_path / "holdout.jsonl"), metric="loss", primary=True),)
    assert goals[0].id == "holdout"
    benchmark = load_benchmark(goals[0])
    assert {item.id: item.part for item in benchmark.items} == {f"data:{n}": part for n, part in CHOSEN.items()}
    assert isinstance(benchmark.items[0], TextItem)
    assert benchmark.items[0].question == "Question 10?"


def test_enough_short_answers_make_a_second_one_that_is_matched(tmp_path: Path) -> None:
    rows = [text_row(n, answer=f"{n} km" if n < 54 else "") for n in range(100)]
    loss, exact = write(rows, CHOSEN, tmp_path)
    assert (exact.id, exact.metric, exact.max_tokens, exact.primary) == ("holdout_exact", "exact", 32, False)
    assert len(load_benchmark(loss).items) == 50
    assert {item.id for item in load_benchmark(exact).items} == {f"data:{n}" for n in range(10, 54)}
    Goal(text="x", benchmark=(loss, exact))


@pytest.mark.parametrize(
    "changes",
    [
        {"completion": say("assistant", "7" * 71)},
        {"completion": say("assistant", "—?!")},
        {"completion": [*say("assistant", "7"), *say("user", "?"), *say("assistant", "8")]},
        {"prompt": say("user", "far too long " * 400)},
    ],
    ids=["more than 20 tokens", "no word", "several turns", "a prompt beyond the context"],
)
def test_nineteen_short_answers_in_a_part_are_too_few_to_match(tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = [text_row(n, answer="7 km") for n in range(100)]
    for position in [position for position, part in CHOSEN.items() if part is Part.REPORT][19:]:
        rows[position] |= changes
    assert [goal.metric for goal in write(rows, CHOSEN, tmp_path, context=2048)] == ["loss"]


def test_pairs_make_a_benchmark_of_preferences(tmp_path: Path) -> None:
    rows = [text_row(n, answer="7 km", rejected=say("assistant", "far")) for n in range(100)]
    [goal] = write(rows, CHOSEN, tmp_path)
    assert (goal.id, goal.metric, goal.primary) == ("holdout", "preference", True)
    [item, *_] = load_benchmark(goal).items
    assert isinstance(item, TextItem)
    assert (item.completion[0].content, item.rejected[0].content) == ("7 km", "far")


def test_what_is_measured_is_what_the_method_teaches(tmp_path: Path) -> None:
    pairs = [text_row(n, rejected=say("assistant", "far")) for n in range(100)]
    for method, metric in (("", "preference"), ("dpo", "preference"), ("reward", "preference"), ("sft", "loss")):
        assert [goal.metric for goal in write(pairs, CHOSEN, tmp_path / method, method=method)] == [metric]
    short = [text_row(n, answer=f"{n} km") for n in range(100)]
    for method in ("grpo", "rloo"):
        [goal] = write(short, CHOSEN, tmp_path / method, method=method)
        assert (goal.id, goal.metric, goal.primary, goal.max_tokens) == ("holdout", "exact", True, 256)
        assert len(load_benchmark(goal).items) == 50
    with pytest.raises(BadInput, match="0 of 50 held-out rows with an answer to compare make 0 selection items"):
        write([text_row(n, answer="?!") for n in range(100)], CHOSEN, tmp_path, method="grpo")


def test_rows_that_cannot_be_measured_on_go_with_their_cluster_and_do_not_count() -> None:
    clusters = [number // 2 for number in range(200)]
    wanted = [number % 2 == 0 for number in range(200)]
    chosen = choose(clusters, RULE, seed=0, measures=wanted)
    assert Counter(part for row, part in chosen.items() if wanted[row]) == {Part.SELECTION: 20, Part.REPORT: 20}
    assert all(row ^ 1 in chosen for row in chosen), "the other answer to the same question is not trained on"
    with pytest.raises(BadInput, match="79 rows are too few"):
        choose(range(100), RULE, seed=0, measures=[number < 79 for number in range(100)])
    alone = choose(range(200), RULE, seed=0, measures=[number < 100 for number in range(200)])
    assert max(alone) < 100, "what measures nothing stays for training"


def test_writing_again_gives_the_same_bytes_whatever_else_the_rows_hold(tmp_path: Path) -> None:
    rows = [text_row(n, answer=f"Grüße\u2028{n}") for n in range(100)]
    write(rows, CHOSEN, tmp_path / "one")
    write([row | {"explanation": "x"} for row in rows], CHOSEN, tmp_path / "two")
    for name in ("holdout.jsonl", "holdout_exact.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_rows_that_cannot_be_measured_and_ids_that_two_files_gave_do_no_harm(tmp_path: Path) -> None:
    rows = [text_row(n) for n in range(100)]
    rows[10] |= {"prompt": []}
    rows[11] |= {"completion": say("assistant", " ")}
    rows[12] |= {"rejected": rows[12]["completion"]}
    rows[13] |= {"id": "data:14"}
    [goal] = write(rows, CHOSEN, tmp_path)
    ids = {item.id for item in load_benchmark(goal).items}
    assert ids == {f"data:{n}" for n in range(15, 60)} | {"data:14#13", "data:14#14"}


def test_too_few_usable_rows_and_a_folder_that_cannot_be_written_say_what_to_do(tmp_path: Path) -> None:
    rows = [text_row(n, prompt=[]) for n in range(100)]
    with pytest.raises(BadInput, match="0 of 50 held-out rows that have a prompt and an answer make 0 selection items"):
        write(rows, CHOSEN, tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match=r"cannot be written .*; make room and resume"):
        write([text_row(n) for n in range(100)], CHOSEN, tmp_path / "file")


def test_tools_and_calls_are_held_out_with_their_rows_and_are_never_matched(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"place": "dock"}}}
    said = {"role": "assistant", "content": "", "tool_calls": json.dumps([call]), "reasoning": "", "name": ""}
    tools = [{"type": "function", "function": {"name": "look"}}]
    rows = [text_row(n, answer="7 km", tools=json.dumps(tools)) for n in range(100)]
    rows[10] |= {"completion": [said]}
    rows[11] |= {"tools": ""}
    [goal] = write(rows, CHOSEN, tmp_path)
    called, plain, *others = load_benchmark(goal).items
    assert isinstance(called, TextItem)
    assert called.completion[0].plain() == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert [item.plain().get("tools") for item in (called, plain, *others)] == [tools, None, *[tools] * 48]


def test_passages_are_measured_as_they_stand_and_not_together_with_conversations(tmp_path: Path) -> None:
    passages = [{"id": f"data:{n}", "passage": f"Passage {n}, Grüße.", "prompt": (), "tools": ""} for n in range(100)]
    [goal] = write(passages, CHOSEN, tmp_path)
    assert (goal.metric, goal.primary) == ("loss", True)
    first = load_benchmark(goal).items[0]
    assert isinstance(first, TextItem)
    assert (first.text, first.question, first.prompt, first.part) == (
        "Passage 10, Grüße.", "Passage 10, Grüße.", (), Part.REPORT,
    )  # fmt: skip
    with pytest.raises(BadInput, match="the data mix texts and conversations"):
        write([*passages[:50], *(text_row(n) for n in range(50, 100))], CHOSEN, tmp_path)


def test_what_nobody_wants_is_no_reference(tmp_path: Path) -> None:
    rows = [text_row(n, label=n != 10) for n in range(100)]
    [goal] = write(rows, CHOSEN, tmp_path)
    assert {item.id for item in load_benchmark(goal).items} == {f"data:{n}" for n in range(11, 60)}
