"""How a job ended: its backend's word, its output looked at, and the booking, which is made once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agents.data_engineer import prepare as data_engineer
from agents.evaluator import scored
from agents.jobs.base import JobRunner, JobStatus, pieces, read_events
from agents.trainer import delivery, training
from graph.certificate import note_weights
from graph.context import Context, Desk
from shared_memory.actions import UNKNOWN
from shared_memory.errors import Unavailable
from shared_memory.goal import Goal
from shared_memory.ledger import Action, ActionState
from shared_memory.records import Job, JobSpec, JobState, Purpose
from shared_memory.redaction import redact, redact_plain

STOPPED = "stopped"
"""Kind of the journal's notes on jobs that the monitor has stopped: submission key → kind of failure, and why."""
STOP_SECONDS = 30.0
"""How long a job may take to end after it was cancelled."""
STOP_POLL_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 2.0
"""Between two looks for a job whose submission was not answered."""


def as_booked(job: Job, desk: Desk, goal: Goal) -> Job:
    """The job as the ledger has its end, where a crash kept that out of the checkpoint: booked is booked."""
    action = desk.ledger.action(job.key)
    if action is None or action.job is None:
        return job
    if not job.state.terminal:
        settle(desk, goal, action.job)
    return action.job


def looked_at(runner: JobRunner, job: Job, spec: JobSpec, desk: Desk, halting: bool) -> Job:
    """The job with its backend's latest word; a finished one with its result, or its cause of failure.

    Raises Unavailable where the backend does not know the job any more, or what it made cannot be had, unless the run
    is being stopped anyway.
    """
    status = runner.status(job.backend_id)
    if status.state is JobState.CANCELLED and (stop := desk.journal.notes(STOPPED).get(job.key)):
        status = status.model_copy(update={"state": JobState.FAILED, "error": stop["why"]})
    if status.state is JobState.UNKNOWN:
        if job.purpose is Purpose.ACTION:  # it may have been done, and is begun once at most
            lost = f"{UNKNOWN}what was kept of it in {job.folder} is gone; it is not done again"
            return job.model_copy(update={"state": JobState.FAILED, "error": lost})
        if not halting:
            desk.ledger.unknown(job.key)
            raise Unavailable(
                f"{job.runner} does not know job {job.key} any more; look at {job.folder}, then resume or cancel"
            )
        lost = f"{job.runner} does not know this job any more"
        return job.model_copy(update={"state": JobState.FAILED, "error": lost})
    seen = job.model_copy(
        update={
            "state": status.state,
            "exit_code": status.exit_code,
            "seconds": status.seconds,
            "usd_micro": status.usd_micro,
            "error": redact(status.error),
        }
    )
    if status.state is not JobState.SUCCEEDED:
        return seen
    try:
        runner.fetch(job.backend_id, Path(job.folder))
    except Unavailable as gone:
        if not halting:
            raise
        return seen.model_copy(update={"state": JobState.FAILED, "error": redact(str(gone))})
    result = _result_of(runner, job)
    if result is None:
        fault = "it printed no result line"
    else:
        seen = seen.model_copy(update={"result": redact_plain(result)})
        fault = fault_of_output(seen, spec, desk)
    if not fault:
        return seen
    error = f"it exited with 0, but {fault}; see its log with `postgrad logs`"
    return seen.model_copy(update={"state": JobState.FAILED, "error": error})


def fault_of_output(job: Job, spec: JobSpec, desk: Desk) -> str:
    """Why a job's output is not what was asked for; looked at before success is booked, which is for good."""
    match job.purpose:
        case Purpose.GENERATION:
            return data_engineer.fault_of_output(job)
        case Purpose.PUBLICATION | Purpose.ACTION:
            return ""  # it was read back; what a tool answers is its own affair
        case Purpose.TRAINING:
            return training.fault_of_output(job)
        case Purpose.MERGE:
            return delivery.fault_of_output(job)
        case Purpose.EVALUATION:
            return scored.fault_of_output(job, spec, desk.paths)


def _result_of(runner: JobRunner, job: Job) -> dict[str, Any] | None:
    result = None
    for text, _ in pieces(runner, job.backend_id):
        result = read_events(text)[1] or result
    return result


def settle(desk: Desk, goal: Goal, job: Job) -> None:
    """Book a job's end, whole or not at all; booking it again changes nothing."""
    note_weights(job, desk)
    with desk.db.transaction():
        desk.ledger.finished(job.key, job)
        desk.budget(goal).settle(job.key, job.usd_micro)
        desk.journal.put(job, id=job.key)


def stop_open_jobs(run_id: str, context: Context) -> None:
    """Cancel every job of a run that the ledger has as open, and book its end; for a run whose graph cannot."""
    desk = Desk(run_id, context)
    goal = Goal.model_validate(desk.runs.get(run_id).goal)
    pinned = desk.journal.notes("pinned")
    for action in desk.ledger.open_actions():
        name = pinned[action.key]["spec"]["runner"] if action.key in pinned else "local"
        runner = desk.runner(name)
        # One that was about to be submitted is looked for until it would be listed.
        until = action.at + runner.listing_grace if action.state is ActionState.INTENDED else 0.0
        backend_id = action.backend_id or listed(runner, action.key, until, desk) or action.key
        runner.cancel(backend_id)
        ends = time.monotonic() + STOP_SECONDS
        while not (status := runner.status(backend_id)).state.terminal:
            if time.monotonic() > ends or status.state is JobState.UNKNOWN:
                break
            time.sleep(STOP_POLL_SECONDS)
        never_seen = status.state is JobState.UNKNOWN and action.state is not ActionState.UNKNOWN
        if runner.listing_grace and not (status.state.terminal or never_seen):
            continue  # it may run where nobody can reach it, or still does: what it may cost stays booked
        state = status.state if status.state.terminal else JobState.CANCELLED
        job = _ended(action, runner, backend_id, status, state, "the run was cancelled")
        job = job.model_copy(update={"folder": str(desk.paths.job(action.key))})
        settle(desk, goal, _checked(job, runner, desk))


def listed(runner: JobRunner, key: str, until: float, desk: Desk) -> str | None:
    """The backend's id of the job with this label, looked for once and then until a time; None where it is not there.

    until: seconds since the epoch. Raises Unavailable where the run is to be left meanwhile.
    """
    while (found := runner.find(key)) is None and time.time() < until:
        if desk.draining:
            raise Unavailable(f"stopped while looking for job {key}; resume looks again")
        time.sleep(min(LOOK_AGAIN_SECONDS, max(0.0, until - time.time())))
    return found


def _checked(job: Job, runner: JobRunner, desk: Desk) -> Job:
    """A job that ended well all the same, with its result and its output looked at; without its spec it has neither."""
    if job.state is not JobState.SUCCEEDED:
        return job
    pinned = desk.journal.notes("pinned").get(job.key)
    if pinned is None:
        return job.model_copy(update={"state": JobState.CANCELLED})
    return looked_at(runner, job, JobSpec.model_validate(pinned["spec"]), desk, halting=True)


def end_doubles(desk: Desk, goal: Goal) -> None:
    """End what was submitted again because nobody knew of it, and turned up after all; its cost is booked, too."""
    pinned = desk.journal.notes("pinned")
    actions = desk.ledger.actions()
    for action in actions:
        if not is_doubled(action, actions) or action.key not in pinned:
            continue
        runner = desk.runner(pinned[action.key]["spec"]["runner"])
        with suppress(Unavailable):  # its hold stays, and it is looked for again
            _end_double(action, runner, desk, goal)


def is_doubled(action: Action, actions: Sequence[Action]) -> bool:
    """Whether nobody knows of an attempt, and the same job was therefore submitted again."""
    again = any(a.spec_digest == action.spec_digest and a.attempt == action.attempt + 1 for a in actions)
    return action.state is ActionState.UNKNOWN and again


def _end_double(action: Action, runner: JobRunner, desk: Desk, goal: Goal) -> None:
    backend_id = runner.find(action.key)
    if backend_id is None:
        return
    runner.cancel(backend_id)
    status = runner.status(backend_id)
    if status.state.terminal:
        why = "it turned up after it had been submitted again"
        settle(desk, goal, _ended(action, runner, backend_id, status, JobState.CANCELLED, why))


def _ended(action: Action, runner: JobRunner, backend_id: str, status: JobStatus, state: JobState, error: str) -> Job:
    """A job that we have ended ourselves, from what ledger and backend know of it."""
    return Job(
        key=action.key,
        spec_digest=action.spec_digest,
        purpose=action.purpose,
        experiment=action.experiment,
        attempt=action.attempt,
        runner=runner.name,
        backend_id=backend_id,
        state=state,
        seconds=status.seconds,
        usd_micro=status.usd_micro,
        error=error,
    )
