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

import postgrad as package
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
    "confirm": (("compare_scores", {"baseline": "baseline", "candidate": "{experiment}"}),),
}
"""What the model looks up for a move before it proposes what the playbook would."""


class Curious:
    """A model that looks things up, several at once, and then proposes."""

    def __init__(self, nap_seconds: float = 0.0) -> None:
        self.nap_seconds = nap_seconds

    def __call__(self, request: Request) -> Reply:
        if "Choose one entry of `allowed`" in request.said:
            return Says({"choice": 1, "why": "as the rules would"})
        facts = facts_in(request)
        looks = LOOKS.get(facts["move"], ())
        if any(message["role"] == "tool" for message in request.messages) or not looks:
            return playbook_says(request)
        filled = {"{seconds}": str(self.nap_seconds), "{experiment}": facts["experiment"]}
        calls = [(name, {key: _filled(value, filled) for key, value in given.items()}) for name, given in looks]
        return Says("", calls=tuple(calls))


def _filled(value: str, words: dict[str, str]) -> str:
    for place, word in words.items():
        value = value.replace(place, word)
    return value


def shown_in(request: Request) -> list[str]:
    """What tools gave back, as the model is shown it."""
    return [message["content"] for message in request.messages if message["role"] == "tool"]


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
        programs = settings.run_paths(run_id).tools / "scratch"
        approved = 0
        killed = False
        while told.returncode == 3:
            approved += 1
            if not killed and approved == 1:  # the baseline's job; then come the researcher and the data engineer
                postgrad(server, "approve", run_id, "--detach", "--json")
                # The program is running: the model's answer that calls it is on disk, and the call's result is not.
                wait_until(lambda: any(programs.glob("*/*.py")), 240)
                lease = wait_until(lambda: holder(Database.open(settings.database), run_id))
                os.kill(lease.pid, signal.SIGKILL)
                killed, asked = True, len(server.requests)
                told = postgrad(server, "resume", run_id, "--json")
                assert len(server.requests) > asked
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
    assert any(event["kept"] for event in events if event["kind"] == "turn"), "an answer came from the disk"
    tools = {event["name"]: event for event in events if event["kind"] == "tool"}
    assert {"search_papers", "run_python", "read_training_script", "look_up"} <= tools.keys()
    assert not any(event["error"] for event in events if event["kind"] == "tool")
    spent = summary["spent"]
    assert spent["llm_tokens"] > 0
    assert spent["usd"] > 0
    assert {"researcher", "trainer"} <= spent["by_role"].keys()
    assert "openai/gpt-4o" in Path(summary["report"]).read_text()
    trained = list(settings.run_paths(run_id).jobs.glob("*/out/adapter/adapter_model.safetensors"))
    assert trained, "a real model was trained"


@pytest.mark.slow
@pytest.mark.usefixtures("noop_jobs", "outside")
def test_each_of_the_four_minds_has_used_a_tool_of_its_own_before_the_better_model_is_confirmed(
    make_goal: MakeGoal, settings: Settings, recipe: Any
) -> None:
    recipe()
    with openai_chat(Curious()) as server:
        path = make_goal(experiments=2, usd=5)
        path.write_text(f'{path.read_text()}[brain]\ndefault = "openai/gpt-4o"\napi_base = "{server.base_url}"\n')
        summary = package.run(path)
    assert summary["status"] == "succeeded", summary["error"]
    assert summary["outcome"] == "improved"
    called = [event for event in events_of(settings, summary["run_id"]) if event["kind"] == "tool"]
    assert not [event for event in called if event["error"]]
    assert {(event["role"], event["name"]) for event in called} >= {
        ("researcher", "search_papers"), ("data_engineer", "run_python"), ("trainer", "read_training_script"),
        ("evaluator", "compare_scores"),
    }  # fmt: skip
    compared = [text for request in server.requests for text in shown_in(request) if '"delta":' in text]
    assert compared, "the evaluator's model has read how the two differ"
    found = json.loads(compared[-1].split("\n")[1])
    assert found["n"] == 25
    assert found["delta"] > 0
    assert found["ci_low"] <= found["delta"] <= found["ci_high"]
