"""`postgrad ablate`: what the parts of a champion are worth, in a terminal or as JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from postgrad.options import JsonOption, RunArgument, print_json, say
from shared_memory.settings import load_settings


def ablate(
    run: RunArgument,
    components: Annotated[
        str | None, typer.Option(metavar="A,B", help="Parts to leave out; all without it, none with ''.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Trainings of the same recipe by other seeds.")] = 0,
    factorial: Annotated[
        str, typer.Option(metavar="A,B", help="Two or three parts, of which every combination is left out.")
    ] = "",
    budget_usd: Annotated[float | None, typer.Option(help="Cap in dollars; without it what the run has left.")] = None,
    hours: Annotated[float | None, typer.Option(help="Cap in hours of driving; the goal's without it.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Cap on jobs, two a variant; the goal's without it.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Variants side by side, after the pilot.")] = None,
    approve: Annotated[str | None, typer.Option(help="ask | paid | auto; the goal's own without it.")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Show the plan with its worst cost, and stop.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a run's champion without each of its parts, and say what these are worth on the selection items."""
    from postgrad import ablation
    from postgrad.reproduction import follow

    settings = load_settings()
    wish = ablation.Wish(
        components=None if components is None else _names(components),
        seeds=seeds,
        factorial=_names(factorial),
        usd=budget_usd,
        hours=hours,
        jobs=jobs,
        parallel=parallel,
        approve=approve,
    )
    if plan_only:
        ablation.show_plan(settings, run, wish, as_json)
        return
    run_id = ablation.open_ablation(settings, run, wish)
    say(f"run {run_id} · {settings.run_paths(run_id).root}")
    code = follow(settings, run_id)
    told = ablation.outcome(settings, run_id)
    ablation.rewrite_report(settings, told)
    print_json(told) if as_json else ablation.show(told)
    if code == 3:
        say(f"it waits for your approval: postgrad approve {run_id}, then postgrad ablate {run_id}")
    raise typer.Exit(code)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
