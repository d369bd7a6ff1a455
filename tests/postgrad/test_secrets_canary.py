"""Secrets of whoever runs postgrad, looked for in a whole run: on disk, in requests, in the processes it starts."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import postgrad
from postgrad.decide import Request as Asked
from postgrad.report.write import write_report
from postgrad.summary import summarise
from shared_memory.database import Database
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.servers.openai_chat import Fault, Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says

pytestmark = [pytest.mark.usefixtures("noop_jobs"), pytest.mark.slow]

CLAIM = "small numbers are quick"
"""Of the one finding in the library that these tests have."""
SAVED = "hf_" + "SaVeDcAnArY" * 3 + "7"
CANARIES = {
    "HF_TOKEN": "hf_" + "cAnArY0123" * 3 + "wxyz",
    "OPENAI_API_KEY": "sk-canary-1234567890abcdefghij",
    "AWS_SECRET_ACCESS_KEY": "canary/" + "aB3+" * 8 + "x",
    "GITHUB_TOKEN": "ghp_" + "cAnArY0123" * 3 + "abcdef",
    "WANDB_API_KEY": "ca4a7" * 8,
    "MISTRAL_API_KEY": "no-shape.of its/own+canary",
}


def forms() -> Iterator[str]:
    """What would give a canary away."""
    for value in (SAVED, *CANARIES.values()):
        yield from {
            value,
            json.dumps(value)[1:-1],
            urllib.parse.quote(value, safe=""),
            value[::-1],
            value.encode().hex(),
        }
        for before in ("", "u:", "us:"):
            yield base64.b64encode(f"{before}{value}".encode()).decode().rstrip("=")[4:-4]


@contextmanager
def processes_watched(home: Path) -> Iterator[dict[str, str]]:
    """Command line → variables of every process that has this home among them, as it is started and seen."""
    seen: dict[str, str] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command and command not in seen:
                        variables = (process / "environ").read_bytes().decode(errors="replace")
                        if str(home) in command + variables:
                            seen[command] = variables

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@pytest.fixture(autouse=True)
def _canaries(recipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe()
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    login = tmp_path_factory.mktemp("login")
    monkeypatch.setenv("HF_HOME", str(login))
    (login / "token").write_text(SAVED)


@pytest.fixture
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training rows of the person's; some hold the canaries, as a page does that somebody pasted a log into."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    said = [f"it answered {value}" for value in (SAVED, *CANARIES.values())]
    said += [base64.b64encode(f"user:{value}".encode()).decode() for value in CANARIES.values()]
    replies = [f"The answer to {number} is {number * number}." for number in range(80)] + said
    lines = [json.dumps({"prompt": f"Question {n}: and now?", "completion": text}) for n, text in enumerate(replies)]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_no_secret_is_found_on_disk_in_a_request_or_in_a_process_of_a_whole_run(
    make_goal: MakeGoal, settings: Settings, rows: Path
) -> None:
    looked, told = set(), []
    token, shapeless = CANARIES["HF_TOKEN"], CANARIES["MISTRAL_API_KEY"]

    def script(request: Request) -> Reply:
        move = facts_in(request)["move"]
        asked = {tool["function"]["name"] for tool in request.body.get("tools", ())}
        if "run_python" in asked and move not in looked:  # what a tool gives back holds them, too
            looked.add(move)
            code = f"print({token[:9]!r} + {token[9:]!r})\nprint({shapeless[:5]!r} + {shapeless[5:]!r})"
            # A server knows the key that it was sent.
            return Says(
                f"{CANARIES['OPENAI_API_KEY']} came with this. I look.", calls=(("run_python", {"code": code}),)
            )
        if move == "data" and "busy" not in looked:
            looked.add("busy")
            return Fault(500, f"upstream failed for key {CANARIES['OPENAI_API_KEY']}", type="server_error")
        reply = playbook_says(request)
        if move == "draft":
            reply.content["plans"][0]["why"] = f"{token} and {shapeless} say so"
        return reply

    def decide(requests: Sequence[Asked]) -> Mapping[str, Any]:
        return {each["digest"]: {"approved": True, "reason": f"yes, with {token}; {shapeless}"} for each in requests}

    with openai_chat(script) as server, processes_watched(settings.home) as processes:
        path = make_goal(
            experiments=2, generator="", data=f'["{rows}"]', text=f"toy goal, log in as {SAVED}", approve="ask"
        )
        goal = path.read_text() + f'[brain]\ndefault = "openai/gpt-4o"\napi_base = "{server.base_url}"\n'
        path.write_text(goal.replace("usd = 0", "usd = 5").replace("[data]", '[data]\nsynthesise = "never"'))
        summary = postgrad.run(path, decide=decide, on_event=told.append)

    assert summary["status"] == "succeeded", summary
    assert looked >= {"research", "data", "busy"}
    given_away = list(forms())
    assert "words" in {event.kind for event in told}
    assert not [event for event in told if any(form in repr(event) for form in given_away)]
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {CANARIES['OPENAI_API_KEY']}", "its own key, and no other's"
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        sent = request.raw + json.dumps(request.body, ensure_ascii=False) + json.dumps(headers)
        assert not [form for form in given_away if form in sent]
    files = [file for file in settings.home.rglob("*") if file.is_file()]
    assert len(files) > 50
    assert {"postgrad.db", "events.jsonl", "report.html", "report.json", "log.txt"} <= {file.name for file in files}
    found = {str(file): form for file in files for form in given_away if form.encode() in file.read_bytes()}
    assert not found
    assert not [form for form in given_away if form in json.dumps(summary, ensure_ascii=False)]
    for program in ("supervise.py", "config.json", "bwrap"):
        assert [command for command in processes if program in command], f"no process of {program} was seen"
    assert not [form for form in given_away if any(form in command + each for command, each in processes.items())]


def test_what_has_become_a_secret_since_is_in_no_report_that_is_written_anew(
    make_goal: MakeGoal, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "a phrase that nobody takes for a token"
    run_id = postgrad.run(make_goal(experiments=1, text=said))["run_id"]
    db, paths = Database.open(settings.database), settings.run_paths(run_id)
    pages = (paths.report_html, paths.report_md, paths.report_json, paths.goal)
    assert all(said in page.read_text() for page in pages)
    assert CLAIM in paths.report_json.read_text()
    assert said in json.dumps(summarise(settings, db, run_id))
    monkeypatch.setenv("SOMEBODYS_PASSWORD", said)
    monkeypatch.setenv("ANOTHER_PASSWORD", CLAIM)
    write_report(settings, db, run_id)
    assert not [page for page in pages if said in page.read_text() or CLAIM in page.read_text()]
    assert said not in json.dumps(summarise(settings, db, run_id))
