"""What the roles asked for that changes something outside: through the one door, and told in later briefs."""

from __future__ import annotations

import json
from functools import wraps
from typing import Protocol

from langgraph.runtime import Runtime

from agents.tools.actions import action_job, cut
from graph.context import Context, Desk
from graph.state import Plain, RunState, update
from shared_memory.actions import UNKNOWN, ActionOutcome, ActionRequest, Actions
from shared_memory.records import REJECTED, Job, JobSpec, JobState

LONGEST_ARGUMENTS, LONGEST_ANSWER = 400, 1200
"""Characters of what was called, and of what came of it, that a role is told."""
MOST_TOLD = 12
"""Outcomes that a brief tells of: the latest."""


class CarryOut(Protocol):
    """A node that carries a proposal out."""

    def __call__(self, state: RunState, runtime: Runtime[Context]) -> Plain: ...


def with_actions(carry_out: CarryOut) -> CarryOut:
    """A role's carry-out, and behind the same door the actions that its model has asked for, before its own jobs.

    A run that is on its way out does none: what is open stays open, for when it is resumed.
    """

    @wraps(carry_out)
    def node(state: RunState, runtime: Runtime[Context]) -> Plain:
        changes = carry_out(state, runtime)
        if state.get("halt") or changes.get("halt"):
            return changes
        desk = Desk.of(runtime)
        actions = [action_job(request, desk.paths) for request in Actions(desk.journal).open()]
        if not actions:
            return changes
        own = [JobSpec.model_validate(plain) for plain in changes.get("pending", [])]
        return {**changes, **update(pending=[*actions, *own], finished=[])}

    return node


def file_outcome(job: Job, spec: JobSpec | None, desk: Desk) -> None:
    """Write down what came of an action. One that was never begun, because the run had to end, stays open.

    spec: as it was done, which a person may have edited; None where it was not done.
    """
    actions = Actions(desk.journal)
    request = ActionRequest.model_validate(spec.config) if spec else actions.get(job.experiment)
    rejected = job.error.startswith(REJECTED)
    if job.state is JobState.CANCELLED and not job.key and not rejected:
        return
    outcome = _outcome(job, request, rejected)
    actions.settle(job.experiment, outcome)
    desk.emit("note", text=f"action {job.experiment}, {request.tool}: {outcome.state}")


def _outcome(job: Job, request: ActionRequest, rejected: bool) -> ActionOutcome:
    called = f"{request.tool}({cut(json.dumps(request.arguments, ensure_ascii=False), LONGEST_ARGUMENTS)})"
    if job.state is JobState.SUCCEEDED:
        said = cut(str(job.result.get("text", "")), LONGEST_ANSWER)
        return ActionOutcome(state="done", text=f"{called} was done; it answered: {said or 'nothing'}")
    if rejected:
        return ActionOutcome(
            state="refused", text=f"{called} was not done: it was refused: {job.error.removeprefix(REJECTED)}"
        )
    if job.error.startswith(UNKNOWN):
        return ActionOutcome(state="unknown", text=f"{called} may have been done or not: {job.error}")
    return ActionOutcome(state="failed", text=f"{called} failed: {cut(job.error, LONGEST_ANSWER)}")


def told(desk: Desk) -> dict[str, str]:
    """For a brief: what came of the run's actions, by id."""
    outcomes = Actions(desk.journal).outcomes()
    return {id: outcomes[id].text for id in list(outcomes)[-MOST_TOLD:]}
