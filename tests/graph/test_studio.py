"""The graph behind LangGraph's own server, driven over HTTP as Studio does, with a tiny model and real jobs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client

from shared_memory.database import Database
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import wait_until


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "postgrad", "studio", "--port", str(port), "--no-browser"]
    log = (tmp_path / "server.log").open("wb")
    with subprocess.Popen(command, env={**os.environ}, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(url), 120)
            yield url
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)
            log.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.timeout(600)
def test_a_goal_is_approved_over_http_and_driven_to_its_end(
    server: str, make_goal: MakeGoal, settings: Settings
) -> None:
    goal = tomllib.loads(make_goal(approve="ask", experiments=1).read_text())
    with get_sync_client(url=server) as client:
        thread = client.threads.create()["thread_id"]
        state: Any = client.runs.wait(thread, "postgrad", input=goal)
        asked: list[str] = []
        while "__interrupt__" in state:
            request = state["__interrupt__"][0]["value"]
            asked += [job["purpose"] for job in request["requests"]]
            assert request["run_id"] == thread
            state = client.runs.wait(thread, "postgrad", command={"resume": {"approved": True}})
        assert client.threads.get_state(thread)["next"] == []

    assert state["status"] == "succeeded", state.get("error")
    assert asked[:4] == ["evaluation", "generation", "training", "evaluation"]
    row = Runs(Database.open(settings.database)).get(thread)
    assert (row.status, row.driver) == ("succeeded", "studio")


def test_the_goal_is_studios_form(server: str) -> None:
    with get_sync_client(url=server) as client:
        (assistant,) = client.assistants.search()
        schema: Any = client.assistants.get_schemas(assistant["assistant_id"])
        drawn: Any = client.assistants.get_graph(assistant["assistant_id"], xray=True)

    assert {"text", "base_model", "data", "benchmark", "limits", "run"} <= schema["input_schema"]["properties"].keys()
    names = {node["id"] for node in drawn["nodes"]}
    assert {"router", "trainer_propose", "trainer_carry_out", "jobs:gate", "jobs:watch", "verdict"} <= names
