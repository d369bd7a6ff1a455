"""`postgrad publish`: the training data of a run to a folder, or to the Hub once a person has said yes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, RunArgument, full_id, print_json, say
from shared_memory.settings import load_settings

if TYPE_CHECKING:
    from shared_memory.journal import Journal
    from shared_memory.records import DatasetRecord


def publish(
    run: RunArgument,
    to: Annotated[str, typer.Option(metavar="NAME|FOLDER", help="A Hub data set as you/name, or a folder as ./name.")],
    dataset: Annotated[str, typer.Option(help="Which of the run's data sets; the last one without it.")] = "",
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it; private without.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the training data of a run as Parquet with a card."""
    from agents.data_engineer.publishing import publish as publishing
    from agents.data_engineer.publishing.publisher import FOLDER, flavor_of, publishing_job
    from shared_memory.database import Database
    from shared_memory.errors import BadInput
    from shared_memory.journal import Journal
    from shared_memory.ledger import Ledger
    from shared_memory.records import Decision

    settings = load_settings()
    run_id = full_id(settings, run)
    database = Database.open(settings.database)
    journal = Journal(database, run_id)
    record = _data_set(journal, run_id, dataset)
    if flavor_of(to) == FOLDER or Path(to).is_dir():
        found: dict[str, Any] = {"url": str(publishing.to_folder(record, Path(to))), "revision": "", "private": True}
    else:
        spec = publishing_job(record, to, private=not public, paths=settings.run_paths(run_id))
        say(f"{spec.title} · {spec.estimate.basis}")
        if not yes and not typer.confirm("publish it?", default=False, err=True):
            raise BadInput("nothing was published; --yes publishes without asking")
        Ledger(database, run_id).decide(
            Decision(spec_digest=spec.digest, approved=True, by="person", reason="postgrad publish")
        )
        found = publishing.to_hub(record, to, private=not public).plain()
    journal.note("published", found["url"], found)
    print_json({**found, "rows": record.rows}) if as_json else typer.echo(found["url"])


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
