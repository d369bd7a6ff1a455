"""What all commands share: the options that mean the same everywhere, and how they print."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from shared_memory.settings import Settings

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, its beginning, or `last`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Do not follow the run in this terminal.")]


def say(text: str) -> None:
    """A line on stderr: stdout is for results."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def full_id(settings: Settings, run: str) -> str:
    """The id of the run that a person means; raises BadInput where that is none or several."""
    from shared_memory.database import Database
    from shared_memory.runs import Runs

    return Runs(Database.open(settings.database)).get(run).run_id
