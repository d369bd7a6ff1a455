"""`postgrad chat`: one question, or a prompt until Ctrl-D."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from postgrad.options import JsonOption, RunArgument, full_id, print_json, say
from postgrad.units import one_line, printable
from shared_memory.settings import load_settings


def chat(
    run: RunArgument,
    question: Annotated[
        str, typer.Argument(metavar="[QUESTION]", help="What you ask or want; a prompt without it.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Ask the team about a run, or steer it between its steps."""
    from postgrad.chatting import chat as ask
    from shared_memory.errors import BadInput

    settings = load_settings()
    run_id = full_id(settings, run)
    if question:
        told = ask(run_id, question, settings=settings)
        print_json(told) if as_json else show(told)
        return
    if as_json:
        raise BadInput('--json answers one question; give it: postgrad chat RUN "why was e3 discarded?" --json')
    while (line := _typed()) is not None:
        if line.strip():
            show(ask(run_id, line, settings=settings))


def _typed() -> str | None:
    """A line of stdin, None at its end; the prompt is for people, not for pipes."""
    if sys.stdin.isatty():
        typer.echo("> ", err=True, nl=False)
    line = sys.stdin.readline()
    return line if line else None


def show(told: Mapping[str, Any]) -> None:
    """The answer on stdout; all else beside it."""
    typer.echo(printable(told["answer"]))
    if told["cites"]:
        say(f"  from: {', '.join(map(one_line, told['cites']))}")
    if told["effect"]:
        say(f"  {told['effect']}")
    if told["note"]:
        say(f"  {one_line(told['note'])}")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(chat)
