"""A role's loop in a small window: what is left out, what stays, and what happens where it is too much all the same."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool

from shared_memory.errors import ContextExhausted
from tests.agents.loops import TASK, Loop, calls, hands_in, results_of, tools_of, turns_of
from tests.servers.openai_chat import TOO_LONG, Fault, Reply, Request, Says, openai_chat

BYTES_PER_TOKEN = 3.6
"""Of the server of these tests: JSON, names and all."""


def tokens_of(request: Request) -> int:
    return math.ceil(len(request.raw.encode()) / BYTES_PER_TOKEN)


class Role:
    """A scripted model that looks at one place after the other, notes every tenth, and keeps a server's count."""

    def __init__(self, places: int, window: int) -> None:
        self.places, self.window = places, window
        self.at = 0
        self.sums = 0
        self.longest = 0
        self.refused = 0

    def __call__(self, request: Request) -> Reply:
        asked = tokens_of(request)
        self.longest = max(self.longest, asked + request.body["max_tokens"])
        if asked + request.body["max_tokens"] > self.window:
            self.refused += 1
            return TOO_LONG["vllm"]
        count = {"prompt_tokens": asked, "completion_tokens": 20}
        if not tools_of(request):
            self.sums += 1
            return Says(f"{self.at} places were looked at.", **count)
        if self.at == self.places:
            return calls(("hand_in", {"number": self.at, "why": ""}), **count)
        self.at += 1
        named: list[tuple[str, dict[str, Any] | str]] = [("look", {"place": f"place {self.at}"})]
        if self.at % 10 == 0:
            named.append(("take_note", {"text": f"the stone of place {self.at} is red"}))
        return calls(*named, **count)


@tool
def look(place: str) -> str:
    """Look at a place."""
    number = int(place.split()[1])
    return f"{place}: " + " ".join(f"stone {number * place_of}" for place_of in range(40 + number * 37 % 700))


def test_a_long_loop_stays_within_a_small_window_and_keeps_what_was_noted(tmp_path: Path) -> None:
    role = Role(places=45, window=8192)
    with openai_chat(role) as server:
        assert Loop(tmp_path, [look]).run(server.base_url, window=8192).number == 45
    assert role.refused == 0
    assert role.sums > 0
    last = server.requests[-1]
    assert last.messages[1]["content"].startswith(TASK)
    for noted in range(10, 45, 10):
        assert f"the stone of place {noted} is red" in last.raw


@pytest.mark.slow
def test_five_hundred_steps_of_one_role_in_a_window_of_16k(tmp_path: Path) -> None:
    role = Role(places=499, window=16_384)
    with openai_chat(role) as server:
        assert Loop(tmp_path, [look]).run(server.base_url, window=16_384, steps=500).number == 499
    assert role.refused == 0
    assert role.longest <= 16_384
    turns = [request for request in server.requests if tools_of(request)]
    assert len(turns) == 500
    assert all(request.messages[1]["content"].startswith(TASK) for request in turns)
    for noted in range(10, 500, 10):
        assert f"the stone of place {noted} is red" in turns[-1].raw
    # Sums cost requests of their own: few of them.
    assert role.sums < 50


@tool
def survey(place: str) -> str:
    """Survey a place."""
    return f"{place}: " + " ".join(f"stone {number}" for number in range(900))


@tool
def read_stones(place: str) -> str:
    """Read what is written on the stones of a place."""
    return f"{place}: " + "石头在这里很多" * 600


@pytest.mark.parametrize(
    ("named", "window", "side_by_side", "task"),
    [
        ("survey", 16_384, 1, 40_000),
        ("survey", 8_192, 1, 16_000),
        ("survey", 16_384, 8, 3_000),
        ("read_stones", 16_384, 4, 3_000),
    ],
)
def test_a_result_is_shown_before_it_is_cleared(
    tmp_path: Path, named: str, window: int, side_by_side: int, task: int
) -> None:
    """However long the task, and however many results come at once."""
    turns, role = 8, Role(places=0, window=window)

    def tokens(request: Request) -> int:
        text = json.dumps(request.body, ensure_ascii=False)
        return math.ceil(sum(1 if ord(sign) > 127 else 1 / 4 for sign in text))

    def script(request: Request) -> Reply:
        asked = tokens(request)
        if asked + request.body["max_tokens"] > window:
            role.refused += 1
            return TOO_LONG["vllm"]
        count = {"prompt_tokens": asked, "completion_tokens": 20}
        if not tools_of(request):
            role.sums += 1
            return Says("It surveyed places.", **count)
        latest = results_of(request)[-side_by_side:]
        assert all("<untrusted" in result for result in latest)
        role.at += 1
        if role.at > turns:
            return calls(("hand_in", {"number": 4, "why": ""}), **count)
        places = range(role.at * 100, role.at * 100 + side_by_side)
        return calls(*((named, {"place": f"place {place}"}) for place in places), **count)

    loop = Loop(tmp_path, [survey, read_stones], task=f"{TASK} {'fact 12, ' * (task // 9)}")
    with openai_chat(script) as server:
        assert loop.run(server.base_url, window=window).number == 4
    assert role.refused == 0
    assert role.sums <= turns - 2  # not one for every turn


def test_old_results_are_cleared_before_turns_are_summed_up_and_can_be_shown_again(tmp_path: Path) -> None:
    places = iter(range(1, 40))
    seen: list[str] = []

    def script(request: Request) -> Reply:
        cleared = re.search(r'cleared; read_output\(handle=\\"(\w+)\\"\)', request.raw)
        if seen:
            return hands_in(1)
        if cleared and tools_of(request):
            seen.append(cleared[1])
            return calls(("read_output", {"handle": cleared[1]}))
        return calls(("look", {"place": f"place {next(places)}"}))

    with openai_chat(script) as server:
        Loop(tmp_path, [look]).run(server.base_url, window=20_000)
    assert all(tools_of(request) for request in server.requests)  # nothing was summed up
    assert "place 1: stone 0" in results_of(server.requests[-1])[-1]


class Mistaken(Role):
    """Can read less than anybody thinks."""

    def __call__(self, request: Request) -> Reply:
        self.window = 6000 if tools_of(request) else 10**6
        return super().__call__(request)


def test_a_request_that_is_too_long_is_shortened_by_force_and_sent_once_more(tmp_path: Path) -> None:
    role = Mistaken(places=12, window=0)
    with openai_chat(role) as server:
        assert Loop(tmp_path, [look]).run(server.base_url, window=16_384).number == 12
    assert role.refused == 1  # it has learned how much is too much
    with openai_chat(role) as second:
        assert Loop(tmp_path, [look]).run(second.base_url, window=16_384).number == 12
    assert second.requests == []


def test_a_request_that_was_too_long_after_a_summary_is_not_sent_again(tmp_path: Path) -> None:
    role = Role(places=30, window=8192)
    refused: list[str] = []

    def script(request: Request) -> Reply:
        if role.sums == 1 and tools_of(request) and not refused:
            refused.append(request.raw)
            return TOO_LONG["vllm"]
        return role(request)

    with openai_chat(script) as server:
        assert Loop(tmp_path, [look]).run(server.base_url, window=8192).number == 30
    assert len(refused) == 1
    with openai_chat(script) as second:
        assert Loop(tmp_path, [look]).run(second.base_url, window=8192).number == 30
    assert second.requests == []


def test_a_request_that_is_too_long_twice_ends_it(tmp_path: Path) -> None:
    def script(request: Request) -> Reply:
        if not tools_of(request):
            return Says("It looked around.")
        return TOO_LONG["vllm"] if len(request.messages) > 3 else calls(("look", {"place": "place 1"}))

    def again(request: Request) -> Reply:
        return Fault(400, TOO_LONG["openai"].message, code="context_length_exceeded")

    with openai_chat(script) as server, pytest.raises(ContextExhausted) as over:
        Loop(tmp_path / "a", [look]).run(server.base_url)
    assert over.value.exit_code == 7
    assert len([request for request in server.requests if tools_of(request)]) == 3
    with openai_chat(again) as server, pytest.raises(ContextExhausted):
        Loop(tmp_path / "b", [look]).run(server.base_url)
    assert len(server.requests) == 1  # nothing can be left out of a task


def test_where_even_the_summary_is_too_much_the_calls_stand_for_it(tmp_path: Path) -> None:
    role = Role(places=30, window=8192)

    def script(request: Request) -> Reply:
        return role(request) if tools_of(request) else TOO_LONG["vllm"]

    with openai_chat(script) as server:
        assert Loop(tmp_path, [look]).run(server.base_url, window=8192).number == 30
    assert role.refused == 0
    assert 'called look({"place": "place ' in server.requests[-1].messages[1]["content"]
    with openai_chat(script) as second:
        assert Loop(tmp_path, [look]).run(second.base_url, window=8192).number == 30
    assert second.requests == []


def test_many_results_at_once_are_cleared_rather_than_too_much(tmp_path: Path) -> None:
    many = calls(*(("look", {"place": f"place {place}"}) for place in range(1, 13)))
    role = Role(places=1, window=8192)

    def script(request: Request) -> Reply:
        if not results_of(request) and tools_of(request):
            return many
        return role(request)

    with openai_chat(script) as server:
        Loop(tmp_path, [look]).run(server.base_url, window=8192)
    assert role.refused == 0
    assert any("read_output" in result for result in results_of(server.requests[1]))


def test_a_summary_is_words_from_outside(tmp_path: Path) -> None:
    """It is made from what tools gave back, so it has no more to say than they have."""
    role = Role(places=30, window=8192)
    with openai_chat(role) as server:
        Loop(tmp_path, [look]).run(server.base_url, window=8192)
    task = server.requests[-1].messages[1]["content"]
    mark = re.findall(r"^<untrusted (\w+)>$", task, re.MULTILINE)[-1]
    before, inside = task.split(f"<untrusted {mark}>")
    assert "places were looked at." in inside.split(f"</untrusted {mark}>")[0]
    assert "places were looked at." not in before


def conversation_on_disk(folder: Path, text: str) -> str:
    """What was said in full, from where a text says that it is, and what that goes on from."""
    handles = re.findall(r'with handle "(\w+)"', text)
    if not handles:
        return text
    kept: str = json.loads((folder / "tools" / f"{handles[-1]}.json").read_text())["text"]
    assert f'handle "{handles[-1]}"' not in kept
    return conversation_on_disk(folder, kept) + kept


def test_two_summaries_for_one_request_lose_nothing_on_disk(tmp_path: Path) -> None:
    role = Role(places=60, window=8192)
    refused: list[int] = []

    @tool("look")
    def glance(place: str) -> str:
        """Look at a place."""
        return f"{place}: {'a stone, ' * 50}"

    def script(request: Request) -> Reply:
        if role.sums == 1 and tools_of(request) and not refused:
            refused.append(role.at)
            return TOO_LONG["vllm"]
        return role(request)

    with openai_chat(script) as server:
        Loop(tmp_path, [glance]).run(server.base_url, window=8192)
    sums = [place for place, request in enumerate(server.requests) if not tools_of(request)]
    assert sums[1] == sums[0] + 2  # what was refused stands between them
    kept = conversation_on_disk(tmp_path, server.requests[-1].messages[1]["content"])
    for place in range(1, refused[0]):
        assert f'calls look({{"place": "place {place}"}})' in kept


def test_what_was_left_out_is_on_disk_in_full(tmp_path: Path) -> None:
    role = Role(places=30, window=8192)
    with openai_chat(role) as server:
        Loop(tmp_path, [look]).run(server.base_url, window=8192)
    handle = re.findall(r'handle "(\w+)"', server.requests[-1].messages[1]["content"])[-1]
    kept = json.loads((tmp_path / "tools" / f"{handle}.json").read_text())["text"]
    assert "the stone of place 10 is red" in kept


def test_every_handle_that_stands_for_a_result_has_it(tmp_path: Path) -> None:
    """What was read on is no result of its own."""

    def script(request: Request) -> Reply:
        turn = turns_of(request)
        if turn == 1:
            handle = re.findall(r'read_output\(handle="(\w+)"', results_of(request)[0])[0]
            return calls(("read_output", {"handle": handle, "offset": 2_000}))
        return hands_in(4) if turn == 12 else calls(("survey", {"place": f"place {turn}"}))

    with openai_chat(script) as server:
        Loop(tmp_path, [survey]).run(server.base_url, window=14_000)
    results = results_of(server.requests[-1])
    assert "[cleared]" in results
    handles = re.findall(r'cleared; read_output\(handle="(\w+)"', "\n".join(results))
    assert len(handles) > 3
    assert all((tmp_path / "tools" / f"{handle}.json").exists() for handle in handles)


def test_a_note_that_was_refused_crowds_out_no_other(tmp_path: Path) -> None:
    role = Role(places=30, window=8192)

    def script(request: Request) -> Reply:
        said = role(request)
        if isinstance(said, Says) and role.at == 11 and tools_of(request):
            return calls(*said.calls, ("take_note", {"text": "long " * 2_000}))
        return said

    with openai_chat(script) as server:
        Loop(tmp_path, [look]).run(server.base_url, window=8192)
    last = server.requests[-1].messages[1]["content"]
    assert "the stone of place 10 is red" in last
    assert "long long" not in last


def test_a_note_has_a_length(tmp_path: Path) -> None:
    tools: list[BaseTool] = [look]
    with openai_chat([calls(("take_note", {"text": "x" * 2000})), hands_in(1)]) as server:
        Loop(tmp_path, tools).run(server.base_url)
    assert "at most 1000 characters" in results_of(server.requests[1])[0]
