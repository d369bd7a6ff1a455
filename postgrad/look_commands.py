"""The commands that look and change nothing: runs, show, logs, report and doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from postgrad.options import JsonOption, RunArgument, full_id, print_json
from shared_memory.settings import load_settings


def runs(as_json: JsonOption = False) -> None:
    """List all runs, newest first."""
    from postgrad.console import show_runs
    from postgrad.summary import summarise_all
    from shared_memory.database import Database

    settings = load_settings()
    rows = summarise_all(settings, Database.open(settings.database))
    print_json(rows) if as_json else show_runs(rows)


def show(
    run: RunArgument,
    trace: Annotated[
        bool, typer.Option("--trace", help="What was chosen, said, called, asked, run and judged, in order.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What a run has come to so far, or how."""
    from postgrad import api
    from postgrad.console import show_summary

    settings = load_settings()
    if trace:
        from postgrad.trace import trace_of
        from postgrad.trace_table import show_trace
        from shared_memory.database import Database

        told = trace_of(settings, Database.open(settings.database), run)
        print_json(told) if as_json else show_trace(told)
        return
    summary = api.summary(settings, full_id(settings, run))
    print_json(summary) if as_json else show_summary(summary)


def logs(
    run: RunArgument,
    job: Annotated[str, typer.Option(help="Experiment or beginning of a job's key; the newest job without it.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What a job of a run printed."""
    from postgrad import logs as job_logs

    settings = load_settings()
    job_logs.show(settings, full_id(settings, run), job, follow, as_json)


def report(run: RunArgument, as_json: JsonOption = False) -> None:
    """Write the report of a run again, and say where it is."""
    from postgrad.report.write import write_report
    from shared_memory.database import Database

    settings = load_settings()
    run_id = full_id(settings, run)
    path = write_report(settings, Database.open(settings.database), run_id)
    if as_json:
        typer.echo(settings.run_paths(run_id).report_json.read_text(encoding="utf-8"))
    else:
        typer.echo(path)


def doctor(as_json: JsonOption = False) -> None:
    """Check what postgrad needs on this machine."""
    from postgrad.doctor import examine, show_examination

    checks = examine(load_settings())
    print_json(checks) if as_json else show_examination(checks)
    if any(check["status"] == "error" for check in checks):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (runs, show, logs, report, doctor):
        app.command()(command)
