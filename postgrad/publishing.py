"""`postgrad publish`: training data, model or trace of a run to a folder, or to the Hub once a person said yes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, RunArgument, full_id, print_json, say
from shared_memory.settings import load_settings

if TYPE_CHECKING:
    from graph.context import Desk
    from shared_memory.journal import Journal
    from shared_memory.records import DatasetRecord, JobSpec


def publish(
    run: RunArgument,
    to: Annotated[str, typer.Option(metavar="NAME|FOLDER", help="A Hub repository as you/name, or a folder: ./name.")],
    model: Annotated[bool, typer.Option("--model", help="The delivered model, in place of the training data.")] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="What the team did, in private; without tool outputs.")
    ] = False,
    tool_outputs: Annotated[bool, typer.Option("--tool-outputs", help="With --trace: these as well.")] = False,
    dataset: Annotated[str, typer.Option(help="Which of the run's data sets; the last one without it.")] = "",
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it; private without.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the training data of a run as Parquet with a card, its model with one, or its trace in private."""
    from agents.publishing.runner import FOLDER, flavor_of
    from graph.context import Context, Desk
    from shared_memory.errors import BadInput

    if model + trace + bool(dataset) > 1:
        raise BadInput("--model, --trace and --dataset publish three things; give one of them")
    if trace and public:
        raise BadInput("a trace is published in private; leave --public out")
    if tool_outputs and not trace:
        raise BadInput("--tool-outputs goes with --trace")
    settings = load_settings()
    desk = Desk(full_id(settings, run), Context(home=str(settings.home)))
    if flavor_of(to) == FOLDER or Path(to).is_dir():
        to = str(Path(to).expanduser().absolute())
    if trace:
        spec = _trace_job(desk, to, outputs=tool_outputs)
    else:
        spec = _model_job(desk, to, private=not public) if model else _data_job(desk, dataset, to, private=not public)
    say(f"{spec.title} · {spec.estimate.basis}")
    leaves = flavor_of(to) != FOLDER
    if leaves and not yes and not typer.confirm("publish it?", default=False, err=True):
        raise BadInput("nothing was published; --yes publishes without asking")
    found = _carried_out(spec, desk)
    desk.journal.note("trace published" if trace else "pushed" if model else "published", found["url"], found)
    print_json(found) if as_json else typer.echo(found["url"])


def _carried_out(spec: JobSpec, desk: Desk) -> dict[str, Any]:
    """Do what the job says here and now, with the consent to it on record."""
    from agents.data_engineer.publishing import publisher
    from agents.publishing import traces
    from agents.trainer import publish as model_publisher
    from graph.publications import is_of_a_model
    from shared_memory.records import DatasetRecord, Decision

    desk.ledger.decide(Decision(spec_digest=spec.digest, approved=True, by="person", reason="postgrad publish"))
    folder = desk.paths.fill_job_folder(spec.digest[:32], spec.files, json.dumps(spec.config, indent=2))
    if spec.config["kind"] == "trace":
        return traces.carry_out(spec, folder)
    if is_of_a_model(spec):
        return model_publisher.carry_out(spec.config, folder, desk.paths)
    records = desk.journal.all(DatasetRecord)
    found = publisher.carry_out(spec.config, records)
    return {**found, "rows": records[spec.config["dataset"]].rows}


def _model_job(desk: Desk, to: str, *, private: bool) -> JobSpec:
    """Raises BadInput where the run has delivered no model, or its base's licence forbids sharing it."""
    from agents.trainer.publish import model_publishing_job
    from graph.publications import model_facts
    from shared_memory.errors import BadInput
    from shared_memory.goal import Goal

    champion = desk.journal.notes("champion").get("champion", {}).get("experiment", "baseline")
    if champion == "baseline":
        raise BadInput(f"run {desk.run_id} has delivered no model; see `postgrad show {desk.run_id}`")
    goal = Goal.model_validate(desk.runs.get(desk.run_id).goal)
    digests = desk.journal.notes("integrity").get("integrity", {}).get("benchmarks", {})
    return model_publishing_job(model_facts(desk, goal, champion, digests), to, private=private, paths=desk.paths)


def _trace_job(desk: Desk, to: str, *, outputs: bool) -> JobSpec:
    from agents.publishing.traces import publishing_job

    return publishing_job(desk.run_id, desk.runs.get(desk.run_id).text, to, outputs=outputs, paths=desk.paths)


def _data_job(desk: Desk, name: str, to: str, *, private: bool) -> JobSpec:
    from agents.data_engineer.publishing.publisher import publishing_job

    return publishing_job(_data_set(desk.journal, desk.run_id, name), to, private=private, paths=desk.paths)


def _data_set(journal: Journal, run_id: str, name: str) -> DatasetRecord:
    """The run's data set called `name`, or its last one. Raises BadInput where it has none, or none of that name."""
    from shared_memory.errors import BadInput
    from shared_memory.records import DatasetRecord

    records = journal.all(DatasetRecord)
    if not records:
        raise BadInput(f"run {run_id} has made no data set; see `postgrad show {run_id}`")
    if name and name not in records:
        raise BadInput(f"run {run_id} has no data set `{name}`; it has {', '.join(records)}")
    return records[name or list(records)[-1]]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(publish)
