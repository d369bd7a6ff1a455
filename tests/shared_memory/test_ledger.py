from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import shared_memory
from shared_memory.database import Database
from shared_memory.errors import Conflict
from shared_memory.ledger import ActionState, Ledger
from shared_memory.records import Decision, Envelope, Estimate, Job, JobSpec, JobState, Purpose, submission_key

ROOT = Path(shared_memory.__file__).parents[1]
SPEC = JobSpec(
    purpose=Purpose.TRAINING,
    experiment="e1",
    title="train e1",
    script="train.py",
    files={"train.py": "abc"},
    config={"seed": 0},
    timeout_seconds=60,
    estimate=Estimate(hours=0.1, usd_micro=0, memory_gib=1.0, basis="guess"),
)
CONSENT = Decision(spec_digest=SPEC.digest, approved=True, by="person")
REFUSAL = Decision(spec_digest=SPEC.digest, approved=False, by="person", reason="too long")


@pytest.fixture
def ledger(db: Database) -> Ledger:
    return Ledger(db, "r1")


def job(key: str, state: JobState = JobState.SUCCEEDED) -> Job:
    return Job(key=key, spec_digest=SPEC.digest, purpose=SPEC.purpose, experiment="e1", backend_id="pid-7", state=state)


def test_nothing_is_intended_without_consent_to_exactly_that_spec(ledger: Ledger) -> None:
    with pytest.raises(Conflict, match="`train e1` is not approved"):
        ledger.intend(SPEC, 1)
    ledger.decide(CONSENT)
    edited = SPEC.model_copy(update={"files": {"train.py": "edited"}})
    with pytest.raises(Conflict, match="is not approved"):
        ledger.intend(edited, 1)
    ledger.decide(REFUSAL)
    with pytest.raises(Conflict, match="was refused"):
        ledger.intend(SPEC, 1)
    assert ledger.actions() == ()


def test_another_runs_consent_does_not_count(db: Database, ledger: Ledger) -> None:
    Ledger(db, "r2").decide(CONSENT)
    with pytest.raises(Conflict, match="is not approved"):
        ledger.intend(SPEC, 1)


def test_decisions_only_grow_and_the_latest_counts(ledger: Ledger) -> None:
    first = ledger.decide(CONSENT)
    assert first.at > 0
    assert ledger.decide(CONSENT) == first
    assert ledger.decide(first) == first
    ledger.decide(REFUSAL)
    wider = ledger.decide(CONSENT.model_copy(update={"envelope": Envelope(attempts=2), "at": 5.0}))
    assert [decision.approved for decision in ledger.decisions()] == [True, False, True]
    assert ledger.decision(SPEC.digest) == wider
    assert ledger.decision("unseen") is None


def test_an_intention_is_written_once_per_submission_key(ledger: Ledger) -> None:
    ledger.decide(CONSENT)
    action = ledger.intend(SPEC, 1)
    assert action.key == submission_key("r1", SPEC, 1)
    assert action.state is ActionState.INTENDED
    ledger.submitted(action.key, "pid-7")
    again = ledger.intend(SPEC, 1)
    assert (again.state, again.backend_id) == (ActionState.SUBMITTED, "pid-7")
    assert ledger.actions() == (again,)


@pytest.mark.parametrize("leave", ["intended", "submitted", "unknown"])
def test_the_next_attempt_waits_until_the_last_one_is_over(ledger: Ledger, leave: str) -> None:
    ledger.decide(CONSENT)
    first = ledger.intend(SPEC, 1)
    if leave == "submitted":
        ledger.submitted(first.key, "pid-7")
    if leave == "unknown":
        ledger.unknown(first.key)
    with pytest.raises(Conflict, match=f"attempt 1 at `train e1` is still {leave}"):
        ledger.intend(SPEC, 2)
    assert [action.key for action in ledger.open_actions()] == [first.key]

    ledger.finished(first.key, job(first.key, JobState.FAILED))
    second = ledger.intend(SPEC, 2)
    assert second.key != first.key
    assert ledger.last_attempt(SPEC) == second
    assert [action.attempt for action in ledger.actions()] == [1, 2]
    assert ledger.open_actions() == (second,)


def test_an_unknown_submission_that_turns_up_is_adopted(ledger: Ledger) -> None:
    ledger.decide(CONSENT)
    key = ledger.intend(SPEC, 1).key
    assert ledger.unknown(key).state is ActionState.UNKNOWN
    assert ledger.submitted(key, "pid-7").state is ActionState.SUBMITTED


def test_a_job_under_two_backend_ids_is_a_conflict(ledger: Ledger) -> None:
    ledger.decide(CONSENT)
    key = ledger.intend(SPEC, 1).key
    ledger.submitted(key, "pid-7")
    assert ledger.submitted(key, "pid-7").backend_id == "pid-7"
    with pytest.raises(Conflict, match="pid-7 and as pid-8"):
        ledger.submitted(key, "pid-8")


def test_what_is_over_stays_over(ledger: Ledger) -> None:
    ledger.decide(CONSENT)
    key = ledger.intend(SPEC, 1).key
    ended = ledger.finished(key, job(key))
    assert (ended.state, ended.backend_id, ended.job) == (ActionState.TERMINAL, "pid-7", job(key))
    assert ledger.finished(key, job(key).model_copy(update={"seconds": 9.0})) == ended
    assert ledger.submitted(key, "pid-7") == ended
    with pytest.raises(Conflict, match="is over"):
        ledger.unknown(key)
    with pytest.raises(Conflict, match="ended as succeeded, and now as failed"):
        ledger.finished(key, job(key, JobState.FAILED))
    assert ledger.action(key) == ended


def test_only_a_terminal_job_ends_an_action(ledger: Ledger) -> None:
    ledger.decide(CONSENT)
    key = ledger.intend(SPEC, 1).key
    with pytest.raises(ValueError, match="does not end"):
        ledger.finished(key, job(key, JobState.RUNNING))
    with pytest.raises(ValueError, match="does not end"):
        ledger.finished(key, job("another"))
    with pytest.raises(ValueError, match="no intention"):
        ledger.submitted("unwritten", "pid-7")


def test_an_intention_outlives_a_kill_right_after_it(db: Database, ledger: Ledger) -> None:
    ledger.decide(CONSENT)
    code = (
        "import os, signal, sys; from pathlib import Path; from shared_memory.database import Database;"
        "from shared_memory.ledger import Ledger; from shared_memory.records import JobSpec;"
        "Ledger(Database.open(Path(sys.argv[1])), 'r1').intend(JobSpec.model_validate_json(sys.argv[2]), 1);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(db.path), SPEC.model_dump_json()], cwd=ROOT)
    assert done.returncode == -9
    assert [action.key for action in ledger.open_actions()] == [submission_key("r1", SPEC, 1)]
