"""What a turn of a role's loop costs beyond a bare call of the model; overhead.py prints it.

One turn is all between two calls of a tool: its result goes back, the conversation is kept within the window, redacted,
metered in the run's own database and put on disk, and the model's answer comes in. In the middle of every call of the
tool, the request that led to it is sent once more by a bare `litellm.completion` to the same server: each turn is
paired with a bare call of the same bytes, a moment apart. `create_agent` over ChatLiteLLM is measured the same way.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TURNS = 40
MODEL = "openai/gpt-4o"
SYSTEM = "You are the trainer of a team that post-trains language models. You plan experiments. " * 12
TASK = "Find out why e3 diverged, and propose one change. Facts: " + '{"lr":0.0002,"loss":[2.1,1.9,7.4]},' * 120
LOG = "step {step}: loss 1.93 grad_norm 0.81 lr 0.0002 tokens 81920 memory 61.2 GiB\n"
BARE = "bare"
"""In the header of a bare call."""


def measure_turns(folder: Path, rounds: int = 5) -> dict[str, object]:
    """Milliseconds of a turn beyond the bare call that it is paired with: the median of all, and of each round's."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    from agents.provider import load_litellm
    from tests.servers.openai_chat import Request, Says, openai_chat

    load_litellm()
    last: list[Request] = []

    def script(request: Request) -> Says:
        if BARE not in request.headers:
            last[:] = [request]
        said = sum(message["role"] == "assistant" for message in request.messages)
        if said < TURNS:
            return Says("", calls=(("read_log", {"experiment": f"e{said}"}),))
        return Says("", calls=(("hand_in", {"change": "lr 1e-4", "why": "it diverged"}),))

    with openai_chat(script) as server:
        loops: dict[str, Callable[[Any, Path], None]] = {"ours": _ours(server), "create_agent": _create_agent(server)}
        for name, loop in loops.items():  # imports, connections, caches
            loop(Pairs(server.base_url, last).tool(), folder / f"{name}-warm")
        pairs = {name: Pairs(server.base_url, last) for name in loops}
        medians: dict[str, list[float]] = {name: [] for name in loops}
        for number in range(rounds):
            for name, loop in loops.items():
                begun = len(pairs[name].over)
                loop(pairs[name].tool(), folder / f"{name}-{number}")
                medians[name].append(round(statistics.median(pairs[name].over[begun:]), 1))
    every_bare = [bare for each in pairs.values() for bare in each.bare]
    return {
        "turns measured": len(pairs["ours"].over),
        "bare litellm call (ms)": _ms(every_bare),
        "a turn of ours beyond it (ms)": _ms(pairs["ours"].over),
        "a turn of ours beyond it, by round (ms)": medians["ours"],
        "create_agent alone beyond it (ms)": _ms(pairs["create_agent"].over),
        "create_agent alone, by round (ms)": medians["create_agent"],
    }


class Pairs:
    """Turns and the bare calls between them."""

    def __init__(self, base_url: str, last: Sequence[Any]) -> None:
        self.bare: list[float] = []
        self.over: list[float] = []
        self._base_url, self._last = base_url, last
        self._left = 0.0

    def tool(self) -> Any:
        """A tool in whose middle the bare call is made."""
        from langchain_core.tools import tool

        self._left = 0.0

        @tool
        def read_log(experiment: str) -> str:
            """The log of an experiment's latest job: losses, warnings, the traceback of a crash."""
            turn = time.perf_counter() - self._left
            bare = self._send()
            if self._left:  # what comes before the first call of the tool is no whole turn
                self.bare.append(1e3 * bare)
                self.over.append(1e3 * (turn - bare))
            log = f"{experiment}\n" + "".join(LOG.format(step=step) for step in range(8))
            self._left = time.perf_counter()
            return log

        return read_log

    def _send(self) -> float:
        import litellm

        body = {**self._last[0].body, "model": MODEL}
        began = time.perf_counter()
        litellm.completion(**body, api_base=self._base_url, extra_headers={BARE: "1"}, max_retries=0)
        return time.perf_counter() - began


def _ours(server: Any) -> Callable[[Any, Path], None]:
    from agents.brain import Role
    from agents.llm import LanguageModel
    from agents.loop import work
    from agents.workbench import Workbench
    from graph.bookings import BudgetMeter
    from shared_memory.budget import Budget
    from shared_memory.database import Database
    from shared_memory.goal import Limits
    from shared_memory.records import Record

    class Change(Record):
        change: str
        why: str

    def conversation(*, call: str = "") -> list[Any]:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]

    def loop(tool: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        budget = Budget(Database.open(folder / "postgrad.db"), "run", Limits(usd=1000, llm_tokens=10**9))
        meter = BudgetMeter(budget, Role.TRAINER, lambda: None)
        model = LanguageModel(MODEL, api_base=server.base_url, cache=folder / "answers", meter=meter)
        bench = Workbench(model, folder / "tools", folder / "library", steps=TURNS + 2)
        work(bench, "trainer", Change, conversation, [tool], lambda change: "")

    return loop


def _create_agent(server: Any) -> Callable[[Any, Path], None]:
    from langchain.agents import create_agent
    from langchain.agents.structured_output import ToolStrategy
    from langchain_litellm import ChatLiteLLM

    words = {"type": "string"}
    schema = {
        "title": "hand_in", "description": "Hand in what you were asked for, and end.", "type": "object",
        "properties": {"change": words, "why": words}, "required": ["change", "why"],
    }  # fmt: skip

    def loop(tool: Any, folder: Path) -> None:
        chat = ChatLiteLLM(model=MODEL, api_base=server.base_url, max_retries=1, max_tokens=8192)
        agent = create_agent(chat, [tool], system_prompt=SYSTEM, response_format=ToolStrategy(schema))
        agent.invoke({"messages": [("user", TASK)]}, {"recursion_limit": 4 * TURNS})

    return loop


def _ms(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 1)
