"""The approval nodes: they ask, and do nothing else."""

from __future__ import annotations

import json
from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from agents.evaluator.scoring import judge
from agents.hosting import OWN
from agents.publishing.runner import FOLDER, PUBLISHER
from agents.tools.actions import ACTION
from graph.consent import consent_for, envelope_of
from graph.context import Context, Desk
from graph.state import JobsState, Plain, jobs_update
from graph.submission import undecided
from shared_memory.goal import Goal
from shared_memory.records import JobSpec
from shared_memory.redaction import redact

PUT_ASIDE = "put_aside"
"""Key that stands for an answer to other jobs, or to nothing at all: nothing happens, and the gate asks again."""
ATTENDED = "nobody is asked under approve = auto, and {tool} of {source} is not marked `unattended`"


def gate(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Ask for every pending job at once; `answer_with` in the request shows the answers that are understood.

    The goal's policy and consents given earlier answer where they may. A spec that is missing from a person's answer
    is refused: silence means no. An answer that says neither yes nor no is put aside.
    """
    desk = Desk.of(runtime)
    specs = undecided(state)
    answers = _without_asking(specs, Goal.model_validate(state["goal"]), desk)
    asked = [spec for spec in specs if spec.digest not in answers]
    if desk.runs.get(desk.run_id).cancel_requested:
        no = {"approved": False, "by": "policy", "reason": "a person cancelled the run", "halt": "cancelled"}
        return jobs_update(answers={spec.digest: no for spec in specs})
    if asked:
        answer = interrupt(
            {
                "kind": "jobs",
                "run_id": desk.run_id,
                "note": state.get("answers", {}).get(PUT_ASIDE, {}).get("why", ""),
                "answer_with": _answers_that_are_understood(asked[0]),
                "requests": [
                    {**request(spec, desk), "preflight": state.get("preflights", {}).get(spec.digest)} for spec in asked
                ],
            }
        )
        said = _read(answer, asked)
        if isinstance(said, str):
            return jobs_update(answers={PUT_ASIDE: {"why": f"{said}; nothing was approved"}})
        answers |= _understood(said, asked)
    return jobs_update(answers=answers)


def _answers_that_are_understood(example: JobSpec) -> dict[str, Any]:
    """What a person may answer, to be copied; `yes` and `no` alone do as well."""
    return {
        "to approve all": {"approved": True},
        "to refuse all": {"approved": False, "reason": "why"},
        "to decide one by one, those not named being refused": {example.digest: {"approved": True}},
        "to change a job, and be asked again": {example.digest: {"edit": {"config": example.config}}},
    }


def _without_asking(specs: list[JobSpec], goal: Goal, desk: Desk) -> dict[str, Plain]:
    """The answers of policy: `auto` to all, `paid` to what is free, else to what an earlier consent covers.

    What a model asks for may be what a text from outside has talked it into: where nobody is asked, only tools whose
    owner has said so beforehand change anything outside.
    """
    answers: dict[str, Plain] = {}
    decisions, actions = desk.ledger.decisions(), desk.ledger.actions()
    for spec in specs:
        if goal.run.approve == "auto" and spec.runner == ACTION and not spec.config.get("unattended"):
            answers[spec.digest] = {"approved": False, "by": "policy", "reason": ATTENDED.format(**spec.config)}
        elif goal.run.approve == "auto" or (goal.run.approve == "paid" and is_free(spec, desk)):
            reason = f"approve = {goal.run.approve}"
            answers[spec.digest] = {"approved": True, "by": "policy", "reason": reason}
        elif consent := consent_for(spec, decisions, actions):
            reason = "the same work in another way, within what was approved"
            parent = consent.spec_digest
            answers[spec.digest] = {"approved": True, "by": "policy", "reason": reason, "parent": parent}
    return answers


def _read(answer: Any, asked: list[JobSpec]) -> Plain | str:
    """The answer by spec digest, or why it is none: it names something else, or says neither yes nor no.

    An edit of a file that is not to be edited is none either: whoever took a row out would believe that it is gone.

    What is typed into a form comes as text, so text is read as the JSON it holds; `yes` and `no` mean all jobs.
    """
    if isinstance(answer, str):
        word = answer.strip().lower()
        if word in ("yes", "no"):
            return _read(word == "yes", asked)
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = None
    if isinstance(answer, bool):
        answer = {"approved": answer}
    if not isinstance(answer, dict) or not isinstance(answer.get("approved", False), bool):
        return "the last answer says neither yes nor no"
    if "approved" in answer:
        return {spec.digest: answer for spec in asked}
    foreign = sorted(answer.keys() - {spec.digest for spec in asked})
    if foreign:
        return f"the last answer names `{foreign[0]}`, which is not asked about"
    fixed = [name for spec in asked for name in _files_edited(answer.get(spec.digest)) if name not in _editable(spec)]
    return f"the last answer edits `{fixed[0]}`, which is made from records and data and stays" if fixed else answer


def _files_edited(said: Any) -> list[str]:
    edit = said.get("edit") if isinstance(said, dict) else None
    return list(edit.get("files", {})) if isinstance(edit, dict) and _is_edit(edit) else []


def _editable(spec: JobSpec) -> tuple[str, ...]:
    """The files of a job whose text a person may change: its script, which of some jobs only tells what they are."""
    return () if spec.runner in (PUBLISHER, ACTION) else (spec.script,)


def after_gate(state: JobsState) -> str:
    return "not understood" if PUT_ASIDE in state["answers"] else "answered"


def is_free(spec: JobSpec, desk: Desk) -> bool:
    """Whether a job neither costs money nor takes anything off this machine; a script not ours may do what it likes."""
    stays = spec.runner == "local" or spec.flavor in (OWN, FOLDER)
    judged = judge.terms_of(spec, desk.paths)
    stays = stays and not (judged and judged.hosted)
    return stays and spec.estimate.usd_micro == 0 and not spec.custom


def request(spec: JobSpec, desk: Desk) -> Plain:
    """What a person needs to see of a job to decide on it."""
    texts = {
        name: desk.paths.stored(digest).read_text(encoding="utf-8", errors="replace")
        for name, digest in spec.files.items()
        if name == spec.script or name.endswith(".py")
    }
    script = texts.pop(spec.script)
    envelope = envelope_of(spec).plain()
    return {**spec.plain(), "digest": spec.digest, "script_text": script, "modules": texts, "envelope": envelope}


def _understood(answer: Plain, specs: list[JobSpec]) -> dict[str, Plain]:
    """What was said of each spec. Anything but a plain yes to exactly this spec is a no."""
    answers: dict[str, Plain] = {}
    for spec in specs:
        said = answer.get(spec.digest)
        if isinstance(said, dict) and _is_edit(said.get("edit")):
            answers[spec.digest] = {"edit": said["edit"]}
        elif isinstance(said, dict) and said.get("approved") is True:
            answers[spec.digest] = {"approved": True, "by": "person", "reason": redact(str(said.get("reason", "")))}
        else:
            reason = redact(str(said.get("reason", ""))) if isinstance(said, dict) else "no answer for this job"
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
