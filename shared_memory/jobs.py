"""A job, from what it is to how it ended, and the consent to it."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from shared_memory.record import Record, canonical_digest

MICRO_USD = 1_000_000
"""Micro-dollars in a dollar."""


class Purpose(StrEnum):
    """What a job is for."""

    GENERATION = "generation"
    TRAINING = "training"
    EVALUATION = "evaluation"
    MERGE = "merge"
    PUBLICATION = "publication"
    ACTION = "action"
    """A tool that changes something outside, called because a role asked for it."""


class Estimate(Record):
    """What a job is expected to take, and the worst it may cost."""

    hours: float
    usd_micro: int = Field(ge=0)
    """Worst case: the price of the whole time-out."""
    memory_gib: float
    basis: str
    """Where the numbers come from, in words a person can judge."""


FREE_OF_SCOPE = ("micro_batch", "activation_checkpointing", "resume_from")
"""Keys of a job's config that change how much it takes, and not what it computes."""


class JobSpec(Record):
    """A job, completely: two specs with one digest do the same thing."""

    purpose: Purpose
    experiment: str
    """The experiment it belongs to; `baseline` and `data` for the runs before the first one."""
    title: str
    """One line for the person at the gate."""
    script: str
    """Name of the file among `files` that is run."""
    files: dict[str, str]
    """Name in the job folder → sha256 of its content, which the run's file store holds."""
    config: dict[str, Any]
    """Becomes config.json in the job folder."""
    benchmark: str = ""
    """Of an evaluation: the benchmark that it scores."""
    runner: Literal["local", "hf", "slurm", "teacher", "publisher", "endpoint", "action"] = "local"
    """Where it runs; `teacher` is a language model that writes rows and answers this process, which is the `publisher`
    of data sets and models itself; `endpoint` is a served model that answers prompts; `action` is a call of a tool."""
    flavor: str = "cpu"
    """The hardware, as the runner calls it: `cpu` and `gpu` here, `a10g-large` on HF Jobs, a partition on Slurm."""
    devices: int = Field(default=1, ge=1)
    """Processes that train together on one node, each on a device of its own."""
    nodes: int = Field(default=1, ge=1)
    image: str = ""
    """Container image to run in, where a person asked for one of their own."""
    namespace: str = ""
    """User or organisation that an HF job belongs to and that pays for it; empty is the token's own user."""
    timeout_seconds: int = Field(gt=0)
    estimate: Estimate
    secrets: tuple[str, ...] = ()
    """Names of environment variables that the job may read; never their values."""
    sandbox: Literal["", "auto", "none"] = ""
    """How code is kept apart that is not our own: `auto` in a sandbox, and refused where there is none; `none` not at
    all, because the goal says so. Empty for our own scripts."""
    custom: bool = False
    """Whether the script is not one of ours: it is always asked about, and no earlier consent covers it."""

    @property
    def digest(self) -> str:
        """sha256 over everything that decides what the job does and may cost: all but its title and its predictions."""
        return canonical_digest(
            self.model_dump(mode="json", exclude={"title": True, "estimate": {"hours", "memory_gib", "basis"}})
        )

    @property
    def scope(self) -> str:
        """sha256 over what a recovery must leave alone: all of the digest but FREE_OF_SCOPE, hardware, time and cost.

        Two specs of one scope compute the same mathematics; `batch`, the rows behind a weight update, is part of it,
        and for KTO the micro-batch is, too: its KL divergence is estimated from those rows.
        """
        plain = self.model_dump(mode="json", exclude={"title", "estimate", "flavor", "devices", "timeout_seconds"})
        kept = ("micro_batch",) if self.config.get("method") == "kto" else ()
        plain["config"] = {key: value for key, value in self.config.items() if key in kept or key not in FREE_OF_SCOPE}
        return canonical_digest(plain)


def submission_key(run_id: str, spec: JobSpec, attempt: int) -> str:
    """The label of one attempt at one job (32 hex digits): the same key is never submitted twice."""
    parts = (run_id, spec.experiment, spec.purpose.value, attempt, spec.digest)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class JobState(StrEnum):
    """What a runner knows of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Submitted perhaps: the answer got lost, and the backend does not list it."""

    @property
    def terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


REJECTED = "rejected: "
"""How the `error` of a job begins that a person refused; the reason follows."""


class Job(Record):
    """One attempt at a JobSpec."""

    key: str
    spec_digest: str
    purpose: Purpose
    experiment: str
    attempt: int = 1
    runner: str = "local"
    backend_id: str = ""
    folder: str = ""
    state: JobState = JobState.QUEUED
    exit_code: int | None = None
    seconds: float = 0.0
    """Running time by the backend's own record."""
    usd_micro: int = 0
    error: str = ""
    """One line: why it did not succeed."""
    result: dict[str, Any] = Field(default_factory=dict)
    """The `result` of the job's last line."""


class Envelope(Record):
    """How far a consent reaches without asking again: every attempt of one scope, together within these bounds."""

    scope: str = ""
    """`JobSpec.scope` of what was approved; empty reaches no further than the approved spec itself."""
    max_usd_micro: int = 0
    """For all attempts together, as the one that was approved."""
    max_hours: float = 0.0
    attempts: int = 1


class Decision(Record):
    """A consent, or its refusal, bound to one spec."""

    spec_digest: str
    approved: bool
    by: str
    """`person`, or `policy` where the goal's approval mode decided."""
    reason: str = ""
    envelope: Envelope = Field(default_factory=Envelope)
    parent: str = ""
    """Digest of the spec that the person saw, where this one was derived from it."""
    at: float = 0.0
    """Seconds since the epoch."""


Failure = Literal[
    "out_of_memory",
    "out_of_host_memory",
    "diverged",
    "missing_column",
    "missing_package",
    "gated_access",
    "bad_credentials",
    "no_credit",
    "timed_out",
    "disk_full",
    "network",
    "bug_in_script",
    "stopped",
    "unknown",
]
"""Why a job failed. `out_of_memory` is the device's, `out_of_host_memory` the machine's; `diverged` is a loss that is
no number or runs away; `stopped` is our own monitor's doing, for a reason that is none of the others."""


class Diagnosis(Record):
    """Why a job failed, as far as its last words tell."""

    kind: Failure
    evidence: tuple[str, ...] = ()
    """The lines of its log that say so."""
    remedy: str = ""
    """What to do about it, in one line."""
