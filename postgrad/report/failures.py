"""The section of a report on what went wrong, and what was done about it."""

from __future__ import annotations

from agents.trainer.training import diagnose
from postgrad.report.blocks import Block, Bullets, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence
from postgrad.report.tree import standing, training_jobs
from postgrad.units import NONE
from shared_memory.records import REJECTED, Branch, Experiment, Job, JobState, Purpose


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
        diagnosis = diagnose(job.error) if experiment and job.state is JobState.FAILED else None
        kind = diagnosis.kind.replace("_", " ") if diagnosis else NONE
        rows.append((what, cause, kind, _then(evidence, job, experiment)))
    for experiment in evidence.experiments.values():
        if experiment.error and (experiment.id, experiment.error) not in told:
            refused = experiment.error.startswith(REJECTED)
            what = f"{experiment.id}, {'refused by a person' if refused else experiment.status}"
            rows.append((what, experiment.error.removeprefix(REJECTED), NONE, "not trained" if refused else NONE))
    return rows


def _then(evidence: Evidence, job: Job, experiment: Experiment | None) -> str:
    """What came after a failed job: another attempt, a mended child, or nothing."""
    if experiment is None:
        later = [other for other in evidence.jobs.values() if _again(job, other)]
        return f"attempt {later[-1].attempt}, {later[-1].state.value}" if later else NONE
    jobs = training_jobs(evidence, experiment)
    later = jobs[jobs.index(job) + 1 :]
    if later:
        return f"trained again{_in_less_memory(evidence, job, later[0])}: {later[0].state.value}"
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


def _in_less_memory(evidence: Evidence, before: Job, after: Job) -> str:
    """` with 8 → 4 rows on the device at once`, where that is what was changed."""
    specs = evidence.spec_of(before), evidence.spec_of(after)
    sizes = [spec.config.get("micro_batch") for spec in specs if spec is not None]
    if len(sizes) < 2 or sizes[0] == sizes[1]:
        return ""
    return f" with {sizes[0]} → {sizes[1]} rows on the device at once, the batch behind a weight update as before"
