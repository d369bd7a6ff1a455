"""How far a consent reaches: which jobs may run on one that was given earlier, without asking again."""

from __future__ import annotations

from collections.abc import Sequence

from agents.trainer.recovery import ATTEMPTS
from shared_memory.ledger import Action
from shared_memory.records import Decision, Envelope, JobSpec

LEAVES_FOR_GOOD = ("teacher", "publisher", "endpoint", "action")
"""Runners whose jobs hand something to others, which the next attempt may do in another way."""


def envelope_of(spec: JobSpec) -> Envelope:
    """What a person's yes to `spec` covers: the same mathematics, for the same money, in as many tries as there are."""
    if spec.custom:
        return Envelope(max_usd_micro=spec.estimate.usd_micro, max_hours=spec.timeout_seconds / 3600)
    return Envelope(
        scope=spec.scope,
        max_usd_micro=spec.estimate.usd_micro,
        max_hours=ATTEMPTS * spec.timeout_seconds / 3600,
        attempts=ATTEMPTS,
    )


def consent_for(spec: JobSpec, decisions: Sequence[Decision], actions: Sequence[Action]) -> Decision | None:
    """The person's latest decision whose envelope `spec` lies in, with all that was tried under it; None to ask.

    decisions, actions: of the run, oldest first. A person's own word on exactly this spec always goes before. Where a
    job publishes something, asks a language model, or runs a script that is not ours, no other word does.
    """
    if (
        spec.custom
        or spec.runner in LEAVES_FOR_GOOD
        or any(decision.spec_digest == spec.digest for decision in decisions)
    ):
        return None
    said = [each for each in decisions if each.by == "person" and each.envelope.scope == spec.scope]
    if not said or not said[-1].approved:
        return None  # a later no takes an earlier yes back
    return said[-1] if _fits(spec, said[-1], decisions, actions) else None


def _fits(spec: JobSpec, consent: Decision, decisions: Sequence[Decision], actions: Sequence[Action]) -> bool:
    covered = {consent.spec_digest, *(d.spec_digest for d in decisions if d.parent == consent.spec_digest)}
    tried = [action for action in actions if action.spec_digest in covered]
    if any(action.job is None for action in tried):
        return False  # what an open one will have cost is not known yet
    spent = sum(action.job.usd_micro for action in tried if action.job)
    hours = sum(action.job.seconds for action in tried if action.job) / 3600
    reach = consent.envelope
    return (
        len(tried) < reach.attempts
        and spent + spec.estimate.usd_micro <= reach.max_usd_micro
        and hours + spec.timeout_seconds / 3600 <= reach.max_hours
    )
