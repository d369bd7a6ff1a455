"""Waiting for jobs: poll them, pass their progress on, book their end, and stop them when the run's means are gone."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any

from langgraph.runtime import Runtime

from agents.data_engineer import prepare as data_engineer
from agents.evaluator import evaluation
from agents.jobs.base import JobRunner, read_events
from agents.trainer import delivery, training
from graph import routing
from graph.context import Context, Desk
from graph.state import JobsState, Plain, RunState, jobs_update
from shared_memory.errors import Unavailable
from shared_memory.goal import Goal
from shared_memory.records import Job, JobSpec, JobState, Purpose
from shared_memory.redaction import redact, redact_plain

WATCH_SECONDS = 60.0
"""A watch slice ends after so long even when nothing changed, so that its progress is checkpointed."""
POLL_SECONDS = 0.5
FIRST_POLL_SECONDS = 0.03
"""Between the first looks; they grow apart up to POLL_SECONDS, so that a short job is not waited for."""
STOP_SECONDS = 30.0
"""How long a job may take to end after it was cancelled."""


def watch(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Poll all jobs; return at the first change of a job, when the run is parked, or after WATCH_SECONDS."""
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    tracked = {key: _as_booked(Job.model_validate(plain), desk, goal) for key, plain in state["tracked"].items()}
    offsets = dict(state.get("offsets", {}))
    specs = {spec.digest: spec for spec in map(JobSpec.model_validate, state["pending"])}
    halted = {"halt": state.get("halt", ""), "error": state.get("error", "")}
    began = time.monotonic()
    changed = [job.state for job in tracked.values()] != [job["state"] for job in state["tracked"].values()]
    pause = FIRST_POLL_SECONDS
    while not changed and time.monotonic() - began < WATCH_SECONDS and not desk.draining:
        means = means_are_gone(desk, goal, state)
        if means["halt"] and means["halt"] != halted["halt"]:
            halted = means
            desk.emit("note", text=f"stopping the running jobs: {means['error']}")
        for key, job in tracked.items():
            if job.state.terminal:
                continue
            spec, runner = specs[job.spec_digest], desk.runner(job.runner)
            if means["halt"]:
                runner.cancel(job.backend_id)
            offsets[key] = _tell_progress(desk, runner, job, spec, offsets.get(key, 0))
            now = _looked_at(runner, job, spec, desk, halting=bool(means["halt"]))
            if now.state is not job.state:
                changed = True
                tracked[key] = now
                if now.state.terminal:
                    settle(desk, goal, now)
                tell(desk, now, spec)
        if not changed:
            time.sleep(pause)
            pause = min(POLL_SECONDS, 1.2 * pause)
    desk.count_time(time.monotonic() - began)
    return jobs_update(tracked=tracked, offsets=offsets, **halted)


def _as_booked(job: Job, desk: Desk, goal: Goal) -> Job:
    """The job as the ledger has its end, where a crash kept that out of the checkpoint: booked is booked."""
    action = desk.ledger.action(job.key)
    if action is None or action.job is None:
        return job
    if not job.state.terminal:
        settle(desk, goal, action.job)
    return action.job


def means_are_gone(desk: Desk, goal: Goal, state: JobsState | RunState) -> dict[str, str]:
    """Why the run has to end now, as its halt: cancelled by a person, or out of time; empty while it may go on.

    The search may use what is not kept back for the end; saving and measuring the champion may use that, too.
    """
    if desk.runs.get(desk.run_id).cancel_requested:
        return {"halt": "cancelled", "error": "a person cancelled the run"}
    of_the_end = state.get("move") in routing.OF_THE_END
    if desk.seconds_left(goal) > (0 if of_the_end else state["stock"]["seconds_kept"]):
        return {"halt": "", "error": ""}
    kept = "" if of_the_end else ", but for what saving and measuring the best model takes"
    return {"halt": "timed_out", "error": f"the goal's {goal.limits.hours:g} h, or its deadline, are used up{kept}"}


def _looked_at(runner: JobRunner, job: Job, spec: JobSpec, desk: Desk, halting: bool) -> Job:
    """The job with its backend's latest word; a finished one with its result, or its cause of failure.

    Raises Unavailable where the backend does not know the job any more, unless the run is being stopped anyway.
    """
    status = runner.status(job.backend_id)
    if status.state is JobState.UNKNOWN:
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
        case Purpose.PUBLICATION:
            return ""  # it was read back
        case Purpose.TRAINING:
            return training.fault_of_output(job)
        case Purpose.MERGE:
            return delivery.fault_of_output(job)
        case Purpose.EVALUATION:
            return evaluation.fault_of_output(job, spec, desk.paths)


def _result_of(runner: JobRunner, job: Job) -> dict[str, Any] | None:
    result, offset = None, 0
    while True:
        text, following = runner.logs(job.backend_id, offset)
        result = read_events(text)[1] or result
        if following == offset:
            return result
        offset = following


def settle(desk: Desk, goal: Goal, job: Job) -> None:
    """Book a job's end, whole or not at all; booking it again changes nothing."""
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
        runner.cancel(action.backend_id or action.key)
        ends = time.monotonic() + STOP_SECONDS
        while not (status := runner.status(action.backend_id or action.key)).state.terminal:
            if time.monotonic() > ends or status.state is JobState.UNKNOWN:
                break
            time.sleep(POLL_SECONDS)
        job = Job(
            key=action.key,
            spec_digest=action.spec_digest,
            purpose=action.purpose,
            experiment=action.experiment,
            attempt=action.attempt,
            runner=name,
            backend_id=action.backend_id,
            folder=str(desk.paths.job(action.key)),
            state=status.state if status.state.terminal else JobState.CANCELLED,
            seconds=status.seconds,
            usd_micro=status.usd_micro,
            error="the run was cancelled",
        )
        settle(desk, goal, _checked(job, runner, desk))


def _checked(job: Job, runner: JobRunner, desk: Desk) -> Job:
    """A job that ended well all the same, with its result and its output looked at; without its spec it has neither."""
    if job.state is not JobState.SUCCEEDED:
        return job
    pinned = desk.journal.notes("pinned").get(job.key)
    if pinned is None:
        return job.model_copy(update={"state": JobState.CANCELLED})
    return _looked_at(runner, job, JobSpec.model_validate(pinned["spec"]), desk, halting=True)


def tell(desk: Desk, job: Job, spec: JobSpec) -> None:
    shown = job.model_dump(mode="json", include={"key", "experiment", "purpose", "state", "seconds", "error"})
    desk.emit("job", title=spec.title, **shown)


def _tell_progress(desk: Desk, runner: JobRunner, job: Job, spec: JobSpec, offset: int) -> int:
    """Pass on the latest progress that the job printed since `offset`; returns the offset to go on from."""
    text, following = runner.logs(job.backend_id, offset)
    progress, _ = read_events(text)
    if progress:
        measured = _measures(progress[-1])
        step, steps = measured.get("step") or 0, measured.get("steps") or 0
        eta = (measured.get("seconds") or 0) * (steps - step) / step if step > 0 else None
        shown = {"key": job.key, "experiment": job.experiment, "purpose": job.purpose.value, "title": spec.title}
        desk.emit("progress", **{**measured, **shown, "step": step, "steps": steps, "eta_seconds": eta})
    return following


def _measures(event: Plain) -> dict[str, float | None]:
    """The known numbers of a progress event, for a script may print anything; NaN and infinity become None."""
    measures: dict[str, float | None] = {}
    for key in ("step", "steps", "loss", "seconds"):
        value = event.get(key)
        if isinstance(value, int | float):
            with suppress(OverflowError):
                measures[key] = value if math.isfinite(value) else None
    return measures
