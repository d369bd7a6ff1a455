"""MCP servers at an address that forget, refuse or send elsewhere: whether a call was made, and is made again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.tools.servers import Server, server_of, stop_servers
from shared_memory.errors import PostgradError, Unavailable, Uncertain
from shared_memory.tool_servers import ToolServer
from tests.agents.test_tools_odd_servers import tool
from tests.agents.test_tools_servers import SERVER, answering, reached
from tests.postgrad.test_cli import wait_until
from tests.servers.mcp_scripted import answer_to


@pytest.fixture
def over_http(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts the notebook over HTTP, each time at the same address; gives a context that ends it."""
    port: list[str] = ["0"]

    @contextmanager
    def serving() -> Iterator[Server]:
        command = [sys.executable, str(SERVER), "http", str(tmp_path / "book"), port[0]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            port[0] = url.split(":")[2].split("/")[0]
            server = server_of("odd", "book", ToolServer(url=url), tmp_path)
            wait_until(lambda: reached(server_of("probe", "book", ToolServer(url=url), tmp_path)))
            stop_servers("probe")
            try:
                yield server
            finally:
                process.kill()

    yield serving
    stop_servers("odd")


@pytest.mark.slow
def test_an_address_that_has_forgotten_the_session_is_called_anew_and_one_that_is_gone_was_not_called(
    over_http: Callable[[], Any], tmp_path: Path
) -> None:
    with over_http() as server:
        assert server.call("write", {"text": "one"}, 20) == "written: one"
    with pytest.raises(Unavailable, match="could not be reached") as fault:
        server.call("write", {"text": "two"}, 20)
    assert not isinstance(fault.value, Uncertain)
    with over_http():
        assert server.call("write", {"text": "three"}, 20) == "written: three"
    with over_http():
        assert server.call("write", {"text": "four"}, 20) == "written: four"
    assert (tmp_path / "book" / "notes").read_text().split() == ["one", "three", "four"]


@contextmanager
def calls_end_with(status: int, location: str = "") -> Iterator[tuple[str, threading.Event, list[str]]]:
    """A server whose tools end with this status, `late` when it is let go: its address, how to, and the calls."""
    released, heard = threading.Event(), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if asked["method"] != "tools/call":
                said = answer_to(asked, {"tools": [tool("go"), tool("late")]})
                return self.say(200 if "id" in asked else 202, {"jsonrpc": "2.0", "id": asked.get("id"), **said})
            heard.append(asked["params"]["name"])
            if heard[-1] == "late":
                released.wait(20)
            return self.say(status, {})

        def say(self, status: int, body: dict[str, Any]) -> None:
            told = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/mcp", released, heard
        finally:
            released.set()
            stop_servers("odd")
            server.shutdown()


@pytest.mark.parametrize(("status", "is_open"), [(401, False), (500, True), (307, True)])
def test_a_call_that_an_address_refuses_was_not_made_and_after_any_other_end_nobody_knows(
    status: int, is_open: bool, tmp_path: Path
) -> None:
    with answering(500) as (elsewhere, seen), calls_end_with(status, f"{elsewhere}/mcp") as (url, _, heard):
        table = ToolServer(url=url, headers={"X-Key": "for-the-tracker-1"})
        with pytest.raises(PostgradError, match=str(status) if status != 307 else "not followed") as fault:
            server_of("odd", "odd", table, tmp_path).call("go", {}, 20)
    assert isinstance(fault.value, Uncertain) == is_open
    assert heard == ["go"]
    assert seen == [], "its headers stay where they belong"


def test_what_became_of_one_call_says_nothing_of_another_in_flight(tmp_path: Path) -> None:
    faults: list[PostgradError] = []

    def call(name: str) -> None:
        with pytest.raises(PostgradError) as fault:
            server.call(name, {}, 20)
        faults.append(fault.value)

    with calls_end_with(401) as (url, _, heard):
        server = server_of("odd", "odd", ToolServer(url=url), tmp_path)
        server.listing()
        late = threading.Thread(target=call, args=("late",))
        late.start()
        wait_until(lambda: heard == ["late"])
        call("go")
        late.join(20)
    assert [isinstance(fault, Uncertain) for fault in faults] == [True, True]
    assert heard == ["late", "go"], "and is no reason to call that one again"
