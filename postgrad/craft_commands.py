"""The commands of each role's craft: audit, plan, eval and compare, with their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from postgrad.audit_command import audit
from postgrad.options import JsonOption, print_json, say
from postgrad.plan_command import plan


class Approve(StrEnum):
    ASK = "ask"
    PAID = "paid"
    AUTO = "auto"


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id or folder.")] = "",
    benchmark: Annotated[str, typer.Option(help="A file of items, or a name.")] = "",
    resume: Annotated[
        str, typer.Option(metavar="RUN", help="Show what an earlier eval, by now approved, scored.")
    ] = "",
    metric: Annotated[str, typer.Option(help="auto | choice | exact | loss | preference.")] = "auto",
    max_tokens: Annotated[int, typer.Option(help="Tokens that an answer may take.")] = 256,
    approve: Annotated[Approve, typer.Option(help="Who answers the gate.")] = Approve.ASK,
    as_json: JsonOption = False,
) -> None:
    """Score a model on all items of a benchmark."""
    from postgrad import api
    from postgrad.attach import can_ask, follow
    from postgrad.crafts import evaluation_goal, evaluation_of, evaluation_run
    from shared_memory.errors import BadInput
    from shared_memory.settings import load_settings

    if bool(resume) == bool(model) or bool(model) != bool(benchmark):
        raise BadInput("give MODEL and --benchmark, or --resume RUN for what an earlier eval has scored")
    settings = load_settings()
    if resume:
        run_id = evaluation_run(settings, resume)
    else:
        goal = evaluation_goal(model, benchmark, metric=metric, max_tokens=max_tokens, approve=approve.value)
        run_id = api.open_run(goal, settings)
        say(f"run {run_id} · {settings.run_paths(run_id).root}")
        api.start_worker(settings, run_id)
    code = follow(settings, run_id, ask=can_ask(), from_start=not resume)
    if code == 3:
        say(f"the run waits for your approval: postgrad approve {run_id}, then postgrad eval --resume {run_id}")
        if as_json:
            print_json({"run_id": run_id, "status": "waiting"})
    if code:
        raise typer.Exit(code)
    _show(evaluation_of(settings, run_id), as_json, _show_evaluation)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run, RUN/EXPERIMENT, or an items.jsonl file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What is compared with A.")],
    as_json: JsonOption = False,
) -> None:
    """How B differs from A, paired on the items that both were scored on."""
    from postgrad.comparison import compare as compare_items

    _show(compare_items(a, b), as_json, _show_comparison)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in (("audit", audit), ("plan", plan), ("eval", evaluate), ("compare", compare)):
        app.command(name)(command)


def _show(result: Mapping[str, Any], as_json: bool, table: Callable[[Mapping[str, Any]], None]) -> None:
    print_json(result) if as_json else table(result)


def _show_evaluation(scored: Mapping[str, Any]) -> None:
    from postgrad.tables import show_facts
    from postgrad.units import duration, percent, plus_minus

    score = plus_minus(scored["score"], scored["stderr"], scored["unit"])
    show_facts(
        {
            "score": f"{score} on {scored['n']} items of {scored['benchmark']}",
            "model": scored["model"],
            "answered": f"{percent(scored['answered'])} · cut off {percent(scored['truncated'])}",
            "time": duration(scored["seconds"]),
            "items": scored["items"],
            "run": scored["run_id"],
        }
    )


def _show_comparison(compared: Mapping[str, Any]) -> None:
    from postgrad.tables import show_rows
    from postgrad.units import scored

    typer.echo(compared["sentence"])
    rows = [[compared[side], scored(compared[f"score_{side}"], compared["unit"])] for side in ("a", "b")]
    show_rows(("model", "score"), rows)
