"""Jobs that HF Jobs starts by the clock: list, create, suspend, resume, delete.

A scheduled job is staged like any other, with the same command; every run of it keeps what it makes in a folder of its
own, named after its time. Whoever creates one has asked a person before: from then on it costs money by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agents.jobs.hf.client import ambiguous, hub_api, hub_errors, owner_of, patiently
from agents.jobs.hf.order import LABEL, RUN_LABEL, order_of, refuse_misfit
from agents.jobs.hf.staging import repo_of, stage
from shared_memory.errors import BadInput
from shared_memory.records import JobSpec, Record

if TYPE_CHECKING:
    from huggingface_hub import ScheduledJobInfo

NAMED = ("@annually", "@yearly", "@monthly", "@weekly", "@daily", "@hourly")
_CRON = re.compile(r"[\d*/,\-A-Za-z]+( [\d*/,\-A-Za-z]+){4}")


class ScheduledJob(Record):
    """One scheduled job, ours or not."""

    id: str
    """`namespace/id`."""
    schedule: str
    """A cron expression in UTC, or one of NAMED."""
    suspended: bool
    flavor: str
    timeout_seconds: int
    """0 where the Hub does not say."""
    command: tuple[str, ...]
    run: str
    """The run of ours that it comes from; empty for others."""
    key: str
    """Its label; empty for others."""
    last_job: str
    """Backend id of its last run; empty before the first."""
    next_run: str
    """When it runs next, as ISO 8601; empty while it is suspended."""


def check_schedule(schedule: str) -> str:
    """The schedule; raises BadInput where the Hub would not understand it."""
    if schedule not in NAMED and not _CRON.fullmatch(schedule):
        raise BadInput(f"`{schedule}` is no schedule; write five cron fields, like `0 9 * * 1`, or {', '.join(NAMED)}")
    return schedule


def list_scheduled(namespace: str = "") -> tuple[ScheduledJob, ...]:
    """The scheduled jobs of a user or an organisation, empty for the token's own user; ours and others."""
    api = hub_api()
    owner = owner_of(api, namespace)
    found = patiently(lambda: api.list_scheduled_jobs(namespace=owner), f"listing the scheduled jobs of {owner}")
    return tuple(map(_record, found))


def create(spec: JobSpec, key: str, folder: Path, schedule: str, run_id: str) -> ScheduledJob:
    """Stage the job's folder and schedule it; one of the same key and schedule is not made twice.

    Raises BadInput for a schedule or a job that HF Jobs would not take, and Uncertain where it may have been created
    although the answer got lost: create it again, and it is found.
    """
    check_schedule(schedule)
    refuse_misfit(spec)
    api = hub_api()
    owner = owner_of(api, spec.namespace)
    for known in list_scheduled(owner):
        if (known.key, known.schedule) == (key, schedule):
            return known
    repo_id = repo_of(owner, run_id)
    revision = stage(api, repo_id, key, folder, [*spec.files])
    order = order_of(spec, key, run_id, owner, repo_id, revision, each_time=True)
    what = f"scheduling `{spec.title}` on HF Jobs for {owner}"
    with hub_errors(what), ambiguous(what):
        return _record(api.create_scheduled_job(schedule=schedule, **order))


def suspend(id: str) -> None:
    """Let it start no more until it is resumed; a job of it that runs goes on."""
    _tell(hub_api().suspend_scheduled_job, id, "suspending")


def resume(id: str) -> None:
    """Let it start again by its schedule."""
    _tell(hub_api().resume_scheduled_job, id, "resuming")


def delete(id: str) -> None:
    """Take it away; what its runs have kept stays in their repository."""
    _tell(hub_api().delete_scheduled_job, id, "deleting")


def _tell(action: Callable[..., None], id: str, doing: str) -> None:
    """Do something to a scheduled job; an id without a namespace is one of the token's own user."""
    namespace, _, job_id = id.rpartition("/")
    owner = owner_of(hub_api(), namespace)
    patiently(lambda: action(scheduled_job_id=job_id, namespace=owner), f"{doing} scheduled job {id}")


def _record(info: ScheduledJobInfo) -> ScheduledJob:
    spec, status = info.job_spec, info.status
    labels = spec.labels or {}
    coming = status.next_job_run_at.isoformat() if status.next_job_run_at and not info.suspend else ""
    return ScheduledJob(
        id=f"{info.owner.name}/{info.id}",
        schedule=info.schedule or "",
        suspended=bool(info.suspend),
        flavor=str(spec.flavor or ""),
        timeout_seconds=int(spec.timeout or 0),
        command=tuple(spec.command or ()),
        run=labels.get(RUN_LABEL, ""),
        key=labels.get(LABEL, ""),
        last_job=f"{info.owner.name}/{status.last_job.id}" if status.last_job else "",
        next_run=coming,
    )
