"""What became of a Slurm job: two witnesses, Slurm and the exit status in its folder, who have to agree."""

from __future__ import annotations

from agents.jobs.base import JobStatus
from agents.jobs.slurm.programs import WAITING, Seen
from agents.jobs.supervise import Status
from shared_memory.records import JobState

CAUSES = {
    "TIMEOUT": "timed out: Slurm ended it at its time limit",
    "DEADLINE": "timed out: Slurm ended it at its deadline",
    "OUT_OF_MEMORY": "out of memory: it used more of its node's memory than Slurm gave it; "
    "use a smaller micro-batch or more memory",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "PREEMPTED": "preempted by a job that comes first on this partition; resume, or use another partition",
    "REVOKED": "Slurm gave it to another cluster",
}
"""Slurm's word for an end that is not the script's doing → what to tell."""
ENDED_BY_US = ("timed out after", "out of memory: ")
"""How the reasons begin for which our own supervisor ends a job; they say more than Slurm does."""


def judge(seen: Seen, own: Status | None, cause: str, cancel_asked: bool, settled: bool) -> JobStatus:
    """The state that both witnesses allow for: never an end while Slurm has something to do for the job, never a
    success unless Slurm says COMPLETED and the script's exit status is 0.

    own: what the supervisor wrote; None where it never started. cause: why the script failed by its own words.
    settled: whether what the folder does not say by now it never will; a shared file system may be seconds behind.
    """
    exit_code = own.exit_code if own is not None else None
    if seen.active:
        started = own is not None or seen.state not in WAITING
        return JobStatus(state=JobState.RUNNING if started else JobState.QUEUED)
    if seen.state == "CANCELLED":
        who = "on request" if cancel_asked else f"on the cluster ({seen.detail or 'nobody says by whom'})"
        return JobStatus(state=JobState.CANCELLED, exit_code=exit_code, error=f"cancelled {who}")
    if seen.state in CAUSES:
        at = f" ({seen.nodes})" if seen.state in ("NODE_FAIL", "BOOT_FAIL") and seen.nodes else ""
        ours = own.error if own is not None and own.error.startswith(ENDED_BY_US) else ""
        return JobStatus(state=JobState.FAILED, exit_code=exit_code, error=ours or CAUSES[seen.state] + at)
    if own is None or not own.terminal:
        if not settled:
            return JobStatus(state=JobState.RUNNING)
        return JobStatus(state=JobState.FAILED, error=_unseen(seen, own, cause))
    if own.state == "cancelled":
        return JobStatus(state=JobState.CANCELLED, exit_code=exit_code, error=own.error)
    if own.state == "succeeded" and seen.state == "COMPLETED":
        return JobStatus(state=JobState.SUCCEEDED, exit_code=exit_code)
    error = own.error or cause
    if own.state == "succeeded":
        error = f"its script ended well, but Slurm says {seen.state}{f' ({seen.detail})' if seen.detail else ''}"
    return JobStatus(state=JobState.FAILED, exit_code=exit_code, error=error)


def _unseen(seen: Seen, own: Status | None, cause: str) -> str:
    """Why a job failed that left no exit status. cause: here what the batch script printed."""
    words = f": {cause}" if cause else ""
    if own is not None:
        return f"Slurm says {seen.state}, but nobody saw its script end{words}"
    where = f" on {seen.nodes}" if seen.nodes else ""
    return (
        f"Slurm says {seen.state}{where}, but its script never started{words}; "
        "the nodes must share the folder of the runs and the Python that postgrad runs in"
    )
