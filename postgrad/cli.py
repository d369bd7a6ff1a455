"""The command line: what a person types, mapped onto the API. Everything but `--json` output goes to stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shared_memory.errors import BadInput, PostgradError

app = typer.Typer(
    help="A team of four agents that post-trains language models, with your approval before every job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, its beginning, or `last`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Do not follow the run in this terminal.")]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _settings() -> Any:
    from shared_memory.settings import load_settings

    return load_settings()


def _run_id(settings: Any, run: str) -> str:
    from shared_memory.database import Database
    from shared_memory.runs import Runs

    return Runs(Database.open(settings.database)).get(run).run_id


@app.command()
def run(
    goal: Annotated[Path, typer.Argument(metavar="GOAL.toml", help="The goal file.")],
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Training data; may be repeated.")] = None,
    method: Annotated[str | None, typer.Option(help="auto | sft.")] = None,
    approve: Annotated[str | None, typer.Option(help="ask | paid | auto.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Cap in dollars.")] = None,
    hours: Annotated[float | None, typer.Option(help="Cap in hours of driving.")] = None,
    brain: Annotated[str | None, typer.Option(help="The mind of the roles.")] = None,
    on: Annotated[str | None, typer.Option(help="Where jobs run: local.")] = None,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Work on a goal: baseline, data, training, evaluation, report."""
    from postgrad import __version__, api

    settings = _settings()
    wanted = api.as_goal(
        goal,
        base_model=base_model,
        data=[str(path.absolute()) for path in data] if data else None,
        method=method,
        approve=approve,
        usd=budget_usd,
        hours=hours,
        brain=brain,
        on=on,
    )
    _say(f"postgrad {__version__} · {wanted.text}")
    run_id = api.open_run(wanted, settings)
    _say(f"run {run_id} · {settings.run_paths(run_id).root}")
    api.start_worker(settings, run_id)
    _follow(settings, run_id, detach, as_json, from_start=True)


@app.command()
def resume(run: RunArgument, detach: DetachOption = False, as_json: JsonOption = False) -> None:
    """Go on with a run that was parked, killed or failed; on a live run, attach to it."""
    from postgrad import api
    from shared_memory.database import Database
    from shared_memory.lease import holder
    from shared_memory.runs import RunStatus

    settings = _settings()
    row = api.ready_to_go_on(settings, run)
    if row.status is RunStatus.SUCCEEDED:
        _say(f"run {row.run_id} has ended; there is nothing to go on with")
        _end(settings, row.run_id, 0, as_json)
    live = holder(Database.open(settings.database), row.run_id) is not None
    if live:
        _say(f"run {row.run_id} is being driven already; attaching to it")
    elif row.status is not RunStatus.WAITING or row.answer is not None:
        api.start_worker(settings, row.run_id)
    _follow(settings, row.run_id, detach, as_json)


@app.command()
def attach(run: RunArgument, as_json: JsonOption = False) -> None:
    """Follow a run from its first event on, in this terminal."""
    settings = _settings()
    _follow(settings, _run_id(settings, run), False, as_json, from_start=True)


@app.command()
def approve(
    run: RunArgument,
    reject: Annotated[str | None, typer.Option(help="Say no, with this reason.")] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Look at every job and edit it, in this terminal.")] = False,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer what a run waits for, and go on with it."""
    from postgrad import api
    from postgrad.console import Console
    from shared_memory.database import Database
    from shared_memory.runs import Runs

    settings = _settings()
    row = Runs(Database.open(settings.database)).get(run)
    if row.request is None:
        raise BadInput(
            f"run {row.run_id} waits for nothing ({row.status}); `postgrad show {row.run_id}` tells what it does"
        )
    requests = row.request["requests"]
    if edit:
        decisions = Console().ask(requests)
    else:
        decisions = {request["digest"]: {"approved": reject is None, "reason": reject or ""} for request in requests}
    if decisions is not None:
        api.answer(settings, row.run_id, decisions)
        api.start_worker(settings, row.run_id)
        _follow(settings, row.run_id, detach, as_json)


@app.command()
def cancel(run: RunArgument, as_json: JsonOption = False) -> None:
    """End a run and its jobs; the best model so far is kept."""
    from postgrad import api

    settings = _settings()
    row = api.cancel(settings, run)
    _say(f"run {row.run_id} is being cancelled")
    if as_json:
        _print_json(api.summary(settings, row.run_id))


@app.command()
def runs(as_json: JsonOption = False) -> None:
    """List all runs, newest first."""
    from postgrad.console import show_runs
    from postgrad.summary import summarise_all
    from shared_memory.database import Database

    settings = _settings()
    rows = summarise_all(settings, Database.open(settings.database))
    _print_json(rows) if as_json else show_runs(rows)


@app.command()
def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """What a run has come to so far."""
    from postgrad import api
    from postgrad.console import show_summary

    settings = _settings()
    summary = api.summary(settings, _run_id(settings, run))
    _print_json(summary) if as_json else show_summary(summary)


@app.command()
def logs(
    run: RunArgument,
    job: Annotated[str, typer.Option(help="Experiment or beginning of a job's key; the newest job without it.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What a job of a run printed."""
    from postgrad import logs as job_logs

    settings = _settings()
    job_logs.show(settings, _run_id(settings, run), job, follow, as_json)


@app.command()
def report(run: RunArgument, as_json: JsonOption = False) -> None:
    """Write the report of a run again, and say where it is."""
    from postgrad.report.write import write_report
    from shared_memory.database import Database

    settings = _settings()
    run_id = _run_id(settings, run)
    path = write_report(settings, Database.open(settings.database), run_id)
    if as_json:
        typer.echo(settings.run_paths(run_id).report_json.read_text(encoding="utf-8"))
    else:
        typer.echo(path)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="GOAL.toml", help="The file to write.")] = Path("goal.toml"),
    text: Annotated[str | None, typer.Option(help="What you want, in your words.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Training data; may be repeated.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="A file in GPQA's columns.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a commented goal file, from flags or by asking."""
    from postgrad.init import write_goal_file

    written = write_goal_file(path, text=text, base_model=base_model, data=data, benchmark=benchmark)
    _print_json({"path": str(written)}) if as_json else _say(f"wrote {written}; next: postgrad run {written}")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check what postgrad needs on this machine."""
    from postgrad.doctor import examine, show_examination

    checks = examine(_settings())
    _print_json(checks) if as_json else show_examination(checks)
    if any(check["status"] == "error" for check in checks):
        raise typer.Exit(1)


@app.command()
def studio(
    port: Annotated[int, typer.Option(help="Port of the server on this machine.")] = 2024,
    browser: Annotated[bool, typer.Option(help="Open LangGraph Studio in the browser.")] = True,
) -> None:
    """Serve the graph with `langgraph dev`, for LangGraph Studio."""
    from postgrad.studio import serve

    raise typer.Exit(serve(_settings(), port, browser))


def _follow(settings: Any, run_id: str, detach: bool, as_json: bool, *, from_start: bool = False) -> None:
    """Follow a run to its end and leave with its exit code, unless the person only wanted it started."""
    from postgrad.attach import can_ask, follow

    if detach:
        _say(f"postgrad attach {run_id} follows it")
        if as_json:
            from postgrad import api

            _print_json(api.summary(settings, run_id))
        return
    code = follow(settings, run_id, ask=can_ask(), from_start=from_start)
    _end(settings, run_id, code, as_json)


def _end(settings: Any, run_id: str, code: int, as_json: bool) -> None:
    from postgrad import api
    from postgrad.console import show_summary

    summary = api.summary(settings, run_id)
    if as_json:
        _print_json(summary)
    elif code != 3:
        show_summary(summary)
    if code == 3:
        _say(f'the run waits for your approval: postgrad approve {run_id}   (or: --edit, --reject "why")')
    raise typer.Exit(code)


def main() -> None:
    """Entry point: a PostgradError becomes one line and its exit code."""
    try:
        app()
    except PostgradError as error:
        from shared_memory.redaction import redact

        _say(f"error: {redact(str(error))}")
        sys.exit(error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _say(f"error: {error.strerror or error}{where}; mend that and try again")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
