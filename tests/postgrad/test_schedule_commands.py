"""`postgrad schedule`, against the Jobs API's stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from huggingface_hub import HfApi
from typer.testing import CliRunner

from postgrad import attach
from postgrad.schedule_commands import app
from shared_memory.errors import BadInput, Uncertain
from shared_memory.ledger import Ledger
from shared_memory.records import Purpose
from tests.jobs.conformance import eventually
from tests.postgrad.a_run import ARun, a_spec, new_run
from tests.servers.hub import Fails, hub, point_client_at
from tests.servers.jobs import JobsServer, hf_jobs

Call = Callable[..., Result]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    with hub() as hub_server, hf_jobs(hub_server, tmp_path / "containers") as served:
        point_client_at(hub_server, monkeypatch, tmp_path / "hf")
        yield served


@pytest.fixture
def run(home: Path) -> ARun:
    """A run with a job that was pinned."""
    run = new_run(home)
    spec = a_spec(Purpose.EVALUATION, "baseline")
    spec = spec.model_copy(update={"files": {spec.script: run.paths.store(b"print('scored')\n")}})
    run.journal.note("pinned", "k" * 32, {"spec": spec.plain(), "packages": {}})
    return run


@pytest.fixture
def schedule() -> Call:
    def call(*words: str, answer: str = "") -> Result:
        return CliRunner().invoke(app, words, input=answer)

    return call


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "can_ask", lambda: True)


CREATE = ("create", "last", "--schedule", "@weekly", "--flavor", "a10g-large", "--hours", "2")


def decisions(run: ARun) -> list[tuple[str, str]]:
    return [(decision.by, decision.reason) for decision in Ledger(run.db, run.run_id).decisions()]


def test_without_a_terminal_nothing_is_scheduled_before_it_was_approved(
    run: ARun, server: JobsServer, schedule: Call
) -> None:
    waiting = schedule(*CREATE, "--json")
    assert waiting.exit_code == 3
    assert "--approve schedules it without asking" in waiting.stderr
    told = json.loads(waiting.stdout)
    assert (told["status"], told["usd_per_run"], told["schedule"]) == ("waiting", 3.0, "@weekly")
    assert not server.scheduled
    assert not server.hub.repos
    assert decisions(run) == []


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_what_will_run_and_what_a_run_may_cost_and_the_yes_is_on_record(
    run: ARun, server: JobsServer, schedule: Call
) -> None:
    refused = schedule(*CREATE, answer="n\n")
    assert isinstance(refused.exception, BadInput)
    assert not server.scheduled
    made = schedule(*CREATE, answer="y\n")
    assert made.exit_code == 0, made.output
    assert "at most $3.00 a run (2 h 00 min on a10g-large), paid by anna, until it is deleted" in made.stderr
    ((id, job),) = server.scheduled.items()
    assert made.stdout.splitlines()[-1] == f"anna/{id}"
    assert json.dumps(job["jobSpec"]["command"]) in made.stderr
    assert (job["schedule"], job["jobSpec"]["timeoutSeconds"], job["jobSpec"]["flavor"]) == (
        "@weekly", 7200, "a10g-large",
    )  # fmt: skip
    assert decisions(run) == [("person", "postgrad schedule create @weekly")]
    assert run.journal.notes("scheduled")[f"anna/{id}"]["schedule"] == "@weekly"


def test_what_was_scheduled_runs_and_every_run_keeps_its_own_output(
    run: ARun, server: JobsServer, schedule: Call
) -> None:
    assert schedule(*CREATE, "--approve").exit_code == 0
    assert schedule(*CREATE, "--approve").exit_code == 0, "the same again is no second one"
    (job,) = server.scheduled.values()
    HfApi().trigger_scheduled_job(scheduled_job_id=job["id"], namespace="anna")
    assert eventually(lambda: server.only.finished)
    assert server.only.stage == "COMPLETED", server.only.lines
    repo = server.hub.dataset(f"anna/postgrad-{run.run_id}")
    (log,) = [path for path in repo.head.files if path.endswith("/log.txt")]
    key, time, _ = log.split("/")
    assert key == job["jobSpec"]["labels"]["postgrad"]
    assert time.endswith("Z")
    assert repo.head.files[log].content == b"scored\n"


def test_scheduled_jobs_are_listed_suspended_resumed_and_deleted(run: ARun, server: JobsServer, schedule: Call) -> None:
    assert schedule("list").stderr == "nothing is scheduled\n"
    server.hub.orgs["acme"] = frozenset({"anna"})
    id = schedule(*CREATE, "--approve", "--namespace", "acme").stdout.strip()
    assert id.startswith("acme/")
    assert json.loads(schedule("list", "--json").stdout) == []
    (job,) = json.loads(schedule("list", "--namespace", "acme", "--json").stdout)
    assert (job["id"], job["run"], job["suspended"], job["flavor"]) == (id, run.run_id, False, "a10g-large")
    assert job["next_run"] == "2026-12-01T00:00:00+00:00"
    assert json.loads(schedule("suspend", id, "--json").stdout) == {"id": id, "status": "suspended"}
    assert "suspended" in schedule("list", "--namespace", "acme").stdout
    schedule("resume", id)
    assert "suspended" not in schedule("list", "--namespace", "acme").stdout
    schedule("delete", id)
    assert not server.scheduled
    assert isinstance(schedule("delete", id).exception, BadInput)


@pytest.mark.usefixtures("run")
def test_what_cannot_be_scheduled_is_refused_with_the_next_move(server: JobsServer, schedule: Call) -> None:
    for words, fault in (
        (("--schedule", "every day"), "is no schedule; write five cron fields"),
        (("--flavor", "a10g-huge"), "there is no flavor `a10g-huge`; choose one of cpu-basic, a10g-large"),
        (("--hours", "-1"), "give more than 0"),
        (("--job", "e9"), "has no job `e9`; its jobs belong to: baseline"),
    ):
        refused = schedule(*CREATE, *words, "--approve")
        assert isinstance(refused.exception, BadInput)
        assert fault in str(refused.exception)
    assert not server.scheduled


@pytest.mark.usefixtures("run")
def test_a_schedule_whose_answer_got_lost_is_found_when_it_is_created_again(server: JobsServer, schedule: Call) -> None:
    server.hub.trouble("POST /api/scheduled-jobs/anna$", Fails(502, afterwards=True))
    assert isinstance(schedule(*CREATE, "--approve").exception, Uncertain)
    ((id, _),) = server.scheduled.items()
    assert schedule(*CREATE, "--approve").stdout.strip() == f"anna/{id}"
    assert len(server.scheduled) == 1
