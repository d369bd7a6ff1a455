"""Circles of a role's loop: the model is told, then a call is not carried out, then it moves on and is forgotten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from langchain_core.tools import tool

from agents.guards.repetition import Repetition
from tests.agents.loops import Loop, calls, hands_in, results_of, turns_of
from tests.servers.openai_chat import Request, Says, openai_chat

TOLD = "Do something else"
NOT_DONE = "not carried out"


def followed(*calls: str) -> list[bool]:
    """Which of these calls, each with its own result always, are warned of."""
    seen, warned = Repetition(), []
    for call in calls:
        seen.add(call, f"result of {call}")
        warned.append(bool(seen.warning()))
    return warned


def test_the_same_call_with_the_same_result_is_warned_of_the_third_time() -> None:
    assert followed("a", "a", "a", "a") == [False, False, True, True]


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_cycles_are_warned_of(length: int) -> None:
    cycle = [str(call) for call in range(length)]
    assert any(followed(*cycle * 3))
    assert not any(followed(*cycle))


def test_a_call_that_gives_something_new_is_no_circle() -> None:
    seen = Repetition()
    for result in range(10):
        seen.add("status", f"{result} % done")
        assert not seen.warning()


def test_who_moves_on_is_left_alone() -> None:
    assert followed(*"aaa", *"bcdef", *"aa") == [False, False, True] + [False] * 7


def test_six_calls_in_turn_are_no_circle() -> None:
    assert not any(followed(*"abcdef" * 4))


def test_a_call_is_refused_after_one_more_round() -> None:
    seen = Repetition()
    for _ in range(3):
        seen.add("a", "x")
    assert seen.refusal("a") is None
    seen.add("a", "x")
    assert seen.refusal("b") is None
    refused = seen.refusal("a")
    assert refused is not None
    assert refused[1] == "x"


@pytest.mark.parametrize("cycle", ["a", "ab", "abc", "abcd", "abcde"])
def test_a_model_in_a_circle_is_told_and_then_stopped(tmp_path: Path, cycle: str) -> None:
    looked: Counter[str] = Counter()

    @tool
    def look(place: str) -> str:
        """Look at a place."""
        looked[place] += 1
        return f"there is a stone at {place}"

    def script(request: Request) -> Says:
        turn = turns_of(request)
        if turn == 5 * len(cycle):
            return calls(("look", {"place": "elsewhere"}))
        if turn == 5 * len(cycle) + 1:
            return hands_in(4)
        return calls(("look", {"place": cycle[turn % len(cycle)]}))

    with openai_chat(script) as server:
        assert Loop(tmp_path, [look]).run(server.base_url).number == 4
        again = Loop(tmp_path, [look]).run(server.base_url)
    results = results_of(server.requests[-1])
    assert again.number == 4
    assert len(server.requests) == 5 * len(cycle) + 2
    assert not any(TOLD in result for result in results[: 2 * len(cycle) - 1])
    told = next(place for place, result in enumerate(results) if TOLD in result)
    stopped = next(place for place, result in enumerate(results) if NOT_DONE in result)
    assert told < stopped
    assert max(looked.values()) == (stopped + len(cycle) - 1) // len(cycle)
    assert looked["elsewhere"] == 1
    assert TOLD not in results[-1]
    assert NOT_DONE not in results[-1]


def test_calls_side_by_side_are_followed_in_their_order(tmp_path: Path) -> None:
    @tool
    def look(place: str) -> str:
        """Look at a place."""
        return f"there is a stone at {place}"

    def script(request: Request) -> Says:
        if turns_of(request) == 4:
            return hands_in(4)
        return calls(("look", {"place": "a"}), ("look", {"place": "b"}))

    with openai_chat(script) as server:
        Loop(tmp_path, [look]).run(server.base_url)
    results = results_of(server.requests[-1])
    assert [TOLD in result for result in results] == [False] * 5 + [True, False, True]


def test_the_same_malformed_call_is_warned_of_the_third_time(tmp_path: Path) -> None:
    @tool
    def look(place: str) -> str:
        """Look at a place."""
        return f"there is a stone at {place}"

    def script(request: Request) -> Says:
        turn = turns_of(request)
        if turn == 4:
            return hands_in(4)
        return calls(("look", {"place": "home"})) if turn == 3 else calls(("look", '{"place": "ho'))

    with openai_chat(script) as server:
        Loop(tmp_path, [look]).run(server.base_url)
    assert [TOLD in result for result in results_of(server.requests[-1])] == [False, False, True, False]
