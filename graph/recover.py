"""What becomes of a failed job: why it failed, and the same mathematics again where that may help."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from langgraph.runtime import Runtime

from agents.evaluator import scored
from agents.jobs.base import pieces
from agents.trainer import recovery
from agents.trainer.diagnosis import diagnose
from graph.context import Context, Desk
from graph.settle import STOPPED
from graph.state import JobsState, Plain, jobs_update
from graph.submission import specs_of
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.records import Diagnosis, Job, JobSpec, JobState, Purpose

DIAGNOSED = "diagnosis"
"""Kind of the journal's notes on failures: submission key → Diagnosis."""

LEAST_SHARE = 0.5
"""Of a job's time-out, under which trying it again without asking would be money thrown away: what a job is predicted
to take is up to two thirds of it."""
LOG_TAIL = 2**16
"""Characters from the end of a log that are searched for the cause of a failure."""


def recover(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Diagnose what has failed, and put in its place what does the same work in another way, where there is a way.

    The derived job goes through the gate like any other: an earlier consent covers it, or a person is asked.
    """
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    tracked = {key: Job.model_validate(plain) for key, plain in state["tracked"].items()}
    diagnoses = {key: Diagnosis.model_validate(plain) for key, plain in state.get("diagnoses", {}).items()}
    recovered = list(state.get("recovered", []))
    pending = specs_of(state)
    for key in undiagnosed(state):
        job = tracked[key]
        spec = next(spec for spec in pending if spec.digest == job.spec_digest)
        diagnoses[key] = _diagnosis(job, desk, read=state.get("offsets", {}).get(key, 0))
        desk.journal.note(DIAGNOSED, key, diagnoses[key].plain())
        if state.get("halt"):
            continue
        remedy = recovery.remedy(
            spec,
            diagnoses[key],
            _tried(spec, recovered),
            flavors=desk.flavors(goal).flavors,
            checkpoint=_checkpoint(job, desk),
        )
        if remedy is None:
            continue
        ended = [Job.model_validate(entry["job"]) for entry in recovered] + [job]
        after = within_the_consent(remedy.spec, [spec, *(before for before, _ in _tried(spec, recovered))], ended)
        recovered.append({"job": job.plain(), "spec": spec.plain(), "diagnosis": diagnoses[key].plain()})
        del tracked[key]
        pending[pending.index(spec)] = after
        desk.emit("note", text=_tried_again(spec, job, remedy.what))
    return jobs_update(pending=pending, tracked=tracked, diagnoses=diagnoses, recovered=recovered)


def _tried_again(spec: JobSpec, job: Job, what: str) -> str:
    """For a person: the cause without the advice that follows it, for what is done about it is said here."""
    cause = job.error.partition("; ")[0]
    return f"the {spec.purpose.value} of {spec.experiment} failed ({cause}); the next try is {what}"


def undiagnosed(state: JobsState) -> list[str]:
    """Submission keys of the failed jobs that nobody has looked at."""
    known = state.get("diagnoses", {})
    return [key for key, job in state["tracked"].items() if job["state"] == JobState.FAILED and key not in known]


def _diagnosis(job: Job, desk: Desk, read: int) -> Diagnosis:
    """Why a job failed, from the end of its log; `read` bytes of it are known to be there."""
    stop = desk.journal.notes(STOPPED).get(job.key)
    if stop is not None:
        return Diagnosis(kind=stop["kind"], evidence=(stop["why"],), remedy=stop["advice"])
    log = ""
    with suppress(PostgradError):  # a backend that is out of reach: what it said of the job's end is all there is
        log = _end_of_log(job, desk, max(0, read - LOG_TAIL))
    return diagnose(log, error=job.error, exit_code=job.exit_code)


def _end_of_log(job: Job, desk: Desk, offset: int) -> str:
    text = ""
    for piece, _ in pieces(desk.runner(job.runner), job.backend_id, offset):
        text = (text + piece)[-LOG_TAIL:]
    return text


def _tried(spec: JobSpec, recovered: Sequence[Plain]) -> list[tuple[JobSpec, Diagnosis]]:
    """The failed attempts at the same work, oldest first."""
    tried = [
        (JobSpec.model_validate(entry["spec"]), Diagnosis.model_validate(entry["diagnosis"])) for entry in recovered
    ]
    return [(before, why) for before, why in tried if before.scope == spec.scope]


def _checkpoint(job: Job, desk: Desk) -> str:
    """What a failed job left to go on from: the folder of its last whole checkpoint, or of its answers; or nothing."""
    with suppress(PostgradError):  # it left nothing, or nothing that can be had
        desk.runner(job.runner).fetch(job.backend_id, Path(job.folder))
    out = Path(job.folder) / "out"
    if job.purpose is Purpose.EVALUATION:
        return str(out) if scored.answers_left(job) else ""
    found = [state.parent for state in out.glob("checkpoint-*/trainer_state.json")]
    return str(max(found, key=lambda folder: int(folder.name.rpartition("-")[2]))) if found else ""


def taken_up(spec: JobSpec, desk: Desk) -> JobSpec:
    """An evaluation that goes on from the answers of an earlier try of this run, one that failed or was stopped."""
    if "resume_from" not in spec.config:
        return spec
    pinned = desk.journal.notes("pinned")
    tries = [
        job
        for key, job in desk.journal.all(Job).items()
        if key in pinned
        and job.purpose is Purpose.EVALUATION
        and job.state in (JobState.FAILED, JobState.CANCELLED)
        and JobSpec.model_validate(pinned[key]["spec"]).scope == spec.scope
    ]
    left = {job.key: folder for job in tries if (folder := _checkpoint(job, desk))}
    if not left:
        return spec
    most = max((job for job in tries if job.key in left), key=scored.answers_left)
    return spec.model_copy(update={"config": spec.config | {"resume_from": left[most.key]}})


def within_the_consent(spec: JobSpec, tried: Sequence[JobSpec], ended: Sequence[Job]) -> JobSpec:
    """The derived job with no more time than what is left of the money that was approved for those that were `tried`.

    A consent covers all attempts together. Unchanged where nothing is paid for, and where more hardware, or more money
    than is left, is to be asked for. tried: the one that has failed just now first.
    """
    if not spec.estimate.usd_micro or spec.flavor != tried[0].flavor:
        return spec
    spent = sum(job.usd_micro for job in ended if job.experiment == spec.experiment and job.purpose is spec.purpose)
    left = max(before.estimate.usd_micro for before in tried) - spent
    share = min(1.0, left / spec.estimate.usd_micro)
    if share < LEAST_SHARE:
        return spec
    estimate = spec.estimate.model_copy(update={"usd_micro": int(spec.estimate.usd_micro * share)})
    return spec.model_copy(update={"timeout_seconds": max(1, int(spec.timeout_seconds * share)), "estimate": estimate})
