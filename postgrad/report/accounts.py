"""The sections of a report on consent and cost: who approved what, and what it took."""

from __future__ import annotations

import time

from postgrad.report.blocks import Block, Facts, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence, read_lines
from postgrad.units import NONE, dollars, dollars_known, duration
from shared_memory.records import MICRO_USD, Decision

WHO = {"person": "a person"}


def consent(evidence: Evidence) -> str:
    """Who approved the jobs, in one sentence."""
    approved = [decision for decision in evidence.decisions if decision.approved]
    if not approved:
        return "No job was approved."
    by_person = sum(decision.by == "person" for decision in approved)
    derived = sum(bool(decision.parent) for decision in approved)
    by_policy = len(approved) - by_person - derived
    mode = f"approved by policy (--approve {evidence.goal.run.approve})"
    if by_person == len(approved):
        return f"A person approved all {by_person} jobs." if by_person > 1 else "A person approved the one job."
    if by_policy == len(approved):
        return (
            f"No person approved the jobs of this run: all {by_policy} were {mode}."
            if by_policy > 1
            else f"The one job was {mode}, not by a person."
        )
    covered = f"covered by a person's earlier consent: {derived}" if derived else ""
    rest = f"{mode}: {by_policy}" if by_policy else ""
    return f"Jobs {'; '.join(filter(None, [f'approved by a person: {by_person}', covered, rest]))}."


def approvals(evidence: Evidence) -> Section:
    """Every decision: what it was about, whose it was, on which grounds, and how far it reached."""
    titles = titles_of(evidence)
    rows = tuple(
        (
            titles.get(decision.spec_digest, "a job that was not run"),
            ("approved by " if decision.approved else "rejected by ") + WHO.get(decision.by, decision.by),
            time.strftime("%d\u00a0%b\u00a0%H:%M:%S", time.localtime(decision.at)),
            _grounds(decision, titles),
            _reach(decision),
            decision.spec_digest[:12],
        )
        for decision in evidence.decisions
    )
    blocks: list[Block] = [Paragraph(consent(evidence))]
    if rows:
        blocks.append(Grid("Decisions", ("job", "decision", "when", "grounds", "at most", "spec"), rows))
    return Section("approvals", "Who approved what", tuple(blocks))


def titles_of(evidence: Evidence) -> dict[str, str]:
    """Spec digest → what the job is called: by its purpose, and better by the title that was shown at the gate."""
    titles = {action.spec_digest: f"{action.purpose.value} of {action.experiment}" for action in evidence.actions}
    for event in read_lines(evidence.paths.events):
        if event.get("kind") == "gate":
            titles |= {str(entry.get("digest")): str(entry.get("title")) for entry in event.get("requests", ())}
    return titles


def _grounds(decision: Decision, titles: dict[str, str]) -> str:
    if not decision.parent:
        return decision.reason or NONE
    given = titles.get(decision.parent, f"spec {decision.parent[:12]}")
    return f"covered by the consent to “{given}”{f': {decision.reason}' if decision.reason else ''}"


def _reach(decision: Decision) -> str:
    if not decision.approved:
        return NONE
    reach = decision.envelope
    cap = f"{dollars(reach.max_usd_micro / MICRO_USD)}, {reach.max_hours:.1f} h"
    if reach.scope and reach.attempts > 1:
        return f"{cap} for {reach.attempts} attempts at the same mathematics"
    return f"{cap}, {reach.attempts} attempt{'s' if reach.attempts > 1 else ''}"


def cost(evidence: Evidence) -> Section:
    """Money and time: in all against the limits, by role, by job."""
    spend, limits, row = evidence.spend, evidence.goal.limits, evidence.row
    held = f", and {dollars(spend.held_usd_micro / MICRO_USD)} held" if spend.held_usd_micro else ""
    unpriced = [model for models in evidence.unpriced.values() for model in models]
    wall = f", {duration(row.ended - row.started)} from start to end" if row.ended else ""
    blocks: list[Block] = [
        Facts(
            (
                ("Money", f"{dollars_known(spend.usd_micro / MICRO_USD, unpriced)} of {dollars(limits.usd)}{held}"),
                ("Time", f"{duration(row.active_seconds)} of driving, of {limits.hours:g} h{wall}"),
                ("LLM tokens", f"{spend.llm_tokens:,} of {limits.llm_tokens:,}"),
                ("Jobs", f"{spend.jobs} of {limits.jobs}"),
            )
        )
    ]
    by_role = tuple(
        (
            share.role.replace("_", " "),
            str(share.jobs),
            duration(share.seconds),
            f"{share.llm_tokens:,}",
            dollars_known(share.usd, share.unpriced),
        )
        for share in evidence.by_role()
    )
    if by_role:
        blocks.append(Grid("By role", ("role", "jobs", "time in jobs", "LLM tokens", "cost"), by_role, (1, 2, 3, 4)))
    titles = titles_of(evidence)
    by_job = tuple(
        (
            titles.get(job.spec_digest, job.purpose.value),
            evidence.role_of(job).replace("_", " "),
            str(job.attempt),
            job.state.value,
            duration(job.seconds),
            dollars(job.usd_micro / MICRO_USD),
            job.key[:12],
        )
        for job in evidence.jobs.values()
    )
    if by_job:
        blocks.append(Grid("By job", ("job", "role", "attempt", "state", "time", "cost", "key"), by_job, (2, 4, 5)))
    return Section("cost", "Cost and time", tuple(blocks))


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as a date and time with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds)) if seconds else NONE
