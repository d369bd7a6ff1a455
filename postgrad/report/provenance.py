"""The sections of a report by which anyone can check it: recipe, data, consent, cost, certificate, commands."""

from __future__ import annotations

import json
import platform
import shlex
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from postgrad.report.blocks import Block, Bullets, Code, Facts, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence, read_lines
from postgrad.units import NONE, dollars, duration, one_line, percent
from shared_memory.records import MICRO_USD, DatasetRecord, Decision, Job, Purpose, Recipe

PACKAGES = (
    "postgrad",
    "torch",
    "transformers",
    "trl",
    "peft",
    "inspect-ai",
    "datasets",
    "tokenizers",
    "accelerate",
    "langgraph",
    "huggingface-hub",
    "polars",
    "trackio",
)
"""Whose versions a result may depend on."""

ROLE_OF = {
    Purpose.GENERATION: "data engineer",
    Purpose.TRAINING: "trainer",
    Purpose.MERGE: "trainer",
    Purpose.EVALUATION: "evaluator",
}


def recipe(evidence: Evidence) -> Section:
    """The recipes with reason and source, and the findings they rest on."""
    if not evidence.recipes and not evidence.experiments:
        return Section("recipe", "Recipe and findings", (Paragraph("No recipe was chosen."),))
    blocks: list[Block] = []
    for entry in evidence.recipes.values():
        blocks.append(
            Facts(
                (
                    ("Recipe", f"{entry.id}: {settings_of(entry)}"),
                    ("Reason", entry.reason or NONE),
                    ("Source", entry.source or NONE),
                )
            )
        )
    used = tuple((experiment.id, settings_of(experiment.recipe)) for experiment in evidence.experiments.values())
    if used:
        blocks.append(Grid("The recipe as each experiment ran it", ("experiment", "settings"), used))
    found = tuple((entry.id, entry.claim, entry.source, entry.confidence) for entry in evidence.findings.values())
    if found:
        blocks.append(Grid("Findings, with their sources", ("id", "finding", "source", "confidence"), found))
    return Section("recipe", "Recipe and findings", tuple(blocks))


def settings_of(entry: Recipe) -> str:
    """Every number of a recipe in one line."""
    lora = entry.lora
    what = f"LoRA r{lora.r} α{lora.alpha} dropout {lora.dropout:g} on {lora.target_modules}" if lora else "all weights"
    return (
        f"{entry.method.upper()}, {what}; learning rate {entry.learning_rate:g} "
        f"({entry.lr_scheduler}, warm-up {entry.warmup_ratio:g}); "
        f"{entry.epochs} epoch{'s' if entry.epochs > 1 else ''} in all; "
        f"batch {entry.batch} in micro-batches of {entry.micro_batch}; "
        f"at most {entry.max_length} tokens a row; packing {'on' if entry.packing else 'off'}"
    )


def data(evidence: Evidence) -> Section:
    """Training data with its provenance: every step, what it let through, and the overlap with the benchmarks."""
    if not evidence.datasets:
        return Section("data", "Training data", (Paragraph("No training data was made."),))
    blocks: list[Block] = []
    for entry in evidence.datasets.values():
        blocks += _dataset_blocks(entry)
    return Section("data", "Training data", tuple(blocks))


def _dataset_blocks(entry: DatasetRecord) -> Iterator[Block]:
    overlap = ", ".join(f"{name}: {percent(share)} of its items" for name, share in entry.contamination.items())
    yield Facts(
        (
            ("Data set", f"{entry.id}, {entry.rows:,} rows"),
            ("Made from", entry.source + (f" at {entry.revision}" if entry.revision else "")),
            ("Licence", entry.licence or "not stated"),
            ("Overlap found and removed", overlap or "not checked against any benchmark"),
            ("File", entry.path),
            ("sha256", entry.digest),
        )
    )
    if entry.steps:
        rows = tuple((step.name, f"{step.rows_in:,}", f"{step.rows_out:,}", step.note or NONE) for step in entry.steps)
        yield Grid(f"How {entry.id} was made", ("step", "rows in", "rows out", "note"), rows, (1, 2))
    if entry.findings:
        yield Bullets(entry.findings)


def consent(evidence: Evidence) -> str:
    """Who approved the jobs, in one sentence."""
    approved = [decision for decision in evidence.decisions if decision.approved]
    by_policy = sum(decision.by == "policy" for decision in approved)
    if not approved:
        return "No job was approved."
    mode = f"approved by policy (--approve {evidence.goal.run.approve})"
    by_person = len(approved) - by_policy
    if not by_policy:
        return f"A person approved all {by_person} jobs." if by_person > 1 else "A person approved the one job."
    if not by_person:
        return (
            f"No person approved the jobs of this run: all {by_policy} were {mode}."
            if by_policy > 1
            else f"The one job was {mode}, not by a person."
        )
    return f"Jobs approved by a person: {by_person}; {mode}: {by_policy}."


def approvals(evidence: Evidence) -> Section:
    """Every decision, with what it was about and how far it reached."""
    titles = titles_of(evidence)
    rows = tuple(
        (
            titles.get(decision.spec_digest, "a job that was not run"),
            "approved" if decision.approved else "rejected",
            decision.by,
            moment(decision.at),
            _reach(decision),
            decision.reason or NONE,
            decision.spec_digest[:12],
        )
        for decision in evidence.decisions
    )
    blocks: list[Block] = [Paragraph(consent(evidence))]
    if rows:
        blocks.append(Grid("Decisions", ("job", "decision", "by", "when", "at most", "reason", "spec"), rows))
    return Section("approvals", "Who approved what", tuple(blocks))


def titles_of(evidence: Evidence) -> dict[str, str]:
    """Spec digest → what the job is called: by its purpose, and better by the title that was shown at the gate."""
    titles = {action.spec_digest: f"{action.purpose.value} of {action.experiment}" for action in evidence.actions}
    for event in read_lines(evidence.paths.events):
        if event.get("kind") == "gate":
            titles |= {str(entry.get("digest")): str(entry.get("title")) for entry in event.get("requests", ())}
    return titles


def _reach(decision: Decision) -> str:
    if not decision.approved:
        return NONE
    reach = decision.envelope
    attempts = f"{reach.attempts} attempts" if reach.attempts > 1 else "1 attempt"
    return f"{dollars(reach.max_usd_micro / MICRO_USD)}, {reach.max_hours:.1f} h, {attempts}"


def cost(evidence: Evidence) -> Section:
    """Money and time: in all against the limits, by role, by job."""
    spend, limits, row = evidence.spend, evidence.goal.limits, evidence.row
    held = f", and {dollars(spend.held_usd_micro / MICRO_USD)} held" if spend.held_usd_micro else ""
    wall = f", {duration(row.ended - row.started)} from start to end" if row.ended else ""
    blocks: list[Block] = [
        Facts(
            (
                ("Money", f"{dollars(spend.usd_micro / MICRO_USD)} of {dollars(limits.usd)}{held}"),
                ("Time", f"{duration(row.active_seconds)} of driving, of {limits.hours:g} h{wall}"),
                ("LLM tokens", f"{spend.llm_tokens:,} of {limits.llm_tokens:,}"),
                ("Jobs", f"{spend.jobs} of {limits.jobs}"),
            )
        )
    ]
    roles = {role.replace("_", " "): usd for role, usd in spend.by_role.items()}
    jobs, titles = list(evidence.jobs.values()), titles_of(evidence)
    names = dict.fromkeys((*(ROLE_OF[job.purpose] for job in jobs), *roles))
    if names:
        by_role = tuple(
            _role_row(name, [job for job in jobs if ROLE_OF[job.purpose] == name], roles.get(name, 0)) for name in names
        )
        blocks.append(Grid("By role", ("role", "jobs", "time in jobs", "cost"), by_role, (1, 2, 3)))
    if jobs:
        by_job = tuple(
            (
                titles.get(job.spec_digest, job.purpose.value),
                str(job.attempt),
                job.state.value,
                duration(job.seconds),
                dollars(job.usd_micro / MICRO_USD),
                job.key[:12],
            )
            for job in jobs
        )
        blocks.append(Grid("By job", ("job", "attempt", "state", "time", "cost", "key"), by_job, (1, 3, 4)))
    return Section("cost", "Cost and time", tuple(blocks))


def _role_row(name: str, jobs: list[Job], usd_micro: int) -> tuple[str, ...]:
    return name, str(len(jobs)), duration(sum(job.seconds for job in jobs)), dollars(usd_micro / MICRO_USD)


def integrity(evidence: Evidence) -> Section:
    """The certificate as the graph wrote it."""
    rows = tuple(_flat(evidence.integrity))
    block: Block = Facts(rows) if rows else Paragraph("No certificate was written: the run did not come to its end.")
    return Section("integrity", "Certificate", (block,))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, entry in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(entry, Mapping) and entry:
            yield from _flat(entry, f"{name} · ")
        elif isinstance(entry, list | tuple):
            yield name, ", ".join(map(str, entry)) or NONE
        else:
            yield name, entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)


def reproduce(evidence: Evidence) -> Section:
    """The commands, seeds, versions and digests that give this result again."""
    titles = titles_of(evidence)
    commands = ["# the whole run", f"postgrad run {shlex.quote(str(evidence.paths.goal))}"]
    for job in evidence.jobs.values():
        script = _script(evidence, job)
        if script is not None:
            commands += [
                "",
                f"# {one_line(titles.get(job.spec_digest, job.purpose.value))}",
                f"cd {shlex.quote(str(script.parent))} && python {shlex.quote(script.name)} --config config.json",
            ]
    digests = {result.settings_digest: f"{result.benchmark}" for result in evidence.results.values()}
    seeds = sorted({result.seed for result in evidence.results.values()} | {evidence.goal.run.seed})
    rows = [
        ("Seed", ", ".join(map(str, seeds))),
        *((f"Evaluation settings, {name}", digest) for digest, name in digests.items()),
        *((f"Training data, {entry.id}", entry.digest) for entry in evidence.datasets.values()),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("Packages", ", ".join(f"{name} {number}" for name, number in versions().items())),
    ]
    return Section("reproduce", "How to do it again", (Code("\n".join(commands)), Facts(tuple(rows))))


def _script(evidence: Evidence, job: Job) -> Path | None:
    """The script in a job's folder; None where the folder is gone or holds several."""
    folder = Path(job.folder) if job.folder else evidence.paths.job(job.key)
    scripts = sorted(folder.glob("*.py"))
    return scripts[0] if len(scripts) == 1 else None


def versions() -> dict[str, str]:
    """Name → version of the installed ones among PACKAGES."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as a date and time with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds)) if seconds else NONE
