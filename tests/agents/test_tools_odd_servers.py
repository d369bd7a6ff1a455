"""MCP servers that end, forget, chatter or answer strangely: what becomes of a call, and whether it is made again."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents.tools import servers
from agents.tools.connection import waited_for
from agents.tools.offer import Offer, parameters_of
from agents.tools.people import People
from agents.tools.servers import Server, server_of, stop_servers
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain
from shared_memory.settings import Settings
from shared_memory.tool_servers import ToolServer
from tests.agents.test_tools_servers import SERVER, reached
from tests.postgrad.test_cli import wait_until

SCRIPTED = SERVER.with_name("mcp_scripted.py")
ANYTHING = {"type": "object", "properties": {}}


def tool(name: str, schema: dict[str, Any] = ANYTHING, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": schema, **more}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"result": {"content": [{"type": "text", "text": words}], **more}}


def deep(levels: int) -> dict[str, Any]:
    return {"not": deep(levels - 1)} if levels else {"type": "string"}


class Scripted:
    """A server that says what it was told to, and the calls that it heard."""

    def __init__(self, folder: Path, answers: dict[str, Any], **script: Any) -> None:
        path = folder / "script.json"
        path.write_text(json.dumps({"tools": [tool(name) for name in answers], "answers": answers, **script}))
        self._folder, self._calls, self._starts = folder, path.with_suffix(".calls"), path.with_suffix(".starts")
        table = ToolServer(command=sys.executable, args=(str(SCRIPTED), str(path)), env={"OWN_KEY": "only-for-it-1"})
        self.server = server_of("odd", "odd", table, folder)

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()] if self._calls.exists() else []

    @property
    def starts(self) -> list[int]:
        return [int(pid) for pid in self._starts.read_text().split()]

    def release(self) -> None:
        (self._folder / "release").touch()

    def fault(self, name: str, seconds: float = 20) -> PostgradError:
        with pytest.raises(PostgradError) as fault:
            self.server.call(name, {}, seconds)
        return fault.value


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., Scripted]]:
    yield lambda answers, **script: Scripted(tmp_path, answers, **script)
    stop_servers("odd")


def test_every_argument_of_a_call_arrives_whatever_it_is_called(scripted: Callable[..., Scripted]) -> None:
    odd = scripted({"go": text("gone")})
    arguments = {name: name for name in ("runtime", "self", "name", "arguments", "request", "config", "callbacks")}
    assert odd.server.call("go", arguments, 20) == "gone"
    assert odd.heard == [{"name": "go", "arguments": arguments}]


def test_an_answer_of_any_kind_is_told_and_the_server_stays(scripted: Callable[..., Scripted]) -> None:
    sound = {"type": "audio", "data": "QUJD", "mimeType": "audio/wav"}
    page = {"type": "resource", "resource": {"uri": "notes://1", "text": "a page"}}
    scan = {"type": "resource", "resource": {"uri": "notes://2", "blob": "QUJD", "mimeType": "application/pdf"}}
    answers = {
        "say": {"result": {"content": [sound, page, scan]}},
        "count": {"result": {"content": [], "structuredContent": {"notes": 3}}},
        "sulk": {"result": {"content": [], "isError": True}},
        "refuse": {"error": {"code": -32000, "message": "the note is locked"}},
        "dream": {"result": {"content": [{"type": "hologram"}]}},
        "go": text("gone"),
    }
    odd = scripted(answers)
    assert odd.server.call("say", {}, 20) == "[audio, audio/wav]\na page\n[file, application/pdf]"
    assert odd.server.call("count", {}, 20) == '{"notes": 3}'
    for name, told in {"sulk": "says that it failed, and not why", "refuse": "the note is locked"}.items():
        assert told in str(fault := odd.fault(name))
        assert not isinstance(fault, Uncertain), "it says itself that it was not done"
    assert isinstance(fault := odd.fault("dream"), Uncertain)
    assert "gave an answer that is none" in str(fault)
    assert odd.server.call("go", {}, 20) == "gone"
    assert len(odd.starts) == 1, "none of this is a reason to start it anew"


def test_what_a_server_prints_beside_its_messages_ends_nothing_and_is_not_repeated_by_us(
    scripted: Callable[..., Scripted], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = scripted({"go": text("gone")}, noise="starting with only-for-it-1 \xff\xfe\n[1]\n")
    with caplog.at_level(logging.DEBUG):
        assert odd.server.call("go", {}, 20) == "gone"
    assert "only-for-it-1" not in caplog.text + "".join(capfd.readouterr())


def test_a_server_that_ended_while_nobody_called_is_started_again_and_called_once(
    scripted: Callable[..., Scripted],
) -> None:
    odd = scripted({"go": text("gone")})
    assert odd.server.call("go", {}, 20) == "gone"
    os.kill(odd.starts[0], signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{odd.starts[0]}").exists())
    for _ in range(20):  # rounds of the loop that hears of its end: before that, a call may be on its way to it
        waited_for(asyncio.sleep(0.01), 20)
    assert odd.server.call("go", {}, 20) == "gone"
    assert (len(odd.starts), len(odd.heard)) == (2, 2)


def test_a_server_that_ends_during_a_call_is_not_called_again(scripted: Callable[..., Scripted]) -> None:
    odd = scripted({"die": None})
    assert isinstance(odd.fault("die"), Uncertain)
    assert len(odd.heard) == 1


def test_a_call_that_hears_nothing_takes_no_other_call_with_it(scripted: Callable[..., Scripted]) -> None:
    odd = scripted({"mute": "", "late": {"after": "release", **text("at last")}, "go": text("gone")})
    said: list[str] = []
    slow = threading.Thread(target=lambda: said.append(odd.server.call("late", {}, 20)))
    assert odd.server.call("go", {}, 20) == "gone"
    slow.start()
    wait_until(lambda: len(odd.heard) == 2)
    assert "gave no answer within 0.2 s" in str(odd.fault("mute", 0.2))
    odd.release()
    slow.join(20)
    assert said == ["at last"]
    assert odd.server.call("go", {}, 20) == "gone"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "object", "properties": None}, "None is not of type 'object'"),
        ({"type": "object", "properties": {"a": {"type": "colour"}}}, "'colour' is not valid"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/gone"}}}, "points nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.org/a.json"}}}, "points nowhere"),
        ({"type": "object", "$schema": ["draft-07"]}, "the schema of its arguments is none"),
        ({"type": "object", "$id": 7}, "the schema of its arguments is none"),
        ({"type": "object", "properties": {"a": deep(180)}}, "the schema of its arguments is none"),
    ],
)
def test_a_schema_that_a_provider_would_refuse_costs_the_server_and_not_the_run(
    scripted: Callable[..., Scripted], schema: dict[str, Any], told: str
) -> None:
    odd = scripted({}, tools=[tool("good"), tool("odd", schema)])
    with pytest.raises(BadInput, match="the tool `odd` of the MCP server `odd` cannot be used") as fault:
        odd.server.listing()
    assert told in str(fault.value)


def test_nothing_that_a_schema_points_at_is_fetched() -> None:
    socket.setdefaulttimeout(1)  # of whoever would ask there: nobody answers
    try:
        with socket.create_server(("127.0.0.1", 0)) as elsewhere:
            elsewhere.setblocking(False)
            where = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/a.json"
            schema = parameters_of({"type": "object", "properties": {"a": {"$dynamicRef": where}}})
            offer = Offer("odd__go", "odd", "", schema, False, lambda arguments, seconds: "")
            assert not offer.misfit_of({"a": 1})
            with pytest.raises(BlockingIOError):
                elsewhere.accept()
    finally:
        socket.setdefaulttimeout(None)


def test_calls_side_by_side_of_a_server_that_does_not_start_all_say_that_they_were_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 0.5)
    table = ToolServer(command="/bin/sleep", args=("30",))
    server = server_of("odd", "silent", table, tmp_path)
    with ThreadPoolExecutor(14) as threads:
        faults = list(threads.map(lambda _: fault_of(server), range(14)))
    stop_servers("odd")
    assert {type(fault) for fault in faults} == {Unavailable}


def test_threads_that_ask_for_the_first_time_together_share_one_event_loop() -> None:
    program = """if True:
        import asyncio, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        from agents.tools.connection import waited_for

        async def here():
            return id(asyncio.get_running_loop())

        def ask(together):
            together.wait()
            return waited_for(here(), 5)

        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(16) as threads:
            print(len(set(threads.map(ask, [threading.Barrier(16)] * 16))))
    """
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "1\n"


def test_what_it_says_of_its_arguments_is_cut_and_without_its_secret(scripted: Callable[..., Scripted]) -> None:
    said = "a key such as only-for-it-1\U000e0041\n" + "and more " * 90
    schema = {"type": "object", "properties": {"key": {"type": "string", "description": said}}}
    (listed,) = scripted({}, tools=[tool("odd", schema)]).server.listing()
    shown = listed["parameters"]["properties"]["key"]["description"]
    assert shown.startswith("a key such as [redacted] and more")
    assert len(shown) < 620


def test_a_tool_that_was_taken_out_of_the_table_is_gone_though_the_tools_of_a_run_stay_what_they_were(
    scripted: Callable[..., Scripted], settings: Settings
) -> None:
    pinned = {"tools": scripted({"go": text("gone"), "stop": text("done")}).server.listing()}
    for chosen, names in {(): ["odd__go", "odd__stop"], ("go",): ["odd__go"]}.items():
        home = settings.model_copy(update={"mcp": {"odd": ToolServer(command="odd", tools=chosen)}})
        assert [*People("odd", home, lambda name, find_out: pinned, print).offers()] == names


@pytest.mark.slow
def test_servers_that_hear_nothing_are_ended_side_by_side(tmp_path: Path) -> None:
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n"
    table = ToolServer(command=sys.executable, args=("-c", deaf))
    servers = [server_of("deaf", f"deaf{n}", table, tmp_path) for n in range(3)]
    threads = [threading.Thread(target=reached, args=(server,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    children = wait_until(lambda: len(found := deaf_ones()) == 3 and found)
    began = time.monotonic()
    stop_servers("deaf")
    assert time.monotonic() - began < 12
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def fault_of(server: Server) -> PostgradError:
    with pytest.raises(PostgradError) as fault:
        server.call("go", {}, 0.5)
    return fault.value


def deaf_ones() -> list[int]:
    """Processes of this one that hear nothing."""
    return [each.pid for each in psutil.Process().children() if "SIG_IGN" in " ".join(each.cmdline())]
