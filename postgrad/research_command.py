"""`postgrad research`: a cited report on what the literature says, with or without a language model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, print_json, say

if TYPE_CHECKING:
    from postgrad.events import Event

LINE = 160
"""Characters of a line of progress."""
QUIET = ("record_finding", "ask_team", "take_note", "list_findings")
"""Tools whose calls are not shown: the first two tell themselves what comes of them."""


def research(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help='Such as "GRPO for small models on GPQA".')],
    brain: Annotated[str | None, typer.Option(help="playbook (no model), or a LiteLLM model; else the home's.")] = None,
    api_base: Annotated[str, typer.Option(help="Address of a server that has the model.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder for a copy of the report.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Requests of the main loop, at most.")] = 40,
    llm_tokens: Annotated[int, typer.Option(min=0, help="Cap on tokens, sub-searches included.")] = 1_000_000,
    budget_usd: Annotated[float, typer.Option(min=0, help="Cap in dollars.")] = 5.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask anew, instead of showing the report on disk.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What papers, libraries and the Hub say on a question: findings with checked quotations, and ranked recipes."""
    from postgrad import researching as work
    from postgrad.research_folder import folder_of, read_report
    from shared_memory.settings import load_settings

    settings = load_settings()
    try:
        report = work.research(
            question, brain=brain, api_base=api_base, out=out, steps=steps, llm_tokens=llm_tokens, usd=budget_usd,
            fresh=fresh, on_event=_show, settings=settings,
        )  # fmt: skip
    except KeyboardInterrupt:
        kept = read_report(folder_of(question, settings, brain, api_base))
        if kept is not None:
            _end(kept, as_json)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # a request that is on its way would hold the program for minutes
    _end(report, as_json)
    if code := work.EXIT_CODES[report["status"]]:
        raise typer.Exit(code)


def _show(event: Event) -> None:
    """A line of progress."""
    from postgrad.events import NoteEvent, ToolEvent
    from postgrad.units import one_line

    if isinstance(event, NoteEvent):
        say(one_line(event.text)[:LINE])
    elif isinstance(event, ToolEvent) and event.name not in QUIET:
        say(one_line(f"{event.name} {event.arguments}{': ' if event.error else ''}{event.error}")[:LINE])


def _end(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        typer.echo(Path(report["report"]).read_text(encoding="utf-8"), nl=False)
    if report["why"]:
        say(f"{report['status'].replace('_', ' ')}: {report['why']}")
    spent = report["spent"]
    cost = "at an unknown price" if spent["usd"] is None else f"for ${spent['usd']:.4f}"
    found = f"findings: {len(report['findings'])}, recipes: {len(report['recipes'])}"
    say(f"{found}; {spent['llm_tokens']:,} LLM tokens {cost}")
    say(f"report: {report['report']}")
