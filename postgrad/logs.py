"""What the jobs of a run printed, for `postgrad logs`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from agents.jobs.base import JobRunner, pieces
from agents.jobs.in_process import InProcessRunner
from postgrad.attach import jobs_of
from shared_memory.errors import BadInput
from shared_memory.redaction import redact
from shared_memory.settings import Settings

POLL_SECONDS = 0.5


def show(settings: Settings, run_id: str, wanted: str, follow: bool, as_json: bool) -> None:
    """Write a job's log to stdout; with `follow`, until the job has ended.

    wanted: an experiment's id or the beginning of a submission key; the newest job where it is empty.
    Raises BadInput where the run has no such job.
    """
    job = _chosen(settings, run_id, wanted)
    runner = _runner(settings, run_id, job["key"])
    if as_json:
        text = redact("".join(piece for piece, _ in pieces(runner, job["key"])))
        facts = {"job": job["key"], "experiment": job["experiment"], "purpose": job["purpose"], "log": text}
        print(json.dumps({"run_id": run_id, **facts}, ensure_ascii=False, indent=2))
        return
    offset, all_there = 0, not follow
    while True:
        for text, following in pieces(runner, job["key"], offset):
            sys.stdout.write(redact(text))
            sys.stdout.flush()
            offset = following
        if all_there:
            return
        all_there = _has_ended(settings, run_id, runner, job["key"])
        if not all_there:
            time.sleep(POLL_SECONDS)


def _chosen(settings: Settings, run_id: str, wanted: str) -> dict[str, Any]:
    jobs = jobs_of(settings, run_id)
    fitting = [job for job in jobs if not wanted or job["experiment"] == wanted or job["key"].startswith(wanted)]
    if fitting:
        return fitting[-1]
    if not jobs:
        raise BadInput(f"run {run_id} has started no job yet; `postgrad show {run_id}` tells what it does")
    known = ", ".join(sorted({job["experiment"] for job in jobs}))
    raise BadInput(f"run {run_id} has no job `{wanted}`; its jobs belong to {known}")


def _runner(settings: Settings, run_id: str, key: str) -> JobRunner:
    """The backend that has the job."""
    from graph.context import Context, Desk

    desk = Desk(run_id, Context(home=str(settings.home)))
    return desk.runner(desk.journal.notes("pinned")[key]["spec"]["runner"])


def _has_ended(settings: Settings, run_id: str, runner: JobRunner, key: str) -> bool:
    """Whether nothing will be printed any more. A job that a process of ours does itself is done where it is looked
    at, so only what the run's worker has booked is known of it here."""
    if isinstance(runner, InProcessRunner):
        return any(job["key"] == key and job["job"] is not None for job in jobs_of(settings, run_id))
    return runner.status(key).state.terminal
