"""A whole run that language models drive, role by role, with tools and approvals, from the command line to a report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import COMMAND, wait_until
from tests.servers.literature import literature
from tests.servers.openai_chat import ChatServer, Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says

NAPS = "import time\nprint('begun', flush=True)\ntime.sleep({seconds})\nprint(6 * 7)\n"
LOOKS = {
    "research": (("search_papers", {"query": "small models"}), ("look_up", {"what": "recipes"})),
    "data": (("run_python", {"code": NAPS}),),
    "draft": (("read_training_script", {"file": "rewards.py"}), ("look_up", {"what": "datasets"})),
}
"""What the model looks up for a move before it proposes what the playbook would."""


class Curious:
    """A model that looks things up, several at once, and then proposes."""

    def __init__(self, nap_seconds: float = 0.0) -> None:
        self.nap_seconds = nap_seconds

    def __call__(self, request: Request) -> Reply:
        if "Choose one entry of `allowed`" in request.said:
            return Says({"choice": 1, "why": "as the rules would"})
        looks = LOOKS.get(facts_in(request)["move"], ())
        if any(message["role"] == "tool" for message in request.messages) or not looks:
            return playbook_says(request)
        calls = [(name, {key: self._value(value) for key, value in given.items()}) for name, given in looks]
        return Says("", calls=tuple(calls))

    def _value(self, value: str) -> str:
        return value.replace("{seconds}", str(self.nap_seconds))


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Any:
    with literature() as services:
        services.point_client_at(monkeypatch)
        yield services


def postgrad(server: ChatServer, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-for-the-model-0123456789"},
    )  # fmt: skip


def events_of(settings: Settings, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in settings.run_paths(run_id).events.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_minds_train_a_model_with_approvals_and_a_kill_in_the_middle_of_a_loop_costs_no_request(
    make_goal: MakeGoal, settings: Settings, outside: Any
) -> None:
    goal = make_goal(experiments=1, approve="ask", usd=5)
    mind = Curious(nap_seconds=10)
    with openai_chat(mind) as server:
        told = postgrad(server, "run", goal, "--brain", "openai/gpt-4o", "--json")
        assert told.returncode == 3, told.stderr
        run_id = json.loads(told.stdout)["run_id"]
        approved = 0
        killed = False
        while told.returncode == 3:
            approved += 1
            if not killed and approved == 1:  # the baseline's job; then come the researcher and the data engineer
                postgrad(server, "approve", run_id, "--detach", "--json")
                scratch = settings.run_paths(run_id).tools
                wait_until(lambda: _naps(server), 240)
                lease = wait_until(lambda: holder(Database.open(settings.database), run_id))
                os.kill(lease.pid, signal.SIGKILL)
                killed, asked = True, len(server.requests)
                told = postgrad(server, "resume", run_id, "--json")
                assert len(server.requests) > asked
                assert scratch.is_dir()
            else:
                told = postgrad(server, "approve", run_id, "--json")
        bodies = Counter(request.raw for request in server.requests)

    summary = json.loads(told.stdout)
    assert told.returncode == 0, told.stderr
    assert summary["status"] == "succeeded"
    gates = [event for event in events_of(settings, run_id) if event["kind"] == "gate"]
    assert approved == len(gates) >= 4
    assert {event["by"] for event in gates} == {"person"}
    assert sum(len(event["requests"]) for event in gates) == summary["spent"]["jobs"], "every job was asked about"
    assert max(bodies.values()) == 1, "no request was sent twice"
    events = events_of(settings, run_id)
    assert {event["role"] for event in events if event["kind"] == "turn"} >= {
        "researcher", "data_engineer", "trainer", "evaluator",
    }  # fmt: skip
    tools = {event["name"]: event for event in events if event["kind"] == "tool"}
    assert {"search_papers", "run_python", "read_training_script", "look_up"} <= tools.keys()
    assert not any(tools[name]["error"] for name in ("search_papers", "look_up", "read_training_script"))
    spent = summary["spent"]
    assert spent["llm_tokens"] > 0
    assert spent["usd"] > 0
    assert {"researcher", "trainer"} <= spent["by_role"].keys()
    assert "openai/gpt-4o" in Path(summary["report"]).read_text()
    trained = list(settings.run_paths(run_id).jobs.glob("*/out/adapter/adapter_model.safetensors"))
    assert trained, "a real model was trained"


def _naps(server: ChatServer) -> bool:
    """Whether the data engineer's scratch program is running."""
    return any(facts_in(request)["move"] == "data" for request in list(server.requests) if "# Facts" in request.said)
