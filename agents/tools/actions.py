"""An action that a role asked for, as a job like any other: behind the gate, in the ledger, and done once at most.

What was begun and is not known to have ended is never begun again: whether it was done, only the tool's owner can see.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agents.jobs.base import read_events
from agents.jobs.in_process import CANCEL, LOG, InProcessRunner, KeptStatus
from agents.tool_outputs import output_of
from agents.tools.offer import described
from shared_memory.actions import UNKNOWN, ActionRequest
from shared_memory.errors import PostgradError, Uncertain
from shared_memory.jobs import Estimate, JobSpec, JobState, Purpose
from shared_memory.redaction import redact
from shared_memory.run_paths import RunPaths

ACTION: Final = "action"
"""The runner of such jobs."""
OUTSIDE: Final = "outside"
"""Their flavor: whatever the tool works on, it is not ours to say that it stays on this machine."""
SCRIPT = "request.md"
"""What a person reads of it."""
BEGUN = "begun"
"""File in the job's folder, made before the tool is called."""
LONGEST_RESULT = 4000
"""Characters of an answer that are kept: it is in the ledger, the journal and each checkpoint of the run."""


def action_job(request: ActionRequest, paths: RunPaths) -> JobSpec:
    """The job of a request."""
    return JobSpec(
        purpose=Purpose.ACTION,
        experiment=request.id,
        script=SCRIPT,
        config=request.plain(),
        runner=ACTION,
        flavor=OUTSIDE,
        timeout_seconds=math.ceil(request.seconds),
        **_told(request, paths),
    )


def _told(request: ActionRequest, paths: RunPaths) -> dict[str, Any]:
    """What a person is told of a request beside its config."""
    who = request.role.replace("_", " ")
    arguments = json.dumps(request.arguments, indent=2, ensure_ascii=False)
    text = (
        f"# {request.tool}\n\nA tool of {request.source}. The {who} asks for this call; it changes something outside, "
        f"and is made once.\n\n```json\n{arguments}\n```\n"
    )
    return {
        "title": f"call {request.tool} ({request.source}) for the {who}",
        "files": {SCRIPT: paths.store(text.encode(errors="replace"))},
        "estimate": Estimate(
            hours=0.0, usd_micro=0, memory_gib=0.0, basis=f"what a call costs at {request.source}, only that can say"
        ),
    }


def told_anew(spec: JobSpec, paths: RunPaths) -> JobSpec:
    """An action whose config was edited, with what is told of it; one that is no request stays, to be refused."""
    try:
        request = ActionRequest.model_validate(spec.config)
    except ValidationError:
        return spec
    return spec.model_copy(update=_told(request, paths))


def fault_of(spec: JobSpec, asked: Callable[[str], ActionRequest]) -> str:
    """Why an action, which a person may have edited, cannot be done; empty if it can, or is none.

    asked: the request of an id, as it was filed.
    """
    if spec.runner != ACTION:
        return ""
    try:
        request = ActionRequest.model_validate(spec.config)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        return f"its config is no request ({'.'.join(map(str, fault['loc']))}: {fault['msg']}); edit it again"
    filed = asked(spec.experiment)
    if filed.model_copy(update={"arguments": request.arguments}) != request:
        return "only the `arguments` of an action can be edited; refuse it, and say what to ask for instead"
    return ""


class _Status(KeptStatus):
    """What is kept of an action: what was approved."""

    request: ActionRequest


class ActionRunner(InProcessRunner[_Status]):
    """A JobRunner that calls a tool in this process, and waits for its answer."""

    name = ACTION
    kept = _Status

    def __init__(self, jobs: Path, call: Callable[[ActionRequest], str]) -> None:
        """jobs: folder of the run's job folders. call: does what was asked for, and raises what `Offer.call` raises."""
        super().__init__(jobs)
        self._call = call

    def first_status(self, spec: JobSpec) -> _Status:
        request = ActionRequest.model_validate(spec.config)
        return _Status(state=JobState.RUNNING, timeout=spec.timeout_seconds, request=request)

    def put_down(self, folder: Path) -> None:
        """Nothing is kept in hand."""

    def go_on(self, folder: Path, status: _Status) -> _Status:
        """Call the tool, unless that was begun before, or is not to be any more."""
        if (folder / BEGUN).exists():
            return _as_it_was_left(folder, status)
        if (folder / CANCEL).exists():
            return status.model_copy(update={"state": JobState.CANCELLED, "error": "it was cancelled before it began"})
        _make_for_good(folder / BEGUN)
        began = time.monotonic()
        try:
            text = cut(_seen(status.request, self._call(status.request)), LONGEST_RESULT)
        except PostgradError as error:
            why = described(redact(f"{UNKNOWN}{error}" if isinstance(error, Uncertain) else str(error)))
            self.tell(folder, f"error: {why}")
            return status.model_copy(
                update={"state": JobState.FAILED, "error": why, "seconds": time.monotonic() - began}
            )
        self.tell(folder, {"result": {"text": text}})
        return status.model_copy(update={"state": JobState.SUCCEEDED, "seconds": time.monotonic() - began})


def _as_it_was_left(folder: Path, status: _Status) -> _Status:
    """How an action ended that another process began: well if its answer is there, else nobody knows."""
    log = folder / LOG
    if log.exists() and read_events(log.read_text(encoding="utf-8", errors="replace"))[1] is not None:
        return status.model_copy(update={"state": JobState.SUCCEEDED})
    error = (
        f"{UNKNOWN}postgrad ended while {status.request.tool} was called; it may have been done, "
        f"and is not done again: look at {status.request.source}"
    )
    return status.model_copy(update={"state": JobState.FAILED, "error": error})


def _seen(request: ActionRequest, answer: str) -> str:
    """An answer as a loop would show it: without secrets, and without what only machines see."""
    return output_of({"name": request.tool, "args": {}}, answer).text


def cut(text: str, most: int) -> str:
    """The first `most` characters of a text, and how many it had."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text)} characters)"


def _make_for_good(path: Path) -> None:
    """Make a file, once: on the disk when this returns. Raises FileExistsError where it is there."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
