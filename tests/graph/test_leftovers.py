"""What is left of a run that cannot simply go on: jobs that nobody has heard of, money that is used up, old records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import postgrad
from agents.jobs.hf.notes import Notes
from agents.jobs.hf.runner import HfRunner
from graph.context import Context
from graph.recover import within_the_consent
from graph.settle import stop_open_jobs
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.goal_reading import read_goal
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.records import Decision, Estimate, Job, JobSpec, Purpose
from shared_memory.runs import Runs
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.graph.test_runs_on_hf import goal, hub_server, server, spent_of  # noqa: F401 - fixtures
from tests.postgrad.test_cli import wait_until
from tests.servers.jobs import JobsServer

pytestmark = pytest.mark.usefixtures("noop_jobs")


def paid(hours: float, usd: float) -> JobSpec:
    return JobSpec(
        purpose=Purpose.TRAINING,
        experiment="e1",
        title="train e1",
        script="job.py",
        files={},
        config={},
        runner="hf",
        flavor="a10g-large",
        timeout_seconds=round(3600 * hours),
        estimate=Estimate(hours=hours, usd_micro=round(usd * 1e6), memory_gib=1.0, basis=""),
    )


def cost(usd: float) -> Job:
    return Job(key="k", spec_digest="s", purpose=Purpose.TRAINING, experiment="e1", usd_micro=round(usd * 1e6))


def test_a_job_whose_submission_was_cut_off_is_waited_for_and_cancelled_with_its_run(
    goal: Callable[..., Path],  # noqa: F811
    server: JobsServer,  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HfRunner, "listing_grace", 30.0)
    db, wanted = Database.open(settings.database), read_goal(goal())
    Runs(db).create("r1", wanted, time.time())
    paths, ledger = settings.run_paths("r1"), Ledger(db, "r1")
    spec = paid(1, 2).model_copy(update={"files": {"job.py": paths.store(b"import time; time.sleep(60)")}})
    ledger.decide(Decision(spec_digest=spec.digest, approved=True, by="person"))
    key = ledger.intend(spec, 1).key
    Budget(db, "r1", wanted.limits).reserve(key, spec.estimate.usd_micro, role="trainer")
    Journal(db, "r1").note("pinned", key, {"spec": spec.plain()})
    HfRunner(paths.jobs, "r1").submit(spec, key, paths.fill_job_folder(key, spec.files, "{}"))
    server.listing_lag = 3  # the process was killed before the answer, and the list is late
    notes = Notes(paths.jobs)
    known = notes.of_key(key)
    assert known is not None
    notes.write(known.model_copy(update={"job_id": "", "submitted": 0.0}))

    stop_open_jobs("r1", Context(home=str(settings.home)))

    assert wait_until(lambda: server.only.stage == "CANCELED")
    assert ledger.open_actions() == ()
    assert spent_of(settings, "r1").held_usd_micro == 0


def test_another_try_takes_what_is_left_of_the_money_and_asks_where_that_is_too_little() -> None:
    first = paid(2, 10)
    second = within_the_consent(first, [first], [cost(1)])
    assert (second.estimate.usd_micro, second.timeout_seconds) == (9_000_000, 6480)
    third = within_the_consent(second, [second, first], [cost(1), cost(1)])
    assert third.estimate.usd_micro == 8_000_000
    assert within_the_consent(paid(4, 20), [first], [cost(10)]) == paid(4, 20), "a longer one is asked for, whole"
    assert within_the_consent(first, [first], [cost(10)]) == first


def an_old_recipe(db: Database, run_id: str) -> None:
    body = json.dumps({"id": "sft", "method": "sft", "beta": 0.1, "packing": False})
    db.execute("INSERT INTO journal (run_id, kind, id, body, at) VALUES (?, 'recipe', 'sft', ?, 0)", (run_id, body))


def an_old_job_on_its_way(db: Database, run_id: str) -> None:
    spec, ledger = paid(1, 0), Ledger(db, run_id)
    ledger.decide(Decision(spec_digest=spec.digest, approved=True, by="person"))
    key = ledger.intend(spec, 1).key
    Journal(db, run_id).note("pinned", key, {"spec": spec.plain()})
    db.execute("UPDATE actions SET spec_digest = 'of fewer fields' WHERE key = ?", (key,))


@pytest.mark.parametrize(("left", "what"), [(an_old_recipe, "Recipe"), (an_old_job_on_its_way, "JobSpec")])
def test_a_run_that_an_older_version_began_is_left_to_that_version_in_one_line(
    make_goal: MakeGoal,
    recipe: Callable[..., None],
    settings: Settings,
    left: Callable[[Database, str], None],
    what: str,
) -> None:
    recipe()
    run_id = postgrad.run(make_goal(approve="ask"), decide=lambda requests: None)["run_id"]
    db = Database.open(settings.database)
    left(db, run_id)
    with suppress(PostgradError):  # its summary cannot be made of what cannot be read
        postgrad.resume(run_id)
    row = Runs(db).get(run_id)
    assert row.status == "failed"
    assert row.error == (
        f"run `{run_id}` was written by another version of postgrad ({what} differs); open it with that version"
    )
