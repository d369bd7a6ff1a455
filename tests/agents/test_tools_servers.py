"""MCP servers as tools, over real pipes and real HTTP: what they are given, what they say, and how they fail."""

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

from agents.tools import servers
from agents.tools.offer import LONGEST_DESCRIPTION, LONGEST_NAME, name_of, parameters_of
from agents.tools.servers import Server, server_of, stop_servers
from postgrad import doctor
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain
from shared_memory.settings import load_settings
from shared_memory.tool_servers import ToolServer
from tests.postgrad.test_cli import wait_until

SERVER = Path(__file__).parents[1] / "servers" / "mcp_server.py"
CANARY = "hf_CaNaRyCaNaRyCaNaRyCaNaRy99"

Open = Callable[..., Server]


@pytest.fixture(autouse=True)
def _tokens_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "book"


@pytest.fixture
def start(tmp_path: Path, book: Path) -> Iterator[Open]:
    """Opens a server by its table; without one, the notebook's program."""

    def make(**table: Any) -> Server:
        if not table.keys() & {"command", "url"}:
            table |= {"command": sys.executable, "args": [str(SERVER), "stdio", str(book)]}
        return server_of("run", "notebook", ToolServer.model_validate(table), tmp_path / "home")

    yield make
    stop_servers("run")


def test_a_program_gets_a_path_a_home_of_its_own_and_what_its_table_names(
    start: Open, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_KEY", "for-the-tracker-1")
    server = start(env={"KEY": "$TRACKER_KEY", "PRICE": "5 $$", "API_KEY": "written-out-in-it"})
    assert server.call("leak", {"name": "HF_TOKEN"}, 20) == "nothing"
    assert server.call("leak", {"name": "KEY"}, 20) == "[redacted]"
    assert server.call("leak", {"name": "API_KEY"}, 20) == "[redacted]"
    assert server.call("leak", {"name": "PRICE"}, 20) == "5 $"
    seen = json.loads((book / "environment.json").read_text())
    assert "canary" not in json.dumps(seen).lower()
    assert seen["KEY"] == "for-the-tracker-1"
    assert seen["PRICE"] == "5 $"
    assert seen["HOME"] == seen["cwd"] == str(tmp_path / "home" / "mcp" / "notebook")
    handed_on = {"LOGNAME", "USER", "SHELL", "TERM", "LC_CTYPE"}
    assert seen.keys() <= {"PATH", "HOME", "LANG", "KEY", "API_KEY", "PRICE", "cwd", *handed_on}


def test_what_it_says_of_its_tools_is_cut_and_its_hints_are_heard(start: Open) -> None:
    listed = {each["tool"]: each for each in start().listing()}
    assert listed["read"]["read_only"]
    assert not listed["write"]["read_only"]
    assert len(listed["read"]["description"]) <= LONGEST_DESCRIPTION + 2
    assert listed["read"]["description"].endswith(" …")
    assert listed["write"]["parameters"]["required"] == ["text"]
    assert [each["tool"] for each in start(tools=["write"]).listing()] == [*listed], "the first table of a run counts"


def test_a_call_that_fails_hangs_or_kills_the_server_is_that_calls_error_and_the_next_one_works(
    start: Open, book: Path
) -> None:
    server = start()
    assert server.call("write", {"text": "one", "config": "an argument of any name"}, 20) == "written: one"
    with pytest.raises(PostgradError, match="the notebook is upside down") as said:
        server.call("fail", {}, 20)
    assert not isinstance(said.value, Uncertain)
    with pytest.raises(Uncertain, match=r"`notebook` gave no answer within 0\.3 s; see \[mcp\.notebook\]"):
        server.call("sleep", {"deaf": True}, 0.3)
    assert server.call("read", {}, 20) == "one"
    with pytest.raises(Uncertain, match=r"ended while it was called \(its last words: the notebook burns\)"):
        server.call("die", {}, 20)
    assert server.call("read", {}, 20) == "one"
    server.stop()
    for pid in (book / "starts").read_text().split():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


@contextmanager
def answering(status: int, location: str = "") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives every request this status: its address, and the headers of what it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({key.lower(): value for key, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def test_a_secret_of_its_own_is_in_no_description_and_no_fault(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    described = start(env={"SAYS_KEY": "written-out-in-it"}).listing()
    told = next(each["description"] for each in described if each["tool"] == "leak")
    assert told == "What the server has in its environment: [redacted]"
    stop_servers("run")
    with answering(401) as (address, _), pytest.raises(Unavailable, match="401 Unauthorized") as fault:
        start(url=f"{address}/in-the-address-1?key=in-the-address-1").listing()
    assert "in-the-address-1" not in str(fault.value)
    assert "in-the-address-1" not in repr(ToolServer(url=f"{address}/in-the-address-1"))
    stop_servers("run")
    monkeypatch.setenv("WIKI_PASS", "for-the-wiki-1\n")
    with answering(401) as (address, _), pytest.raises(Unavailable, match="Illegal header value") as fault:
        start(url=address, headers={"X-Pass": "$WIKI_PASS"}).listing()
    assert "for-the-wiki-1" not in str(fault.value)


def test_the_log_of_what_it_prints_does_not_grow_for_ever(
    start: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LONGEST_LOG", 100)
    server, log = start(), tmp_path / "home" / "mcp" / "notebook.log"
    server.listing()
    with log.open("a") as printed:
        printed.write("x" * 1000)
    with pytest.raises(Uncertain, match=r"\(its last words: the notebook burns\)"):
        server.call("die", {}, 20)
    assert log.stat().st_size < 100


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"command": "/no/such/program"}, "could not be reached: [Errno 2] No such file"),
        ({"command": "/bin/false"}, "could not be reached"),
        ({"url": "http://127.0.0.1:9/mcp"}, "could not be reached"),
        ({"env": {"KEY": "$NOT_SET_ANYWHERE"}}, "`env` needs NOT_SET_ANYWHERE, which is not set; export it"),
        ({"env": {"KEY": "5 $"}}, "has a $ that begins no name; write $$"),
        ({"tools": ["red"]}, "has no tool `red`; it has read, write"),
    ],
)
def test_a_server_that_cannot_be_used_says_why_in_one_line(start: Open, table: dict[str, Any], told: str) -> None:
    with pytest.raises(PostgradError) as error:
        start(**table).listing()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_says_nothing_is_left_alone_after_a_while(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 0.3)
    with pytest.raises(Unavailable, match=r"said nothing within 0\.3 s"):
        start(command="/bin/sleep", args=["30"]).listing()


@pytest.fixture
def over_http(book: Path) -> Iterator[str]:
    """The address of the notebook over HTTP."""
    command = [sys.executable, str(SERVER), "http", str(book)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield url
        process.terminate()


def reached(server: Server) -> bool:
    try:
        return bool(server.listing())
    except Unavailable:
        return False


def test_an_address_gets_the_headers_of_its_table_and_none_of_ours(
    start: Open, over_http: str, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_KEY", "for-the-tracker-1")
    server = start(url=over_http, headers={"Authorization": "Bearer $TRACKER_KEY"})
    wait_until(lambda: reached(server))
    server.call("headers", {}, 20)
    (sent,) = [json.loads(line) for line in (book / "headers.jsonl").read_text().splitlines()]
    assert sent["authorization"] == "Bearer for-the-tracker-1"
    assert "canary" not in json.dumps(sent).lower()
    assert server.call("write", {"text": "over http"}, 20) == "written: over http"
    with pytest.raises(Uncertain):
        server.call("sleep", {}, 0.3)
    assert server.call("read", {"word": "http"}, 20) == "over http"


def test_its_headers_follow_no_redirect_to_another_place(start: Open) -> None:
    unreached = pytest.raises(Unavailable, match="could not be reached")
    with answering(500) as (elsewhere, heard), answering(307, f"{elsewhere}/mcp") as (here, seen), unreached:
        start(url=f"{here}/mcp", headers={"X-Key": "for-the-tracker-1"}).listing()
    assert [sent["x-key"] for sent in seen] == ["for-the-tracker-1"]
    assert heard == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('mcp = "x"', "`mcp` holds tables"),
        ("[mcp.a__b]\ncommand = 'x'", "`mcp.a__b` is no name for a server"),
        ("[mcp.a]\nargs = ['x']", "`mcp.a`: give it a `command` or a `url`, one of them"),
        ("[mcp.a]\ncommand = 'x'\nurl = 'http://h/mcp'", "one of them"),
        ("[mcp.a]\nurl = 'http://h/mcp'\nenv = {A = 'secret'}", "`args` and `env` belong to a `command`"),
        ("[mcp.a]\ncommand = 'x'\nheaders = {A = 'secret'}", "`headers` belong to a `url`"),
        ("[mcp.a]\nurl = 'file:///x'", "`url` is the http address of a server"),
        ("[mcp.a]\nurl = 'https://me:secret@h/mcp'", "a `url` without a password"),
        ("[mcp.a]\nurl = 'https://secret@h/mcp'", "a `url` without a password or a user"),
        ("[mcp.a]\ncomand = 'x'", "`mcp.a.comand`: Extra inputs"),
        ("[mcp.a]\ncommand = 'x'\nroles = ['cook']", "`mcp.a.roles.0`: Input should be 'researcher'"),
        ("[mcp.a]\ncommand = 'x'\ntimeout = 0", "`mcp.a.timeout`"),
    ],
)
def test_a_mistake_in_its_table_is_one_line_that_names_the_place_and_no_secret(
    home: Path, text: str, told: str
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text + "\n")
    with pytest.raises(BadInput) as error:
        load_settings()
    assert told in str(error.value)
    assert "config.toml" in str(error.value)
    assert "secret" not in str(error.value)


def test_settings_are_shown_without_the_secrets_of_its_table(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[mcp.a]\ncommand = 'x'\nenv = {A = 'my-secret'}\n")
    assert load_settings().mcp["a"].env == {"A": "my-secret"}
    assert "my-secret" not in repr(load_settings())


def test_doctor_starts_the_servers_and_says_what_they_have(home: Path, book: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(
        f'[mcp.notebook]\ncommand = "{sys.executable}"\nargs = ["{SERVER}", "stdio", "{book}"]\n'
        'tools = ["read", "write"]\n[mcp.gone]\ncommand = "/no/such/program"\n'
    )
    found, fault = [check for check in doctor.examine(load_settings()) if check["name"] == "tools"]
    assert (found["status"], found["detail"]) == ("ok", "notebook__read, notebook__write (asks)")
    assert fault["status"] == "warning"
    assert "`gone` could not be reached" in fault["detail"]
    assert fault["advice"] == "see [mcp.gone] in config.toml"


def test_names_and_schemas_are_made_fit_for_every_provider() -> None:
    assert name_of("a", "b.c/d") == "a__b_c_d"
    assert len(name_of("a", "b" * 100)) == LONGEST_NAME
    wordy = {"type": "object", "properties": {"description": {"type": "string", "description": "x" * 9000}}}
    assert parameters_of(wordy) == {"type": "object", "properties": {"description": {"type": "string"}}}
    with pytest.raises(ValueError, match="longer than"):
        parameters_of({"type": "object", "properties": {"a": {"enum": ["x" * 9000]}}})
    with pytest.raises(ValueError, match="no JSON object"):
        parameters_of({"type": "string"})
