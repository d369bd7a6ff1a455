"""The command line: what a person types, mapped onto the API. Everything but `--json` output goes to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from postgrad import (
    ablate_command,
    benchmarks_command,
    chat_command,
    craft_commands,
    look_commands,
    preflight_command,
    publishing,
    recipes_command,
    research_command,
    schedule_commands,
)
from postgrad.options import DetachOption, JsonOption, RunArgument, full_id, print_json, say
from postgrad.posttrainbench import commands as posttrainbench
from shared_memory.errors import BadInput, PostgradError
from shared_memory.settings import load_settings

app = typer.Typer(
    help="A team of four agents that post-trains language models, with your approval before every job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from postgrad import __version__

        typer.echo(f"postgrad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before a command; Typer's own help is used instead of this."""


@app.command()
def run(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="A goal file (.toml), or what you want in your words.")],
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Training data; may be repeated.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="A name, or items of your own; else rows are held out.")] = None,
    method: Annotated[str | None, typer.Option(help="auto | sft | dpo | kto | reward | grpo | rloo | distill.")] = None,
    distill_from: Annotated[str | None, typer.Option(help="The model that distillation learns from.")] = None,
    script: Annotated[Path | None, typer.Option(help="A training script of your own, in place of ours.")] = None,
    approve: Annotated[str | None, typer.Option(help="ask | paid | auto.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Cap in dollars.")] = None,
    hours: Annotated[float | None, typer.Option(help="Cap in hours of driving.")] = None,
    experiments: Annotated[int | None, typer.Option(help="Cap on experiments; 0 only scores the base model.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Experiments in one gate and in flight together.")] = None,
    brain: Annotated[str | None, typer.Option(help="The mind of the roles: playbook, or a LiteLLM model.")] = None,
    on: Annotated[str | None, typer.Option(help="Where jobs run: local | hf | slurm; api only scores.")] = None,
    flavor: Annotated[str | None, typer.Option(help="Hardware there; without it the cheapest that fits.")] = None,
    push_to: Annotated[str | None, typer.Option(help="Hub repository for the model.")] = None,
    sandbox: Annotated[str | None, typer.Option(help="Of generators: auto (in one, or refused) | none.")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Show the plan with its worst cost, and stop.")
    ] = False,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Work on a goal: baseline, data, training, evaluation, report."""
    from postgrad import __version__, api
    from postgrad.free_text import goal_from_text, is_goal_file

    settings = load_settings()
    flags: api.Overrides = {
        "base_model": base_model, "data": [path.absolute() for path in data] if data else None, "benchmark": benchmark,
        "method": method, "approve": approve, "usd": budget_usd, "hours": hours, "experiments": experiments,
        "parallel": parallel, "brain": brain, "on": on, "flavor": flavor,
        "push_to": push_to, "sandbox": sandbox, "distill_from": distill_from,
        "script": script.absolute() if script else None,
    }  # fmt: skip
    if is_goal_file(goal):
        wanted = api.as_goal(goal, **flags)
        say(f"postgrad {__version__} · {wanted.text}")
    else:
        say(f"postgrad {__version__} · {goal}")
        wanted = goal_from_text(goal, settings, **flags)
    if plan_only:
        from postgrad.plan_only import show_plan

        show_plan(wanted, as_json)
        return
    run_id = api.open_run(wanted, settings)
    say(f"run {run_id} · {settings.run_paths(run_id).root}")
    api.start_worker(settings, run_id)
    _follow(settings, run_id, detach, as_json, from_start=True)


@app.command()
def resume(run: RunArgument, detach: DetachOption = False, as_json: JsonOption = False) -> None:
    """Go on with a run that was parked, killed or failed; on a live run, attach to it."""
    from postgrad import api
    from shared_memory.database import Database
    from shared_memory.lease import holder
    from shared_memory.runs import RunStatus

    settings = load_settings()
    row = api.ready_to_go_on(settings, run)
    if row.status is RunStatus.SUCCEEDED:
        say(f"run {row.run_id} has ended; there is nothing to go on with")
        _end(settings, row.run_id, 0, as_json)
    live = holder(Database.open(settings.database), row.run_id) is not None
    if live:
        say(f"run {row.run_id} is being driven already; attaching to it")
    elif row.status is not RunStatus.WAITING or row.answer is not None:
        api.start_worker(settings, row.run_id)
    _follow(settings, row.run_id, detach, as_json)


@app.command()
def attach(run: RunArgument, as_json: JsonOption = False) -> None:
    """Follow a run from its first event on, in this terminal; Ctrl-C parks the run."""
    settings = load_settings()
    _follow(settings, full_id(settings, run), False, as_json, from_start=True)


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
    from postgrad.attach import can_ask
    from postgrad.console import Console
    from shared_memory.database import Database
    from shared_memory.runs import Runs

    if edit and reject is not None:
        raise BadInput("--edit and --reject are two answers; give one of them")
    if edit and not can_ask():
        raise BadInput("--edit needs a terminal; use one, or give --reject WHY, or neither to approve")
    settings = load_settings()
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
    if decisions is None:
        _end(settings, row.run_id, 3, as_json)
    else:
        api.answer(settings, row.run_id, decisions)
        api.start_worker(settings, row.run_id)
        _follow(settings, row.run_id, detach, as_json)


@app.command()
def cancel(run: RunArgument, as_json: JsonOption = False) -> None:
    """End a run and its jobs; the best model so far is kept."""
    from postgrad import api

    settings = load_settings()
    row = api.cancel(settings, run)
    say(f"run {row.run_id} is being cancelled")
    if as_json:
        print_json(api.summary(settings, row.run_id))


@app.command()
def reproduce(
    run: RunArgument,
    approve: Annotated[str | None, typer.Option(help="ask | paid | auto; the goal's own without it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Do a run's champion again from its pinned records, and say whether it agrees (exit 0) or not (exit 1)."""
    from postgrad import reproduction as again

    settings = load_settings()
    run_id = again.open_reproduction(settings, run, approve)
    say(f"run {run_id} · {settings.run_paths(run_id).root}")
    code = again.follow(settings, run_id)
    told = again.outcome(settings, run_id)
    print_json(told) if as_json else again.show(told)
    if code == 3:
        say(f"it waits for your approval: postgrad approve {run_id}, then postgrad reproduce {run_id}")
    raise typer.Exit(code or (0 if told["agrees"] else 1))


@app.command()
def batch(
    goals: Annotated[
        Path, typer.Argument(metavar="GOALS.jsonl|DIR", help="One goal a line, or a folder of TOML files.")
    ],
    concurrency: Annotated[int | None, typer.Option(help="Goals at once; one per GPU without it, at least 2.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Cap of all goals together, in dollars.")] = None,
    hours: Annotated[float | None, typer.Option(help="Cap of the whole batch, in hours of the clock.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start every goal anew.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Go on with failed runs, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a goal on stdout, as it ends.")] = False,
) -> None:
    """Work on many goals; the same command again goes on where it stopped."""
    from postgrad.batches import Batch
    from postgrad.batches.view import work_in_terminal

    work = Batch(
        goals,
        load_settings(),
        fresh=fresh,
        concurrency=concurrency,
        budget_usd=budget_usd,
        hours=hours,
        retry_failed=retry_failed,
    )
    raise typer.Exit(work_in_terminal(work, as_json))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="GOAL.toml", help="The file to write.")] = Path("goal.toml"),
    text: Annotated[str | None, typer.Option(help="What you want, in your words.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Training data; may be repeated.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="A name, or items of your own; else rows are held out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a commented goal file, from flags or by asking."""
    from postgrad.init import init as write

    written = write(path, text=text, base_model=base_model, data=data, benchmark=benchmark)
    print_json({"path": str(written)}) if as_json else say(f"wrote {written}; next: postgrad run {written}")


@app.command()
def studio(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server on this machine.")] = 2024,
    browser: Annotated[bool, typer.Option(help="Open LangGraph Studio in the browser.")] = True,
) -> None:
    """Serve the graphs with `langgraph dev`, for LangGraph Studio."""
    from postgrad.studio import serve

    raise typer.Exit(serve(load_settings(), port, browser))


look_commands.register(app)
chat_command.register(app)
craft_commands.register(app)
app.command()(ablate_command.ablate)
app.command()(preflight_command.preflight)
app.command()(benchmarks_command.benchmarks)
app.command()(recipes_command.recipes)
app.command()(research_command.research)
publishing.register(app)
app.add_typer(schedule_commands.app, name="schedule")
app.add_typer(posttrainbench.app, name="posttrainbench")


def _follow(settings: Any, run_id: str, detach: bool, as_json: bool, *, from_start: bool = False) -> None:
    """Follow a run to its end and leave with its exit code, unless the person only wanted it started."""
    from postgrad.attach import can_ask, follow

    if detach:
        say(f"postgrad attach {run_id} follows it")
        if as_json:
            from postgrad import api

            print_json(api.summary(settings, run_id))
        return
    code = follow(settings, run_id, ask=can_ask(), from_start=from_start)
    _end(settings, run_id, code, as_json)


def _end(settings: Any, run_id: str, code: int, as_json: bool) -> None:
    from postgrad import api
    from postgrad.console import show_summary

    summary = api.summary(settings, run_id)
    if as_json:
        print_json(summary)
    elif code != 3:
        show_summary(summary)
    if code == 3:
        say(f'the run waits for your approval: postgrad approve {run_id}   (or: --edit, --reject "why")')
    raise typer.Exit(code)


def main() -> None:
    """Entry point: a PostgradError becomes one line and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows no ± shows a ?
    sys.unraisablehook = _quiet_when_interrupted
    try:
        app()
    except PostgradError as error:
        from shared_memory.redaction import redact

        say(f"error: {redact(str(error))}")
        sys.exit(error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        say(f"error: {error.strerror or error}{where}; mend that and try again")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _quiet_when_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that arrives while a generator is being closed ends the program all the same: no traceback for that."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
