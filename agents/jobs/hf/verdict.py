"""What the Hub's record of a job says: its state, its time and cost, why it failed, and what it uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agents.jobs.base import JobStatus, last_words
from agents.jobs.hardware import GIB
from agents.jobs.hf.notes import Note
from shared_memory.records import JobState

if TYPE_CHECKING:
    from huggingface_hub import JobInfo

STATES = {
    "SCHEDULING": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETED": JobState.SUCCEEDED,
    "CANCELED": JobState.CANCELLED,
    "ERROR": JobState.FAILED,
    "DELETED": JobState.FAILED,
}
"""Stage → state. A stage that is not among them ends nothing: the job is still watched."""
_EXIT_CODE = re.compile(r"exit code:? *(-?\d+)", re.IGNORECASE)
_TIMED_OUT = re.compile(r"time[ds]?[ -]?out|deadline", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(r"OOM|out of memory", re.IGNORECASE)


def state_of(info: JobInfo) -> JobState:
    return STATES.get(str(info.status.stage), JobState.RUNNING if info.started_at else JobState.QUEUED)


def judge(note: Note, info: JobInfo, log_tail: str) -> JobStatus:
    """The status of a job; `log_tail` is the end of its log once it has ended."""
    state = state_of(info)
    seconds, billed = _running_time(info)
    code, error = {JobState.SUCCEEDED: (0, ""), JobState.CANCELLED: (None, "cancelled on request")}.get(
        state, (None, "")
    )
    if state is JobState.FAILED:
        code, error = _cause(note, info, log_tail)
    usd_micro = -(-billed * note.usd_micro_per_minute // 60)
    return JobStatus(state=state, exit_code=code, seconds=seconds, usd_micro=usd_micro, error=error)


def _cause(note: Note, info: JobInfo, log_tail: str) -> tuple[int | None, str]:
    """Exit code and cause of a failure, from the Hub's message and the job's last words."""
    message = " ".join((info.status.message or "").split())
    if str(info.status.stage) == "DELETED":
        return None, "it was deleted on HF Jobs before it had ended"
    if _TIMED_OUT.search(message):
        return None, f"timed out after {note.timeout_seconds} s" if note.timeout_seconds else "timed out"
    match = _EXIT_CODE.search(message)
    code = int(match[1]) if match else 137 if _OUT_OF_MEMORY.search(message) else None
    return code, last_words(message) if message and code is None else last_words(log_tail, code)


def _running_time(info: JobInfo) -> tuple[float, int]:
    """Seconds that a job has run, as exactly as the record has them, and the whole seconds that are paid for."""
    counted = info.durations.running_secs if info.durations else None
    if info.started_at is None or info.finished_at is None:
        return float(counted or 0), int(counted or 0)
    seconds = max(0.0, (info.finished_at - info.started_at).total_seconds())
    return seconds, int(counted if counted is not None else -(-seconds // 1))


def measures(sample: dict[str, Any]) -> dict[str, float]:
    """A sample of the Hub's metrics in our terms: of several GPUs their mean use, and the sum of their memory."""
    gpus = list((sample.get("gpus") or {}).values())
    found: dict[str, float] = {}
    if "cpu_usage_pct" in sample:
        found["cpu_percent"] = sample["cpu_usage_pct"] * sample.get("cpu_millicores", 1000) / 1000
    if "memory_used_bytes" in sample:
        found["memory_gib"] = sample["memory_used_bytes"] / GIB
    if gpus:
        found["gpu_percent"] = sum(gpu["utilization"] for gpu in gpus) / len(gpus)
        found["gpu_memory_gib"] = sum(gpu["memory_used_bytes"] for gpu in gpus) / GIB
    return found
