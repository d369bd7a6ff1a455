"""`postgrad publish`: the training data of a run to a folder, or to the Hub once a person has said yes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from postgrad.options import JsonOption, RunArgument, full_id, print_json, say
from shared_memory.settings import load_settings


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
    from agents.data_engineer.publishing.publisher import FOLDER, flavor_of
    from shared_memory.errors import BadInput

    settings = load_settings()
    record = _data_set(full_id(settings, run), dataset)
    if flavor_of(to) == FOLDER or Path(to).is_dir():
        folder = publishing.to_folder(record, Path(to))
        found: dict[str, Any] = {"url": str(folder), "rows": record.rows}
    else:
        plan = publishing.plan(record, to, private=not public)
        if plan["refused"]:
            raise BadInput(plan["refused"])
        _show_plan(plan)
        if not yes and not typer.confirm("publish it?", default=False, err=True):
            raise BadInput("nothing was published; --yes publishes without asking")
        found = {**publishing.to_hub(record, to, private=not public).plain(), "rows": record.rows}
    print_json(found) if as_json else typer.echo(found["url"])


def _data_set(run_id: str, name: str) -> Any:
    """The run's data set called `name`, or its last one. Raises BadInput where it has none, or none of that name."""
    from shared_memory.database import Database
    from shared_memory.errors import BadInput
    from shared_memory.journal import Journal
    from shared_memory.records import DatasetRecord

    records = Journal(Database.open(load_settings().database), run_id).all(DatasetRecord)
    if not records:
        raise BadInput(f"run {run_id} has made no data set; see `postgrad show {run_id}`")
    if name and name not in records:
        raise BadInput(f"run {run_id} has no data set `{name}`; it has {', '.join(records)}")
    return records[name or list(records)[-1]]


def _show_plan(plan: dict[str, Any]) -> None:
    who = "private" if plan["private"] else "for everybody to read"
    say(f"{plan['leaves']}: {plan['repo']}, {who} · {plan['bytes'] / 1e6:.1f} MB · licence {plan['licence']}")
    for warning in plan["warnings"]:
        say(f"note: {warning}")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(publish)
