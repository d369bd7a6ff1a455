"""The section of a report on what went wrong, and what was done about it."""

from __future__ import annotations

from postgrad.report.blocks import Block, Bullets, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence
from postgrad.report.tree import standing, training_jobs
from postgrad.units import NONE
from shared_memory.records import FREE_OF_SCOPE, REJECTED, Branch, Diagnosis, Experiment, Job, JobState, Purpose


def failures(evidence: Evidence) -> Section:
    """Every failure with its way out, the run's own end and stand-ins for a language model included."""
    lines = [f"The run: {evidence.row.error}"] if evidence.row.error else []
    lines += [
        f"The playbook stood in for the {entry.get('role', '').replace('_', ' ')}'s language model: "
        f"{entry.get('reason', NONE)}"
        for entry in evidence.stand_ins
    ]
    rows = tuple(_rows(evidence))
    blocks: list[Block] = [Bullets(tuple(lines))] if lines else []
    if rows:
        blocks.append(Grid("What failed, and what was done about it", ("what", "cause", "diagnosis", "then"), rows))
    return Section("failures", "Failures and recoveries", tuple(blocks) or (Paragraph("None."),))


def _rows(evidence: Evidence) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    told = set()
    for job in evidence.jobs.values():
        if not job.state.terminal or (job.state is JobState.SUCCEEDED and not job.error):
            continue
        experiment = evidence.experiments.get(job.experiment) if job.purpose is Purpose.TRAINING else None
        cause = job.error or "no cause was recorded"
        what = f"{job.purpose.value} of {job.experiment}, attempt {job.attempt}, {job.state.value}"
        told.add((job.experiment, job.error))
        diagnosis = evidence.diagnoses.get(job.key)
        rows.append((what, cause, _told(diagnosis) if diagnosis else NONE, _then(evidence, job, experiment)))
    for experiment in evidence.experiments.values():
        if experiment.error and (experiment.id, experiment.error) not in told:
            refused = experiment.error.startswith(REJECTED)
            what = f"{experiment.id}, {'refused by a person' if refused else experiment.status}"
            rows.append((what, experiment.error.removeprefix(REJECTED), NONE, "not trained" if refused else NONE))
    return rows


def _told(diagnosis: Diagnosis) -> str:
    """The kind of failure, and what to do about it."""
    kind = diagnosis.kind.replace("_", " ")
    return f"{kind}: {diagnosis.remedy}" if diagnosis.remedy else kind


def _then(evidence: Evidence, job: Job, experiment: Experiment | None) -> str:
    """What came after a failed job: another attempt, a mended child, or nothing."""
    if experiment is None:
        later = [other for other in evidence.jobs.values() if _again(job, other)]
        return f"attempt {later[-1].attempt}, {later[-1].state.value}" if later else NONE
    jobs = training_jobs(evidence, experiment)
    later = jobs[jobs.index(job) + 1 :]
    if later:
        return f"trained again{_another_way(evidence, job, later[0])}: {later[0].state.value}"
    children = [
        child
        for child in evidence.experiments.values()
        if child.branch is Branch.DEBUG and child.parent == experiment.id
    ]
    if children:
        return "; ".join(f"mended as {child.id} ({child.change}): {standing(evidence, child)}" for child in children)
    return "given up"


def _again(job: Job, other: Job) -> bool:
    return other.spec_digest == job.spec_digest and other.attempt > job.attempt


def _another_way(evidence: Evidence, before: Job, after: Job) -> str:
    """` with micro batch 8 → 4, the mathematics as before`, where something was changed."""
    old, new = evidence.spec_of(before), evidence.spec_of(after)
    if old is None or new is None or old.digest == new.digest:
        return ""
    keys = [key for key in FREE_OF_SCOPE if old.config.get(key) != new.config.get(key)]
    changes = [f"{key.replace('_', ' ')} {old.config.get(key)} → {new.config.get(key)}" for key in keys]
    changes += [f"flavor {old.flavor} → {new.flavor}"] if old.flavor != new.flavor else []
    same = ", the mathematics as before" if old.scope == new.scope else ""
    return f" with {', '.join(changes)}{same}" if changes else ""
