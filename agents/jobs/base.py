"""What every job runner does, and how the output of a job is read."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from shared_memory.records import JobSpec, JobState, Record

LAST_WORDS_LENGTH = 300
"""Characters that the cause of a failure may take."""
_OF_TORCHRUN = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError"
_RANK_KILLED = re.compile(r"^  traceback : Signal (\d+) \(", re.MULTILINE)
"""In torchrun's summary of a process of its own that a signal ended."""


class JobStatus(Record):
    """What a backend knows of a job at this moment."""

    state: JobState
    exit_code: int | None = None
    """Of the job's process; negative for the signal that killed it. None until it has one."""
    seconds: float = 0.0
    """Running time so far, waiting for a device not included."""
    usd_micro: int = 0
    """Cost so far by the backend's own record, in micro-dollars; 0 where nothing is paid for."""
    error: str = ""
    """One line: why it did not succeed."""


class JobRunner(Protocol):
    """Runs jobs somewhere. No job lives in the object: a new one, in a new process, goes on from the ids."""

    name: str
    listing_grace: float
    """Seconds after a submission within which `find` may still miss it."""

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        """Start the job in `folder` (already filled) and return its backend id.

        A second submission of the same key returns the same id and never runs the job twice. Raises Uncertain where
        the backend may have the job although its answer got lost; `find` tells within `listing_grace`.
        """
        ...

    def find(self, key: str) -> str | None:
        """The backend id of the job submitted with this key, None where there is none."""
        ...

    def status(self, backend_id: str) -> JobStatus:
        """The job's state; `unknown` for an id that the backend does not know. A terminal state never changes."""
        ...

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        """What the job printed from byte `offset` on, and the offset to go on from.

        Whole lines only until the job is terminal. A long log comes in pieces: read until nothing new is returned.
        """
        ...

    def cancel(self, backend_id: str) -> None:
        """Ask for the job's end; returns at once, the status tells when it has ended. Harmless on a finished job."""
        ...

    def fetch(self, backend_id: str, folder: Path) -> None:
        """Bring what the job left in its `out/` into that of `folder`, its folder here; safe to repeat.

        Does nothing where the job wrote there itself. Raises Unavailable where it left nothing, or it cannot be had.
        """
        ...

    def metrics(self, backend_id: str) -> dict[str, float]:
        """What the job uses at this moment, as far as the backend measures it.

        Some of `gpu_percent` (the mean of its GPUs), `gpu_memory_gib` (their sum), `cpu_percent` (100 is one core) and
        `memory_gib`; empty for a job that does not run.
        """
        ...


def pieces(runner: JobRunner, backend_id: str, offset: int = 0) -> Iterator[tuple[str, int]]:
    """What a job has printed from byte `offset` on, piece by piece, each with the offset behind it."""
    while True:
        text, following = runner.logs(backend_id, offset)
        if following == offset:
            return
        yield text, following
        offset = following


def read_events(text: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The events in a job's output: progress in order of printing, and the result if it is there.

    An event is a line that is one JSON object with `step` or `result`. A progress bar's leftovers may stand before it
    on its line, since standard error shares the log. The last result counts.
    """
    progress: list[dict[str, Any]] = []
    result: dict[str, Any] | None = None
    for line in text.split("\n"):
        event = _event(line)
        if event is None:
            continue
        if isinstance(event.get("result"), dict):
            result = event["result"]
        elif "step" in event:
            progress.append(event)
    return progress, result


def _event(line: str) -> dict[str, Any] | None:
    start = line.find("{")
    if start < 0 or not line.rstrip().endswith("}"):
        return None
    try:
        event = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def last_words(log_text: str, exit_code: int | None = None) -> str:
    """Why a job failed, in one line, from the end of its log and its exit code (negative: the signal that killed it).

    The later of the last `error: …` line and the exception of the last traceback; where there is neither, the signal or
    else the last line that is not empty. Empty if nothing is known.
    """
    lines = [_visible(line) for line in log_text.split("\n")]
    words = _stated_cause(lines)
    ranks_killed = _RANK_KILLED.findall(log_text)
    if ranks_killed and not words:
        exit_code = -int(ranks_killed[-1])  # the root cause comes last in torchrun's summary
    if exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "killed by the system, probably out of memory; use a smaller micro-batch or more memory"
    if not words and exit_code is not None and exit_code < 0:
        words = f"killed by {_signal_name(-exit_code)}"
    if not words:
        words = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if words == "Killed":
            words = "killed by the system, probably out of memory; use a smaller micro-batch or more memory"
    if not words and exit_code:
        words = f"exit code {exit_code}, without a word in the log"
    return words if len(words) <= LAST_WORDS_LENGTH else words[: LAST_WORDS_LENGTH - 1] + "…"


def _visible(line: str) -> str:
    """The line as a terminal shows it in the end (a progress bar overwrites itself), without torchrun's rank."""
    return re.sub(r"^\[rank\d+\]: ?", "", line.rstrip("\r").rpartition("\r")[2])


def _stated_cause(lines: list[str]) -> str:
    """The last `error: …` line (what follows the colon) or exception line of a traceback, whichever is later."""
    cause, in_traceback = "", False
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif line.startswith("error: "):
            cause, in_traceback = line.removeprefix("error: ").strip(), False
        elif in_traceback and line.strip() and not line.startswith(" "):
            in_traceback = False
            if not line.startswith(_OF_TORCHRUN):  # it repeats that one of its processes failed, not why
                cause = line.strip()
    return cause


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
