"""A role's loop that is ended between two requests: by the clock, by a person, or because the run is parked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from postgrad import api
from shared_memory.database import Database
from shared_memory.lease import holder
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import Cli, cli, only_run, wait_until  # noqa: F401 - a fixture
from tests.servers.openai_chat import Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says

LOOK = Says("I look at the log first", calls=(("read_log", {"experiment": "e1"}),))


def with_mind(path: Path, base_url: str) -> Path:
    goal = path.read_text() + f'[brain]\ndefault = "openai/gpt-4o"\napi_base = "{base_url}"\n'
    path.write_text(goal.replace("usd = 0", "usd = 5"))
    return path


def at_the_first_turn(move: str, do: Callable[[], None]) -> tuple[Callable[[Request], Reply], list[Request]]:
    """A script that does something while the trainer's first request for a move waits, and the requests for it."""
    asked: list[Request] = []

    def script(request: Request) -> Reply:
        if facts_in(request)["move"] != move:
            return playbook_says(request)
        asked.append(request)
        if len(asked) > 1:
            return playbook_says(request)
        do()
        return LOOK

    return script, asked


@pytest.fixture
def _small_recipe(recipe: Any) -> None:
    recipe()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")


@pytest.mark.usefixtures("noop_jobs", "_small_recipe")
@pytest.mark.parametrize(("how", "status"), [("cancel", "cancelled"), ("time", "timed_out")])
def test_a_loop_ends_before_its_next_request_and_the_best_model_is_delivered(
    make_goal: MakeGoal, settings: Settings, how: str, status: str
) -> None:
    def end() -> None:
        if how == "cancel":
            api.cancel(settings, only_run(settings))
        else:
            Runs(Database.open(settings.database)).add_active_seconds(only_run(settings), 3590)

    script, asked = at_the_first_turn("improve", end)
    with openai_chat(script) as server:
        summary = postgrad.run(with_mind(make_goal(experiments=3), server.base_url))
    assert summary["status"] == status, summary
    assert len(asked) == 1, "nothing is sent after that"
    assert summary["champion"]["experiment"] == "e1"
    assert Path(summary["champion"]["model"]).is_dir()
    assert [entry["id"] for entry in summary["experiments"]] == ["e1"]


@pytest.mark.slow
def test_a_worker_parked_in_the_middle_of_a_loop_goes_on_from_its_answers(
    cli: Cli,  # noqa: F811
    make_goal: MakeGoal,
    settings: Settings,
) -> None:
    waits, released = threading.Event(), threading.Event()

    def hold() -> None:
        waits.set()
        released.wait(60)

    script, asked = at_the_first_turn("draft", hold)
    with openai_chat(script) as server:
        assert cli("run", with_mind(make_goal(experiments=1), server.base_url), "--detach").returncode == 0
        run_id = only_run(settings)
        db = Database.open(settings.database)
        assert waits.wait(60)
        lease = holder(db, run_id)
        assert lease is not None
        os.kill(lease.pid, signal.SIGTERM)
        time.sleep(0.5)  # for the signal to arrive while the model is still thinking
        released.set()
        wait_until(lambda: holder(db, run_id) is None)
        assert Runs(db).get(run_id).status == "interrupted"
        assert len(asked) == 1, "the loop has ended before its second request"

        assert cli("resume", run_id).returncode == 0
        assert Runs(db).get(run_id).status == "succeeded"
    bodies = [request.raw for request in server.requests]
    assert len(set(bodies)) == len(bodies), "no request is sent twice"
    assert len(asked) == 2
    assert asked[1].messages[-2]["tool_calls"], "it goes on behind the call of the tool"
