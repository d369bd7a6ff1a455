"""`postgrad studio` in a process of its own, and a client's thread on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from shared_memory.database import Database
from shared_memory.ledger import Action, Ledger
from shared_memory.runs import RunRow, Runs
from shared_memory.settings import Settings, load_settings
from tests.conftest import NOOP
from tests.postgrad.test_cli import wait_until

STARTS = 120
"""Seconds that a server may take to answer, on a machine that is busy."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """`postgrad studio` in a process of its own, and what it leaves behind in its home."""

    home: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        return load_settings({"POSTGRAD_HOME": str(self.home)})

    @property
    def log(self) -> str:
        return (self.home / "server.log").read_text(encoding="utf-8")

    def start(self) -> None:
        self.home.mkdir(exist_ok=True)
        outside = {"HF_HOME": str(self.home / "hf"), "HF_HUB_OFFLINE": "1"}
        environment = {**os.environ, **outside, "POSTGRAD_HOME": str(self.home), "PYTHONPATH": str(NOOP / "site")}
        environment |= {"POSTGRAD_SMOKE_RUN": "never"}
        command = [sys.executable, "-m", "postgrad", "studio", "--port", str(self.port), "--no-browser"]
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait_until_it_answers(self) -> None:
        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            try:
                return httpx.get(f"{self.url}/ok").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, STARTS)

    def stop(self) -> int:
        """What Ctrl-C does; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def row(self, run_id: str) -> RunRow:
        return Runs(Database.open(self.settings.database)).get(run_id)

    def actions(self, run_id: str) -> list[Action]:
        return list(Ledger(Database.open(self.settings.database), run_id).actions())


@dataclass
class Thread:
    """One thread of a client; `asked` collects what the gate asked, job by job."""

    client: Any
    graph: str
    id: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.id or self.client.threads.create()["thread_id"]

    def start(self, goal: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._run(input=goal, **options)

    def answer(self, answer: Any) -> dict[str, Any]:
        return self._run(command={"resume": answer})

    def go_on_from(self, checkpoint: Any) -> dict[str, Any]:
        return self.approve_all(self._run(input=None, checkpoint=checkpoint))

    def approve_all(self, state: dict[str, Any]) -> dict[str, Any]:
        while "__interrupt__" in state:
            state = self.answer({"approved": True})
        return state

    def _run(self, **what: Any) -> dict[str, Any]:
        """Stream a run to its end or its next question; returns the state, with `__interrupt__` where it waits."""
        state: dict[str, Any] = {}
        modes = ["custom", "values"]
        for part in self.client.runs.stream(self.id, self.graph, stream_mode=modes, stream_subgraphs=True, **what):
            if part.event == "error":
                return {"__error__": part.data}
            if part.event.startswith("custom"):
                self.events.append(part.data)
            if part.event == "values":
                state = part.data
        if "__interrupt__" in state:
            self.asked += state["__interrupt__"][0]["value"]["requests"]
        return state

    @property
    def purposes(self) -> list[str]:
        return [request["purpose"] for request in self.asked]
