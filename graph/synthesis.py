"""How rows come to be written: what the data engineer knows before it decides, and what becomes of what was written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from agents import sandbox
from agents.brain import Brief, DataAudit, Move, Role
from agents.data_engineer import playbook
from agents.data_engineer import prepare as data_engineer
from agents.data_engineer.agent import FAILED_PROGRAM
from agents.data_engineer.audit import audit_sources
from agents.data_engineer.checks.stream import Stream
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.formats.tables import read_sources
from agents.data_engineer.proposal import DataProposal, Generate
from agents.data_engineer.synthesis import teacher
from agents.data_engineer.synthesis.acceptance import accept
from agents.data_engineer.synthesis.synthesize import topics_of
from agents.data_engineer.synthesis.verify import Verifier, verifier_of
from agents.evaluator.benchmarks.benchmark import load_benchmark
from agents.hosting import is_hosted
from agents.reading.files import digest_of
from agents.reading.sources import to_train_on
from graph import routing
from graph.briefing import brief_from
from graph.context import Desk
from graph.state import Plain, RunState, update
from graph.watch import Interrupted, heed
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import REJECTED, Finding, Job, JobSpec, JobState, canonical_digest

WRITTEN = "written"
"""Names the journal's notes on written rows, their finding, and the move once it is given up."""
CHOICES = {"gpqa", "distractors", "multiple_choice"}
"""Formats of multiple-choice rows."""


def data_brief(state: RunState, desk: Desk) -> Brief:
    """What the data engineer is shown: besides the rest, what the goal's own rows are like and who may write others."""
    brief = brief_from(state)
    name = teacher_of(brief.goal, desk.brain_name(brief.goal, Role.DATA_ENGINEER))
    refused = teacher.refusal(name, brief.goal) if name else ""
    gave_up = routing.is_exhausted(state, Move.DATA, WRITTEN)
    return replace(
        brief,
        audit=audit_of(brief.goal, desk),
        held_out=held_out_of(desk),
        choices=is_multiple_choice(brief.goal),
        teacher="" if refused else name,
        no_teacher=refused,
        not_written=desk.journal.notes(WRITTEN)["outcome"]["stopped"] if gave_up else "",
    )


def teacher_of(goal: Goal, brain: str) -> str:
    """The model that the goal names for writing rows, or else the data engineer's own; empty where it has none."""
    return goal.data.teacher or ("" if brain == "playbook" else brain)


def audit_of(goal: Goal, desk: Desk) -> DataAudit | None:
    """What the goal's own rows are like; looked at once for as long as the files stay what they are."""
    if not goal.data.train:
        return None
    files = {str(source.path): digest_of(source.path) for source in to_train_on(goal.data.train)}
    key = canonical_digest({"files": files, "topics": goal.data.topics})
    noted = desk.journal.notes("audit").get(key)
    if noted is None:
        noted = audited(goal).plain()
        desk.journal.note("audit", key, noted)
    audit = DataAudit.model_validate(noted)
    return audit.model_copy(update={"distinct": audit.distinct - len(held_out_of(desk))})


def audited(goal: Goal) -> DataAudit:
    """The audit of the goal's own rows in numbers. Raises BadInput where they cannot be read."""
    report = audit_sources(goal.data.train)
    topics = {}
    if goal.data.topics:
        rows = (row for batch in Stream(to_train_on(goal.data.train)).batches() for row in batch.rows)
        topics = topics_of(rows, goal.data.topics)
    return DataAudit(
        rows=report["rows"],
        distinct=report["left"]["rows"],
        verdict=report["verdict"],
        findings={found["kind"]: found["count"] for found in report["findings"] if found["severity"] != "info"},
        topics=topics,
    )


def is_multiple_choice(goal: Goal) -> bool:
    """Whether rows for the goal are multiple choice: its own are, or, where it has none, what it is measured on."""
    if goal.data.train:
        first = next(iter(Stream(to_train_on(goal.data.train)[:1]).batches()), None)
        return first is not None and first.layout is not None and first.layout.format in CHOICES
    return bool(goal.benchmark) and load_benchmark(goal.primary).metric == "choice"


def held_out_of(desk: Desk) -> frozenset[str]:
    """Ids of the rows that the run is measured on."""
    return frozenset(desk.held_out.get("rows", ()))


def rows_to_train_on(goal: Goal, desk: Desk) -> list[Row]:
    """The goal's own rows without those that are held out: nobody who writes rows may see one of these."""
    held_out = held_out_of(desk)
    return [row for row in read_sources(goal.data.train) if row.id not in held_out]


def note_decision(brief: Brief, desk: Desk) -> None:
    """Put on record whether rows are written, and the numbers that say so; once rows are there, it stands."""
    if brief.generated:
        return
    decision = playbook.decide(brief)
    audit = brief.audit.plain() if brief.audit else None
    desk.journal.note(WRITTEN, "decision", {**decision.plain(), "line": decision.line, "audit": audit})
    desk.emit("note", text=decision.line)


def generation_job(generate: Generate, brief: Brief, desk: Desk) -> JobSpec:
    """The job that writes rows, by a script or by a teacher. Raises BadInput where there is no such script."""
    goal = brief.goal
    if generate.teacher:
        rows = rows_to_train_on(goal, desk)
        return teacher.teaching_job(generate, goal, rows, choices=brief.choices, paths=desk.paths)
    spec = data_engineer.generation_job(generate, paths=desk.paths, timeout_seconds=3600, sandbox=goal.run.sandbox)
    if spec.sandbox == "auto" and (lacks := sandbox.shortcomings_of_this_machine()):
        spec = spec.model_copy(update={"title": f"{spec.title}, in a sandbox {lacks}"})
    if generate.verify == "computed":
        return spec
    hosted = is_hosted(brief.teacher, goal.brain.api_base)
    checks = f"; {brief.teacher} checks the rows" + (", which leave this machine for it" if hosted else "")
    return spec.model_copy(update={"title": spec.title + checks})


def after_generation(job: Job, spec: JobSpec, state: RunState, desk: Desk) -> Plain | None:
    """Let what was written through the gates; where it does not pass, the run goes on without it, if it can.

    A model that checks rows takes its time: between its requests a cancellation and the end of the run's time are
    heard, and become its halt. None where the run is parked meanwhile: done again, it goes on from the answers on disk.
    """
    goal = routing.goal_of(state)
    proposal = DataProposal.model_validate(state["proposal"])
    if proposal.generate is None:
        raise ValueError("rows were written that nobody proposed")
    began = time.monotonic()
    try:
        accepted = accept(
            data_engineer.generated_file(job),
            rows_to_train_on(goal, desk),
            verifier=_verifier(spec, proposal.generate, goal, desk, lambda: heed(desk, goal, state)),
            threshold=proposal.near_duplicate_threshold,
            seed=proposal.generate.seed,
            folder=desk.paths.data,
        )
    except Interrupted as interrupted:
        return update(**interrupted.means) if interrupted.means["halt"] else None
    finally:
        desk.count_time(time.monotonic() - began)
    steps = [step.plain() for step in accepted.steps]
    if accepted.file is None:
        return _without(accepted.stopped, steps, job, state, desk)
    desk.journal.note(WRITTEN, "outcome", {"rows": accepted.rows, "steps": steps, "job": job.key})
    notes = "; ".join(f"{step.name}: {step.rows_out} of {step.rows_in} ({step.note})" for step in accepted.steps)
    desk.emit("note", text=f"{accepted.rows} written rows passed; {notes}")
    return update(generated=[*state.get("generated", []), str(accepted.file)])


def _verifier(spec: JobSpec, generate: Generate, goal: Goal, desk: Desk, between: Callable[[], None]) -> Verifier:
    """What checks the rows of a job: of a teacher's what its config says, which a person may have edited.

    Raises BadInput where the model that is to check them must not see them.
    """
    taught = spec.runner == teacher.TeacherRunner.name
    verify = spec.config["verify"] if taught else generate.verify
    if verify == "computed":
        return verifier_of(verify, None)
    name = spec.config["teacher"] if taught else teacher_of(goal, desk.brain_name(goal, Role.DATA_ENGINEER))
    if fault := teacher.fault_of_config(spec, goal) if taught else teacher.refusal(name, goal):
        raise BadInput(fault)
    desk.emit("note", text=f"{name} checks the written rows ({verify})")
    return verifier_of(verify, desk.language_model(goal, Role.DATA_ENGINEER, name, alone=True), between)


def after_failure(job: Job, state: RunState, desk: Desk) -> Plain | None:
    """What a generation job that came to nothing changes; None where that is the end, as for a script that crashed.

    A teacher that was stopped, one that no cap left room for, and a no at the gate leave the goal's own rows.
    """
    rejected = job.error.startswith(REJECTED)
    generate = DataProposal.model_validate(state["proposal"]).generate
    if generate is not None and generate.program and job.state is JobState.FAILED:
        return _program_failed(job, state, desk)
    taught = generate is not None and bool(generate.teacher) and bool(job.key)
    if not rejected and not taught:
        return None
    changes = _without(job.error, [], job, state, desk)
    if "halt" not in changes:
        return changes
    if rejected:
        return None
    return changes | {"halt": "over_budget", "error": job.error} if job.state is JobState.CANCELLED else changes


def _program_failed(job: Job, state: RunState, desk: Desk) -> Plain:
    """Put on record how a generator of a model came to nothing; the model may bring another one, or do without."""
    number = 1 + sum(key.startswith(FAILED_PROGRAM) for key in state.get("findings", {}))
    claim = f"the generator that was written for this run came to nothing: {job.error}"
    finding = Finding(id=f"{FAILED_PROGRAM}{number}", claim=claim, source=f"job {job.key}", confidence="high")
    desk.journal.put(finding)
    desk.emit("note", text=claim)
    return update(findings={finding.id: finding})


def _without(why: str, steps: list[Plain], job: Job, state: RunState, desk: Desk) -> Plain:
    """Give written rows up: on record as a finding, and the run's halt where the goal's own rows do not suffice."""
    desk.journal.note(WRITTEN, "outcome", {"rows": 0, "stopped": why, "steps": steps, "job": job.key})
    finding = Finding(
        id=WRITTEN,
        claim=f"rows that were written for this run are not used: {why}",
        source=f"job {job.key}" if job.key else "the gate",
        confidence="high",
    )
    desk.journal.put(finding)
    desk.emit("note", text=finding.claim)
    changes = update(
        findings={finding.id: finding},
        exhausted=[*state.get("exhausted", []), routing.exhausted(Move.DATA, WRITTEN)],
    )
    try:
        playbook.propose_data(replace(data_brief(state, desk), not_written=why))
    except BadInput as error:
        changes |= update(halt="failed", error=str(error))
    return changes
