"""A loop that was killed in the middle runs again: no request is sent twice, and no tool runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool

from agents.brain import Role
from agents.tool_outputs import ToolOutputs
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import TimeOver
from shared_memory.goal import Limits
from tests.agents.loops import Loop, calls, hands_in, turns_of
from tests.servers.openai_chat import Request, Says, openai_chat

ROOT = Path(__file__).parents[2]
TURNS = 6


def script(request: Request) -> Says:
    """Two calls side by side a turn, and the same ids every turn."""
    turn = turns_of(request)
    return hands_in(turn) if turn == TURNS else calls(("look", {"place": f"{turn}a"}), ("look", {"place": f"{turn}b"}))


def recorded(folder: Path, fatal: str, die: Any) -> BaseTool:
    """A tool that writes down where it looked, and dies at one place, once."""

    @tool
    def look(place: str) -> str:
        """Look at a place."""
        mark = folder / "died"
        if place == fatal and not mark.exists():
            mark.touch()
            die()
        with (folder / "looked").open("a") as file:
            file.write(f"{place}\n")
        return f"there is a stone at {place}; {os.urandom(4).hex()} of {os.getpid()}"

    return look


def looked(folder: Path) -> Counter[str]:
    return Counter((folder / "looked").read_text().split())


def test_a_loop_that_ended_in_the_middle_replays(tmp_path: Path) -> None:
    def time_is_over() -> None:
        raise TimeOver("the goal's hours are used up")

    with openai_chat(script) as server:
        with pytest.raises(TimeOver):
            Loop(tmp_path, [recorded(tmp_path, "3a", time_is_over)]).run(server.base_url)
        sent = len(server.requests)
        again = Loop(tmp_path, [recorded(tmp_path, "3a", time_is_over)])
        assert again.run(server.base_url).number == TURNS
    assert sent == 4
    assert len({request.raw for request in server.requests}) == len(server.requests) == TURNS + 1
    assert set(looked(tmp_path).values()) == {1}
    assert [turn["kept"] for turn in again.told("turn")] == [True] * 4 + [False] * 3
    assert Counter(call["kept"] for call in again.told("tool")) == {True: 7, False: 5}


def test_a_loop_that_has_ended_costs_nothing_the_second_time(tmp_path: Path) -> None:
    with openai_chat(script) as server:
        for _ in range(2):
            Loop(tmp_path, [recorded(tmp_path, "", None)]).run(server.base_url)
    assert len(server.requests) == TURNS + 1
    assert set(looked(tmp_path).values()) == {1}


@pytest.mark.parametrize("given", [r'{"place": "\ud800"}', '{"place": "home", "depth": NaN}'])
def test_arguments_that_fit_in_no_file_are_kept_and_replayed_as_what_does(tmp_path: Path, given: str) -> None:
    loop = Loop(tmp_path, [recorded(tmp_path, "", None)])
    with openai_chat([calls(("look", given)), hands_in(4)]) as server:
        first = loop.run(server.base_url)
        assert loop.run(server.base_url) == first
    assert len(server.requests) == 2


def test_a_result_that_is_half_on_disk_is_made_again(tmp_path: Path) -> None:
    with openai_chat(script) as server:
        loop = Loop(tmp_path, [recorded(tmp_path, "", None)])
        loop.run(server.base_url)
        handle = loop.told("tool")[-1]["handle"]
        file = tmp_path / "tools" / f"{handle}.json"
        file.write_bytes(file.read_bytes()[:20])
        Loop(tmp_path, loop.tools).run(server.base_url)
    assert ToolOutputs(tmp_path / "tools", 100).kept(handle) is not None
    assert max(looked(tmp_path).values()) == 2


def test_bookings_that_a_power_cut_took_are_booked_again(tmp_path: Path) -> None:
    """They reach the disk a little later than the answers that they pay for."""
    from graph.bookings import BudgetMeter  # not above: the processes of this module's other tests start sooner

    database = Database.open(tmp_path / "postgrad.db")
    budget = Budget(database, "run", Limits(usd=10, llm_tokens=10**6))
    meter = BudgetMeter(budget, Role.TRAINER, lambda: None)
    with openai_chat(script) as server:
        Loop(tmp_path, [recorded(tmp_path, "", None)]).run(server.base_url, meter=meter)
        spent = budget.spent().llm_tokens
        assert spent == 120 * (TURNS + 1)
        database.execute("DELETE FROM bookings")
        Loop(tmp_path, [recorded(tmp_path, "", None)]).run(server.base_url, meter=meter)
    assert budget.spent().llm_tokens == spent
    assert len(server.requests) == TURNS + 1


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.agents.loops import Loop
from tests.agents.test_loop_replay import recorded
folder = Path(sys.argv[1])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
print(Loop(folder, [recorded(folder, sys.argv[3], die)]).run(sys.argv[2]).number)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fatal", ["2b", "5a"])
def test_a_loop_that_was_killed_replays(tmp_path: Path, fatal: str) -> None:
    with openai_chat(script) as server:
        command = [sys.executable, "-c", KILLED, str(tmp_path), server.base_url, fatal]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none"}
        killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
        assert again.stdout.decode() == f"{TURNS}\n", again.stderr.decode()
    assert len({request.raw for request in server.requests}) == len(server.requests) == TURNS + 1
    # What ran beside the fatal call may have had no time to reach the disk.
    twice = {place for place, times in looked(tmp_path).items() if times > 1}
    assert twice <= {f"{fatal[0]}a", f"{fatal[0]}b"}
