"""`postgrad schedule`: jobs of a run that HF Jobs starts again by the clock, after a person has said yes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, RunArgument, full_id, print_json, say
from shared_memory.settings import load_settings

if TYPE_CHECKING:
    from shared_memory.journal import Journal
    from shared_memory.records import JobSpec

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `postgrad schedule list` has it.")]
NamespaceOption = Annotated[str, typer.Option(help="User or organisation; your own without it.")]

app = typer.Typer(help="Jobs that HF Jobs starts by the clock.", no_args_is_help=True)


@app.command("list")
def list_(namespace: NamespaceOption = "", as_json: JsonOption = False) -> None:
    """The scheduled jobs of a namespace: ours, with their run, and all others."""
    from agents.jobs.hf.scheduled import list_scheduled

    jobs = list_scheduled(namespace)
    if as_json:
        print_json([job.plain() for job in jobs])
        return
    for job in jobs:
        when = "suspended" if job.suspended else f"next {job.next_run or 'unknown'}"
        whose = f"run {job.run}" if job.run else "not of postgrad"
        typer.echo(f"{job.id}  {job.schedule}  {job.flavor}  {when}  {whose}")
    if not jobs:
        say("nothing is scheduled")


@app.command()
def create(
    run: RunArgument,
    schedule: Annotated[str, typer.Option(help="Five cron fields in UTC, or @hourly, @daily, @weekly, @monthly.")],
    flavor: Annotated[str, typer.Option(help="Hardware of HF Jobs, like a10g-large.")],
    job: Annotated[str, typer.Option(help="Experiment or beginning of a job's key; the newest job without it.")] = "",
    hours: Annotated[float | None, typer.Option(help="Time-out of one run; the job's own without it.")] = None,
    namespace: NamespaceOption = "",
    approve: Annotated[bool, typer.Option("--approve", help="Schedule it without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a job of a run start again by the clock, with the same script, config and data."""
    from agents.jobs.hf import scheduled
    from postgrad.attach import can_ask
    from shared_memory.database import Database
    from shared_memory.errors import BadInput
    from shared_memory.journal import Journal
    from shared_memory.ledger import Ledger
    from shared_memory.records import Decision, submission_key

    settings = load_settings()
    run_id = full_id(settings, run)
    database = Database.open(settings.database)
    scheduled.check_schedule(schedule)
    spec = _for_hf(_chosen(Journal(database, run_id), run_id, job), flavor, hours, namespace)
    key = submission_key(run_id, spec, 0)  # no attempt of the run itself: those begin at 1
    shown = _shown(spec, key, run_id, schedule)
    _show(shown, settings.run_paths(run_id).stored(spec.files[spec.script]))
    if not approve and not can_ask():
        say("nothing was scheduled: it waits for your approval; --approve schedules it without asking")
        if as_json:
            print_json({"status": "waiting", **shown})
        raise typer.Exit(3)
    if not approve and not typer.confirm("schedule it?", default=False, err=True):
        raise BadInput("nothing was scheduled; --approve schedules without asking")
    reason = f"postgrad schedule create {schedule}"
    Ledger(database, run_id).decide(Decision(spec_digest=spec.digest, approved=True, by="person", reason=reason))
    folder = settings.run_paths(run_id).fill_job_folder(key, spec.files, json.dumps(spec.config, indent=2))
    made = scheduled.create(spec, key, folder, schedule, run_id)
    Journal(database, run_id).note("scheduled", made.id, {"spec": spec.plain(), "schedule": schedule})
    print_json(made.plain()) if as_json else typer.echo(made.id)


@app.command()
def suspend(id: IdArgument, as_json: JsonOption = False) -> None:
    """Let it start no more until it is resumed; a job that runs goes on."""
    from agents.jobs.hf import scheduled

    scheduled.suspend(id)
    _done(id, "suspended", as_json)


@app.command()
def resume(id: IdArgument, as_json: JsonOption = False) -> None:
    """Let a suspended one start again by its schedule, at the price that was approved."""
    from agents.jobs.hf import scheduled

    scheduled.resume(id)
    _done(id, "resumed", as_json)


@app.command()
def delete(id: IdArgument, as_json: JsonOption = False) -> None:
    """Take it away; what its runs have kept stays."""
    from agents.jobs.hf import scheduled

    scheduled.delete(id)
    _done(id, "deleted", as_json)


def _chosen(journal: Journal, run_id: str, wanted: str) -> JobSpec:
    """The run's newest job that fits; raises BadInput where none does."""
    from shared_memory.errors import BadInput
    from shared_memory.records import JobSpec

    pinned = {key: JobSpec.model_validate(note["spec"]) for key, note in journal.notes("pinned").items()}
    fitting = [
        spec for key, spec in pinned.items() if not wanted or spec.experiment == wanted or key.startswith(wanted)
    ]
    if not fitting:
        known = ", ".join(dict.fromkeys(spec.experiment for spec in pinned.values())) or "none yet"
        raise BadInput(f"run {run_id} has no job `{wanted}`; its jobs belong to: {known}")
    return fitting[-1]


def _for_hf(spec: JobSpec, flavor: str, hours: float | None, namespace: str) -> JobSpec:
    """The job as HF Jobs would run it, priced by its whole time-out."""
    from agents.jobs.flavors import hf_flavors
    from shared_memory.errors import BadInput
    from shared_memory.records import Estimate

    if spec.runner not in ("local", "hf", "slurm"):
        raise BadInput(f"`{spec.title}` is done by postgrad itself, not by a machine; choose another job with --job")
    if hours is not None and not (math.isfinite(hours) and hours > 0):
        raise BadInput(f"--hours {hours:g} is no time; give more than 0")
    timeout = spec.timeout_seconds if hours is None else math.ceil(hours * 3600)
    offered = hf_flavors()
    usd_micro = offered.named(flavor).usd_micro(timeout / 3600)
    basis = f"the whole time-out on {flavor}; {offered.note}"
    estimate = Estimate(hours=timeout / 3600, usd_micro=usd_micro, memory_gib=spec.estimate.memory_gib, basis=basis)
    changes: dict[str, Any] = {"runner": "hf", "flavor": flavor, "timeout_seconds": timeout}
    return spec.model_copy(
        update={**changes, "namespace": namespace or spec.namespace, "nodes": 1, "estimate": estimate}
    )


def _shown(spec: JobSpec, key: str, run_id: str, schedule: str) -> dict[str, Any]:
    """What a person says yes to, as plain data."""
    from agents.jobs.hf.client import hub_api, owner_of
    from agents.jobs.hf.order import IMAGE, command_of
    from agents.jobs.hf.staging import folders_of, repo_of
    from shared_memory.records import MICRO_USD

    owner = owner_of(hub_api(), spec.namespace)
    repo = repo_of(owner, run_id)
    return {
        "title": spec.title,
        "schedule": schedule,
        "namespace": owner,
        "flavor": spec.flavor,
        "image": spec.image or IMAGE,
        "command": command_of(spec, key, repo, each_time=True),
        "repository": repo,
        "files": [*spec.files, "config.json", *folders_of(spec.config)],
        "config": spec.config,
        "secrets": ["the Hub token that keeps its output", *spec.secrets],
        "timeout_seconds": spec.timeout_seconds,
        "usd_per_run": spec.estimate.usd_micro / MICRO_USD,
        "basis": spec.estimate.basis,
        "digest": spec.digest,
    }


def _show(shown: dict[str, Any], script: Path) -> None:
    from postgrad.units import dollars, duration

    price = f"at most {dollars(shown['usd_per_run'])} a run ({duration(shown['timeout_seconds'])} on {shown['flavor']})"
    say(f"{shown['title']} · {shown['schedule']} · {price}, paid by {shown['namespace']}, until it is deleted")
    for name in ("command", "image", "repository", "files", "secrets", "config", "basis"):
        value = shown[name]
        say(f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    say(f"  script: {script}")


def _done(id: str, what: str, as_json: bool) -> None:
    print_json({"id": id, "status": what}) if as_json else say(f"{id} is {what}")
