"""The one door to compute: a subgraph that takes a list of JobSpecs and returns a list of Jobs.

    preflight → gate → admit → submit ⇄ watch ⟲ → collect
        ▲                │                │
        ├──── edited ────┘                ▼
        └────────── another way ────── recover

Submitting and waiting are separate nodes, and no node does anything before it asks: a node that is interrupted, or
killed, runs again from its first line.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents.data_engineer.synthesis import teacher
from agents.evaluator import endpoint
from agents.publishing import runner as publishing
from agents.tools import actions
from graph import publications
from graph.consent import envelope_of
from graph.context import Context, Desk
from graph.gates import after_gate, gate
from graph.preflight import preflight
from graph.recover import recover, undiagnosed
from graph.routing import OF_THE_END
from graph.settle import end_doubles
from graph.state import JobsState, Plain, jobs_update
from graph.submission import refused, specs_of, submit, undecided, waiting
from graph.watch import watch
from shared_memory.goal import Goal
from shared_memory.records import REJECTED, Decision, Envelope, Job, JobSpec, JobState, Purpose


def admit(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Write the answers down as Decisions; an edited spec goes back to the start with its new digest."""
    desk = Desk.of(runtime)
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    admitted, pending, asked = list(state["admitted"]), specs_of(state), undecided(state)
    halted: Plain = {}
    for spec in asked:
        said = state["answers"][spec.digest]
        if "edit" in said:
            pending[pending.index(spec)] = edit(spec, said["edit"], desk)
            continue
        desk.ledger.decide(_decision(spec, said))
        if said["approved"]:
            admitted.append(spec.digest)
            continue
        pending.remove(spec)
        finished.append(_refusal(spec, said, state))
        if said.get("halt"):
            halted = {"halt": said["halt"], "error": said["reason"]}
    _tell_decisions(desk, asked, state["answers"])
    return jobs_update(pending=pending, finished=finished, answers={}, admitted=admitted, **halted)


def _refusal(spec: JobSpec, said: Plain, state: JobsState) -> Job:
    """How a refused job comes out; one that was to mend another leaves that one's failure as the end."""
    failed = [entry["job"] for entry in state.get("recovered", []) if entry["spec"]["experiment"] == spec.experiment]
    if failed and said["by"] == "person":
        job = Job.model_validate(failed[-1])
        return job.model_copy(update={"error": f"{job.error}; another try was refused"})
    reason = said["reason"] if said.get("halt") else f"{REJECTED}{said['reason'] or 'no reason given'}"
    return refused(spec, JobState.CANCELLED, reason)


def _tell_decisions(desk: Desk, specs: list[JobSpec], answers: dict[str, Plain]) -> None:
    decided = [
        {"digest": spec.digest, "title": spec.title, "approved": answers[spec.digest]["approved"]}
        for spec in specs
        if "edit" not in answers[spec.digest]
    ]
    for by in ("person", "policy"):
        theirs = [request for request in decided if answers[request["digest"]]["by"] == by]
        approved = sum(request["approved"] for request in theirs)
        if theirs:
            desk.emit("gate", by=by, requests=theirs, text=f"{approved} of {len(theirs)} jobs approved by {by}")


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
    # A text that we do not know is nobody's but the person's who approves it, each time it runs.
    custom = spec.custom or (text is not None and spec.purpose is Purpose.TRAINING)
    edited = spec.model_copy(update={"config": config, "files": files, "custom": custom})
    goal = Goal.model_validate(desk.runs.get(desk.run_id).goal)
    match spec.runner:
        case teacher.TeacherRunner.name:
            edited = teacher.told_anew(edited, goal, desk.paths)
        case endpoint.EndpointRunner.name:
            edited = endpoint.told_anew(edited, goal, desk.paths)
        case publishing.PUBLISHER:
            edited = publications.told_anew(edited, desk)
        case actions.ACTION:
            edited = actions.told_anew(edited, desk.paths)
    return edited.model_copy(update={"title": f"{edited.title} (edited: {', '.join(edits)})"})


def collect(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Hand the finished jobs back; what was not started before the run had to end counts as cancelled."""
    desk = Desk.of(runtime)
    end_doubles(desk, Goal.model_validate(state["goal"]))
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    tracked = [Job.model_validate(plain) for plain in state.get("tracked", {}).values()]
    why = state.get("error", "") or "the run ended before it was started"
    unstarted = [refused(spec, JobState.CANCELLED, why) for spec in waiting(state)]
    return jobs_update(finished=[*finished, *tracked, *unstarted], tracked={}, offsets={}, answers={})


def _after_preflight(state: JobsState) -> str:
    return "may work" if undecided(state) else _watched(state)


def _after_admit(state: JobsState) -> str:
    return "edited" if undecided(state) else _watched(state)


def _watched(state: JobsState) -> str:
    """Where to go on from a submission or a look at the jobs."""
    if undiagnosed(state):
        return "failed"
    running = sum(not JobState(job["state"]).terminal for job in state["tracked"].values())
    # A cap that ended the search does not end what is kept back for: saving and measuring the best model.
    at_the_end = state.get("move") in OF_THE_END and state.get("halt") in ("over_budget", "timed_out")
    may_start = at_the_end or not state.get("halt")
    if waiting(state) and may_start and running < Goal.model_validate(state["goal"]).run.parallel:
        return "a slot is free"
    return "running" if running else "all ended"


def _after_recover(state: JobsState) -> str:
    return "another way" if undecided(state) and not state.get("halt") else _watched(state)


def build_jobs() -> CompiledStateGraph[JobsState, Context, JobsState, JobsState]:
    """The subgraph, topology only."""
    watched: dict[Hashable, str] = {
        "a slot is free": "submit", "running": "watch", "all ended": "collect", "failed": "recover"
    }  # fmt: skip
    builder = StateGraph(JobsState, context_schema=Context)
    for node in (preflight, gate, admit, submit, watch, recover, collect):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "preflight")
    builder.add_conditional_edges("preflight", _after_preflight, {"may work": "gate", **watched})
    builder.add_conditional_edges("gate", after_gate, {"answered": "admit", "not understood": "gate"})
    builder.add_conditional_edges("admit", _after_admit, {"edited": "preflight", **watched})
    builder.add_conditional_edges("submit", _watched, watched)
    builder.add_conditional_edges("watch", _watched, watched)
    builder.add_conditional_edges("recover", _after_recover, {"another way": "preflight", **watched})
    builder.add_edge("collect", END)
    return builder.compile()
