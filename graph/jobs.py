"""The one door to compute: a subgraph that takes a list of JobSpecs and returns a list of Jobs.

    preflight → gate → admit → submit ⇄ watch ⟲ → collect
        ▲                │
        └──── edited ────┘

Submitting and waiting are separate nodes, and no node does anything before it asks: a node that is interrupted, or
killed, runs again from its first line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Hashable
from pathlib import Path

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents import sandbox
from agents.data_engineer.publishing import publisher
from agents.data_engineer.synthesis import teacher
from agents.jobs.hardware import installed_packages
from agents.trainer import training
from graph import clean_hands
from graph.consent import envelope_of
from graph.context import Context, Desk
from graph.gates import after_gate, gate
from graph.routing import OF_THE_END
from graph.state import JobsState, Plain, jobs_update
from graph.watch import settle, tell, watch
from shared_memory.errors import BudgetSpent, Conflict
from shared_memory.goal import Goal
from shared_memory.ledger import Action, ActionState
from shared_memory.records import (
    REJECTED,
    DatasetRecord,
    Decision,
    Envelope,
    Job,
    JobSpec,
    JobState,
    Purpose,
    submission_key,
)

ROLE_OF_PURPOSE = {
    Purpose.GENERATION: "data_engineer",
    Purpose.TRAINING: "trainer",
    Purpose.MERGE: "trainer",
    Purpose.EVALUATION: "evaluator",
    Purpose.PUBLICATION: "data_engineer",
}


def preflight(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Refuse what can be known to fail: such a job comes out as failed, and nobody is asked about it."""
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    pending = []
    for spec in specs_of(state):
        fault = (
            fault_of(spec, desk)
            or teacher.fault_of_config(spec, goal)
            or publisher.fault_of_config(spec)
            or clean_hands.fault_of_data(spec, goal, desk)
        )
        if fault:
            finished.append(_refused(spec, JobState.FAILED, f"preflight: {fault}"))
        else:
            pending.append(spec)
    return jobs_update(pending=pending, finished=finished, answers={}, tracked={}, offsets={})


def fault_of(spec: JobSpec, desk: Desk) -> str:
    """Why a job cannot succeed, in one line with the next move; empty if nothing speaks against it."""
    missing = [name for name, digest in spec.files.items() if not desk.paths.stored(digest).exists()]
    if missing:
        return f"{missing[0]} is not in the run's file store; start the run again"
    unset = [name for name in spec.secrets if not os.environ.get(name)]
    if unset:
        return f"the job needs {unset[0]}, which is not set; export it and resume"
    if spec.sandbox == "auto" and (fault := sandbox.fault_of_this_machine()):
        return f"its script cannot be kept apart: {fault}"
    if fault := training.fault_of_config(spec):
        return f"its config is no recipe ({fault}); resume, and edit it again"
    needs = {Purpose.TRAINING: ("torch", "trl", "peft"), Purpose.MERGE: ("torch", "peft")}
    needs[Purpose.EVALUATION] = ("torch", "inspect_ai")
    absent = [name for name in needs.get(spec.purpose, ()) if importlib.util.find_spec(name) is None]
    if absent:
        return f"{absent[0]} is not installed; pip install 'postgrad[train,eval]', then resume"
    for key in ("model", "adapter"):
        folder = spec.config.get(key)
        if isinstance(folder, str) and Path(folder).is_absolute() and not Path(folder).is_dir():
            return f"its {key} folder {folder} does not exist"
    return ""


def admit(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Write the answers down as Decisions; an edited spec goes back to the start with its new digest."""
    desk = Desk.of(runtime)
    pending, finished = [], [Job.model_validate(plain) for plain in state.get("finished", [])]
    edited, halted = False, {}
    for spec in specs_of(state):
        said = state["answers"][spec.digest]
        if "edit" in said:
            pending.append(edit(spec, said["edit"], desk))
            edited = True
            continue
        desk.ledger.decide(_decision(spec, said))
        if said["approved"]:
            pending.append(spec)
        elif said["by"] == "policy":
            halted = {"halt": "cancelled", "error": said["reason"]}
            finished.append(_refused(spec, JobState.CANCELLED, said["reason"]))
        else:
            finished.append(_refused(spec, JobState.CANCELLED, f"{REJECTED}{said['reason'] or 'no reason given'}"))
    _tell_decisions(desk, specs_of(state), state["answers"])
    return jobs_update(pending=pending, finished=finished, answers={"edited": {}} if edited else {}, **halted)


def _tell_decisions(desk: Desk, specs: list[JobSpec], answers: dict[str, Plain]) -> None:
    decided = [
        {"digest": spec.digest, "title": spec.title, "approved": answers[spec.digest]["approved"]}
        for spec in specs
        if "edit" not in answers[spec.digest]
    ]
    if decided:
        by = answers[decided[0]["digest"]]["by"]
        approved = sum(request["approved"] for request in decided)
        desk.emit("gate", by=by, requests=decided, text=f"{approved} of {len(decided)} jobs approved by {by}")


def _decision(spec: JobSpec, said: Plain) -> Decision:
    alone = Envelope(max_usd_micro=spec.estimate.usd_micro, max_hours=spec.timeout_seconds / 3600)
    return Decision(
        spec_digest=spec.digest,
        approved=said["approved"],
        by=said["by"],
        reason=said["reason"],
        envelope=envelope_of(spec) if said["by"] == "person" else alone,
        parent=said.get("parent", ""),
        at=time.time(),
    )


def edit(spec: JobSpec, changes: Plain, desk: Desk) -> JobSpec:
    """The spec as a person changed it: another config, or another text of its script; its data stay as they are.

    What a person is told of it is told anew, where it follows from the config.
    """
    files = dict(spec.files)
    text = changes.get("files", {}).get(spec.script)
    if text is not None:
        files[spec.script] = desk.paths.store(text.encode())
    config = changes.get("config", spec.config)
    edits = [f"{key} {value}" for key, value in config.items() if value != spec.config.get(key)]
    edits += [f"without {key}" for key in sorted(spec.config.keys() - config.keys())]
    edits += [spec.script] if text is not None else []
    edited = spec.model_copy(update={"config": config, "files": files})
    if spec.runner == teacher.TeacherRunner.name:
        edited = teacher.told_anew(edited, Goal.model_validate(desk.runs.get(desk.run_id).goal), desk.paths)
    if spec.runner == publisher.PublishingRunner.name:
        edited = publisher.told_anew(edited, desk.journal.all(DatasetRecord), desk.paths)
    return edited.model_copy(update={"title": f"{edited.title} (edited: {', '.join(edits)})"})


def submit(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Fill the free slots: reserve, write the intention down, submit.

    What the ledger knows already is adopted, never submitted again.
    """
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    tracked = {key: Job.model_validate(plain) for key, plain in state.get("tracked", {}).items()}
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    halted = {"halt": state.get("halt", ""), "error": state.get("error", "")}
    free = goal.run.parallel - sum(not job.state.terminal for job in tracked.values())
    for spec in waiting(state):
        if free <= 0:
            break
        attempt = attempt_at(spec, desk, state.get("reopened", 0))
        known = desk.ledger.action(submission_key(desk.run_id, spec, attempt))
        if known and known.job is not None:
            settle(desk, goal, known.job)
            finished.append(known.job)
            continue
        if desk.seconds_left(goal) <= 0:
            halted = halted if halted["halt"] else {"halt": "timed_out", "error": "no time is left to start a job"}
            finished.append(_refused(spec, JobState.CANCELLED, "no time is left to start it"))
            continue
        try:
            job = _submit_one(spec, attempt, desk, goal, kept=_kept(state))
        except BudgetSpent as spent:
            halted = {"halt": "over_budget", "error": str(spent)}
            finished.append(_refused(spec, JobState.CANCELLED, str(spent)))
            continue
        tracked[job.key] = job
        free -= 1
        tell(desk, job, spec)
    return jobs_update(tracked=tracked, finished=finished, **halted)


def waiting(state: JobsState) -> list[JobSpec]:
    """The approved specs that have not been started, and have not ended."""
    jobs = [*state.get("tracked", {}).values(), *state.get("finished", [])]
    begun = {job["spec_digest"] for job in jobs}
    return [spec for spec in specs_of(state) if spec.digest not in begun]


def _kept(state: JobsState) -> int:
    """Micro-dollars that a job of the search must leave for saving and measuring the best model."""
    return 0 if state.get("move") in OF_THE_END else state["stock"]["usd_kept_micro"]


def attempt_at(spec: JobSpec, desk: Desk, reopened: int) -> int:
    """Which attempt this is. It grows only past a failed one, and only as often as a person reopened the run.

    So a node that runs again after a crash finds the attempt it made, whatever was checkpointed.
    """
    last = desk.ledger.last_attempt(spec)
    if last is None:
        return 1
    failed = last.job is not None and last.job.state is not JobState.SUCCEEDED
    return last.attempt + 1 if failed and last.attempt <= reopened else last.attempt


def _submit_one(spec: JobSpec, attempt: int, desk: Desk, goal: Goal, kept: int) -> Job:
    key = submission_key(desk.run_id, spec, attempt)
    rival = next((a for a in desk.ledger.open_actions() if _is_rival(a, spec)), None)
    if rival is not None:
        raise Conflict(
            f"{spec.experiment} is being trained already by job {rival.key}; cancel the run, or wait for its end"
        )
    # A teacher's requests are held one by one, so that it can go on for as long as there is room.
    held = 0 if spec.runner == teacher.TeacherRunner.name else spec.estimate.usd_micro
    desk.budget(goal).reserve(key, held, role=ROLE_OF_PURPOSE[spec.purpose], kept_usd_micro=kept)
    action = desk.ledger.intend(spec, attempt)
    runner = desk.runner(spec.runner)
    folder = desk.paths.fill_job_folder(key, spec.files, json.dumps(spec.config, indent=2))
    backend_id = action.backend_id
    if action.state is not ActionState.SUBMITTED:
        desk.journal.note("pinned", key, {"spec": spec.plain(), "packages": installed_packages()})
        backend_id = runner.find(key) or runner.submit(spec, key, folder)
        desk.ledger.submitted(key, backend_id)
    return Job(
        key=key,
        spec_digest=spec.digest,
        purpose=spec.purpose,
        experiment=spec.experiment,
        attempt=attempt,
        runner=spec.runner,
        backend_id=backend_id,
        folder=str(folder),
    )


def _is_rival(action: Action, spec: JobSpec) -> bool:
    """Whether an open action trains the same experiment under another digest: its plan was lost, and made anew."""
    same = action.purpose is spec.purpose is Purpose.TRAINING and action.experiment == spec.experiment
    return same and action.spec_digest != spec.digest


def collect(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Hand the finished jobs back; what was not started before the run had to end counts as cancelled."""
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    tracked = [Job.model_validate(plain) for plain in state.get("tracked", {}).values()]
    why = state.get("error", "") or "the run ended before it was started"
    unstarted = [_refused(spec, JobState.CANCELLED, why) for spec in waiting(state)]
    return jobs_update(finished=[*finished, *tracked, *unstarted], tracked={}, offsets={}, answers={})


def specs_of(state: JobsState) -> list[JobSpec]:
    return [JobSpec.model_validate(plain) for plain in state["pending"]]


def _refused(spec: JobSpec, state: JobState, error: str) -> Job:
    """A job that never reached a runner."""
    return Job(
        key="", spec_digest=spec.digest, purpose=spec.purpose, experiment=spec.experiment, state=state, error=error
    )


def _after_preflight(state: JobsState) -> str:
    return "may work" if state["pending"] else "nothing left"


def _after_admit(state: JobsState) -> str:
    if "edited" in state["answers"]:
        return "edited"
    return "approved" if state["pending"] else "refused"


def _watched(state: JobsState) -> str:
    """Where to go on from a submission or a look at the jobs."""
    running = sum(not JobState(job["state"]).terminal for job in state["tracked"].values())
    # A cap that ended the search does not end what is kept back for: saving and measuring the best model.
    at_the_end = state.get("move") in OF_THE_END and state.get("halt") in ("over_budget", "timed_out")
    may_start = at_the_end or not state.get("halt")
    if waiting(state) and may_start and running < Goal.model_validate(state["goal"]).run.parallel:
        return "a slot is free"
    return "running" if running else "all ended"


def build_jobs() -> CompiledStateGraph[JobsState, Context, JobsState, JobsState]:
    """The subgraph, topology only."""
    watched: dict[Hashable, str] = {"a slot is free": "submit", "running": "watch", "all ended": "collect"}
    builder = StateGraph(JobsState, context_schema=Context)
    for node in (preflight, gate, admit, submit, watch, collect):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "preflight")
    builder.add_conditional_edges("preflight", _after_preflight, {"may work": "gate", "nothing left": "collect"})
    builder.add_conditional_edges("gate", after_gate, {"answered": "admit", "not understood": "gate"})
    builder.add_conditional_edges(
        "admit", _after_admit, {"approved": "submit", "edited": "preflight", "refused": "collect"}
    )
    builder.add_conditional_edges("submit", _watched, watched)
    builder.add_conditional_edges("watch", _watched, watched)
    builder.add_edge("collect", END)
    return builder.compile()
