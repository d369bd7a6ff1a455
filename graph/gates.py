"""The approval nodes: they ask, and do nothing else."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graph.context import Context, Desk
from graph.state import JobsState, Plain, jobs_update
from shared_memory.goal import Goal
from shared_memory.records import JobSpec


def gate(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Ask for every pending job at once; the answer maps spec digest → {approved, reason} or {edit}.

    The goal's policy answers where it may: `auto` always, `paid` where nothing is spent and nothing leaves the
    machine. A spec that is missing from the answer is refused: silence means no.
    """
    goal = Goal.model_validate(state["goal"])
    specs = [JobSpec.model_validate(plain) for plain in state["pending"]]
    if goal.run.approve == "auto" or (goal.run.approve == "paid" and all(map(is_free, specs))):
        reason = f"approve = {goal.run.approve}"
        return jobs_update(
            answers={spec.digest: {"approved": True, "by": "policy", "reason": reason} for spec in specs}
        )
    desk = Desk.of(runtime)
    answer = interrupt({"kind": "jobs", "run_id": desk.run_id, "requests": [request(spec, desk) for spec in specs]})
    return jobs_update(answers=_understood(answer, specs))


def is_free(spec: JobSpec) -> bool:
    """Whether a job neither costs money nor takes anything off this machine."""
    return spec.runner == "local" and spec.estimate.usd_micro == 0


def request(spec: JobSpec, desk: Desk) -> Plain:
    """What a person needs to see of a job to decide on it."""
    script = desk.paths.stored(spec.files[spec.script]).read_text(encoding="utf-8", errors="replace")
    return {**spec.plain(), "digest": spec.digest, "script_text": script}


def _understood(answer: Any, specs: list[JobSpec]) -> dict[str, Plain]:
    """The answer by spec digest. Anything but a plain yes to exactly this spec is a no.

    `{"approved": true}` without digests, as one types it into Studio, answers all of them.
    """
    if isinstance(answer, dict) and "approved" in answer:
        answer = {spec.digest: answer for spec in specs}
    if not isinstance(answer, dict):
        answer = {}
    answers: dict[str, Plain] = {}
    for spec in specs:
        said = answer.get(spec.digest)
        if isinstance(said, dict) and _is_edit(said.get("edit")):
            answers[spec.digest] = {"edit": said["edit"]}
        elif isinstance(said, dict) and said.get("approved") is True:
            answers[spec.digest] = {"approved": True, "by": "person", "reason": str(said.get("reason", ""))}
        else:
            reason = str(said.get("reason", "")) if isinstance(said, dict) else "no answer for this job"
            answers[spec.digest] = {"approved": False, "by": "person", "reason": reason}
    return answers


def _is_edit(edit: Any) -> bool:
    """`{"config": {…}}` and `{"files": {name: text}}`, either or both."""
    if not isinstance(edit, dict) or not edit or edit.keys() - {"config", "files"}:
        return False
    files = edit.get("files", {})
    return (
        isinstance(edit.get("config", {}), dict)
        and isinstance(files, dict)
        and all(isinstance(text, str) for text in files.values())
    )
