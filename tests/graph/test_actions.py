"""Tools that change something outside: asked for by a role, done after the gate, once, and told in later briefs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import postgrad
from postgrad.approval import ApprovalPrompt
from postgrad.decide import Request as Asked
from postgrad.decide import approve_all
from shared_memory.actions import Actions
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.lease import holder
from shared_memory.ledger import Ledger
from shared_memory.records import Job, Purpose
from shared_memory.settings import Settings
from tests.agents.people_tools import install
from tests.conftest import NOOP, MakeGoal
from tests.postgrad.test_cli import COMMAND, only_run, wait_until
from tests.servers.openai_chat import Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says, words_in

pytestmark = pytest.mark.usefixtures("noop_jobs", "notebook")

SERVER = Path(__file__).parents[1] / "servers" / "mcp_server.py"
NOTE = ("notebook__write", {"text": "training begins"})


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Where the notebook's server keeps what it saw."""
    return tmp_path / "notebook"


@pytest.fixture
def notebook(home: Path, book: Path, recipe: Callable[..., None]) -> None:
    """A home whose roles have a notebook, of which only the trainer knows."""
    recipe()
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'[mcp.notebook]\ncommand = "{sys.executable}"\nargs = ["{SERVER}", "stdio", "{book}"]\nroles = ["trainer"]\n'
        "unattended = true\n"
    )


def goal_of(make_goal: MakeGoal, base_url: str, **values: Any) -> Path:
    path = make_goal(**{"experiments": 1, **values})
    path.write_text(f'{path.read_text()}[brain]\ndefault = "openai/a-model"\napi_base = "{base_url}"\n')
    return path


def is_first_turn(request: Request) -> bool:
    return len(request.messages) == 2


def asks(*calls: tuple[str, dict[str, Any]], on: str = "draft") -> Callable[[Request], Reply]:
    """A model that calls these tools when it first plans an experiment, and otherwise answers as the playbook does."""

    def script(request: Request) -> Reply:
        if facts_in(request)["move"] == on and is_first_turn(request):
            return Says("", calls=calls)
        return playbook_says(request)

    return script


def notes(book: Path) -> list[str]:
    return (book / "notes").read_text().splitlines() if (book / "notes").exists() else []


def journal_of(settings: Settings, summary: Mapping[str, Any]) -> Journal:
    return Journal(Database.open(settings.database), summary["run_id"])


def test_an_action_is_done_after_the_gate_and_its_answer_is_told_in_later_briefs(
    make_goal: MakeGoal, settings: Settings, book: Path
) -> None:
    asked: list[Asked] = []

    def decide(requests: Sequence[Asked]) -> Mapping[str, Any]:
        asked.extend(requests)
        assert notes(book) == [] or not any(each["purpose"] == "action" for each in requests)
        return approve_all(requests)

    with openai_chat(asks(NOTE)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="ask", experiments=2), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    (request,) = [each for each in asked if each["purpose"] == "action"]
    assert request["title"] == "call notebook__write (the MCP server notebook) for the trainer"
    assert request["config"]["arguments"] == {"text": "training begins"}
    assert '"text": "training begins"' in request["script_text"]
    assert notes(book) == ["training begins"]
    draft = [each for each in server.requests if facts_in(each)["move"] == "draft"]
    assert "asked for as action a1, and not done yet" in draft[1].raw
    assert "actions" not in words_in(draft[0])
    later = [words_in(each)["actions"] for each in server.requests if facts_in(each)["move"] == "improve"]
    assert later
    assert "was done; it answered: written: training begins" in later[0]["a1"]
    database = Database.open(settings.database)
    (job,) = [each for each in journal_of(settings, summary).all(Job).values() if each.purpose is Purpose.ACTION]
    decision = Ledger(database, summary["run_id"]).decision(job.spec_digest)
    assert decision is not None
    assert (decision.by, decision.approved) == ("person", True)
    assert "notebook__write" in Path(summary["report"]).read_text(encoding="utf-8")


def test_a_person_is_shown_the_tool_its_server_and_the_arguments(make_goal: MakeGoal) -> None:
    shown = io.StringIO()
    prompt = ApprovalPrompt(Console(file=shown, width=120), lambda: "q", lambda text, suffix: None)

    def decide(requests: Sequence[Asked]) -> Mapping[str, Any] | None:
        actions = [each for each in requests if each["purpose"] == "action"]
        return prompt.ask(actions) if actions else approve_all(requests)

    calls = ("notebook__write", {"text": "training \x1b[2Jbegins"})
    with openai_chat(asks(calls)) as server:
        assert postgrad.run(goal_of(make_goal, server.base_url, approve="ask"), decide=decide)["status"] == "waiting"
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert "calls notebook__write" in lines
    assert "of the MCP server notebook" in lines
    assert "with text training begins" in lines
    assert "a yes covers this call, once; its answer is waited for up to 1 min 00 s" in lines


@pytest.mark.slow
def test_the_researcher_has_a_door_too(make_goal: MakeGoal, home: Path, book: Path, settings: Settings) -> None:
    config = home / "config.toml"
    config.write_text(config.read_text().replace('["trainer"]', '["researcher"]'))
    with openai_chat(asks(NOTE, on="research")) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
    assert summary["status"] == "succeeded", summary["error"]
    assert notes(book) == ["training begins"]
    told = [words_in(each)["actions"]["a1"] for each in server.requests if facts_in(each)["move"] == "draft"]
    assert "it answered: written: training begins" in told[0]


def test_where_nobody_is_asked_only_what_its_owner_has_let_go_unattended_is_done(
    make_goal: MakeGoal, home: Path, book: Path, settings: Settings
) -> None:
    config = home / "config.toml"
    config.write_text(config.read_text().replace("unattended = true\n", ""))
    with openai_chat(asks(NOTE)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="auto", experiments=2))

    assert summary["status"] == "succeeded", summary["error"]
    assert notes(book) == []
    told = [words_in(each)["actions"]["a1"] for each in server.requests if facts_in(each)["move"] == "improve"]
    assert "notebook__write of the MCP server notebook is not marked `unattended`" in told[0]


def test_a_no_leaves_it_undone_and_the_role_learns_why(make_goal: MakeGoal, settings: Settings, book: Path) -> None:
    def decide(requests: Sequence[Asked]) -> Mapping[str, Any]:
        return {
            each["digest"]: {"approved": each["purpose"] != "action", "reason": "not in my notebook"}
            for each in requests
        }

    with openai_chat(asks(NOTE)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="ask", experiments=2), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    assert notes(book) == []
    told = [words_in(each)["actions"]["a1"] for each in server.requests if facts_in(each)["move"] == "improve"]
    assert told[0].endswith("was not done: it was refused: not in my notebook")
    assert Actions(journal_of(settings, summary)).open() == []


def test_under_paid_it_is_asked_about_and_under_auto_it_is_done_and_on_record(
    make_goal: MakeGoal, settings: Settings, book: Path
) -> None:
    with openai_chat(asks(NOTE)) as server:
        waits = postgrad.run(goal_of(make_goal, server.base_url, approve="paid"))
        assert (waits["status"], notes(book)) == ("waiting", [])

        done = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
    assert done["status"] == "succeeded", done["error"]
    assert notes(book) == ["training begins"]
    (job,) = [each for each in journal_of(settings, done).all(Job).values() if each.purpose is Purpose.ACTION]
    decision = Ledger(Database.open(settings.database), done["run_id"]).decision(job.spec_digest)
    assert decision is not None
    assert (decision.by, decision.reason) == ("policy", "approve = auto")
    assert done["spent"]["jobs"] == 6, "an action takes none of the jobs"


@pytest.mark.slow
def test_what_is_edited_at_the_gate_is_what_is_done_and_nothing_but_the_arguments_can_be(
    make_goal: MakeGoal, settings: Settings, book: Path
) -> None:
    seen: list[Asked] = []

    def decide(requests: Sequence[Asked]) -> Mapping[str, Any]:
        answers: dict[str, Any] = {}
        for each in requests:
            answers[each["digest"]] = {"approved": True}
            if each["purpose"] == "action":
                seen.append(each)
                config = {"arguments": {"text": "calmer words"}} if len(seen) == 1 else {}
                if config:
                    answers[each["digest"]] = {"edit": {"config": {**each["config"], **config}}}
        return answers

    with openai_chat(asks(NOTE)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="ask"), decide=decide)
    assert summary["status"] == "succeeded", summary["error"]
    assert notes(book) == ["calmer words"]
    assert "calmer words" in seen[1]["script_text"]

    seen.clear()

    def another_tool(requests: Sequence[Asked]) -> Mapping[str, Any]:
        actions = [each for each in requests if each["purpose"] == "action"]
        edits = {e["digest"]: {"edit": {"config": {**e["config"], "tool": "notebook__die"}}} for e in actions}
        return {**approve_all(requests), **edits}

    with openai_chat(asks(NOTE)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="ask"), decide=another_tool)
    assert summary["status"] == "succeeded", summary["error"]
    outcome = Actions(journal_of(settings, summary)).outcomes()["a1"]
    assert "only the `arguments` of an action can be edited" in outcome.text
    assert notes(book) == ["calmer words"]


@pytest.mark.slow
def test_a_tool_that_only_reads_is_called_in_the_loop_and_one_that_is_called_wrongly_is_not_asked_for(
    make_goal: MakeGoal, settings: Settings, book: Path
) -> None:
    calls = (("notebook__read", {}), ("notebook__write", {"txt": "x"}), ("notebook__fail", {}))
    with openai_chat(asks(*calls)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
    assert summary["status"] == "succeeded", summary["error"]
    second = [each for each in server.requests if facts_in(each)["move"] == "draft"][1]
    answers = [message["content"] for message in second.messages if message["role"] == "tool"]
    assert "there are no notes" in answers[0]
    assert "notebook__write needs `text`" in answers[1]
    assert "the notebook is upside down" in answers[2]
    assert Actions(journal_of(settings, summary)).outcomes() == {}
    first = next(each for each in server.requests if facts_in(each)["move"] == "draft")
    offered = {tool["function"]["name"] for tool in first.body["tools"]}
    assert {"notebook__read", "notebook__write", "run_python", "look_up"} <= offered
    baseline = next(each for each in server.requests if facts_in(each)["move"] == "baseline")
    assert "notebook__read" not in baseline.raw, "only the trainer was given the notebook"


def test_the_server_and_the_model_see_no_token_of_ours(
    make_goal: MakeGoal, settings: Settings, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "hf_CaNaRyCaNaRyCaNaRyCaNaRy99"
    monkeypatch.setenv("HF_TOKEN", canary)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")
    calls = (("notebook__leak", {"name": "HF_TOKEN"}), ("notebook__write", {"text": f"the token is {canary}"}))
    with openai_chat(asks(*calls)) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
    assert summary["status"] == "succeeded", summary["error"]
    seen = (book / "environment.json").read_text()
    assert "canary" not in seen.lower()
    assert json.loads(seen)["HOME"] == str(settings.home / "mcp" / "notebook")
    assert notes(book) == ["the token is [redacted]"]
    written = b"".join(
        file.read_bytes() for folder in (settings.home, book) for file in folder.rglob("*") if file.is_file()
    )
    answers = [file for file in settings.run_paths(summary["run_id"]).answers.iterdir() if canary in file.read_text()]
    assert written.count(canary.encode()) == sum(file.read_text().count(canary) for file in answers), (
        "the model made it up itself: only what it said keeps it"
    )


@pytest.mark.slow
def test_the_server_ends_with_the_run(make_goal: MakeGoal, book: Path) -> None:
    with openai_chat(asks(("notebook__read", {}))) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
    assert summary["status"] == "succeeded", summary["error"]
    (pid,) = map(int, (book / "starts").read_text().split())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.slow
def test_a_server_that_is_not_there_is_a_line_and_no_dead_run(
    make_goal: MakeGoal, settings: Settings, home: Path
) -> None:
    (home / "config.toml").write_text('[mcp.gone]\ncommand = "/no/such/program"\n')
    with openai_chat(playbook_says) as server:
        summary = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
    assert summary["status"] == "succeeded", summary["error"]
    events = settings.run_paths(summary["run_id"]).events.read_text()
    assert events.count("the MCP server `gone` could not be reached") == 1


def killed_while(make_goal: MakeGoal, settings: Settings, base_url: str, until: Callable[[], bool]) -> str:
    """A run whose worker was killed as soon as `until` holds."""
    path = goal_of(make_goal, base_url, approve="auto")
    with subprocess.Popen([*COMMAND, "run", str(path), "--detach"], stdout=subprocess.DEVNULL):
        wait_until(until, 120)
        run = only_run(settings)
        os.kill(wait_until(lambda: holder(Database.open(settings.database), run)).pid, signal.SIGKILL)
    wait_until(lambda: holder(Database.open(settings.database), run) is None, 60)
    return run


GONE = """
import json, os, shutil
from pathlib import Path
from langchain_core.tools import tool

BEGUN = Path({begun!r})

@tool
def post(text: str) -> str:
    "Post a text."
    BEGUN.write_text(BEGUN.read_text() + text if BEGUN.exists() else text)
    for kept in Path(os.environ["POSTGRAD_HOME"]).glob("runs/*/jobs/*/begun"):
        shutil.rmtree(kept.parent)
    return "posted"

post.metadata = {{"unattended": True}}
"""


@pytest.mark.slow
def test_what_an_action_kept_of_itself_may_be_lost_and_it_is_not_done_again(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "posted"
    install(tmp_path / "site", monkeypatch, "tools_that_wipe", {"wipe": "post"}, GONE.format(begun=str(begun)))
    with openai_chat(asks(("wipe__post", {"text": "hello"}))) as server:
        stopped = postgrad.run(goal_of(make_goal, server.base_url, approve="auto"))
        assert stopped["status"] == "failed"
        assert begun.read_text() == "hello"
        summary = postgrad.resume(stopped["run_id"])

    assert summary["status"] == "succeeded", summary["error"]
    assert begun.read_text() == "hello"
    outcome = Actions(journal_of(settings, summary)).outcomes()["a1"]
    assert outcome.state == "unknown"
    assert "is gone; it is not done again" in outcome.text


@pytest.mark.slow
def test_an_action_that_was_begun_when_the_worker_was_killed_is_unknown_and_never_done_again(
    make_goal: MakeGoal, settings: Settings, book: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(NOOP / "site"))
    monkeypatch.setenv("NOOP_RECIPES", str(tmp_path / "recipes.toml"))
    book.mkdir()
    (book / "wait").touch()
    with openai_chat(asks(NOTE)) as server:
        run = killed_while(make_goal, settings, server.base_url, lambda: bool(notes(book)))
        (book / "wait").unlink()
        summary = postgrad.resume(run)

    assert summary["status"] == "succeeded", summary["error"]
    assert notes(book) == ["training begins"], "once, though nobody heard the answer"
    outcome = Actions(journal_of(settings, summary)).outcomes()["a1"]
    assert outcome.state == "unknown"
    assert "it may have been done, and is not done again: look at the MCP server notebook" in outcome.text


DIES = """
import os, signal, sys
import postgrad
from agents.tools.actions import ActionRunner

real = ActionRunner.{method}
def dies(self, *given):
    {before}
    os.kill(os.getpid(), signal.SIGKILL)
ActionRunner.{method} = dies
postgrad.run(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "before"),
    [("submit", "pass"), ("submit", "real(self, *given)"), ("go_on", "pass"), ("_write", "pass"),
     ("tell", "real(self, *given)")],
)  # fmt: skip
def test_a_worker_killed_around_an_action_does_it_once_when_the_run_goes_on(
    make_goal: MakeGoal, settings: Settings, book: Path, tmp_path: Path, method: str, before: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(NOOP / "site"), "NOOP_RECIPES": str(tmp_path / "recipes.toml")}
    with openai_chat(asks(NOTE)) as server:
        path = goal_of(make_goal, server.base_url, approve="auto")
        program = DIES.format(method=method, before=before)
        killed = subprocess.run(
            [sys.executable, "-c", program, str(path)], env=environment, capture_output=True, timeout=120
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        asked = len(server.requests)
        assert len(notes(book)) == (1 if method == "tell" else 0)
        summary = postgrad.resume("last")

    assert summary["status"] == "succeeded", summary["error"]
    assert notes(book) == ["training begins"]
    assert Actions(journal_of(settings, summary)).outcomes()["a1"].state == "done"
    again = [facts_in(each)["move"] for each in server.requests[asked:]]
    assert "draft" not in again, "what was answered is not asked again"
