"""Handing approved jobs to their backends, each exactly once: reserve, write the intention down, submit."""

from __future__ import annotations

import json
import time

from langgraph.runtime import Runtime

from agents.data_engineer.synthesis import teacher
from agents.evaluator import endpoint
from agents.evaluator.scoring import judge
from agents.jobs.hardware import installed_packages
from graph import publications
from graph.context import Context, Desk
from graph.routing import OF_THE_END
from graph.settle import is_doubled, listed, settle
from graph.state import JobsState, Plain, jobs_update
from graph.watch import tell
from shared_memory.errors import BudgetSpent, Conflict, Unavailable, Uncertain
from shared_memory.goal import Goal
from shared_memory.ledger import Action, ActionState
from shared_memory.records import Job, JobSpec, JobState, Purpose, submission_key

ROLE_OF_PURPOSE = {
    Purpose.GENERATION: "data_engineer",
    Purpose.TRAINING: "trainer",
    Purpose.MERGE: "trainer",
    Purpose.EVALUATION: "evaluator",
}


def submit(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Fill the free slots. What the ledger knows already is adopted, never submitted again."""
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    tracked = {key: Job.model_validate(plain) for key, plain in state.get("tracked", {}).items()}
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    halted = {"halt": state.get("halt", ""), "error": state.get("error", "")}
    free = goal.run.parallel - sum(not job.state.terminal for job in tracked.values())
    for spec in waiting(state):
        if free <= 0:
            break
        attempt = attempt_at(spec, desk, state.get("reopened", 0) + _failures_of(spec, state))
        known = desk.ledger.action(submission_key(desk.run_id, spec, attempt))
        if known and known.job is not None:
            settle(desk, goal, known.job)
            finished.append(known.job)
            continue
        if desk.seconds_left(goal) <= 0:
            halted = halted if halted["halt"] else {"halt": "timed_out", "error": "no time is left to start a job"}
            finished.append(refused(spec, JobState.CANCELLED, "no time is left to start it"))
            continue
        try:
            job = _submit_one(spec, attempt, desk, goal, state)
        except BudgetSpent as spent:
            halted = {"halt": "over_budget", "error": str(spent)}
            finished.append(refused(spec, JobState.CANCELLED, str(spent)))
            continue
        tracked[job.key] = job
        free -= 1
        tell(desk, job, spec)
    return jobs_update(tracked=tracked, finished=finished, **halted)


def waiting(state: JobsState) -> list[JobSpec]:
    """The specs that have not been started, and have not ended."""
    jobs = [*state.get("tracked", {}).values(), *state.get("finished", [])]
    begun = {job["spec_digest"] for job in jobs}
    return [spec for spec in specs_of(state) if spec.digest not in begun]


def undecided(state: JobsState) -> list[JobSpec]:
    """Those of them that nobody has said yes to."""
    return [spec for spec in waiting(state) if spec.digest not in state.get("admitted", [])]


def specs_of(state: JobsState) -> list[JobSpec]:
    return [JobSpec.model_validate(plain) for plain in state["pending"]]


def refused(spec: JobSpec, state: JobState, error: str) -> Job:
    """A job that never reached a runner."""
    return Job(
        key="", spec_digest=spec.digest, purpose=spec.purpose, experiment=spec.experiment, state=state, error=error
    )


def attempt_at(spec: JobSpec, desk: Desk, failures: int) -> int:
    """Which attempt this is. It grows only past a failed one, and only as often as `failures` are to be mended.

    Those are the times that a person reopened the run, or a recovery does the same job again. So a node that runs
    again after a crash finds the attempt it made, whatever was checkpointed.
    """
    last = desk.ledger.last_attempt(spec)
    if last is None or spec.purpose is Purpose.ACTION:
        return 1  # an action is begun once, whatever came of it
    failed = last.job is not None and last.job.state is not JobState.SUCCEEDED
    return last.attempt + 1 if failed and last.attempt <= failures else last.attempt


def _failures_of(spec: JobSpec, state: JobsState) -> int:
    """How often exactly this job failed and was recovered."""
    return sum(entry["job"]["spec_digest"] == spec.digest for entry in state.get("recovered", []))


def _submit_one(
    spec: JobSpec, attempt: int, desk: Desk, goal: Goal, state: JobsState, *, beside_unknown: bool = False
) -> Job:
    """One attempt at a job, submitted or found; another one where the answer to the first got lost, if that may be.

    Raises BudgetSpent where its worst case is more than is left, Conflict where the experiment is being trained
    already, and Unavailable where nobody can say whether the backend has the job.
    """
    key = submission_key(desk.run_id, spec, attempt)
    actions = desk.ledger.actions()
    rival = next((a for a in actions if a.job is None and _is_rival(a, spec) and not is_doubled(a, actions)), None)
    if rival is not None:
        raise Conflict(
            f"{spec.experiment} is being trained already by job {rival.key}; cancel the run, or wait for its end"
        )
    known = desk.ledger.action(key)
    held = _to_hold(spec, desk)
    kept = 0 if state.get("move") in OF_THE_END else state["stock"]["usd_kept_micro"]
    jobs = int(spec.purpose is not Purpose.ACTION)  # it takes no hardware, and none of what is kept for the end
    desk.budget(goal).reserve(key, held, role=_role_of(spec), jobs=jobs, kept_usd_micro=kept)
    action = desk.ledger.intend(spec, attempt, beside_unknown=beside_unknown)
    backend_id = action.backend_id
    if action.state in (ActionState.INTENDED, ActionState.UNKNOWN):
        desk.journal.note("pinned", key, {"spec": spec.plain(), "packages": installed_packages()})
        found = _handed_over(spec, action, desk, is_new=known is None)
        if found is None:
            # Unknown before already: whoever resumed the run was told what happens now.
            _park_or_go_on(spec, action, desk, goal.run.approve == "auto" or action.state is ActionState.UNKNOWN)
            return _submit_one(spec, attempt + 1, desk, goal, state, beside_unknown=True)
        backend_id = found
        desk.ledger.submitted(key, backend_id)
    return Job(
        key=key,
        spec_digest=spec.digest,
        purpose=spec.purpose,
        experiment=spec.experiment,
        attempt=attempt,
        runner=spec.runner,
        backend_id=backend_id,
        folder=str(desk.paths.job(key)),
    )


def _to_hold(spec: JobSpec, desk: Desk) -> int:
    """Worst-case micro-dollars of the job itself: requests to a language model (a teacher, a judge, a served one under
    test) are held one by one, so that these can go on for as long as there is room."""
    judged = judge.terms_of(spec, desk.paths)
    asked = (judged.usd_micro or 0) if judged else 0
    one_by_one = (teacher.TeacherRunner.name, endpoint.EndpointRunner.name)
    return 0 if spec.runner in one_by_one else max(0, spec.estimate.usd_micro - asked)


def _role_of(spec: JobSpec) -> str:
    """Whose spending it is."""
    if spec.purpose is Purpose.ACTION:
        return str(spec.config["role"])
    published = "trainer" if publications.is_of_a_model(spec) else "data_engineer"
    return ROLE_OF_PURPOSE.get(spec.purpose, published)


def _is_rival(action: Action, spec: JobSpec) -> bool:
    """Whether an open action trains the same experiment under another digest: its plan was lost, and made anew."""
    same = action.purpose is spec.purpose is Purpose.TRAINING and action.experiment == spec.experiment
    return same and action.spec_digest != spec.digest


def _handed_over(spec: JobSpec, action: Action, desk: Desk, is_new: bool) -> str | None:
    """The backend's id of the job, submitted now unless it is there already; None where nobody knows.

    An intention of an earlier process may have become a submission that the backend does not list yet, so its label is
    looked up until `listing_grace` after it was written. What was looked up in vain once is not submitted again here.
    """
    runner = desk.runner(spec.runner)
    if not is_new:
        found = listed(runner, action.key, action.at + runner.listing_grace, desk)
        if found or action.state is ActionState.UNKNOWN:
            return found
    folder = desk.paths.fill_job_folder(action.key, spec.files, json.dumps(spec.config, indent=2))
    try:
        return runner.submit(spec, action.key, folder)
    except Uncertain as lost:
        desk.emit("note", text=f"{spec.title}: {lost}; looking for it for up to {runner.listing_grace:g} s")
        return listed(runner, action.key, time.time() + runner.listing_grace, desk)


def _park_or_go_on(spec: JobSpec, action: Action, desk: Desk, may_go_on: bool) -> None:
    """Write down that nobody knows of a job, with its hold kept. Raises Unavailable unless it may be done again."""
    desk.ledger.unknown(action.key)
    what = f"{spec.runner} took `{spec.title}` perhaps, and does not list it"
    if not may_go_on:
        raise Unavailable(f"{what}; look there for the label {action.key}: resume looks again, then submits it anew")
    desk.emit("note", text=f"{what}: it is submitted again, and the cost of both is held")
